package session

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/seigr/sttnode/session/transport/memory"
	"github.com/seigr/sttnode/stc"
)

var lan = memory.Link{Delay: 10 * time.Millisecond}

func TestHandshake(t *testing.T) {
	inWorld(t, 1, lan, nil, func(t *testing.T, w *world) {
		start := time.Now()
		sa, err := w.a.Dial(t.Context(), addrB, w.cfgB.Identity.NodeID())
		if err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d != 20*time.Millisecond {
			t.Errorf("Dial took %v, want one round trip of 20ms", d)
		}
		if sa.State() != StateHandshake {
			t.Errorf("state before FINAL: %v", sa.State())
		}
		sb, err := w.b.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if sa.ID() != sb.ID() || sa.ID().IsZero() {
			t.Errorf("session IDs %v and %v", sa.ID(), sb.ID())
		}
		if sa.PeerID() != w.cfgB.Identity.NodeID() || sb.PeerID() != w.cfgA.Identity.NodeID() {
			t.Error("an end is mistaken about its peer")
		}
		transfer(t, sa, sb, []byte("hello"))
		transfer(t, sb, sa, []byte("hello back"))
		if sa.State() != StateActive || sb.State() != StateActive {
			t.Errorf("states %v and %v, want Active", sa.State(), sb.State())
		}
		if got := sa.ObservedAddr(); got != addrA {
			t.Errorf("A is seen at %v, want %v", got, addrA)
		}
		if err := sa.Close(); err != nil {
			t.Error(err)
		}
		<-sb.Done()
		var ce *CloseError
		if err := sb.Err(); !errors.As(err, &ce) || !ce.Remote || ce.Code != CodeNone {
			t.Errorf("B's session ended with %v", err)
		}
	})
}

func TestSessionIDRule(t *testing.T) {
	var ni, nr [nonceSize]byte
	var a, b stc.Hash
	for i := range ni {
		ni[i], nr[i], a[i], b[i] = 1, 2, 4, byte(8+i)
	}
	want := [8]byte{15, 14, 13, 12, 11, 10, 9, 8}
	if got := sessionID(ni, nr, a, b); got != want {
		t.Errorf("sessionID = %v, want %v", got, want)
	}
}

// TestOneRoundTripData checks that data right behind AUTH_PROOF arrives with
// it: an answer to a request is there two round trips after Dial began.
func TestOneRoundTripData(t *testing.T) {
	inWorld(t, 1, lan, nil, func(t *testing.T, w *world) {
		start := time.Now()
		go func() {
			sb, err := w.b.Accept(t.Context())
			if err != nil {
				return
			}
			st, err := sb.AcceptStream(t.Context())
			if err != nil {
				return
			}
			_, _ = io.Copy(st, st)
			st.CloseWrite()
		}()
		sa, err := w.a.Dial(t.Context(), addrB, stc.Hash{})
		if err != nil {
			t.Fatal(err)
		}
		st := open(t, sa)
		_, _ = st.Write([]byte("ping"))
		st.CloseWrite()
		got, err := io.ReadAll(st)
		if err != nil || string(got) != "ping" {
			t.Fatalf("%q, %v", got, err)
		}
		if d := time.Since(start); d > 41*time.Millisecond {
			t.Errorf("request answered after %v, want two round trips of 20ms", d)
		}
	})
}

// TestBadNetwork is the promise of the package: every byte, in order.
func TestBadNetwork(t *testing.T) {
	link := memory.Link{Delay: 15 * time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 0.1, Reorder: 0.05, Duplicate: 0.05, Rate: 4 << 20}
	inWorld(t, testSeed(t), link, nil, func(t *testing.T, w *world) {
		sa, sb := w.connect()
		done := make(chan struct{})
		go func() {
			defer close(done)
			transfer(t, sb, sa, randomBytes(1, 1<<20))
		}()
		transfer(t, sa, sb, randomBytes(2, 3<<20))
		<-done
		st := sa.Stats()
		if st.PacketsLost == 0 || sb.Stats().DuplicatesReceived == 0 {
			t.Errorf("the network was not bad: %+v", st)
		}
	})
}

