package session

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/session/transport/memory"
)

// TestUserFrames sends frames of all sizes over a bad network: each arrives
// once, whole, and in order.
func TestUserFrames(t *testing.T) {
	link := memory.Link{Delay: 10 * time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 0.1, Duplicate: 0.1, Reorder: 0.05}
	var d Dispatcher
	inWorld(t, testSeed(t), link, func(a, b *Config) { b.Frames = &d; a.Linger = time.Minute }, func(t *testing.T, w *world) {
		var mu sync.Mutex
		var got []UserFrame
		for _, typ := range []frame.Type{0x80, 0x81, 0xff} {
			if err := d.Handle(typ, func(f UserFrame) {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, f)
			}); err != nil {
				t.Fatal(err)
			}
		}
		sa, sb := w.connect()
		var want []UserFrame
		sizes := []int{0, 1, 100, 1200, 5000, 0, 700_000, 3, MaxUserFrame}
		for i, n := range append(sizes, make([]int, 200)...) {
			f := UserFrame{Type: []frame.Type{0x80, 0x81, 0xff}[i%3], Stream: uint16(i), Payload: randomBytes(uint64(i), n)}
			want = append(want, f)
			if err := sa.SendFrame(t.Context(), f.Type, f.Stream, f.Payload); err != nil {
				t.Fatal(err)
			}
		}
		if err := sa.SendFrame(t.Context(), 0x90, 0, []byte("nobody listens")); err != nil {
			t.Fatal(err)
		}
		if err := sa.Close(); err != nil {
			t.Fatal(err)
		}
		<-sb.Done()
		synctest.Wait()
		if len(got) != len(want) || d.Unknown() != 1 {
			t.Fatalf("%d frames of %d, %d unknown", len(got), len(want), d.Unknown())
		}
		for i, f := range got {
			if f.Type != want[i].Type || f.Stream != want[i].Stream || !bytes.Equal(f.Payload, want[i].Payload) || f.Session != sb {
				t.Fatalf("frame %d: type %v stream %d, %d bytes; want type %v stream %d, %d bytes", i, f.Type, f.Stream, len(f.Payload), want[i].Type, want[i].Stream, len(want[i].Payload))
			}
		}
	})
}

// TestSlowHandler checks that a handler that takes its time holds up its
// sender, but neither streams nor memory.
func TestSlowHandler(t *testing.T) {
	var d Dispatcher
	release := make(chan struct{})
	inWorld(t, 1, lan, func(a, b *Config) { b.Frames = &d }, func(t *testing.T, w *world) {
		release = make(chan struct{})
		_ = d.Handle(0x80, func(UserFrame) { <-release })
		sa, sb := w.connect()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		sent := 0
		for ; ; sent += 10_000 {
			if err := sa.SendFrame(ctx, 0x80, 0, make([]byte, 10_000)); err != nil {
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				break
			}
		}
		if sent > 4*userWindow {
			t.Errorf("%d bytes were taken for a handler that does not return", sent)
		}
		transfer(t, sa, sb, randomBytes(1, 1<<20))
		close(release)
		if err := sa.SendFrame(t.Context(), 0x80, 0, nil); err != nil {
			t.Errorf("after the handler went on: %v", err)
		}
	})
}

func TestDispatcherContainsPanics(t *testing.T) {
	var d Dispatcher
	inWorld(t, 1, lan, func(a, b *Config) { b.Frames = &d }, func(t *testing.T, w *world) {
		got := make(chan string, 1)
		_ = d.Handle(0x80, func(f UserFrame) { panic("handler") })
		_ = d.Handle(0x81, func(f UserFrame) { got <- string(f.Payload) })
		sa, _ := w.connect()
		_ = sa.SendFrame(t.Context(), 0x80, 0, nil)
		_ = sa.SendFrame(t.Context(), 0x81, 0, []byte("alive"))
		if s := <-got; s != "alive" || d.Panics() != 1 {
			t.Errorf("%q, %d panics", s, d.Panics())
		}
		if err := d.Handle(0x7f, nil); err == nil {
			t.Error("a reserved type got a handler")
		}
		if err := sa.SendFrame(t.Context(), frame.TypeData, 0, nil); err == nil {
			t.Error("a frame of the protocol's own was sent for the application")
		}
		if err := sa.SendFrame(t.Context(), 0x80, 0, make([]byte, MaxUserFrame+1)); !errors.Is(err, ErrMessageTooLong) {
			t.Errorf("oversized frame: %v", err)
		}
	})
}

func TestEndpointManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m EndpointManager
		defer m.Close()
		var mu sync.Mutex
		got := map[string][]string{}
		sink := func(name string) Sink {
			return func(_ context.Context, p []byte) error {
				mu.Lock()
				defer mu.Unlock()
				got[name] = append(got[name], string(p))
				return nil
			}
		}
		stuck := func(ctx context.Context, p []byte) error { <-ctx.Done(); return ctx.Err() }
		for name, o := range map[string]RouteOptions{
			"drops":  {Queue: 2, Overflow: OverflowDropOldest},
			"fails":  {Queue: 2, Overflow: OverflowError},
			"blocks": {Queue: 2},
		} {
			if err := m.Add(name, stuck, o); err != nil {
				t.Fatal(err)
			}
		}
		_ = m.Add("fast", sink("fast"), RouteOptions{})
		_ = m.Add("other", sink("other"), RouteOptions{})
		if err := m.Add("fast", stuck, RouteOptions{}); !errors.Is(err, ErrEndpointExists) {
			t.Errorf("second endpoint of a name: %v", err)
		}
		if err := m.Route(t.Context(), []byte("x"), "nobody"); !errors.Is(err, ErrNoEndpoint) {
			t.Errorf("unknown name: %v", err)
		}
		for range 5 {
			if err := m.Route(t.Context(), []byte("a"), "drops"); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		// One is with the sink, two wait, so the fourth is refused.
		for i := range 4 {
			err := m.Route(t.Context(), []byte("b"), "fails")
			if (i == 3) != errors.Is(err, ErrQueueFull) {
				t.Errorf("piece %d: %v", i, err)
			}
			synctest.Wait()
		}
		for range 3 {
			if err := m.Route(t.Context(), []byte("c"), "blocks"); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := m.Broadcast(ctx, []byte("all"))
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrQueueFull) {
			t.Errorf("broadcast: %v", err)
		}
		_ = m.Route(t.Context(), []byte("some"), "fast", "other")
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if f, o := got["fast"], got["other"]; len(f) == 0 || f[len(f)-1] != "some" || len(o) == 0 || o[len(o)-1] != "some" {
			t.Errorf("fast got %q, other got %q", f, o)
		}
		for st := range m.Stats() {
			if st.Name == "drops" && st.Dropped != 3 {
				t.Errorf("%+v, want 3 dropped", st)
			}
		}
	})
}
