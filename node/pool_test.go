package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/session"
	"github.com/seigr/sttnode/session/transport/memory"
	"github.com/seigr/sttnode/stc"
)

// echo is an endpoint with a pool that answers every stream with the session's
// ID.
type echo struct {
	*pool
	id   stc.Hash
	addr netip.AddrPort
	ep   *session.Endpoint
}

func (w *network) echo(name string, change ...func(*poolConfig)) *echo {
	w.t.Helper()
	conn := w.listen()
	id := testIdentity(w.t, name)
	ep, err := session.NewEndpoint(conn, session.Config{
		Identity: id, Keyring: testKeyring(w.t, "test"), Linger: time.Second, Logger: testLog(w.t, name),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	cfg := poolConfig{
		self: id.NodeID(),
		dial: func(ctx context.Context, r route, peer stc.Hash) (*session.Session, route, error) {
			s, err := ep.Dial(ctx, r.udp, peer)
			return s, r, err
		},
		serve: func(_ context.Context, s *pooled, st *session.Stream) {
			defer st.Close()
			if _, err := readPreamble(st); err == nil {
				sid := s.ID()
				_, _ = st.Write(sid[:])
			}
		},
		onPeer:   func(stc.Hash, string, bool) {},
		log:      testLog(w.t, name),
		max:      100,
		idleTime: time.Minute,
	}
	for _, c := range change {
		c(&cfg)
	}
	e := &echo{pool: newPool(cfg), id: id.NodeID(), addr: conn.LocalAddr(), ep: ep}
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			s, err := ep.Accept(context.Background())
			if err != nil {
				return
			}
			e.add(s, route{})
		}
	}()
	w.t.Cleanup(func() {
		e.close(context.Background())
		_ = ep.Close()
		<-accepting
	})
	return e
}

// ask opens a stream to the other and returns the session's ID there.
func (e *echo) ask(t *testing.T, to *echo) (id frame.SessionID, err error) {
	t.Helper()
	st, err := e.open(context.Background(), to.id, udpRoute(to.addr), "echo")
	if err != nil {
		return id, err
	}
	defer st.Close()
	_, err = io.ReadFull(st, id[:])
	return id, err
}

func (e *echo) mustAsk(t *testing.T, to *echo) frame.SessionID {
	t.Helper()
	id, err := e.ask(t, to)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestPoolReusesSession(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		a, b := w.echo("a"), w.echo("b")
		first := a.mustAsk(t, b)
		// Also in the other direction.
		for _, id := range []frame.SessionID{a.mustAsk(t, b), b.mustAsk(t, a)} {
			if id != first {
				t.Fatal("a second session for the same peer")
			}
		}
		if s := a.stats(); s.Dials != 1 || s.Connected != 1 {
			t.Fatalf("%+v", s)
		}
	})
}

func TestPoolDialsOnceForMany(t *testing.T) {
	inBubble(t, memory.Link{Delay: 50 * time.Millisecond}, func(t *testing.T, w *network) {
		a, b := w.echo("a"), w.echo("b")
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, err := a.ask(t, b); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if s := a.stats(); s.Dials != 1 {
			t.Fatalf("%+v", s)
		}
	})
}

// A caller that gives up does not take the dial from the others.
func TestPoolDialOutlivesCaller(t *testing.T) {
	inBubble(t, memory.Link{Delay: 50 * time.Millisecond}, func(t *testing.T, w *network) {
		a, b := w.echo("a"), w.echo("b")
		impatient, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		gone := make(chan error)
		go func() {
			_, err := a.open(impatient, b.id, udpRoute(b.addr), "echo")
			gone <- err
		}()
		time.Sleep(10 * time.Millisecond)
		patient := make(chan error)
		go func() {
			_, err := a.ask(t, b)
			patient <- err
		}()
		if err := <-gone; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("impatient caller: %v", err)
		}
		if err := <-patient; err != nil {
			t.Errorf("patient caller: %v", err)
		}
	})
}

// Two nodes dial each other at the same moment: everything goes on, and soon
// over one session, whichever side opens the stream.
func TestPoolSimultaneousDials(t *testing.T) {
	inBubble(t, memory.Link{Delay: 50 * time.Millisecond}, func(t *testing.T, w *network) {
		a, b := w.echo("a"), w.echo("b")
		var wg sync.WaitGroup
		for x, y := range map[*echo]*echo{a: b, b: a} {
			wg.Go(func() {
				if _, err := x.ask(t, y); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Second)
		if n := len(a.ep.Sessions()); n != 2 {
			t.Fatalf("%d sessions after two dials", n)
		}
		if x, y := a.mustAsk(t, b), b.mustAsk(t, a); x != y {
			t.Fatal("the two sides use different sessions")
		}
		// In use, one stays; the other falls idle.
		for range 10 {
			time.Sleep(15 * time.Second)
			a.mustAsk(t, b)
		}
		if n := len(a.ep.Sessions()); n != 1 {
			t.Fatalf("%d sessions are left", n)
		}
		if s := a.stats(); s.Dials != 1 {
			t.Fatalf("%+v", s)
		}
	})
}

func TestPoolClosesIdleSessions(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		hold := make(chan struct{})
		a := w.echo("a")
		b := w.echo("b", func(c *poolConfig) {
			c.serve = func(_ context.Context, _ *pooled, st *session.Stream) {
				<-hold
				st.Close()
			}
		})
		st, err := a.open(context.Background(), b.id, udpRoute(b.addr), "echo")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if a.stats().Connected != 1 {
			t.Fatal("a session with an open stream was closed")
		}
		close(hold)
		st.Close()
		time.Sleep(2 * time.Minute)
		if n := a.stats().Connected + b.stats().Connected; n != 0 {
			t.Fatal("an idle session was kept")
		}
		if n := len(a.peers) + len(b.peers); n != 0 {
			t.Fatalf("%d peers are remembered for nothing", n)
		}
	})
}