func TestManyStreamsAndIDReuse(t *testing.T) {
	link := memory.Link{Delay: 5 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.05, Duplicate: 0.1}
	inWorld(t, testSeed(t), link, func(a, b *Config) { b.MaxStreams = 8 }, func(t *testing.T, w *world) {
		sa, sb := w.connect()
		go func() {
			for {
				st, err := sb.AcceptStream(t.Context())
				if err != nil {
					return
				}
				go func() {
					_, _ = io.Copy(st, st)
					_ = st.Close()
				}()
			}
		}()
		const workers, rounds = 12, 30
		errs := make(chan error, workers)
		highest := make(chan uint16, workers*rounds)
		for i := range workers {
			go func() {
				for j := range rounds {
					st, err := sa.OpenStream(t.Context())
					if err != nil {
						errs <- err
						return
					}
					highest <- st.ID()
					want := randomBytes(uint64(i*rounds+j), 10+1000*j)
					go func() { _, _ = st.Write(want); _ = st.CloseWrite() }()
					got, err := io.ReadAll(st)
					if err != nil || !bytes.Equal(got, want) {
						errs <- errors.Join(err, errors.New("echo differs"))
						return
					}
					_ = st.Close()
				}
				errs <- nil
			}()
		}
		for range workers {
			if err := <-errs; err != nil {
				t.Fatal(err)
			}
		}
		close(highest)
		for id := range highest {
			if id > 15 || id%2 == 0 {
				t.Fatalf("stream ID %d; with 8 streams of the initiator none is over 15 or even", id)
			}
		}
		time.Sleep(5 * time.Second)
		if n, m := sa.Stats().Streams, sb.Stats().Streams; n != 0 || m != 0 {
			t.Errorf("%d and %d streams are still open", n, m)
		}
	})
}

func TestHalfCloseResetStop(t *testing.T) {
	inWorld(t, 1, lan, nil, func(t *testing.T, w *world) {
		sa, sb := w.connect()

		// Half-close: B answers after A has ended its direction.
		st := open(t, sa)
		_, _ = st.Write([]byte("question"))
		_ = st.CloseWrite()
		in := accept(t, sb)
		if got, err := io.ReadAll(in); err != nil || string(got) != "question" {
			t.Fatalf("%q, %v", got, err)
		}
		_, _ = in.Write([]byte("answer"))
		_ = in.Close()
		if got, err := io.ReadAll(st); err != nil || string(got) != "answer" {
			t.Fatalf("%q, %v", got, err)
		}
		if _, err := st.Write([]byte("more")); !errors.Is(err, ErrClosed) {
			t.Errorf("Write after CloseWrite: %v", err)
		}

		// Reset: the reader learns the code.
		st = open(t, sa)
		_, _ = st.Write([]byte("partial"))
		in = accept(t, sb)
		st.Reset(77)
		var se *StreamError
		for {
			_, err := in.Read(make([]byte, 100))
			if err != nil {
				if !errors.As(err, &se) || se.Code != 77 || !se.Remote {
					t.Errorf("Read after the peer's Reset: %v", err)
				}
				break
			}
		}
		_ = in.Close()

		// CloseRead: the writer learns the code, however much it writes.
		st = open(t, sa)
		_, _ = st.Write([]byte("x"))
		in = accept(t, sb)
		in.CloseRead(9)
		for {
			_, err := st.Write(make([]byte, 1000))
			if err != nil {
				if !errors.As(err, &se) || se.Code != 9 || !se.Remote {
					t.Errorf("Write after the peer's CloseRead: %v", err)
				}
				break
			}
		}
		_, _ = in.Write([]byte("still"))
		_ = in.CloseWrite()
		if got, err := io.ReadAll(st); err != nil || string(got) != "still" {
			t.Errorf("other direction after CloseRead: %q, %v", got, err)
		}

		// A reader may be the first to move: the peer speaks first.
		st = open(t, sa)
		go func() {
			in, err := sb.AcceptStream(t.Context())
			if err == nil {
				_, _ = in.Write([]byte("welcome"))
				_ = in.Close()
			}
		}()
		if got, err := io.ReadAll(st); err != nil || string(got) != "welcome" {
			t.Errorf("peer speaks first: %q, %v", got, err)
		}

		// A stream that is reset before any byte still ends at both sides.
		st = open(t, sa)
		st.Reset(1)
		in = accept(t, sb)
		if _, err := in.Read(make([]byte, 1)); !errors.As(err, &se) || se.Code != 1 {
			t.Errorf("Read of a stream reset at once: %v", err)
		}
	})
}

