package session

import (
	"testing"
	"time"

	"github.com/seigr/sttnode/session/transport/memory"
)

// TestSessionCreditAlone lets the session's credit, not the streams', limit
// the sender: MAX_DATA alone must set streams going again that ran dry.
func TestSessionCreditAlone(t *testing.T) {
	inWorld(t, 1, memory.Link{Delay: 5 * time.Millisecond}, func(a, b *Config) {
		b.StreamWindow, b.MaxStreamWindow = 8<<20, 8<<20
		b.SessionWindow, b.MaxSessionWindow = 64<<10, 64<<10
	}, func(t *testing.T, w *world) {
		sa, sb := w.connect()
		done := make(chan struct{})
		go func() {
			transfer(t, sa, sb, randomBytes(1, 2<<20))
			close(done)
		}()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Error("the transfer hangs")
		}
	})
}

// TestCloseRightAfterDial ends a session before its last handshake message has
// left: the responder must not keep half of it.
func TestCloseRightAfterDial(t *testing.T) {
	inWorld(t, 1, memory.Link{Delay: 5 * time.Millisecond}, nil, func(t *testing.T, w *world) {
		sa, err := w.a.Dial(t.Context(), addrB, w.cfgB.Identity.NodeID())
		if err != nil {
			t.Fatal(err)
		}
		_ = sa.CloseWithError(CodeNone, "")
		time.Sleep(time.Second)
		if st := w.b.Stats(); st.HalfOpen != 0 || st.Handshakes != 1 {
			t.Errorf("%d half-open handshakes, %d done", st.HalfOpen, st.Handshakes)
		}
	})
}
