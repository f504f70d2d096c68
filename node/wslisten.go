package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/seigr/sttnode/session"
	"github.com/seigr/sttnode/session/transport"
)

// WebSocketPath is the path on which nodes take WebSocket connections.
const WebSocketPath = "/stt"

const (
	// maxUnopened bounds the TCP connections that have not become a WebSocket
	// yet; each has wsOpenTime to do so.
	maxUnopened = 256
	wsOpenTime  = 5 * time.Second
	// maxWSHeader bounds the header of a request, in bytes.
	maxWSHeader = 8 << 10
)

// wsListener takes WebSocket connections until it is closed, and hands them to
// the endpoint. To whoever asks for anything else it is a web server that has
// nothing.
type wsListener struct {
	listener net.Listener
	cert     *certificate // nil for a listener without TLS
	server   *http.Server
	done     chan struct{}  // closed when Serve has returned
	serving  sync.WaitGroup // the goroutines of the connections in unopened

	mu       sync.Mutex
	unopened map[net.Conn]struct{} // guarded by mu
}

// listenWebSocket listens on addr, a host:port, for TLS with cert unless that
// is nil. Nothing is taken before serve.
func listenWebSocket(addr string, cert *certificate) (*wsListener, error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &wsListener{listener: l, cert: cert, done: make(chan struct{}), unopened: make(map[net.Conn]struct{})}, nil
}

// serve begins to take connections.
func (w *wsListener) serve(e *session.Endpoint, log *slog.Logger) {
	mux := http.NewServeMux()
	mux.Handle(WebSocketPath, transport.WebSocketHandler(func(c *transport.WebSocket) {
		if err := e.Serve(c); err != nil {
			log.Debug("a WebSocket connection is refused", "from", c.RemoteAddr(), "err", err)
		}
	}))
	w.server = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: wsOpenTime,
		ReadTimeout:       wsOpenTime,
		WriteTimeout:      wsOpenTime,
		MaxHeaderBytes:    maxWSHeader,
		ConnState:         w.track,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	w.server.SetKeepAlivesEnabled(false) // there is no second request
	l := w.listener
	if w.cert != nil {
		l = tls.NewListener(l, w.cert.config())
	}
	go func() {
		defer close(w.done)
		if err := w.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("no more WebSocket connections are taken", "err", err)
		}
	}()
}

// track closes new connections beyond maxUnopened.
func (w *wsListener) track(c net.Conn, state http.ConnState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch state {
	case http.StateNew:
		if len(w.unopened) >= maxUnopened {
			_ = c.Close()
			return
		}
		w.unopened[c] = struct{}{}
		w.serving.Add(1)
	case http.StateHijacked, http.StateClosed:
		if _, ok := w.unopened[c]; ok {
			delete(w.unopened, c)
			w.serving.Done()
		}
	}
}

// scheme is that of the listener's addresses.
func (w *wsListener) scheme() string {
	if w.cert != nil {
		return schemeTLS
	}
	return schemePlain
}

// addr is where the listener listens; the zero value for a nil one.
func (w *wsListener) addr() netip.AddrPort {
	if w == nil {
		return netip.AddrPort{}
	}
	a := w.listener.Addr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// close ends the listener and all connections that are no WebSocket yet. The
// others are the endpoint's. A nil listener is closed already.
func (w *wsListener) close() error {
	if w == nil {
		return nil
	}
	if w.server == nil {
		return w.listener.Close()
	}
	err := w.server.Close()
	<-w.done
	// One that has just been answered lingers for half a second, so that the
	// answer is not lost with the connection.
	w.serving.Wait()
	return err
}

// WebSocketURL returns the address, as ParseAddress reads it, where the node
// takes WebSocket connections; empty if it takes none, or is not between Start
// and Stop. Its host may be unspecified.
func (n *Node) WebSocketURL() string {
	if n.ws == nil || n.active() != nil {
		return ""
	}
	return webSocketURL(n.ws.scheme(), n.ws.addr())
}

// Schemes of WebSocket addresses.
const (
	schemePlain = "ws"
	schemeTLS   = "wss"
)

// webSocketURL is the URL of a node that takes WebSocket connections at addr.
func webSocketURL(scheme string, addr netip.AddrPort) string {
	return fmt.Sprintf("%s://%s%s", scheme, net.JoinHostPort(addr.Addr().String(), strconv.Itoa(int(addr.Port()))), WebSocketPath)
}