// TestStalledReader checks that who stops reading stops its sender, and
// nobody else.
func TestStalledReader(t *testing.T) {
	inWorld(t, 1, lan, func(a, b *Config) {
		b.StreamWindow, b.MaxStreamWindow = 64<<10, 64<<10
		b.SessionWindow, b.MaxSessionWindow = 1<<20, 1<<20
		a.SendBuffer = 100 << 10
	}, func(t *testing.T, w *world) {
		sa, sb := w.connect()
		stalled := open(t, sa)
		written := make(chan int, 1)
		go func() {
			n, _ := stalled.Write(make([]byte, 1<<20))
			written <- n
		}()
		in := accept(t, sb)
		time.Sleep(time.Second)
		transfer(t, sa, sb, randomBytes(3, 2<<20))
		if err := stalled.SetWriteDeadline(time.Now()); err != nil {
			t.Fatal(err)
		}
		if n := <-written; n < 64<<10 || n > 164<<10 {
			t.Errorf("%d bytes were taken for a reader that does not read; window 64 KiB, buffer 100 KiB", n)
		}
		_ = in.Close()
		stalled.Reset(0)
	})
}

func TestMessages(t *testing.T) {
	inWorld(t, 1, lan, nil, func(t *testing.T, w *world) {
		sa, sb := w.connect()
		st := open(t, sa)
		want := [][]byte{[]byte("one"), {}, randomBytes(1, 100_000), []byte("four")}
		go func() {
			for _, m := range want {
				if err := st.SendMessage(m); err != nil {
					t.Error(err)
				}
			}
			_ = st.CloseWrite()
		}()
		in := accept(t, sb)
		for i, m := range want {
			got, err := in.ReceiveMessage(1 << 20)
			if err != nil || !bytes.Equal(got, m) {
				t.Fatalf("message %d: %d bytes, %v; want %d", i, len(got), err, len(m))
			}
		}
		if _, err := in.ReceiveMessage(10); err != io.EOF {
			t.Errorf("after the last message: %v", err)
		}
		if err := st.SendMessage(make([]byte, MaxMessage+1)); !errors.Is(err, ErrMessageTooLong) {
			t.Errorf("oversized message: %v", err)
		}
		st = open(t, sa)
		_ = st.SendMessage(make([]byte, 100))
		if _, err := accept(t, sb).ReceiveMessage(99); !errors.Is(err, ErrMessageTooLong) {
			t.Errorf("message over the reader's limit: %v", err)
		}
	})
}

func TestKeyRotation(t *testing.T) {
	for _, test := range []struct {
		name string
		r    Rotation
		idle time.Duration
		min  uint32
	}{
		{"bytes", Rotation{Bytes: 100_000, Messages: -1, Interval: -1}, 0, 20},
		{"messages", Rotation{Bytes: -1, Messages: 100, Interval: -1}, 0, 20},
		{"time", Rotation{Bytes: -1, Messages: -1, Interval: time.Minute}, 10 * time.Minute, 8},
		{"never", Rotation{Bytes: -1, Messages: -1, Interval: -1}, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			link := memory.Link{Delay: 5 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.02, Duplicate: 0.02}
			inWorld(t, testSeed(t), link, func(a, b *Config) { a.Rotation = test.r; b.Rotation = test.r }, func(t *testing.T, w *world) {
				sa, sb := w.connect()
				done := make(chan struct{})
				go func() { defer close(done); transfer(t, sb, sa, randomBytes(9, 8<<20)) }()
				transfer(t, sa, sb, randomBytes(8, 8<<20))
				<-done
				time.Sleep(test.idle)
				time.Sleep(time.Second)
				a, b := sa.Stats(), sb.Stats()
				if a.SendEpoch < test.min || b.SendEpoch < test.min || test.min == 0 && a.SendEpoch > 0 {
					t.Errorf("epochs %d and %d, want at least %d", a.SendEpoch, b.SendEpoch, test.min)
				}
				if a.SendEpoch > b.ReceiveEpoch+1 || b.SendEpoch > a.ReceiveEpoch+1 {
					t.Errorf("epochs sent %d/%d, received %d/%d", a.SendEpoch, b.SendEpoch, b.ReceiveEpoch, a.ReceiveEpoch)
				}
				if a.ForgedReceived+b.ForgedReceived > 0 {
					t.Errorf("%d frames did not open", a.ForgedReceived+b.ForgedReceived)
				}
			})
		})
	}
}

