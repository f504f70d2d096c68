package transport

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// WebSocket is an [Ordered] carrier: one binary message carries one frame.
// One goroutine writes; Close waits for it.
type WebSocket struct {
	conn   *websocket.Conn
	cork   *corked // under conn; nil where conn writes whole messages itself
	remote netip.AddrPort

	ctx    context.Context // of every read and write; ends with the connection
	cancel context.CancelFunc
	wake   chan struct{} // capacity 1: there is something to write, or the end
	done   chan struct{} // closed when the writer has ended

	mu      sync.Mutex // guards what follows
	queue   [][]byte
	queued  int
	drained func() // called when something was written; nil before Admit
	err     error  // final
	closed  bool
}

var _ Ordered = (*WebSocket)(nil)

const (
	// maxMessage is the longest message that is read: a frame's limit.
	maxMessage = 2 << 20
	// writeTimeout ends a connection that takes nothing for so long.
	writeTimeout = 30 * time.Second
	// closeTimeout bounds how long Close goes on writing what is queued.
	closeTimeout = 2 * time.Second
	// webSocketProtocol is the subprotocol that both sides name, so that a
	// proxy or another service at the same place is told apart.
	webSocketProtocol = "stt.1"
)

// DialWebSocket opens a connection to a ws:// or wss:// address, through the
// proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name. ctx bounds the opening.
//
// Any certificate will do, even one that is expired, self-signed or another
// host's. Who the peer is, and that nobody reads along, only the handshake
// above proves, over TLS as without it; whoever stands in between sees what he
// would see on ws://. TLS is there to pass where nothing else does. A demand
// for a trusted certificate would protect nothing and shut out the nodes that
// are known by their IP address, which is how nodes tell each other, and those
// behind a firewall that opens TLS. The certificate of an https:// proxy is
// checked, because passwords may be sent to it.
func DialWebSocket(ctx context.Context, address string) (*WebSocket, error) {
	// The library's client writes 4 KiB at a time, because it masks.
	var cork *corked
	var remote netip.AddrPort // of the last connection that was opened
	proxied := false
	dialer := net.Dialer{}
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		remote = plainAddr(conn.RemoteAddr().String())
		cork = &corked{Conn: conn}
		return cork, nil
	}
	web := &http.Transport{
		Proxy: func(r *http.Request) (*url.URL, error) {
			proxy, err := http.ProxyFromEnvironment(r)
			proxied = proxy != nil
			return proxy, err
		},
		DialContext: dial,
		// TLS with whoever is connected to: the node, or an https:// proxy.
		DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			cfg := anyCertificate()
			cfg.InsecureSkipVerify = !proxied
			cfg.ServerName, _, _ = net.SplitHostPort(addr)
			return tls.Client(conn, cfg), nil // the transport does the handshake
		},
		TLSClientConfig:        anyCertificate(), // of a node, through a proxy
		MaxResponseHeaderBytes: 16 << 10,
		DisableKeepAlives:      true,
	}
	conn, resp, err := websocket.Dial(ctx, address, &websocket.DialOptions{
		// Who answers with a redirection speaks for itself only.
		HTTPClient:      &http.Client{Transport: web, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		Subprotocols:    []string{webSocketProtocol},
		CompressionMode: websocket.CompressionDisabled, // what is sealed does not shrink
	})
	if err != nil {
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
			return nil, fmt.Errorf("websocket %s: the server answers %s", address, resp.Status)
		}
		return nil, fmt.Errorf("websocket %s: %w", address, err)
	}
	if conn.Subprotocol() != webSocketProtocol {
		_ = conn.CloseNow()
		return nil, fmt.Errorf("websocket %s: the server does not speak %s", address, webSocketProtocol)
	}
	if proxied {
		remote = netip.AddrPort{} // the proxy's
		if resp != nil && resp.Request != nil {
			remote = plainAddr(resp.Request.URL.Host)
		}
	}
	return newWebSocket(conn, cork, remote), nil
}

// anyCertificate returns the configuration of a client that checks no
// certificate.
func anyCertificate() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, DynamicRecordSizingDisabled: true}
}

// plainAddr reads an address that is literal, IPv4 as IPv4; any other is
// invalid.
func plainAddr(s string) netip.AddrPort {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// WebSocketHandler answers requests to open a WebSocket and hands each
// connection to accept, which takes it over. Everything else, a browser's
// script included, gets the page that says that there is nothing: who does
// not know the protocol learns nothing about it.
func WebSocketHandler(accept func(*WebSocket)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !opensWebSocket(r) {
			http.NotFound(w, r)
			return
		}
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{
			Subprotocols:    []string{webSocketProtocol},
			CompressionMode: websocket.CompressionDisabled,
		})
		if err != nil {
			return // Accept has answered
		}
		accept(newWebSocket(conn, nil, plainAddr(r.RemoteAddr)))
	})
}

// opensWebSocket reports whether a request is one of DialWebSocket's, as RFC
// 6455 section 4.2.1 wants it.
func opensWebSocket(r *http.Request) bool {
	key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-WebSocket-Key"))
	return r.Method == http.MethodGet && r.ProtoAtLeast(1, 1) && err == nil && len(key) == 16 &&
		names(r.Header, "Connection", "upgrade") && names(r.Header, "Upgrade", "websocket") &&
		r.Header.Get("Sec-WebSocket-Version") == "13" &&
		names(r.Header, "Sec-WebSocket-Protocol", webSocketProtocol) && r.Header.Get("Origin") == ""
}

