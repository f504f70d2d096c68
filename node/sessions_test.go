package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/session"
	"github.com/seigr/sttnode/stc"
)

// light is the configuration of a node without a store.
func (w *network) light(name string, bootstrap ...Address) Config {
	cfg := w.config(name, bootstrap...)
	cfg.Dir = ""
	return cfg
}

func connect(t *testing.T, from *Node, target string) *session.Session {
	t.Helper()
	s, err := from.Connect(within(t, time.Minute), target)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func accept(t *testing.T, n *Node) *session.Session {
	t.Helper()
	s, err := n.Accept(within(t, time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConnectIsSharedAndKept(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		alice, bob := w.start(w.light("alice")), w.start(w.light("bob"))
		// Callers that know only the address, at the same moment, then one that
		// knows the ID, and the other side.
		var wg sync.WaitGroup
		got := make([]*session.Session, 8)
		for i := range got {
			wg.Go(func() { got[i] = connect(t, alice, bob.Addr().String()) })
		}
		wg.Wait()
		got = append(got, connect(t, alice, bob.ID().String()+"@"+bob.Addr().String()), connect(t, alice, bob.ID().String()))
		for _, s := range got {
			if s != got[0] {
				t.Fatal("a second session with the same node")
			}
		}
		back := accept(t, bob)
		if back.ID() != got[0].ID() || back.PeerID() != alice.ID() {
			t.Fatalf("accepted %v of %v", back.ID(), back.PeerID())
		}
		if s, err := bob.Session(back.ID()); err != nil || s != back {
			t.Fatalf("Session: %v, %v", s, err)
		}
		if s := connect(t, bob, alice.ID().String()); s != back {
			t.Fatal("the accepted session is not used")
		}
		time.Sleep(10 * time.Minute) // IdleSession is two
		if len(alice.Sessions()) != 1 || len(bob.Sessions()) != 1 {
			t.Fatalf("a held session was closed: %v, %v", got[0].Err(), back.Err())
		}
		if err := got[0].Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := alice.Session(got[0].ID()); !errors.Is(err, ErrNoSession) {
			t.Fatalf("Session of a closed one: %v", err)
		}
		if s := connect(t, alice, bob.Addr().String()); s == got[0] {
			t.Fatal("Connect returned a closed session")
		}
	})
}

func TestConnectByNodeID(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		boot := w.start(w.light("boot"))
		alice, bob := w.start(w.light("alice", addressOf(boot))), w.start(w.light("bob", addressOf(boot)))
		carol := w.start(w.light("carol", addressOf(boot)))
		if _, err := bob.Announce(within(t, time.Minute), bob.ID()); err != nil {
			t.Fatal(err)
		}
		if s := connect(t, alice, bob.ID().String()); s.PeerID() != bob.ID() {
			t.Fatalf("connected to %v", s.PeerID())
		}
		// Without an announcement it takes until others have it in their tables.
		time.Sleep(5 * time.Minute)
		if s := connect(t, alice, carol.ID().String()); s.PeerID() != carol.ID() {
			t.Fatalf("connected to %v", s.PeerID())
		}
		stranger := testIdentity(t, "stranger").NodeID()
		if _, err := alice.Connect(within(t, time.Minute), stranger.String()); !errors.Is(err, ErrNotFound) {
			t.Fatalf("Connect to a node that is not there: %v", err)
		}
		if _, err := alice.Connect(within(t, time.Minute), "nowhere"); !errors.Is(err, ErrAddress) {
			t.Fatalf("Connect to what is no address: %v", err)
		}
		if _, err := alice.Connect(within(t, time.Minute), alice.ID().String()); err == nil {
			t.Fatal("connected to itself")
		}
		wrong := stranger.String() + "@" + bob.Addr().String()
		if _, err := boot.Connect(within(t, time.Minute), wrong); !errors.Is(err, session.ErrWrongPeer) {
			t.Fatalf("Connect to another node than is there: %v", err)
		}
	})
}

