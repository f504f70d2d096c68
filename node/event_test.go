package node

import (
	"errors"
	"testing"
	"time"

	"github.com/seigr/sttnode/stc"
)

func TestEvents(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		boot := w.start(w.config("boot"))
		n, err := New(w.config("n", addressOf(boot)))
		if err != nil {
			t.Fatal(err)
		}
		events, _ := n.Subscribe(100)
		slow, _ := n.Subscribe(0) // room for one
		if err := n.Start(ctx); err != nil {
			t.Fatal(err)
		}
		seeded, err := n.Seed(ctx, writeFile(t, w.dir+"/film", []byte("film")), ImportOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.Fetch(ctx, stc.Sum(nil), FetchOptions{SearchTimeout: time.Second}); !errors.Is(err, ErrNoProvider) {
			t.Fatal(err)
		}
		if s := n.Stats(); s.EventsMissed == 0 {
			t.Error("the slow subscriber missed nothing")
		}
		stopNode(t, n)
		seen := make(map[EventKind]Event)
		for e := range events {
			if e.Time.IsZero() {
				t.Errorf("%v without a time", e.Kind)
			}
			seen[e.Kind] = e
		}
		if e := seen[EventJoined]; e.Peer != boot.ID() || e.Addr != boot.Addr().String() {
			t.Errorf("joined: %+v", e)
		}
		if e := seen[EventPeerConnected]; e.Peer != boot.ID() {
			t.Errorf("connected: %+v", e)
		}
		if e := seen[EventPeerDisconnected]; e.Peer != boot.ID() {
			t.Errorf("disconnected: %+v", e)
		}
		if e := seen[EventProviding]; e.Root != seeded.Root || e.Count != 1 {
			t.Errorf("providing: %+v", e)
		}
		if e := seen[EventFetchDone]; !errors.Is(e.Err, ErrNoProvider) {
			t.Errorf("fetch done: %+v", e)
		}
		if n := len(slow); n != 1 {
			t.Errorf("the slow subscriber has %d events", n)
		}
		// Nobody subscribes to a node that is gone.
		late, stop := n.Subscribe(1)
		stop()
		if _, open := <-late; open {
			t.Error("a subscription after the stop")
		}
	})
}