// names reports whether a header that lists tokens has this one.
func names(h http.Header, header, token string) bool {
	for _, line := range h.Values(header) {
		for t := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

func newWebSocket(conn *websocket.Conn, cork *corked, remote netip.AddrPort) *WebSocket {
	conn.SetReadLimit(MaxBatch)
	w := &WebSocket{
		conn: conn, cork: cork, remote: remote,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	go w.write()
	return w
}

// messageBuffers holds copies of frames that wait to be written.
var messageBuffers = sync.Pool{New: func() any { b := make([]byte, 0, MaxBatch); return &b }}

// Send implements [Ordered].
func (w *WebSocket) Send(frame []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	if w.closed {
		return net.ErrClosed
	}
	b := *messageBuffers.Get().(*[]byte)
	w.queue = append(w.queue, append(b[:0], frame...))
	w.queued += len(frame)
	signal(w.wake)
	return nil
}

// Queued implements [Ordered].
func (w *WebSocket) Queued() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.queued
}

// write is the goroutine that writes what is queued.
func (w *WebSocket) write() {
	defer close(w.done)
	for {
		w.mu.Lock()
		var next []byte
		if len(w.queue) > 0 {
			next = w.queue[0]
			w.queue[0] = nil
			w.queue = w.queue[1:]
		} else {
			w.queue = nil
		}
		closed := w.closed
		w.mu.Unlock()
		if next == nil {
			if closed {
				return
			}
			select {
			case <-w.wake:
			case <-w.ctx.Done():
				return
			}
			continue
		}
		ctx, cancel := context.WithTimeout(w.ctx, writeTimeout)
		err := w.writeMessage(ctx, next)
		cancel()
		w.mu.Lock()
		w.queued -= len(next)
		if err != nil {
			w.err = err
		}
		drained := w.drained
		w.mu.Unlock()
		if cap(next) == MaxBatch {
			messageBuffers.Put(&next)
		}
		if drained != nil {
			drained()
		}
		if err != nil {
			_ = w.conn.CloseNow()
			return
		}
	}
}

// writeMessage writes one message, in one call of the system where it can.
func (w *WebSocket) writeMessage(ctx context.Context, b []byte) error {
	if w.cork == nil {
		return w.conn.Write(ctx, websocket.MessageBinary, b)
	}
	w.cork.hold()
	err := w.conn.Write(ctx, websocket.MessageBinary, b)
	if ferr := w.cork.flush(); err == nil {
		err = ferr
	}
	return err
}

// corked is a connection that gathers what is written between hold and
// flush.
type corked struct {
	net.Conn

	mu   sync.Mutex // guards what follows
	held bool
	buf  []byte
}

// maxCork is how much is gathered before it is written all the same.
const maxCork = MaxBatch + 4<<10

func (c *corked) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.held {
		return c.Conn.Write(p)
	}
	if len(c.buf)+len(p) > maxCork {
		if err := c.empty(); err != nil {
			return 0, err
		}
	}
	c.buf = append(c.buf, p...)
	return len(p), nil
}

// empty writes what was gathered; c.mu is held.
func (c *corked) empty() error {
	_, err := c.Conn.Write(c.buf)
	c.buf = c.buf[:0]
	return err
}

func (c *corked) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = true
}

func (c *corked) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = false
	return c.empty()
}

// Receive implements [Ordered].
func (w *WebSocket) Receive(buf []byte) ([]byte, error) {
	for {
		kind, r, err := w.conn.Reader(w.ctx)
		if err != nil {
			return nil, err
		}
		n, err := io.ReadFull(r, buf)
		switch {
		case errors.Is(err, io.EOF) && n == 0:
			continue // an empty message is no frame
		case errors.Is(err, io.ErrUnexpectedEOF):
			buf = buf[:n]
		case err != nil:
			return nil, err
		default:
			// The message fills buf, or is longer: what it is longer by
			// arrives before memory is taken for it.
			rest, err := io.ReadAll(r)
			if err != nil {
				return nil, err
			}
			if len(rest) > 0 {
				buf = append(append(make([]byte, 0, n+len(rest)), buf...), rest...)
			}
		}
		if kind != websocket.MessageBinary {
			return nil, errors.New("websocket: a message that is not binary")
		}
		return buf, nil
	}
}

// Admit implements [Ordered].
func (w *WebSocket) Admit(drained func()) {
	w.conn.SetReadLimit(maxMessage)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drained = drained
}

// RemoteAddr implements [Ordered].
func (w *WebSocket) RemoteAddr() netip.AddrPort { return w.remote }

// Close implements [Ordered].
func (w *WebSocket) Close() error {
	w.mu.Lock()
	first := !w.closed
	w.closed = true
	w.mu.Unlock()
	if first {
		signal(w.wake)
		timer := time.AfterFunc(closeTimeout, w.cancel)
		<-w.done
		// A connection that is closed while something has come in unread is
		// reset, and what the peer has not read yet is lost. So both say that
		// they have read everything.
		_ = w.conn.Close(websocket.StatusNormalClosure, "")
		timer.Stop()
		w.cancel()
		_ = w.conn.CloseNow()
	}
	<-w.done
	return nil
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
