package node

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/event"
	"github.com/seigr/sttnode/session/transport/memory"
	"github.com/seigr/sttnode/stc"
)

// watch subscribes to a node's events of these kinds, or to all.
func watch(t *testing.T, n *Node, queue int, kinds ...EventKind) *event.Subscription {
	t.Helper()
	opts := event.Options{Queue: queue}
	for _, k := range kinds {
		opts.Names = append(opts.Names, string(k))
	}
	s, err := n.Events().Subscribe(opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// seen returns those of the events that a subscription has which are the node's.
func seen(s *event.Subscription) (events []Event) {
	for len(s.C()) > 0 {
		if e, ok := (<-s.C()).Payload.(Event); ok {
			events = append(events, e)
		}
	}
	return events
}

func TestEvents(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		boot := w.start(w.config("boot"))
		n, err := New(w.config("n", addressOf(boot)))
		if err != nil {
			t.Fatal(err)
		}
		events, slow := watch(t, n, 100), watch(t, n, 1)
		if err := n.Start(ctx); err != nil {
			t.Fatal(err)
		}
		path := writeFile(t, w.dir+"/film", []byte("film"))
		seeded, err := n.Seed(ctx, path, ImportOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.ImportReader(ctx, strings.NewReader("other"), ImportOptions{Name: "other"}); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Fetch(ctx, stc.Sum(nil), FetchOptions{SearchTimeout: time.Second}); !errors.Is(err, ErrNoProvider) {
			t.Fatal(err)
		}
		if s := n.Stats().Events; s.Dropped == 0 || s.Subscriptions != 2 {
			t.Errorf("with a slow subscriber: %+v", s)
		}
		stopNode(t, n)
		last := make(map[EventKind]Event)
		var stored []Event
		for _, e := range seen(events) {
			if last[e.Kind] = e; e.Kind == EventSeeded {
				stored = append(stored, e)
			}
		}
		if e := last[EventJoined]; e.Peer != boot.ID() || e.Addr != boot.Addr().String() {
			t.Errorf("joined: %+v", e)
		}
		if e := last[EventPeerConnected]; e.Peer != boot.ID() {
			t.Errorf("connected: %+v", e)
		}
		if e := last[EventPeerDisconnected]; e.Peer != boot.ID() {
			t.Errorf("disconnected: %+v", e)
		}
		if len(stored) != 2 || stored[0].Root != seeded.Root || stored[0].Path != path || stored[0].Bytes != 4 ||
			stored[1].Path != "" || stored[1].Bytes != 5 {
			t.Errorf("seeded: %+v", stored)
		}
		if e := last[EventProviding]; e.Root != seeded.Root || e.Count != 1 {
			t.Errorf("providing: %+v", e)
		}
		if e := last[EventFetchDone]; !errors.Is(e.Err, ErrNoProvider) {
			t.Errorf("fetch done: %+v", e)
		}
		if e := last[EventState]; e.State != StateStopped {
			t.Errorf("state: %+v", e)
		}
		if n := len(slow.C()); n != 1 {
			t.Errorf("the slow subscriber has %d events", n)
		}
		// Nobody subscribes to a node that is gone.
		if _, open := <-watch(t, n, 1).C(); open {
			t.Error("a subscription after the stop")
		}
	})
}

// Every blob of a fetch is told once, with the hash and the size that it has.
func TestVerifiedChunksAreTold(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		boot := w.start(w.config("boot"))
		_, root := w.seed(ctx, "s", "film", testBytes("film", 1<<20), addressOf(boot))
		f := w.start(w.config("f", addressOf(boot)))
		events := watch(t, f, 0, EventChunkVerified)
		defer events.Stop()
		result, err := f.Fetch(ctx, root, FetchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		told, bytes := make(map[stc.Hash]bool), uint64(0)
		for _, e := range seen(events) {
			blob, err := f.Store().Get(nil, e.Chunk)
			if err != nil || uint64(len(blob)) != e.Bytes || e.Root != root || told[e.Chunk] {
				t.Errorf("%+v: %v, told before: %v", e, err, told[e.Chunk])
			}
			told[e.Chunk] = true
			bytes += e.Bytes
		}
		if len(told) != 11 || bytes != result.FetchedBytes {
			t.Errorf("told of %d blobs, %d bytes, want 10 chunks and the root, %d bytes", len(told), bytes, result.FetchedBytes)
		}
	})
}

// A handler that hangs delays the stop of its node, but does not prevent it, and
// nothing else.
func TestHandlerThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := New(newNetwork(t, memory.Link{}).config("a"))
		if err != nil {
			t.Fatal(err)
		}
		called := 0
		EventState.On(n.Events(), func(ctx context.Context, e Event) {
			called++
			<-ctx.Done()
		})
		if err := n.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n.State() != StateRunning {
			t.Errorf("the node is %v", n.State())
		}
		start := time.Now()
		if err := n.Stop(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Stop: %v", err)
		}
		if d := time.Since(start); d != stopTimeout || called != 1 {
			t.Errorf("stopped after %v, the handler was called %d times", d, called)
		}
	})
}