func TestProvidersLeadToSessions(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		boot := w.start(w.light("boot"))
		alice, bob := w.start(w.light("alice", addressOf(boot))), w.start(w.light("bob", addressOf(boot)))
		key := stc.Sum([]byte("what bob has"))
		if _, err := bob.Announce(within(t, time.Minute), key); err != nil {
			t.Fatal(err)
		}
		if err := alice.Join(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		for target, err := range alice.Providers(within(t, time.Minute), key) {
			if err != nil {
				t.Fatal(err)
			}
			if s := connect(t, alice, target); s.PeerID() != bob.ID() {
				t.Fatalf("%s led to %v", target, s.PeerID())
			}
			return
		}
		t.Fatal("nobody was found")
	})
}

func TestDialOnly(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		cfg := w.light("alice")
		cfg.DialOnly = true
		alice, bob := w.start(cfg), w.start(w.light("bob"))
		if s, err := bob.Connect(within(t, time.Minute), alice.Addr().String()); err == nil {
			<-s.Done() // it is over as soon as the other side has seen it
			if !errors.Is(s.Err(), session.ErrClosed) {
				t.Fatalf("the session ended with: %v", s.Err())
			}
		}
		if len(alice.Sessions()) != 0 {
			t.Fatal("a node that only dials has taken a session")
		}
		connect(t, alice, bob.Addr().String())
		accept(t, bob)
	})
}

func TestWithoutStore(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		n, ctx := w.start(w.light("a")), within(t, time.Minute)
		_, seed := n.Seed(ctx, w.dir, ImportOptions{})
		_, fetch := n.Fetch(ctx, stc.Sum(nil), FetchOptions{})
		for _, err := range []error{seed, fetch} {
			if !errors.Is(err, ErrNoStore) {
				t.Errorf("without a store: %v", err)
			}
		}
		if n.Store() != nil || n.Stats().State != StateRunning {
			t.Error("a store, or not running")
		}
	})
}

func TestPackets(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		alice, bob, carol := w.start(w.light("alice")), w.start(w.light("bob")), w.start(w.light("carol"))
		toBob, toCarol := connect(t, alice, bob.Addr().String()), connect(t, alice, carol.Addr().String())
		ctx := within(t, time.Minute)
		big := testBytes("big", MaxPacket)
		for _, p := range [][]byte{[]byte("one"), {}, big} {
			if err := alice.SendAll(ctx, p); err != nil {
				t.Fatal(err)
			}
		}
		if err := alice.Send(ctx, []byte("only carol"), toCarol.ID()); err != nil {
			t.Fatal(err)
		}
		wantPackets(t, bob, toBob.ID(), "one", "", string(big))
		wantPackets(t, carol, toCarol.ID(), "one", "", string(big), "only carol")

		if err := alice.Send(ctx, make([]byte, MaxPacket+1), toBob.ID()); !errors.Is(err, ErrPacketSize) {
			t.Errorf("one byte too many: %v", err)
		}
		// One that is not there does not keep the other from getting it.
		err := alice.Send(ctx, []byte("some"), frame.SessionID{1}, toBob.ID())
		if !errors.Is(err, ErrNoSession) {
			t.Errorf("a session that is not there: %v", err)
		}
		wantPackets(t, bob, toBob.ID(), "some")
		if s := alice.Stats().Application; s.PacketsSent != 8 || s.PacketBytesSent != uint64(2*(3+MaxPacket)+10+4) {
			t.Errorf("%+v", s)
		}
		if s := bob.Stats().Application; s.PacketsReceived != 4 || s.PacketBytesReceived != uint64(3+MaxPacket+4) {
			t.Errorf("%+v", s)
		}
	})
}

