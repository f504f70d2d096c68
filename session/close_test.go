package session

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/session/transport/memory"
)

func TestKeepAliveAndIdleTimeout(t *testing.T) {
	inWorld(t, 1, lan, nil, func(t *testing.T, w *world) {
		sa, sb := w.connect()
		time.Sleep(time.Hour)
		if err := sa.Err(); err != nil {
			t.Fatalf("an idle hour ended the session: %v", err)
		}
		transfer(t, sa, sb, []byte("still there"))
		if n := sa.Stats().MessagesSent; n > 2000 {
			t.Errorf("%d frames for an idle hour", n)
		}
		w.net.SetLink(addrB, addrA, memory.Link{Down: true})
		w.net.SetLink(addrA, addrB, memory.Link{Down: true})
		start := time.Now()
		<-sa.Done()
		<-sb.Done()
		if d := time.Since(start); d > 31*time.Second || d < 15*time.Second {
			t.Errorf("a dead peer was noticed after %v, want at most 30s", d)
		}
		if !errors.Is(sa.Err(), ErrIdleTimeout) || !errors.Is(sb.Err(), ErrIdleTimeout) {
			t.Errorf("ended with %v and %v", sa.Err(), sb.Err())
		}
	})
}

func TestCloseFlushes(t *testing.T) {
	link := memory.Link{Delay: 20 * time.Millisecond, Loss: 0.1, Rate: 2 << 20}
	inWorld(t, testSeed(t), link, func(a, b *Config) { a.Linger = time.Minute }, func(t *testing.T, w *world) {
		sa, sb := w.connect()
		st := open(t, sa)
		data := randomBytes(1, 100_000)
		if _, err := st.Write(data); err != nil {
			t.Fatal(err)
		}
		_ = st.CloseWrite()
		if err := sa.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
		<-sb.Done()
		got, err := io.ReadAll(accept(t, sb))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d of %d bytes written before Close arrived, %v", len(got), len(data), err)
		}
		if _, err := sa.OpenStream(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("OpenStream after Close: %v", err)
		}
		if _, err := sb.AcceptStream(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("AcceptStream after the peer's Close: %v", err)
		}
	})
}

func TestCloseWithError(t *testing.T) {
	inWorld(t, 1, lan, nil, func(t *testing.T, w *world) {
		sa, sb := w.connect()
		st := open(t, sa)
		_, _ = st.Write([]byte("x"))
		in := accept(t, sb)
		blocked := make(chan error)
		go func() {
			_, err := io.ReadAll(in)
			blocked <- err
		}()
		synctest.Wait()
		if err := sa.CloseWithError(CodeApplication+5, "enough"); err != nil {
			t.Fatal(err)
		}
		var ce *CloseError
		if err := <-blocked; !errors.As(err, &ce) || ce.Code != CodeApplication+5 || ce.Reason != "enough" || !ce.Remote {
			t.Errorf("blocked reader got %v", err)
		}
		if _, err := st.Write([]byte("x")); !errors.Is(err, ErrClosed) {
			t.Errorf("Write after CloseWithError: %v", err)
		}
	})
}

// TestCloseTellsWhatItLeft checks that Close does not pretend.
func TestCloseTellsWhatItLeft(t *testing.T) {
	inWorld(t, 1, lan, nil, func(t *testing.T, w *world) {
		sa, _ := w.connect()
		w.net.SetLink(addrA, addrB, memory.Link{Down: true})
		st := open(t, sa)
		_, _ = st.Write([]byte("never arrives"))
		start := time.Now()
		if err := sa.Close(); !errors.Is(err, ErrUnflushed) {
			t.Errorf("Close with the link down: %v", err)
		}
		if d := time.Since(start); d > 6*time.Second {
			t.Errorf("Close took %v, want at most Linger", d)
		}
	})
}
