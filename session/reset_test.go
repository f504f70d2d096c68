package session

import (
	"errors"
	"testing"
	"time"

	"github.com/seigr/sttnode/frame"
)

// TestRestartedPeer kills a node and starts it again at the same address: its
// peer notices with the next frame it sends, whichever of both dialled.
func TestRestartedPeer(t *testing.T) {
	for _, restartB := range []bool{true, false} {
		inWorld(t, 1, lan, nil, func(t *testing.T, w *world) {
			sa, sb := w.connect()
			transfer(t, sa, sb, []byte("before"))
			survivor, conn, addr, cfg := sa, w.connB, addrB, w.cfgB
			if !restartB {
				survivor, conn, addr, cfg = sb, w.connA, addrA, w.cfgA
			}
			conn.Close() // the process is gone, without a word
			again, _ := w.endpoint(addr, cfg)
			defer again.Close()
			start := time.Now()
			st := open(t, survivor)
			_, _ = st.Write([]byte("are you there?"))
			<-survivor.Done()
			if d := time.Since(start); !errors.Is(survivor.Err(), ErrForgotten) || d > 25*time.Millisecond {
				t.Errorf("restarted B %v: %v after %v, want ErrForgotten after a round trip of 20ms", restartB, survivor.Err(), d)
			}
		})
	}
}

// TestRestartedPeerOfSilentSession does the same to a session on which nothing
// is sent but the signs of life.
func TestRestartedPeerOfSilentSession(t *testing.T) {
	inWorld(t, 1, lan, nil, func(t *testing.T, w *world) {
		sa, sb := w.connect()
		transfer(t, sa, sb, []byte("before"))
		time.Sleep(time.Second) // what acknowledges the transfer is no sign of life
		w.connB.Close()
		again, _ := w.endpoint(addrB, w.cfgB)
		defer again.Close()
		start := time.Now()
		<-sa.Done()
		if d := time.Since(start); !errors.Is(sa.Err(), ErrForgotten) || d > sa.cfg.KeepAlive+time.Second {
			t.Errorf("%v after %v, want ErrForgotten after %v", sa.Err(), d, sa.cfg.KeepAlive)
		}
	})
}

// TestUnknownOvertaken gives a session an answer to what it sent before the
// peer knew it.
func TestUnknownOvertaken(t *testing.T) {
	inWorld(t, 1, lan, nil, func(t *testing.T, w *world) {
		sa, sb := w.connect()
		early := time.Now()
		time.Sleep(time.Second)
		transfer(t, sa, sb, []byte("x"))
		token := w.b.resets.token(sa.ID())
		unknown := handshakePacket{typ: frame.TypeHandshake, id: sa.ID(), kind: kindUnknown, body: token[:], at: early}
		w.a.onUnknown(unknown)
		transfer(t, sa, sb, []byte("still up"))
		time.Sleep(time.Second)
		unknown.at = time.Now()
		w.a.onUnknown(unknown)
		if <-sa.Done(); !errors.Is(sa.Err(), ErrForgotten) {
			t.Error(sa.Err())
		}
	})
}

// TestForgedUnknown checks that nobody but the peer can say that it has
// forgotten a session.
func TestForgedUnknown(t *testing.T) {
	inWorld(t, 1, lan, nil, func(t *testing.T, w *world) {
		sa, sb := w.connect()
		transfer(t, sa, sb, []byte("x"))
		own := w.a.resets.token(sa.ID())
		for _, body := range [][]byte{nil, make([]byte, 16), own[:], make([]byte, 17)} {
			b := appendHandshake(nil, frame.TypeHandshake, sa.ID(), kindUnknown, body)
			if err := w.connB.Send(b, len(b), addrA); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		transfer(t, sa, sb, []byte("still up"))
	})
}
