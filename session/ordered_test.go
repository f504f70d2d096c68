package session

import (
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/seigr/sttnode/session/transport"
	"github.com/seigr/sttnode/stc"
)

// overWebSocket connects two endpoints by a WebSocket over loopback. kill
// breaks the connection without a word.
func overWebSocket(t testing.TB, change func(*Config)) (sa, sb *Session, kill, stop func()) {
	t.Helper()
	listen := func(name string) *Endpoint {
		conn, err := transport.ListenUDP("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		cfg := Config{Identity: identity(t, name), Keyring: keyring(t, "one")}
		if change != nil {
			change(&cfg)
		}
		e, err := NewEndpoint(conn, cfg)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	a, b := listen("A"), listen("B")
	web := httptest.NewServer(transport.WebSocketHandler(func(w *transport.WebSocket) { _ = b.Serve(w) }))
	carrier, err := transport.DialWebSocket(context.Background(), "ws"+strings.TrimPrefix(web.URL, "http"))
	if err != nil {
		t.Fatal(err)
	}
	sa, err = a.DialOver(context.Background(), carrier, b.cfg.Identity.NodeID())
	if err != nil {
		t.Fatal(err)
	}
	sb, err = b.Accept(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return sa, sb, func() { web.CloseClientConnections(); carrier.Close() }, func() { a.Close(); b.Close(); web.Close() }
}

func TestOverWebSocket(t *testing.T) {
	sa, sb, _, stop := overWebSocket(t, func(c *Config) { c.Rotation = Rotation{Messages: 10} })
	defer stop()
	done := make(chan struct{})
	go func() { defer close(done); transfer(t, sb, sa, randomBytes(1, 5<<20)) }()
	transfer(t, sa, sb, randomBytes(2, 20<<20))
	<-done
	for i := range 100 {
		transfer(t, sa, sb, randomBytes(uint64(i), i*100))
	}
	if sa.ID() != sb.ID() || sa.State() != StateActive || sb.State() != StateActive {
		t.Errorf("sessions %v %v, %v %v", sa.ID(), sb.ID(), sa.State(), sb.State())
	}
	if st := sa.Stats(); st.SendEpoch < 10 || st.PacketsLost > 0 {
		t.Errorf("epoch %d, %d lost", st.SendEpoch, st.PacketsLost)
	}
	st := open(t, sa)
	if _, err := st.Write([]byte("flushed")); err != nil {
		t.Fatal(err)
	}
	_ = st.CloseWrite()
	if err := sa.Close(); err != nil {
		t.Error(err)
	}
	<-sb.Done()
	if got, err := io.ReadAll(accept(t, sb)); err != nil || string(got) != "flushed" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestBrokenWebSocket(t *testing.T) {
	sa, sb, kill, stop := overWebSocket(t, nil)
	defer stop()
	transfer(t, sa, sb, []byte("x"))
	kill()
	<-sa.Done()
	<-sb.Done()
	if !errors.Is(sb.Err(), errLinkBroken) && !errors.Is(sb.Err(), ErrClosed) {
		t.Errorf("B's session ended with %v", sb.Err())
	}
}

// TestStalledReaderOverWebSocket checks that credits hold a sender back where
// there is no congestion window to do so.
func TestStalledReaderOverWebSocket(t *testing.T) {
	sa, sb, _, stop := overWebSocket(t, func(c *Config) {
		c.StreamWindow, c.MaxStreamWindow, c.SendBuffer = 64<<10, 64<<10, 100<<10
	})
	defer stop()
	st := open(t, sa)
	if err := st.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	n, err := st.Write(make([]byte, 10<<20))
	if err == nil || n > 200<<10 {
		t.Errorf("%d bytes taken for a reader that does not read, %v", n, err)
	}
	accept(t, sb)
	transfer(t, sa, sb, []byte("nobody else waits"))
	st.Reset(0)
}

func TestWebSocketWrongSeed(t *testing.T) {
	conn, err := transport.ListenUDP("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e, err := NewEndpoint(conn, Config{Identity: identity(t, "C"), Keyring: keyring(t, "another")})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	web := httptest.NewServer(transport.WebSocketHandler(func(w *transport.WebSocket) { _ = e.Serve(w) }))
	defer web.Close()
	conn, err = transport.ListenUDP("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a, err := NewEndpoint(conn, Config{Identity: identity(t, "A"), Keyring: keyring(t, "one")})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	carrier, err := transport.DialWebSocket(t.Context(), "ws"+strings.TrimPrefix(web.URL, "http"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.DialOver(t.Context(), carrier, stc.Hash{}); !errors.Is(err, ErrWrongSeed) {
		t.Errorf("DialOver with another seed: %v", err)
	}
}

// TestSilentWebSockets checks that connections on which nobody begins a session
// are bounded, and do not keep those out that carry one.
func TestSilentWebSockets(t *testing.T) {
	sa, sb, _, stop := overWebSocket(t, func(c *Config) { c.MaxHalfOpen = 3 })
	defer stop()
	results := make(chan error, 1)
	web := httptest.NewServer(transport.WebSocketHandler(func(w *transport.WebSocket) { results <- sb.ep.Serve(w) }))
	defer web.Close()
	for i := range 4 {
		carrier, err := transport.DialWebSocket(t.Context(), "ws"+strings.TrimPrefix(web.URL, "http"))
		if err != nil {
			t.Fatal(err)
		}
		defer carrier.Close()
		if err := <-results; (i < 3) != (err == nil) || i == 3 && !errors.Is(err, ErrTooManySessions) {
			t.Errorf("connection %d: %v", i, err)
		}
	}
	transfer(t, sa, sb, []byte("whoever has a session stays"))
}

func BenchmarkBulkWebSocket(b *testing.B) {
	sa, sb, _, stop := overWebSocket(b, nil)
	defer stop()
	go func() {
		st, err := sb.AcceptStream(context.Background())
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, st)
	}()
	st, err := sa.OpenStream(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	p := make([]byte, 256<<10)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := st.Write(p); err != nil {
			b.Fatal(err)
		}
	}
}
