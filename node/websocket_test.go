package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seigr/sttnode/session/transport/memory"
	"github.com/seigr/sttnode/stc"
)

// loopback makes nodes on real sockets: WebSocket needs them, so these tests
// run in real time.
type loopback struct {
	t   testing.TB
	dir string
}

func newLoopback(t testing.TB) *loopback { return &loopback{t, t.TempDir()} }

// config is that of a node that takes UDP and WebSocket.
func (l *loopback) config(name string, bootstrap ...string) Config {
	l.t.Helper()
	cfg := Config{
		Identity: testIdentity(l.t, name), Keyring: testKeyring(l.t, "test"), Dir: filepath.Join(l.dir, name),
		Listen: "127.0.0.1:0", WebSocketListen: "127.0.0.1:0", Logger: testLog(l.t, name),
	}
	for _, s := range bootstrap {
		a, err := ParseAddress(s)
		if err != nil {
			l.t.Fatal(err)
		}
		cfg.Bootstrap = append(cfg.Bootstrap, a)
	}
	return cfg
}

// withoutUDP takes a node's socket away: what it sends goes nowhere.
func (l *loopback) withoutUDP(cfg Config) Config {
	l.t.Helper()
	conn, err := memory.New(memory.Config{}).Listen(netip.MustParseAddrPort("10.0.0.1:4700"))
	if err != nil {
		l.t.Fatal(err)
	}
	cfg.Conn = conn
	return cfg
}

func (l *loopback) start(cfg Config) *Node {
	l.t.Helper()
	n, err := New(cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := n.Start(context.Background()); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { stopNode(l.t, n) })
	return n
}

// A node without UDP that knows nothing but a WebSocket address joins, finds
// providers, fetches from them, provides, and is found.
func TestWebSocketOnly(t *testing.T) {
	l, ctx := newLoopback(t), within(t, time.Minute)
	boot := l.start(l.config("boot"))
	data := testBytes("film", 5<<20)
	path := writeFile(t, filepath.Join(l.dir, "film"), data)
	var root stc.Hash
	for _, name := range []string{"s1", "s2"} {
		seeded, err := l.start(l.config(name, boot.Addr().String())).Seed(ctx, path, ImportOptions{})
		if err != nil {
			t.Fatal(err)
		}
		root = seeded.Root
	}
	n := l.start(l.withoutUDP(l.config("n", boot.WebSocketURL())))
	out := filepath.Join(l.dir, "out")
	result, err := n.Fetch(ctx, root, FetchOptions{Output: out})
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, out, data)
	if found := n.Stats().Fetching.ProvidersFound; found != 2 {
		t.Errorf("%d providers found", found)
	}
	for _, s := range result.Sources { // of which one may be done before the other begins
		if !strings.HasPrefix(s.Addr, "ws://127.0.0.1:") {
			t.Errorf("source %+v", s)
		}
	}

	more := testBytes("more", 1<<20)
	seeded, err := n.Seed(ctx, writeFile(t, filepath.Join(l.dir, "more"), more), ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// One with UDP, and another without: both find it by its WebSocket.
	for name, cfg := range map[string]Config{
		"with":    l.config("with", boot.Addr().String()),
		"without": l.withoutUDP(l.config("without", boot.ID().String()+"@"+boot.WebSocketURL())),
	} {
		out := filepath.Join(l.dir, "more-"+name)
		result, err := l.start(cfg).Fetch(ctx, seeded.Root, FetchOptions{Output: out})
		if err != nil {
			t.Fatalf("%s UDP: %v", name, err)
		}
		wantFile(t, out, more)
		if len(result.Sources) != 1 || result.Sources[0].Addr != n.WebSocketURL() {
			t.Errorf("%s UDP: sources %+v, not %s", name, result.Sources, n.WebSocketURL())
		}
	}
	// Nobody can reach it over UDP, so nobody has it in its table.
	for _, c := range boot.dht.Contacts() {
		if c.ID == n.ID() {
			t.Error("it is in the table of its bootstrap node")
		}
	}
}

