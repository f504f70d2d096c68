package integration

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
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

func newProxy(t testing.TB, start func(*httptest.Server)) *proxy {
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
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
	p.Config.ErrorLog = log.New(io.Discard, "", 0) // a client that does not trust it says so itself
	start(p.Server)
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
	p := newProxy(t, (*httptest.Server).Start)

	port := func(address string) string {
		u, err := url.Parse(address)
		must(t, err)
		return u.Port()
	}
	plain := "ws://seeder.example:" + port(seeders[0].ready.WS) + "/stt"
	inside, err := url.Parse("http" + strings.TrimPrefix(strings.TrimSuffix(seeders[1].ready.WS, "/stt"), "ws"))
	must(t, err)
	web := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(inside))
	web.StartTLS() // with a certificate of example.com
	t.Cleanup(func() {
		web.CloseClientConnections()
		web.Close()
	})
	secure := "wss://elsewhere.example:" + port(web.URL) + "/stt"

	for name, address := range map[string]string{"plain": plain, "secure": seeders[1].ready.NodeID + "@" + secure} {
		m := c.member(t, name)
		m.env = []string{"HTTP_PROXY=" + p.URL, "HTTPS_PROXY=" + p.URL, "NO_PROXY="}
		out := filepath.Join(c.dir, "out-"+name)
		f := m.webSocketOnly(t, "fetch", hashes[0], "-o", out, "--bootstrap", address)
		f.expect(t, exitOK)
		m.complete(t, f, hashes[0]).overWebSocket(t, 1)
		same(t, path, out)
	}
	if p.forwarded.Load() == 0 || p.connected.Load() == 0 {
		t.Errorf("the proxy has forwarded %d requests and made %d connections", p.forwarded.Load(), p.connected.Load())
	}

	// Passwords may be sent to a proxy: one that is reached over TLS has to be vouched for.
	over := newProxy(t, (*httptest.Server).StartTLS) // with a certificate of 127.0.0.1
	for trusted, exit := range map[bool]int{true: exitOK, false: exitStalled} {
		m := c.member(t, fmt.Sprintf("trusts-%v", trusted))
		m.env = []string{"HTTP_PROXY=" + over.URL, "HTTPS_PROXY=" + over.URL, "NO_PROXY="}
		if trusted {
			roots, _ := tlsFiles(t, over.Server)
			m.env = append(m.env, "SSL_CERT_FILE="+roots)
		}
		f := m.webSocketOnly(t, "fetch", hashes[0], "-o", filepath.Join(c.dir, fmt.Sprint(trusted)), "--bootstrap", secure, "--search-timeout", "2s")
		f.expect(t, exit)
		if stderr := f.stderr.String(); !trusted && !strings.Contains(stderr, "certificate") {
			t.Errorf("message %q does not speak of the certificate", stderr)
		}
	}
}

// tlsFiles writes the certificate of a server that speaks TLS, and its key, to files.
func tlsFiles(t testing.TB, web *httptest.Server) (cert, key string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	der, err := x509.MarshalPKCS8PrivateKey(web.TLS.Certificates[0].PrivateKey)
	must(t, err)
	return write("cert.pem", "CERTIFICATE", web.Certificate().Raw), write("key.pem", "PRIVATE KEY", der)
}

// Where only TLS gets through, a member fetches from seeders that the network has told it no more than the ports of, though
// nobody vouches for their certificates.
func TestWebSocketSecure(t *testing.T) {
	rnd := random(t)
	web := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate, of example.com
	web.Close()
	cert, key := tlsFiles(t, web)
	listen := []string{"--ws-listen", "127.0.0.1:0", "--ws-cert", cert, "--ws-key", key}
	c := newCluster(t)
	c.bootstrap.p.stop(t)
	c.bootstrap.serve(t, "bootstrap", append(listen, "--bootstrap", "")...)
	path := randomFile(t, rnd, filepath.Join(c.dir, "file"), 32<<20)
	_, hashes := c.seeders(t, 2, listen, path)

	m := c.member(t, "blocked")
	out := filepath.Join(c.dir, "out")
	p := m.webSocketOnly(t, "fetch", hashes[0], "-o", out, "--bootstrap", c.bootstrap.ready.WS)
	p.expect(t, exitOK)
	e := m.complete(t, p, hashes[0])
	e.overWebSocket(t, 2)
	for _, s := range e.Sources {
		if !strings.HasPrefix(s.Addr, "wss://127.0.0.1:") {
			t.Errorf("%d bytes came from %s", s.Bytes, s.Addr)
		}
	}
	same(t, path, out)
}
