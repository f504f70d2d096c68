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

// TestCreditOutlivesLife checks that a limit told in one life of a stream ID
// is honoured in the next: the word of it may come late, and the peer cannot
// tell which life it was meant for.
func TestCreditOutlivesLife(t *testing.T) {
	cfg := &Config{StreamWindow: 1000, MaxTotalStreams: 16}
	s := &Session{cfg: cfg, ep: &Endpoint{}}
	s.streams.init(false, 16, 16)
	l := &loop{s: s, cfg: cfg}
	st := s.streams.openPeer(s, 1)
	st.in.window, st.in.limit = 50_000, 50_000 // as told after some growth
	if _, _, err := st.in.onData(0, []byte("all"), true); err != nil {
		t.Fatal(err)
	}
	st.out.finish()
	l.release(st)
	again := s.streams.openPeer(s, 1)
	if again == st || again.in.base != 4 {
		t.Fatalf("the ID's next life begins at %d, want 4", again.in.base)
	}
	if again.in.limit != 1004 {
		t.Errorf("the next life's own limit is %d, want 1004: the peer may never hear of the other one", again.in.limit)
	}
	if _, _, err := again.in.onData(4, make([]byte, 50_000-4), false); err != nil {
		t.Errorf("bytes up to the limit told before: %v", err)
	}
	again.in.read(make([]byte, 50_000))
	if !again.in.credit() || again.in.limit != 51_000 {
		t.Errorf("when all of that is read the limit is %d, want 51000", again.in.limit)
	}
	if _, _, err := again.in.onData(51_000, make([]byte, 1), false); err == nil {
		t.Error("a byte over every limit was taken")
	}
}

// TestStreamsDuringClose lets the peer go on opening streams while Close
// still delivers what was written: they are refused, but neither end the
// session nor spoil what is under way.
func TestStreamsDuringClose(t *testing.T) {
	inWorld(t, 1, memory.Link{Delay: 20 * time.Millisecond, Rate: 100_000}, func(a, b *Config) {
		a.Linger = time.Minute
		a.StreamWindow, a.SessionWindow, b.SendBuffer = 5000, 10_000, 1<<20
		a.MaxStreams = 2
	}, func(t *testing.T, w *world) {
		sa, sb := w.connect()
		for range 5 {
			transfer(t, sb, sa, make([]byte, 3000)) // so that IDs have a past
		}
		data := randomBytes(1, 100_000)
		st := open(t, sa)
		if _, err := st.Write(data); err != nil {
			t.Fatal(err)
		}
		_ = st.CloseWrite()
		go func() {
			if err := sa.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}()
		synctest.Wait()
		in := accept(t, sb)
		refused := 0
		go func() {
			for sb.Err() == nil {
				st, err := sb.OpenStream(t.Context())
				if err != nil {
					return
				}
				for err == nil {
					_, err = st.Write(make([]byte, 1000))
				}
				var se *StreamError
				if errors.As(err, &se) && se.Remote && se.Code == CodeRefused {
					refused++
				}
				st.Reset(0)
			}
		}()
		if got, err := io.ReadAll(in); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d of %d bytes, %v", len(got), len(data), err)
		}
		<-sb.Done()
		if refused == 0 {
			t.Error("no stream was refused")
		}
	})
}

// TestKeepAliveWaitsForPacer lets a PING come due that the pacer does not let
// go: the loop must sleep until it does, not ask again and again.
func TestKeepAliveWaitsForPacer(t *testing.T) {
	l, _ := bareLoop(t, Config{Identity: identity(t, "B"), Keyring: keyring(t, "one"), Congestion: CongestionCUBIC}, true)
	l.s.state.Store(int32(StateActive))
	now := time.Now()
	l.step(now)
	now = now.Add(l.cfg.KeepAlive)
	l.rtt.update(time.Minute, 0)
	l.pace = pacer{tokens: -1, last: now}
	if next := l.step(now); !next.After(now) || l.pending&ctlPing == 0 {
		t.Errorf("called again after %v, PING waits: %v", next.Sub(now), l.pending&ctlPing != 0)
	}
}
