package integration

import (
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// webSocketOnly starts a command of a node that has no use of UDP, as it listens on a family that nobody else has, and that
// knows nothing but these WebSocket addresses.
func (m *member) webSocketOnly(t testing.TB, command string, args ...string) *process {
	t.Helper()
	if l, err := net.ListenPacket("udp", "[::1]:0"); err != nil {
		t.Skip("there is no IPv6 on the loopback")
	} else {
		l.Close()
	}
	m.p = m.run(t, append([]string{command, "--json", "--dir", m.dir, "--shared-seed-file", m.seed, "--listen", "[::1]:0", "--ready-file", m.readyPath()}, args...)...)
	return m.p
}

// overWebSocket demands that everything came over WebSocket, from this many nodes.
func (e event) overWebSocket(t testing.TB, nodes int) {
	t.Helper()
	if len(e.Sources) != nodes {
		t.Errorf("%d sources, want %d: %+v", len(e.Sources), nodes, e.Sources)
	}
	for _, s := range e.Sources {
		if !strings.HasPrefix(s.Addr, "ws://") && !strings.HasPrefix(s.Addr, "wss://") {
			t.Errorf("%d bytes came from %s", s.Bytes, s.Addr)
		}
	}
}

// A member without UDP, which is told one WebSocket address, fetches from two seeders, and can itself be fetched from.
func TestWebSocketMember(t *testing.T) {
	rnd := random(t)
	c := newCluster(t)
	c.bootstrap.p.stop(t)
	c.bootstrap.serve(t, "bootstrap", "--bootstrap", "", "--ws-listen", "127.0.0.1:0")
	path := randomFile(t, rnd, filepath.Join(c.dir, "file"), pick[int64](64<<20, 256<<20))
	_, hashes := c.seeders(t, 2, []string{"--ws-listen", "127.0.0.1:0"}, path)

	m := c.member(t, "blocked")
	out := filepath.Join(c.dir, "out")
	p := m.webSocketOnly(t, "fetch", hashes[0], "-o", out, "--bootstrap", c.bootstrap.ready.WS)
	p.expect(t, exitOK)
	m.complete(t, p, hashes[0]).overWebSocket(t, 2)
	same(t, path, out)

	own := randomFile(t, rnd, filepath.Join(c.dir, "own"), 4<<20)
	p = m.webSocketOnly(t, "seed", own, "--bootstrap", c.bootstrap.ready.WS, "--ws-listen", "127.0.0.1:0")
	hash := m.announced(t, own)[0]
	other := c.member(t, "other")
	out2 := filepath.Join(c.dir, "out2")
	other.fetch(t, hash, out2).overWebSocket(t, 1)
	same(t, own, out2)
	p.stop(t)
}

// proxy is an HTTP proxy, as companies have one: for http it forwards requests, upgrades among them, for anything else it
// connects. It knows every host, and takes all of them for this machine.
type proxy struct {
	*httptest.Server
	forwarded, connected atomic.Int32
}

func newProxy(t testing.TB) *proxy {
	t.Helper()
	p := &proxy{}
	local := func(host string) string {
		_, port, err := net.SplitHostPort(host)
		if err != nil {
			t.Errorf("proxy: asked for %q", host)
		}
		return net.JoinHostPort("127.0.0.1", port)
	}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Host = local(r.In.URL.Host) }}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			p.forwarded.Add(1)
			forward.ServeHTTP(w, r)
			return
		}
		p.connected.Add(1)
		to, err := net.Dial("tcp", local(r.Host))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer to.Close()
		from, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer from.Close()
		_, _ = io.WriteString(from, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			_, _ = io.Copy(to, buffered)
			to.Close()
		}()
		_, _ = io.Copy(from, to)
	}))
	t.Cleanup(func() {
		p.CloseClientConnections()
		p.Close()
	})
	return p
}

// A member behind an HTTP proxy reaches a node by its ws:// address, and one behind a reverse proxy that speaks TLS by its
// wss:// address.
func TestWebSocketThroughProxies(t *testing.T) {
	rnd := random(t)
	c := newCluster(t)
	path := randomFile(t, rnd, filepath.Join(c.dir, "file"), 16<<20)
	seeders, hashes := c.seeders(t, 2, []string{"--ws-listen", "127.0.0.1:0"}, path)
	p := newProxy(t)

	port := func(address string) string {
		u, err := url.Parse(address)
		must(t, err)
		return u.Port()
	}
	plain := "ws://seeder.example:" + port(seeders[0].ready.WS) + "/stt"
	inside, err := url.Parse("http" + strings.TrimPrefix(strings.TrimSuffix(seeders[1].ready.WS, "/stt"), "ws"))
	must(t, err)
	web := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(inside))
	web.Config.ErrorLog = log.New(io.Discard, "", 0) // a client that does not trust it says so itself
	web.StartTLS()                                   // with a certificate of example.com
	t.Cleanup(func() {
		web.CloseClientConnections()
		web.Close()
	})
	secure := "wss://example.com:" + port(web.URL) + "/stt"
	roots := filepath.Join(c.dir, "roots.pem")
	must(t, os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}), 0o600))

	for name, address := range map[string]string{"plain": plain, "secure": seeders[1].ready.NodeID + "@" + secure} {
		m := c.member(t, name)
		m.env = []string{"HTTP_PROXY=" + p.URL, "HTTPS_PROXY=" + p.URL, "NO_PROXY=", "SSL_CERT_FILE=" + roots}
		out := filepath.Join(c.dir, "out-"+name)
		f := m.webSocketOnly(t, "fetch", hashes[0], "-o", out, "--bootstrap", address)
		f.expect(t, exitOK)
		m.complete(t, f, hashes[0]).overWebSocket(t, 1)
		same(t, path, out)
	}
	if p.forwarded.Load() == 0 || p.connected.Load() == 0 {
		t.Errorf("the proxy has forwarded %d requests and made %d connections", p.forwarded.Load(), p.connected.Load())
	}

	// A certificate that nobody vouches for is refused.
	stranger := c.member(t, "stranger")
	stranger.env = []string{"HTTPS_PROXY=" + p.URL, "NO_PROXY="}
	f := stranger.webSocketOnly(t, "fetch", hashes[0], "-o", filepath.Join(c.dir, "none"), "--bootstrap", secure, "--search-timeout", "2s")
	f.expect(t, exitStalled)
	if !strings.Contains(f.stderr.String(), "certificate") {
		t.Errorf("message %q does not speak of the certificate", f.stderr.String())
	}
}