// Where both ways are open, UDP is used, though a provider is known by both.
func TestUDPIsPreferred(t *testing.T) {
	l, ctx := newLoopback(t), within(t, time.Minute)
	boot := l.start(l.config("boot"))
	seeder := l.start(l.config("s", boot.Addr().String()))
	seeded, err := seeder.Seed(ctx, writeFile(t, filepath.Join(l.dir, "film"), testBytes("film", 1000)), ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, bootstrap := range map[string]string{"udp": boot.Addr().String(), "ws": boot.WebSocketURL()} {
		n := l.start(l.config(name, bootstrap))
		result, err := n.Fetch(ctx, seeded.Root, FetchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(result.Sources) != 1 || result.Sources[0].Addr != seeder.Addr().String() {
			t.Errorf("joined by %s: sources %+v", name, result.Sources)
		}
	}
}

// Who joins over WebSocket and has UDP uses UDP from then on, lets go of the
// link, and is found over UDP.
func TestWebSocketJoinPrefersUDP(t *testing.T) {
	l, ctx := newLoopback(t), within(t, time.Minute)
	boot := l.start(l.config("boot"))
	cfg := l.config("n", boot.WebSocketURL())
	cfg.WebSocketListen = ""
	n := l.start(cfg)
	seeded, err := n.Seed(ctx, writeFile(t, filepath.Join(l.dir, "film"), testBytes("film", 1000)), ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if c := n.dht.Contacts(); len(c) != 1 || c[0].Addr != boot.Addr() {
		t.Errorf("contacts %v", c)
	}
	result, err := l.start(l.config("f", boot.Addr().String())).Fetch(ctx, seeded.Root, FetchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Sources) != 1 || result.Sources[0].Addr != n.Addr().String() {
		t.Errorf("sources %+v", result.Sources)
	}
	for n.links.any() || boot.links.any() {
		select {
		case <-ctx.Done():
			t.Fatal("the link is still there")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// A node whose bootstrap node restarts finds it again, though there is only the
// link.
func TestWebSocketRejoins(t *testing.T) {
	l, ctx := newLoopback(t), within(t, time.Minute)
	cfg := l.config("boot")
	boot := l.start(cfg)
	cfg.WebSocketListen = boot.ws.addr().String()
	n, err := New(l.withoutUDP(l.config("n", boot.WebSocketURL())))
	if err != nil {
		t.Fatal(err)
	}
	events := watch(t, n, 0, EventJoined)
	defer events.Stop()
	if err := n.Start(ctx); err != nil {
		t.Fatal(err)
	}
	defer stopNode(t, n)
	if err := n.Join(ctx); err != nil {
		t.Fatal(err)
	}
	stopNode(t, boot)
	l.start(cfg)
	for joined := 0; joined < 2; {
		select {
		case <-events.C():
			joined++
		case <-ctx.Done():
			t.Fatal("not joined again")
		}
	}
}

func TestWebSocketWrongSeed(t *testing.T) {
	l, ctx := newLoopback(t), within(t, time.Minute)
	boot := l.start(l.config("boot"))
	cfg := l.withoutUDP(l.config("n", boot.WebSocketURL()))
	cfg.Keyring = testKeyring(t, "another")
	if err := l.start(cfg).Join(ctx); !errors.Is(err, ErrWrongSeed) {
		t.Errorf("another seed: %v", err)
	}
	wrong := stc.Sum([]byte("somebody else")).String() + "@" + boot.WebSocketURL()
	if err := l.start(l.withoutUDP(l.config("m", wrong))).Join(ctx); !errors.Is(err, ErrUnreachable) {
		t.Errorf("another node at the address: %v", err)
	}
	if err := l.start(l.withoutUDP(l.config("o", "ws://no-such-host.invalid/stt"))).Join(ctx); !errors.Is(err, ErrResolve) {
		t.Errorf("a name that does not resolve: %v", err)
	}
	if err := l.start(l.withoutUDP(l.config("p", strings.TrimSuffix(boot.WebSocketURL(), "stt")+"x"))).Join(ctx); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "404") {
		t.Errorf("another path: %v", err)
	}
}

func TestWebSocketListenErrors(t *testing.T) {
	l := newLoopback(t)
	boot := l.start(l.config("boot"))
	cfg := l.config("n")
	cfg.WebSocketListen = boot.ws.addr().String()
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var listen *ListenError
	if err := n.Start(t.Context()); !errors.As(err, &listen) || !listen.WebSocket || !listen.InUse() {
		t.Errorf("a port in use: %v", err)
	}
	cfg.WebSocketListen = "here"
	if _, err := New(cfg); !errors.Is(err, ErrAddress) {
		t.Errorf("no address: %v", err)
	}
}

// Whatever is no member's request finds a web server that has nothing, and
// cannot keep it busy.
func TestWebSocketListenerRevealsNothing(t *testing.T) {
	l := newLoopback(t)
	n := l.start(l.config("n"))
	base := "http://" + n.ws.addr().String()
	nothing, err := http.Get(base + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer nothing.Body.Close()
	want, _ := io.ReadAll(nothing.Body)
	for _, request := range []struct {
		method, path string
		header       map[string]string
	}{
		{"GET", WebSocketPath, nil}, {"POST", WebSocketPath, nil}, {"GET", WebSocketPath + "/", nil}, {"GET", "/metrics", nil},
		{"GET", WebSocketPath, map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
			"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}},
		{"GET", WebSocketPath, map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
			"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "stt.1", "Origin": "http://example.org"}},
		{"GET", WebSocketPath, map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "12",
			"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "stt.1"}},
	} {
		req, err := http.NewRequest(request.method, base+request.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range request.header {
			req.Header.Set(k, v)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound || !bytes.Equal(body, want) || resp.Header.Get("Server") != "" {
			t.Errorf("%v: %s, %q", request, resp.Status, body)
		}
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()

	// A header without end is cut off.
	conn, err := net.Dial("tcp", n.ws.addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = conn.Write([]byte("GET /stt HTTP/1.1\r\nHost: x\r\nX: "))
	_, _ = conn.Write(bytes.Repeat([]byte("x"), 64<<10))
	answer, _ := io.ReadAll(conn)
	if len(answer) > 0 && !bytes.HasPrefix(answer, []byte("HTTP/1.1 431 ")) {
		t.Errorf("a header of 64 KiB is answered %q", answer)
	}

	// Connections that say nothing are bounded: the next one is closed.
	var silent []net.Conn
	defer func() {
		for _, c := range silent {
			c.Close()
		}
	}()
	for range maxUnopened {
		c, err := net.Dial("tcp", n.ws.addr().String())
		if err != nil {
			t.Fatal(err)
		}
		silent = append(silent, c)
	}
	over, err := net.Dial("tcp", n.ws.addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer over.Close()
	_ = over.SetReadDeadline(time.Now().Add(wsOpenTime / 2))
	if _, err := over.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		t.Errorf("a connection too many: %v", err)
	}
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}