// wantPackets receives packets that must come over that session in this order.
func wantPackets(t *testing.T, n *Node, from frame.SessionID, want ...string) {
	t.Helper()
	for p, err := range n.Receive(within(t, time.Minute)) {
		if err != nil {
			t.Fatal(err)
		}
		if p.Session != from || string(p.Data) != want[0] {
			t.Fatalf("%d bytes from session %v, want %d", len(p.Data), p.Session, len(want[0]))
		}
		if want = want[1:]; len(want) == 0 {
			return
		}
	}
}

// What was sent before anybody received, over a session that is closed by now,
// is not lost.
func TestPacketsOfEndedSession(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		alice, bob := w.start(w.light("alice")), w.start(w.light("bob"))
		s := connect(t, alice, bob.Addr().String())
		for i := range 5 {
			if err := alice.Send(t.Context(), fmt.Appendf(nil, "packet %d", i), s.ID()); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wantPackets(t, bob, s.ID(), "packet 0", "packet 1", "packet 2", "packet 3", "packet 4")
	})
}

// A peer that does not receive holds up its sender when its windows are full,
// and nobody else. Whatever Send took arrives once it does, in order.
func TestPacketsWaitForReceiver(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		alice, deaf, carol := w.start(w.light("alice")), w.start(w.light("deaf")), w.start(w.light("carol"))
		toDeaf, toCarol := connect(t, alice, deaf.Addr().String()), connect(t, alice, carol.Addr().String())
		packet := func(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }
		var sent []int
		send := func(n int, size int, wait time.Duration) error {
			err := alice.Send(within(t, wait), append(packet(n), make([]byte, size)...), toDeaf.ID())
			if err == nil {
				sent = append(sent, n)
			}
			return err
		}
		var err error
		n := 0
		for ; err == nil && n < 1000; n++ {
			err = send(n, MaxPacket-4, 10*time.Second)
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("after %d packets that nobody received: %v", n, err)
		}
		_ = send(n, 100, time.Second) // there may be room by now, behind the rest of the one before
		if err := alice.Send(t.Context(), []byte("hello"), toCarol.ID()); err != nil {
			t.Fatal(err)
		}
		wantPackets(t, carol, toCarol.ID(), "hello")

		const last = 1 << 20
		done := make(chan error, 1)
		go func() {
			for i := range 50 { // some of them in time
				_ = send(1001+i, 100_000, 20*time.Millisecond)
			}
			done <- send(last, 0, time.Minute)
		}()
		var got []int
		for p, err := range deaf.Receive(within(t, time.Minute)) {
			if err != nil {
				t.Fatal(err)
			}
			n := int(binary.BigEndian.Uint32(p.Data))
			if len(got) > 0 && n <= got[len(got)-1] {
				t.Fatalf("packet %d after %d", n, got[len(got)-1])
			}
			if got = append(got, n); n == last {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		for _, n := range sent {
			if !slices.Contains(got, n) {
				t.Errorf("packet %d was taken, and never came", n)
			}
		}
		if len(sent) < 10 {
			t.Errorf("only %d packets were taken", len(sent))
		}
	})
}