func TestWrongSeed(t *testing.T) {
	for _, stealth := range []bool{false, true} {
		inWorld(t, 1, lan, func(a, b *Config) {
			b.Keyring = keyring(t, "another")
			b.Stealth = stealth
		}, func(t *testing.T, w *world) {
			start := time.Now()
			_, err := w.a.Dial(t.Context(), addrB, stc.Hash{})
			want, limit := ErrWrongSeed, 2*time.Second
			if stealth {
				want, limit = ErrHandshakeTimeout, 6*time.Second
			}
			if !errors.Is(err, want) || time.Since(start) > limit {
				t.Errorf("stealth %v: %v after %v, want %v", stealth, err, time.Since(start), want)
			}
			if s := w.net.Stats(); stealth && s.Sent > 10 {
				t.Errorf("%d datagrams", s.Sent)
			}
		})
	}
}

func TestDialErrors(t *testing.T) {
	inWorld(t, 1, lan, nil, func(t *testing.T, w *world) {
		if _, err := w.a.Dial(t.Context(), addrB, identity(t, "C").NodeID()); !errors.Is(err, ErrWrongPeer) {
			t.Errorf("another node's ID: %v", err)
		}
		if _, err := w.a.Dial(t.Context(), netip.MustParseAddrPort("10.9.9.9:1"), stc.Hash{}); !errors.Is(err, ErrHandshakeTimeout) {
			t.Errorf("nobody there: %v", err)
		}
		if _, err := w.a.Dial(t.Context(), addrA, stc.Hash{}); err == nil {
			t.Error("a node dialled itself")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := w.a.Dial(ctx, addrB, stc.Hash{}); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		w.a.Close()
		if _, err := w.a.Dial(t.Context(), addrB, stc.Hash{}); !errors.Is(err, ErrClosed) {
			t.Errorf("closed endpoint: %v", err)
		}
		if _, err := w.a.Accept(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("Accept on a closed endpoint: %v", err)
		}
	})
}

// TestPeerSeed checks that a seed for a single peer wins over the network's.
func TestPeerSeed(t *testing.T) {
	inWorld(t, 1, lan, nil, func(t *testing.T, w *world) {
		own := []byte("a seed that only A and B hold ...")
		if err := w.cfgB.Keyring.SetPeerSeed(w.cfgA.Identity.NodeID(), own); err != nil {
			t.Fatal(err)
		}
		sa, err := w.a.Dial(t.Context(), addrB, w.cfgB.Identity.NodeID())
		if err == nil {
			<-sa.Done()
			err = sa.Err()
		}
		if err == nil {
			t.Fatal("B took the network's seed from a peer that has one of its own")
		}
		if err := w.cfgA.Keyring.SetPeerSeed(w.cfgB.Identity.NodeID(), own); err != nil {
			t.Fatal(err)
		}
		sa, sb := w.connect()
		transfer(t, sa, sb, []byte("between us"))
	})
}

// TestCookiesUnderLoad checks that a flood of half-open handshakes from made
// up addresses does not keep an honest peer out, and costs no memory.
func TestCookiesUnderLoad(t *testing.T) {
	inWorld(t, 1, lan, func(a, b *Config) { b.MaxHalfOpen = 16 }, func(t *testing.T, w *world) {
		hs, err := stc.NewInitiator(identity(t, "flood"), keyring(t, "one"), stc.Hash{}, prologue)
		if err != nil {
			t.Fatal(err)
		}
		message, err := hs.WriteMessage(nil, hello{version: protocolVersion, suites: stc.SupportedSuites()}.append(nil))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			conn, err := w.net.Listen(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}), 1))
			if err != nil {
				t.Fatal(err)
			}
			b := appendHello(nil, [8]byte{byte(i), 1}, nil, message)
			if err := conn.Send(b, len(b), addrB); err != nil {
				t.Fatal(err)
			}
			conn.Close()
		}
		time.Sleep(50 * time.Millisecond)
		st := w.b.Stats()
		if st.HalfOpen > 8 || st.HandshakeRetries < 80 {
			t.Errorf("%d handshakes half open, %d asked for a proof of address", st.HalfOpen, st.HandshakeRetries)
		}
		sa, sb := w.connect()
		transfer(t, sa, sb, []byte("let in"))
	})
}

