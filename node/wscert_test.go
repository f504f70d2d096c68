package node

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// selfSigned returns a certificate that nobody vouches for, and its key, as PEM.
func selfSigned(t testing.TB, name string) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour), // expired, too
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// withTLS makes cfg's node speak TLS.
func (l *loopback) withTLS(cfg Config) Config {
	l.t.Helper()
	dir := l.t.TempDir()
	cert, key := selfSigned(l.t, "node.example")
	cfg.WebSocketCert = writeFile(l.t, filepath.Join(dir, "cert.pem"), cert)
	cfg.WebSocketKey = writeFile(l.t, filepath.Join(dir, "key.pem"), key)
	return cfg
}

// servedName returns the name in the certificate that is shown at addr.
func servedName(t testing.TB, addr string) string {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
}

// A node without UDP that joins by a wss:// address fetches from providers of
// both kinds, of which the network tells no more than the port.
func TestWebSocketTLS(t *testing.T) {
	l, ctx := newLoopback(t), within(t, time.Minute)
	boot := l.start(l.withTLS(l.config("boot")))
	if !strings.HasPrefix(boot.WebSocketURL(), "wss://127.0.0.1:") {
		t.Fatalf("it listens on %s", boot.WebSocketURL())
	}
	for name, cfg := range map[string]Config{
		"secure": l.withTLS(l.config("secure", boot.Addr().String())),
		"plain":  l.config("plain", boot.Addr().String()),
	} {
		seeder := l.start(cfg)
		data := testBytes(name, 1<<20)
		seeded, err := seeder.Seed(ctx, writeFile(t, filepath.Join(l.dir, name+" file"), data), ImportOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for joined, bootstrap := range map[string]string{"known": boot.WebSocketURL(), "unknown": seeder.WebSocketURL()} {
			n := l.start(l.withoutUDP(l.config("to "+name+" "+joined, bootstrap)))
			out := filepath.Join(l.dir, "out "+name+" "+joined)
			result, err := n.Fetch(ctx, seeded.Root, FetchOptions{Output: out})
			if err != nil {
				t.Fatalf("%s, %s: %v", name, joined, err)
			}
			wantFile(t, out, data)
			if len(result.Sources) != 1 || result.Sources[0].Addr != seeder.WebSocketURL() {
				t.Errorf("%s, %s: sources %+v, not %s", name, joined, result.Sources, seeder.WebSocketURL())
			}
		}

		// A ticket that was made of what the network says knows no more.
		ticket, err := l.start(l.config("asks for "+name, boot.Addr().String())).FindTicket(ctx, seeded.Root)
		if err != nil {
			t.Fatal(err)
		}
		result, err := l.start(l.withoutUDP(l.config("by ticket to "+name))).Fetch(ctx, seeded.Root, FetchOptions{Peers: ticket.Peers})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range result.Sources {
			if s.Node == seeder.ID() && s.Addr != seeder.WebSocketURL() {
				t.Errorf("%s, by ticket: source %+v, not %s", name, s, seeder.WebSocketURL())
			}
		}
		for _, a := range ticket.Peers {
			if a.Peer == seeder.ID() && a.URL != "" {
				if s, err := l.start(l.withoutUDP(l.config("connected to "+name))).Connect(ctx, a.URL); err != nil || s.PeerID() != seeder.ID() {
					t.Errorf("%s: connect to %v: %v", name, a, err)
				}
			}
		}
	}

	plain := "ws" + strings.TrimPrefix(boot.WebSocketURL(), "wss")
	if err := l.start(l.withoutUDP(l.config("n", plain))).Join(ctx); !errors.Is(err, ErrUnreachable) {
		t.Errorf("joined without TLS: %v", err)
	}
	for _, cfg := range []*tls.Config{{MaxVersion: tls.VersionTLS11}, {NextProtos: []string{"h2"}}} {
		cfg.InsecureSkipVerify, cfg.MinVersion = true, tls.VersionTLS10
		if conn, err := tls.Dial("tcp", boot.ws.addr().String(), cfg); err == nil {
			t.Errorf("it speaks %+v", conn.ConnectionState())
			conn.Close()
		}
	}
}

// logText is the text of a log.
type logText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A certificate that is renewed is served without a restart, and one that is
// half written never.
func TestCertificateRenewed(t *testing.T) {
	l := newLoopback(t)
	log := new(logText)
	cfg := l.withTLS(l.config("n"))
	cfg.Logger = slog.New(slog.NewTextHandler(log, nil))
	n := l.start(cfg)
	addr := n.ws.addr().String()
	serves := func(want string) {
		t.Helper()
		if got := servedName(t, addr); got != want {
			t.Errorf("the certificate of %q is served, want %q", got, want)
		}
	}
	serves("node.example")
	cert, key := selfSigned(t, "renewed.example")
	writeFile(t, cfg.WebSocketCert, cert)
	serves("node.example")
	serves("node.example")
	if said := log.String(); strings.Count(said, "level=WARN") != 1 || !strings.Contains(said, cfg.WebSocketCert) {
		t.Errorf("of the half that was written, the log says: %s", said)
	}
	writeFile(t, cfg.WebSocketKey, key)
	serves("renewed.example")
	if err := os.Remove(cfg.WebSocketKey); err != nil {
		t.Fatal(err)
	}
	serves("renewed.example")
}

func TestCertificateErrors(t *testing.T) {
	l := newLoopback(t)
	good := l.withTLS(l.config("n"))
	_, otherKey := selfSigned(t, "other")
	missing := filepath.Join(l.dir, "missing")
	for name, test := range map[string]struct {
		change func(*Config)
		want   string
		atNew  bool
	}{
		"no key":          {func(c *Config) { c.WebSocketKey = "" }, "no key", true},
		"no certificate":  {func(c *Config) { c.WebSocketCert = "" }, "no certificate", true},
		"no listener":     {func(c *Config) { c.WebSocketListen = "" }, "no address", true},
		"missing":         {func(c *Config) { c.WebSocketCert = missing }, missing, false},
		"key missing":     {func(c *Config) { c.WebSocketKey = missing }, "key: open " + missing, false},
		"another's key":   {func(c *Config) { c.WebSocketKey = writeFile(t, filepath.Join(l.dir, "other"), otherKey) }, "does not match", false},
		"not a PEM file":  {func(c *Config) { c.WebSocketCert = writeFile(t, filepath.Join(l.dir, "text"), []byte("text")) }, "PEM", false},
		"the wrong order": {func(c *Config) { c.WebSocketCert, c.WebSocketKey = c.WebSocketKey, c.WebSocketCert }, good.WebSocketKey, false},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			test.change(&cfg)
			n, err := New(cfg)
			if atNew := err != nil; atNew != test.atNew {
				t.Fatalf("New: %v", err)
			}
			if err == nil {
				err = n.Start(t.Context())
			}
			if !errors.Is(err, ErrCertificate) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v; want ErrCertificate with %q", err, test.want)
			}
		})
	}
}
