package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/session/transport/memory"
	"github.com/seigr/sttnode/stc"
)

// peers makes n more endpoints, each a node of its own, which end with the
// function returned.
func (w *world) peers(n int) (all []*Endpoint, stop func()) {
	for i := range n {
		cfg := w.cfgA
		cfg.Identity = identity(w.t, fmt.Sprintf("peer %d", i))
		e, _ := w.endpoint(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 1, byte(i)}), 4700), cfg)
		all = append(all, e)
	}
	return all, func() {
		for _, e := range all {
			e.Close()
		}
	}
}

func dial(t *testing.T, e *Endpoint) *Session {
	t.Helper()
	s, err := e.Dial(t.Context(), addrB, stc.Hash{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// flood opens a stream and writes as much as it can.
func flood(s *Session) {
	st, err := s.OpenStream(context.Background())
	if err != nil {
		return
	}
	p := make([]byte, 64<<10)
	for err == nil {
		_, err = st.Write(p)
	}
}

// held returns what an endpoint's sessions hold unread, what they have
// promised to hold, and the memory behind it.
func held(e *Endpoint) (unread, credit, memory int64) {
	for _, s := range e.Sessions() {
		st := s.Stats()
		unread += int64(st.Unread)
		credit += int64(st.Credit)
		for _, st := range s.streams.all() {
			st.mu.Lock()
			for _, b := range st.in.buf.blocks {
				if b != nil {
					memory += blockSize
				}
			}
			st.mu.Unlock()
		}
	}
	return unread, credit, memory
}

// TestMemoryBudget lets peers send to somebody who reads nothing, and one to
// somebody who does.
func TestMemoryBudget(t *testing.T) {
	const total, perPeer, sessions, streams = 4 << 20, 400 << 10, 32, 8
	inWorld(t, testSeed(t), memory.Link{Delay: 10 * time.Millisecond}, func(a, b *Config) {
		b.MaxSessions, b.MaxPeerSessions, b.Memory, b.MaxPeerMemory = sessions, 8, total, perPeer
	}, func(t *testing.T, w *world) {
		hostile, stop := w.peers(10)
		defer stop()
		for i := range 20 {
			s := dial(t, hostile[i%len(hostile)])
			for range streams {
				go flood(s)
			}
			if _, err := w.b.Accept(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		// One session has had all that it wanted before it falls silent.
		time.Sleep(10 * time.Second)
		sa, sb := w.connect()
		begin := time.Now()
		transfer(t, sa, sb, randomBytes(1, 2<<20))
		if d := time.Since(begin); d > 10*time.Second {
			t.Errorf("2 MiB beside the hoarders took %v", d)
		}
		unread, credit, memory := held(w.b)
		lent := w.b.Stats().Memory
		t.Logf("%d bytes unread in %d of memory, %d announced, %d lent", unread, memory, credit, lent)
		if credit > total || unread > credit || lent+sessions*guaranteedWindow > total {
			t.Errorf("%d bytes unread, %d announced, %d lent, of %d", unread, credit, lent, total)
		}
		if memory > unread+20*streams*2*blockSize {
			t.Errorf("%d bytes of memory for %d unread", memory, unread)
		}
		if unread < total/4 {
			t.Errorf("only %d of %d bytes are used: the test tests nothing", unread, total)
		}
		for p, a := range w.b.budget.peers {
			if a.lent > perPeer {
				t.Errorf("peer %v has %d bytes", p, a.lent)
			}
		}
		// What ended sessions held comes back.
		for _, s := range w.b.Sessions() {
			for _, st := range s.streams.all() {
				st.Reset(0)
			}
			_ = s.CloseWithError(CodeNone, "")
		}
		time.Sleep(5 * time.Second)
		if st := w.b.Stats(); st.Memory != 0 || st.Sessions != 0 || len(w.b.budget.peers) != 0 {
			t.Errorf("%d bytes are lent, to %d sessions of %d peers, after their end", st.Memory, st.Sessions, len(w.b.budget.peers))
		}
	})
}

// TestSendMemory writes to peers that take nothing, and to one that does.
func TestSendMemory(t *testing.T) {
	const total, streams = 1 << 20, 60
	inWorld(t, testSeed(t), lan, func(a, b *Config) {
		a.SendMemory = total
		b.StreamWindow, b.MaxStreamWindow = 16<<10, 16<<10
	}, func(t *testing.T, w *world) {
		sa, sb := w.connect()
		for range streams {
			go flood(sa)
		}
		time.Sleep(5 * time.Second)
		held := w.a.Stats().SendMemory
		t.Logf("%d bytes held", held)
		if held < total || held > total+streams*guaranteedBuffer {
			t.Errorf("%d bytes are held for a peer that takes nothing, of %d", held, total)
		}
		s2, err := w.a.Dial(t.Context(), addrB, stc.Hash{})
		if err != nil {
			t.Fatal(err)
		}
		s2b, err := w.b.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		transfer(t, s2, s2b, randomBytes(1, 1<<20))
		if d := time.Since(begin); d > 10*time.Second {
			t.Errorf("1 MiB to one who takes it took %v", d)
		}
		if err := sa.SendFrame(t.Context(), frame.TypeUser, 0, make([]byte, 100_000)); err != nil {
			t.Error(err)
		}
		_ = sb.CloseWithError(CodeNone, "")
		time.Sleep(time.Second)
		if held := w.a.Stats().SendMemory; held != 0 {
			t.Errorf("%d bytes count after the end", held)
		}
	})
}

// TestUnreadAfterTheEnd ends sessions behind what nobody has read: it counts
// until it is read.
func TestUnreadAfterTheEnd(t *testing.T) {
	inWorld(t, 1, lan, nil, func(t *testing.T, w *world) {
		sa, sb := w.connect()
		st := open(t, sa)
		_, _ = st.Write(make([]byte, 100_000))
		in := accept(t, sb)
		time.Sleep(time.Second)
		_ = sa.CloseWithError(CodeApplication, "")
		time.Sleep(time.Second)
		if got := w.b.Stats().Memory; sb.State() != StateClosed || got != 100_000 {
			t.Errorf("%v; %d bytes count, 100,000 are unread", sb.State(), got)
		}
		if n, err := io.ReadFull(in, make([]byte, 100_000)); err != nil {
			t.Fatal(n, err)
		}
		if got := w.b.Stats().Memory; got != 0 {
			t.Errorf("%d bytes count, none is unread", got)
		}
	})
}

// TestBorrow takes and returns at random; the sums hold at every step.
func TestBorrow(t *testing.T) {
	rng := newRNG(testSeed(t))
	cfg := Config{MaxSessions: 50, MaxPeerSessions: 10, Memory: 50*guaranteedWindow + 1000, MaxPeerMemory: 400}
	b := newBudget(&cfg)
	var all []*account
	for i := range 20 {
		p, err := b.admit(stc.Hash{byte(i % 4)})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, &account{of: b, peer: p})
	}
	for range 10_000 {
		a := all[rng.IntN(len(all))]
		least := rng.Int64N(a.lent + 1)
		want, had, free := rng.Int64N(600), a.lent, b.total-b.lent
		got := a.borrow(least, want)
		if got < least || got > max(want, least) || got > had && got > (free+had)/2 {
			t.Fatalf("had %d, asked for %d to %d, of %d free: got %d", had, least, want, free, got)
		}
		var sum int64
		peers := map[*peerAccount]int64{}
		for _, a := range all {
			sum += a.lent
			peers[a.peer] += a.lent
		}
		if sum != b.lent || sum > 1000 {
			t.Fatalf("%d lent, %d counted", sum, b.lent)
		}
		for p, n := range peers {
			if n != p.lent || n > 400 {
				t.Fatalf("a peer has %d, %d counted", n, p.lent)
			}
		}
	}
}

// TestSessionLimits checks that a refused peer learns why, although the first
// word of it is lost.
func TestSessionLimits(t *testing.T) {
	inWorld(t, 1, lan, func(a, b *Config) { b.MaxSessions, b.MaxPeerSessions = 3, 2 }, func(t *testing.T, w *world) {
		others, stop := w.peers(2)
		defer stop()
		refused := func(s *Session, code uint64) {
			t.Helper()
			select {
			case <-s.Done():
			case <-time.After(3 * time.Second):
				t.Fatal("the session was not refused")
			}
			var ce *CloseError
			if err := s.Err(); !errors.As(err, &ce) || ce.Code != code || !ce.Remote || !errors.Is(err, ErrTooManySessions) {
				t.Errorf("refused with %v, want code %#x", err, code)
			}
		}
		first := dial(t, w.a)
		dial(t, w.a)
		refused(dial(t, w.a), CodePeerLimit)
		third := dial(t, others[0])
		time.Sleep(time.Second)

		s := dial(t, others[1])
		back := netip.MustParseAddrPort("10.0.1.1:4700")
		w.net.SetLink(addrB, back, memory.Link{Down: true})
		time.Sleep(100 * time.Millisecond)
		w.net.SetLink(addrB, back, lan)
		refused(s, CodeLimit)

		// Room that comes free is used.
		_ = first.CloseWithError(CodeNone, "")
		time.Sleep(time.Second)
		s = dial(t, others[1])
		time.Sleep(time.Second)
		if s.Err() != nil || third.Err() != nil {
			t.Errorf("a session within the limits ended: %v, %v", s.Err(), third.Err())
		}
		if st := w.b.Stats(); st.Sessions != 3 || st.HandshakesRefused != 2 {
			t.Errorf("%d sessions, %d refused; want 3 and 2", st.Sessions, st.HandshakesRefused)
		}
		if _, err := w.b.Dial(t.Context(), addrA, stc.Hash{}); !errors.Is(err, ErrTooManySessions) {
			t.Errorf("Dial at the limit: %v", err)
		}
		time.Sleep(10 * time.Second)
		if n := w.b.Stats().HalfOpen; n != 0 {
			t.Errorf("%d refused handshakes are kept", n)
		}
	})
}

// TestTotalStreams lets a peer open more streams than the endpoint takes;
// another one still gets some.
func TestTotalStreams(t *testing.T) {
	inWorld(t, 1, lan, func(a, b *Config) { b.MaxTotalStreams = 20 }, func(t *testing.T, w *world) {
		others, stop := w.peers(1)
		defer stop()
		sa, sb := w.connect()
		var refused int
		for range 100 {
			st := open(t, sa)
			_, _ = st.Write([]byte("hello"))
			time.Sleep(50 * time.Millisecond)
			var se *StreamError
			if _, err := st.Write([]byte("more")); errors.As(err, &se) {
				if refused++; se.Code != CodeRefused || !se.Remote {
					t.Fatalf("refused with %v", err)
				}
				if _, err := st.Read(make([]byte, 1)); !errors.As(err, &se) || se.Code != CodeRefused {
					t.Fatalf("a refused stream reads %v", err)
				}
				_ = st.Close()
			}
		}
		time.Sleep(time.Second)
		if st := w.b.Stats(); refused != 80 || st.PeerStreams != 20 || st.StreamsRefused != 80 {
			t.Errorf("%d of 100 streams refused, %d counted, %d open; want 80, 20", refused, st.StreamsRefused, st.PeerStreams)
		}
		so := dial(t, others[0])
		s2, err := w.b.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range guaranteedStreams {
			st := open(t, so)
			_, _ = st.Write([]byte("hello"))
			if got, err := io.ReadAll(io.LimitReader(accept(t, s2), 5)); err != nil || string(got) != "hello" {
				t.Fatalf("%q, %v", got, err)
			}
		}
		_ = sb.CloseWithError(CodeNone, "")
		_ = s2.CloseWithError(CodeNone, "")
		time.Sleep(5 * time.Second)
		if n := w.b.Stats().PeerStreams; n != 0 {
			t.Errorf("%d streams count after the end of their sessions", n)
		}
	})
}

// TestRefusedStreamsLeftOpen is a peer that does not listen.
func TestRefusedStreamsLeftOpen(t *testing.T) {
	inWorld(t, 1, lan, func(a, b *Config) { b.MaxTotalStreams = 1 }, func(t *testing.T, w *world) {
		sa, sb := w.connect()
		time.Sleep(time.Second)
		w.net.SetLink(addrB, addrA, memory.Link{Down: true})
		for range maxRefused + guaranteedStreams + 5 {
			_ = open(t, sa).CloseWrite()
		}
		time.Sleep(10 * time.Second)
		var ce *CloseError
		if err := sb.Err(); !errors.As(err, &ce) || ce.Code != CodeResources {
			t.Errorf("the session ended with %v", err)
		}
	})
}

// TestFramesWithinMemory sends frames of the application to an endpoint that
// has memory for one of them, and to one that has not.
func TestFramesWithinMemory(t *testing.T) {
	for _, enough := range []bool{true, false} {
		t.Run(fmt.Sprint(enough), func(t *testing.T) {
			got := make(chan []byte, 10)
			inWorld(t, 1, lan, func(a, b *Config) {
				b.Frames = &Dispatcher{}
				if err := b.Frames.Handle(frame.TypeUser, func(_ context.Context, f UserFrame) { got <- f.Payload }); err != nil {
					t.Fatal(err)
				}
				b.MaxSessions, b.Memory, b.MaxPeerMemory = 4, 8<<20, 8<<20
				if !enough {
					b.Memory = 2 << 20
				}
			}, func(t *testing.T, w *world) {
				sa, _ := w.connect()
				data := randomBytes(1, 3*MaxUserFrame/4)
				for range 3 {
					if err := sa.SendFrame(t.Context(), frame.TypeUser, 0, data); err != nil && enough {
						t.Fatal(err)
					}
				}
				time.Sleep(10 * time.Second)
				var ce *CloseError
				switch err := sa.Err(); {
				case !enough:
					if !errors.As(err, &ce) || ce.Code != CodeResources {
						t.Errorf("the session ended with %v", err)
					}
				case err != nil || len(got) != 3 || !bytes.Equal(<-got, data):
					t.Errorf("%d of 3 frames, %v", len(got), err)
				}
				_ = sa.CloseWithError(CodeNone, "")
				time.Sleep(time.Second)
				if n := w.b.Stats().Memory; n != 0 {
					t.Errorf("%d bytes are lent after the end", n)
				}
			})
		})
	}
}
