package node

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/session"
)

// Stop ends what waits, and handlers.
func TestStopEndsApplication(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		alice, bob := w.start(w.light("alice")), w.start(w.light("bob"))
		ended := make(chan error, 3)
		_ = bob.Handle("wait/1", func(_ context.Context, st *session.Stream) {
			_, err := st.Read(make([]byte, 1))
			ended <- err
		})
		if _, err := alice.OpenStream(t.Context(), connect(t, alice, bob.Addr().String()), "wait/1"); err != nil {
			t.Fatal(err)
		}
		accept(t, bob)
		go func() {
			_, err := bob.Accept(t.Context())
			ended <- err
		}()
		go func() {
			for _, err := range bob.Receive(t.Context()) {
				ended <- err
			}
		}()
		synctest.Wait()
		stopNode(t, bob)
		for range 3 {
			if err := <-ended; err == nil {
				t.Error("a wait that the stop has ended returned no error")
			}
		}
		if _, err := bob.Connect(t.Context(), alice.Addr().String()); !errors.Is(err, ErrState) {
			t.Errorf("Connect after Stop: %v", err)
		}
	})
}

// A handler that does not return, or a loop over Receive that calls Stop, delays
// Stop and does not prevent it.
func TestStopIsBounded(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		alice := w.start(w.light("alice"))
		bob, err := New(w.light("bob"))
		if err != nil {
			t.Fatal(err)
		}
		if err := bob.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		hung := make(chan struct{})
		if err := bob.Handle("hang/1", func(context.Context, *session.Stream) { <-hung }); err != nil {
			t.Fatal(err)
		}
		s := connect(t, alice, bob.Addr().String())
		st, err := alice.OpenStream(t.Context(), s, "hang/1")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := alice.Send(t.Context(), []byte("y"), s.ID()); err != nil {
			t.Fatal(err)
		}
		for range bob.Receive(within(t, time.Minute)) {
			start := time.Now()
			if err := bob.Stop(within(t, 2*time.Second)); !errors.Is(err, ErrStillRunning) {
				t.Errorf("Stop: %v", err)
			}
			if d := time.Since(start); d > 3*time.Second {
				t.Errorf("stopped after %v", d)
			}
			break
		}
		if s := bob.State(); s != StateStopped {
			t.Errorf("behind Stop: %v", s)
		}
		close(hung)
	})
}

// Neither a handler of frames nor a loop over the store prevents Stop, and whoever
// calls Stop again is not held up either.
func TestStopLeavesBehind(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		alice := w.start(w.light("alice"))
		for name, hang := range map[string]func(n *Node, begun, hung chan struct{}){
			"frame": func(n *Node, begun, hung chan struct{}) {
				if err := n.HandleFrame(0x80, func(context.Context, session.UserFrame) { close(begun); <-hung }); err != nil {
					t.Fatal(err)
				}
				if err := connect(t, alice, n.Addr().String()).SendFrame(t.Context(), 0x80, 0, nil); err != nil {
					t.Fatal(err)
				}
			},
			"store": func(n *Node, begun, hung chan struct{}) {
				if _, err := n.Store().Put(t.Context(), []byte("blob")); err != nil {
					t.Fatal(err)
				}
				go func() {
					for range n.Store().All(context.Background()) {
						close(begun)
						<-hung
					}
				}()
			},
		} {
			n, err := New(w.config(name))
			if err != nil {
				t.Fatal(err)
			}
			if err := n.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			begun, hung := make(chan struct{}), make(chan struct{})
			hang(n, begun, hung)
			<-begun
			start := time.Now()
			for range 2 {
				if err := n.Stop(within(t, time.Second)); !errors.Is(err, ErrStillRunning) {
					t.Errorf("%s: Stop: %v", name, err)
				}
			}
			if d := time.Since(start); d > 2*time.Second || n.State() != StateStopped {
				t.Errorf("%s: %v after %v", name, n.State(), d)
			}
			close(hung)
			synctest.Wait()
		}
	})
}

// Until everything has ended the node is not stopped, but takes no new calls.
func TestStateWhileStopping(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		alice, bob := w.start(w.light("alice")), w.start(w.light("bob"))
		begun, state, call := make(chan struct{}), StateCreated, error(nil)
		if err := bob.Handle("wait/1", func(ctx context.Context, _ *session.Stream) {
			close(begun)
			<-ctx.Done()
			state, call = bob.State(), bob.SendAll(context.Background(), nil)
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := alice.OpenStream(t.Context(), connect(t, alice, bob.Addr().String()), "wait/1"); err != nil {
			t.Fatal(err)
		}
		<-begun
		stopNode(t, bob)
		if state != StateRunning || !errors.Is(call, ErrState) || bob.State() != StateStopped {
			t.Errorf("a handler sees the state %v and a call fail with %v; behind Stop it is %v", state, call, bob.State())
		}
	})
}