func TestPoolIsBounded(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		a := w.echo("a", func(c *poolConfig) { c.max = 2 })
		hold := make(chan struct{})
		holding := func(c *poolConfig) {
			c.serve = func(_ context.Context, _ *pooled, st *session.Stream) {
				<-hold
				st.Close()
			}
		}
		b, c, d := w.echo("b"), w.echo("c", holding), w.echo("d", holding)
		a.mustAsk(t, b)
		time.Sleep(time.Second)
		for _, to := range []*echo{c, d} {
			if _, err := a.open(context.Background(), to.id, udpRoute(to.addr), "echo"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		// The unused session has made room; those in use are not touched.
		if s := a.stats(); s.Connected != 2 || a.use(b.id) != nil {
			t.Fatalf("%+v", s)
		}
		if _, err := a.ask(t, b); !errors.Is(err, ErrTooManyPeers) {
			t.Fatalf("beyond the limit: %v", err)
		}
		close(hold)
	})
}

// The peer restarts, and its old session is dead without our knowing.
func TestPoolDialsAgain(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		a, b := w.echo("a"), w.echo("b")
		first := a.mustAsk(t, b)
		for _, s := range b.ep.Sessions() {
			_ = s.CloseWithError(session.CodeShutdown, "restart")
		}
		time.Sleep(time.Second)
		if again := a.mustAsk(t, b); again == first {
			t.Fatal("the dead session was used")
		}
	})
}

// A peer is killed, over and over, with streams open: the sessions that it
// leaves behind are let go as soon as it comes again.
func TestPoolReplacesDeadSessions(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		open := make(chan int, 100) // +1 for a stream that is served, -1 for one that is done
		b := w.echo("b", func(c *poolConfig) {
			c.serve = func(_ context.Context, _ *pooled, st *session.Stream) {
				open <- 1
				_, _ = io.Copy(io.Discard, st)
				st.Close()
				open <- -1
			}
		})
		for range 20 {
			a := w.echo("a")
			if _, err := a.open(context.Background(), b.id, udpRoute(b.addr), "echo"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			w.net.SetLink(a.addr, b.addr, memory.Link{Down: true})
			w.net.SetLink(b.addr, a.addr, memory.Link{Down: true})
		}
		serving := 0
		for len(open) > 0 {
			serving += <-open
		}
		if serving != 1 || b.stats().Connected != 1 {
			t.Fatalf("%d streams of dead sessions are served, %+v", serving-1, b.stats())
		}
	})
}

func TestPoolChecksPeer(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		a, b, c := w.echo("a"), w.echo("b"), w.echo("c")
		_, err := a.open(context.Background(), c.id, udpRoute(b.addr), "echo")
		if !errors.Is(err, session.ErrWrongPeer) {
			t.Fatalf("another node at the address: %v", err)
		}
		// A caller with the right address waits for a dial to a wrong one, and is
		// not held to it.
		dead := netip.MustParseAddrPort("10.9.9.9:9")
		wrong := make(chan error)
		go func() {
			_, err := a.open(context.Background(), c.id, udpRoute(dead), "echo")
			wrong <- err
		}()
		time.Sleep(time.Millisecond)
		if _, err := a.ask(t, c); err != nil {
			t.Errorf("at the right address: %v", err)
		}
		if err := <-wrong; !errors.Is(err, session.ErrHandshakeTimeout) {
			t.Errorf("at an address where nobody is: %v", err)
		}
	})
}

// What peers open is answered, or ended with a reason.
func TestStreamsOfPeers(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		n := w.start(w.config("n"))
		peer := w.echo("peer")
		open := func() *session.Stream {
			t.Helper()
			s, _, err := peer.get(context.Background(), n.ID(), udpRoute(n.Addr()))
			if err != nil {
				t.Fatal(err)
			}
			defer peer.opened(s)
			st, err := s.OpenStream(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			return st
		}
		wantReset := func(st *session.Stream, code uint64) {
			t.Helper()
			_, err := io.Copy(io.Discard, st)
			var end *session.StreamError
			if !errors.As(err, &end) || end.Code != code || !end.Remote {
				t.Errorf("stream ended with %v, want code %d", err, code)
			}
		}
		events := watch(t, n, 10)
		defer events.Stop()
		for name, tt := range map[string]struct {
			write []byte
			code  uint64
		}{
			"unknown protocol": {appendPreamble(nil, "stt/other/9"), streamUnknownProtocol},
			"no name":          {[]byte{0}, streamBadPreamble},
			"name too long":    {bytes.Repeat([]byte{0xff}, 1000), streamBadPreamble},
		} {
			t.Log(name)
			st := open()
			if _, err := st.Write(tt.write); err != nil {
				t.Fatal(err)
			}
			wantReset(st, tt.code)
		}
		// One that says nothing is not waited for for ever.
		st := open()
		if _, err := st.Write([]byte{11, 's'}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		wantReset(st, streamBadPreamble)
		if d := time.Since(start); d < preambleTimeout || d > preambleTimeout+time.Second {
			t.Errorf("a silent stream was ended after %v", d)
		}
		bad := 0
		for _, e := range seen(events) {
			if e.Kind == EventBadPeer && e.Peer == peer.id {
				bad++
			}
		}
		if bad != 2 {
			t.Errorf("%d streams were reported, want 2", bad)
		}
	})
}