func TestReadPacketSize(t *testing.T) {
	for in, want := range map[string]int64{"\x00": 0, "\x7f": 127, "\x80\x80\x10": MaxPacket, "\x80\x00": 0} {
		if got, err := readPacketSize(strings.NewReader(in)); err != nil || got != want {
			t.Errorf("%x: %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"\x81\x80\x10", "\xff\xff\xff\xff\xff\x01", "\xff\xff\xff\xff\x7f"} {
		if _, err := readPacketSize(strings.NewReader(in)); !errors.Is(err, ErrProtocol) {
			t.Errorf("%x: %v", in, err)
		}
	}
	if _, err := readPacketSize(strings.NewReader("\x80")); !errors.Is(err, io.EOF) {
		t.Errorf("cut: %v", err)
	}
}

func TestHandle(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		alice, bob := w.start(w.light("alice")), w.start(w.light("bob"))
		if err := bob.Handle("echo/1", func(_ context.Context, st *session.Stream) { _, _ = io.Copy(st, st) }); err != nil {
			t.Fatal(err)
		}
		s := connect(t, alice, bob.Addr().String())
		open := func(protocol string) *session.Stream {
			t.Helper()
			st, err := alice.OpenStream(t.Context(), s, protocol)
			if err != nil {
				t.Fatal(err)
			}
			return st
		}
		data := testBytes("echo", 1<<20)
		st := open("echo/1")
		go func() {
			_, _ = st.Write(data)
			_ = st.CloseWrite()
		}()
		if got, err := io.ReadAll(st); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		if _, err := io.ReadAll(open("unknown/1")); !errors.Is(err, ErrUnknownProtocol) {
			t.Fatalf("a protocol that nobody handles: %v", err)
		}
		if err := bob.Handle("echo/1", nil); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(open("echo/1")); !errors.Is(err, ErrUnknownProtocol) {
			t.Fatalf("a protocol whose handler was taken away: %v", err)
		}

		// A panic, or the end of its goroutine, costs its stream and nothing else.
		for name, f := range map[string]func(){"panics/1": func() { panic("on purpose") }, "ends/1": runtime.Goexit} {
			if err := bob.Handle(name, func(context.Context, *session.Stream) { f() }); err != nil {
				t.Fatal(err)
			}
			var fault *session.StreamError
			if _, err := io.ReadAll(open(name)); !errors.As(err, &fault) || fault.Code != streamHandlerFault {
				t.Fatalf("handler of %s: %v", name, err)
			}
		}
		synctest.Wait()
		if st := bob.Stats().Application; st.HandlerPanics != 1 || st.UnknownStreams != 2 || st.Handlers != 0 {
			t.Fatalf("%+v", st)
		}
		for _, name := range []string{"", "stt/chat/1", "with space", "umläut", strings.Repeat("x", 64)} {
			if err := bob.Handle(name, func(context.Context, *session.Stream) {}); !errors.Is(err, ErrProtocolName) {
				t.Errorf("Handle(%q): %v", name, err)
			}
			if _, err := alice.OpenStream(t.Context(), s, name); !errors.Is(err, ErrProtocolName) {
				t.Errorf("OpenStream(%q): %v", name, err)
			}
		}
	})
}

// Frames of the application go through a node: one is answered, one nobody
// handles, one makes its handler panic.
func TestHandleFrame(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Minute)
		cfg := w.light("bob")
		cfg.Logger = nil // the panic is meant to be
		alice, bob := w.start(w.light("alice")), w.start(cfg)
		got := make(chan string, 1)
		if err := alice.HandleFrame(0x80, func(_ context.Context, f session.UserFrame) { got <- string(f.Payload) }); err != nil {
			t.Fatal(err)
		}
		_ = bob.HandleFrame(0x80, func(ctx context.Context, f session.UserFrame) { _ = f.Answer(ctx, append(f.Payload, '!')) })
		_ = bob.HandleFrame(0x81, func(context.Context, session.UserFrame) { panic("of no use") })
		if err := bob.HandleFrame(frame.TypeDHT, func(context.Context, session.UserFrame) {}); !errors.Is(err, session.ErrFrameType) {
			t.Errorf("a handler of the node's own frames: %v", err)
		}
		s := connect(t, alice, bob.Addr().String())
		for _, typ := range []frame.Type{0xff, 0x81, 0x80} {
			if err := s.SendFrame(ctx, typ, 0, []byte("hello")); err != nil {
				t.Fatal(err)
			}
		}
		if a := <-got; a != "hello!" {
			t.Errorf("answered %q", a)
		}
		synctest.Wait()
		if a := bob.Stats().Application; a.FramesHandled != 1 || a.UnknownFrames != 1 || a.HandlerPanics != 1 {
			t.Errorf("%+v", a)
		}
	})
}