func TestAddressChange(t *testing.T) {
	inWorld(t, 1, lan, nil, func(t *testing.T, w *world) {
		sa, sb := w.connect()
		transfer(t, sa, sb, randomBytes(1, 100_000))
		moved := netip.MustParseAddrPort("10.0.0.77:999")
		if err := w.connA.Rebind(moved); err != nil {
			t.Fatal(err)
		}
		transfer(t, sa, sb, randomBytes(2, 100_000))
		transfer(t, sb, sa, randomBytes(3, 100_000))
		if got := sb.RemoteAddr(); got != moved {
			t.Errorf("B sends to %v, want %v", got, moved)
		}
	})
}

// TestPathMTU checks that the search finds what the path carries, and that a
// path which shrinks later is survived.
func TestPathMTU(t *testing.T) {
	for mtu, least := range map[int]int{
		1200: 1200, 1280: 1264, 1400: 1384, 1452: 1452, 1472: 1472, 2000: 1472, 8972: 8972, 65507: 65507, // what is usual is found exactly
	} {
		link := lan
		link.MTU, link.Interface = mtu, defaultMaxDatagram
		inWorld(t, 1, link, nil, func(t *testing.T, w *world) {
			sa, sb := w.connect()
			transfer(t, sa, sb, randomBytes(1, 2<<20))
			time.Sleep(30 * time.Second)
			if got := sa.Stats().DatagramSize; got > mtu || got < least {
				t.Errorf("path of %d: found %d", mtu, got)
			}
			small := lan
			small.MTU = 1200
			w.net.SetDefault(small)
			transfer(t, sa, sb, randomBytes(2, 100_000))
			if got := sa.Stats().DatagramSize; got != 1200 {
				t.Errorf("path shrunk from %d to 1200: datagrams of %d", mtu, got)
			}
			if mtu == 1200 {
				return
			}
			w.net.SetDefault(link)
			time.Sleep(mtuRaise)
			transfer(t, sa, sb, randomBytes(3, 2<<20))
			time.Sleep(30 * time.Second)
			transfer(t, sa, sb, randomBytes(4, 100_000))
			if got := sa.Stats().DatagramSize; got > mtu || got < least {
				t.Errorf("path of %d shrunk and grown again: found %d", mtu, got)
			}
		})
	}
}

func TestStats(t *testing.T) {
	inWorld(t, 1, lan, nil, func(t *testing.T, w *world) {
		sa, sb := w.connect()
		transfer(t, sa, sb, randomBytes(1, 500_000))
		time.Sleep(time.Second)
		a, b := sa.Stats(), sb.Stats()
		if a.BytesSent < 500_000 || a.BytesSent > 600_000 || b.BytesReceived < 500_000 {
			t.Errorf("bytes sent %d, received %d for 500,000", a.BytesSent, b.BytesReceived)
		}
		if a.MessagesSent != b.MessagesReceived || a.MessagesSent < 300 {
			t.Errorf("%d frames sent, %d received", a.MessagesSent, b.MessagesReceived)
		}
		if a.RTT < 20*time.Millisecond || a.RTT > 30*time.Millisecond {
			t.Errorf("RTT %v, want about 20ms", a.RTT)
		}
		if a.LastActive.Before(a.Created) || a.Streams != 0 {
			t.Errorf("%+v", a)
		}
		if e := w.a.Stats(); e.Sessions != 1 || e.Handshakes != 1 || e.BytesSent != a.BytesSent {
			t.Errorf("endpoint: %+v", e)
		}
	})
}
