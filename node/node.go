package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/dht"
	"github.com/seigr/sttnode/event"
	"github.com/seigr/sttnode/session"
	"github.com/seigr/sttnode/session/transport"
	"github.com/seigr/sttnode/stc"
	"github.com/seigr/sttnode/swarm"
)

const (
	// stopTimeout bounds Stop when its context does not.
	stopTimeout = 8 * time.Second
	// stopGrace is what is left to calls and handlers behind that: they have
	// only just been told to return, perhaps.
	stopGrace = 250 * time.Millisecond
	// withdrawTimeout bounds, within that, telling the network that we no
	// longer provide.
	withdrawTimeout = 2 * time.Second
	// defaultLinger bounds how long a session that is closed waits for a peer
	// to take what was written: one that is gone must not hold up a stop.
	defaultLinger = time.Second
	// defaultMaxStreams bounds the streams that one peer may have open with us.
	defaultMaxStreams = 256
	// defaultStreamWindow takes a chunk of the usual size, with what comes before
	// it, on a fresh stream: who seeks opens one, and would wait a round trip for the
	// credit of the last bytes.
	defaultStreamWindow = 512 << 10
)

// Node is a node of the network. All methods are safe for concurrent use.
type Node struct {
	cfg     Config
	log     *slog.Logger
	events  event.Emitter
	limiter *swarm.Limiter

	lifecycle sync.Mutex // held by Start and Stop, from beginning to end
	stopErr   error      // guarded by lifecycle

	mu       sync.Mutex     // never held while waiting
	state    State          // guarded by mu
	stopping bool           // Stop has begun; guarded by mu
	ops      sync.WaitGroup // calls that use the store or the network; added to under mu

	// Set by Start before the state becomes StateStarted, constant afterwards.
	store    *content.Store
	conn     transport.Conn
	ws       *wsListener // nil if the node takes no WebSocket connections
	endpoint *session.Endpoint
	dialer   *dialer
	links    dhtLinks
	dht      *dht.DHT
	pool     *pool
	server   *swarm.Server // nil without a store, as store

	ctx  context.Context // ends when Stop begins
	stop context.CancelFunc
	wg   sync.WaitGroup // the node's own goroutines

	local        *localNet // nil unless nodes are looked for on the local network
	joining      joining
	transfers    transfers
	protocols    protocols
	packets      packets
	filesChanged atomic.Uint64 // reports by the store
}

// New returns a node that does nothing yet. Errors, all about cfg: ErrConfig,
// ErrAddress, ErrCertificate.
func New(cfg Config) (*Node, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg:     cfg,
		log:     cfg.Logger,
		events:  event.Emitter{Logger: cfg.Logger},
		joining: joining{settled: make(chan struct{})},
		links:   dhtLinks{byPeer: make(map[stc.Hash]*dhtLink)},
		packets: newPackets(),
		limiter: swarm.NewLimiter(cfg.Limits),
	}
	n.ctx, n.stop = context.WithCancel(context.Background())
	return n, nil
}

// Start opens the store, listens, and begins to join the network; Join waits
// for that. After an error the node is stopped. ctx bounds Start alone and not the
// node; if it has ended already, nothing happens. Errors: content.ErrLocked if
// another process uses the store, a *ListenError, ErrState, ctx's cause.
func (n *Node) Start(ctx context.Context) error {
	n.lifecycle.Lock()
	defer n.lifecycle.Unlock()
	if s := n.State(); s != StateCreated {
		return fmt.Errorf("%w: Start of a node that is %v", ErrState, s)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := n.start(); err != nil {
		ctx, cancel := context.WithTimeout(ctx, stopTimeout)
		defer cancel()
		_ = n.release(ctx)
		n.setState(StateCreated, StateStopped)
		return errors.Join(err, n.closeEvents(ctx))
	}
	if n.cfg.LAN {
		n.local = newLocalNet(n)
	}
	n.setState(StateCreated, StateStarted)
	n.startJoining(n.cfg.Dir != "" && n.restoreTable())
	n.wg.Go(n.acceptLoop)
	if n.cfg.Dir != "" {
		n.wg.Go(n.saveTableLoop)
	}
	if n.keepsNames() {
		n.wg.Go(n.keepNamesLoop)
	}
	return nil
}

func (n *Node) start() (err error) {
	if n.cfg.Dir != "" {
		if err := n.openStore(); err != nil {
			return err
		}
	}
	n.conn = n.cfg.Conn
	if n.conn == nil {
		udp, err := transport.ListenUDP(n.cfg.Listen)
		if err != nil {
			return &ListenError{Addr: n.cfg.Listen, Err: err}
		}
		n.conn = udp
	}
	if n.cfg.WebSocketListen != "" {
		var cert *certificate
		if n.cfg.WebSocketCert != "" {
			if cert, err = loadCertificate(n.cfg.WebSocketCert, n.cfg.WebSocketKey, n.log); err != nil {
				return err
			}
		}
		if n.ws, err = listenWebSocket(n.cfg.WebSocketListen, cert); err != nil {
			return &ListenError{Addr: n.cfg.WebSocketListen, WebSocket: true, Err: err}
		}
	}
	return n.startNetwork()
}

func (n *Node) openStore() (err error) {
	if err := os.MkdirAll(n.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("node: directory: %w", err)
	}
	dir := StoreDir(n.cfg.Dir)
	if n.store, err = content.Open(dir, content.Config{
		Key: n.cfg.Identity.StoreKey(), Log: n.log, MaxBytes: n.cfg.StoreLimit, OnDrop: n.dropped, OnChanged: n.fileChanged,
	}); err != nil {
		return fmt.Errorf("open store %s: %w", dir, err)
	}
	return nil
}

// startNetwork makes the endpoint, the DHT and what stands on them.
func (n *Node) startNetwork() error {
	// The two need each other: the DHT sends through the endpoint, which hands
	// it what arrives. The DHT comes first and sends nothing before it has
	// contacts; what it would send before the endpoint is there counts as lost.
	var endpoint atomic.Pointer[session.Endpoint]
	udp := new(udpHealth)
	d, err := dht.New(dht.Config{
		Identity:   n.cfg.Identity,
		Keyring:    n.cfg.Keyring,
		ClientOnly: n.cfg.ClientOnly || n.cfg.DialOnly,
		WebSocket:  n.ws.addr().Port(),
		Send: func(b []byte, to netip.AddrPort) error {
			if peer, ok := dht.LinkPeer(to); ok {
				return n.links.send(b, peer)
			}
			e, now := endpoint.Load(), time.Now()
			switch {
			case e == nil:
				return errors.New("not listening yet")
			case n.links.any() && udp.blocked(now):
				return errUDPBlocked // what nobody answers is not worth waiting for
			}
			udp.sending(now)
			return e.SendDatagram(b, to)
		},
	})
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	n.dht = d
	cfg := n.cfg.Session
	cfg.Datagram = func(b []byte, from netip.AddrPort) {
		udp.heard()
		d.HandleDatagram(b, from)
	}
	n.endpoint, err = session.NewEndpoint(n.conn, cfg)
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	endpoint.Store(n.endpoint)
	n.dialer = &dialer{endpoint: n.endpoint, udp: udp}
	n.links.deliver = d.HandleDatagram
	if n.store != nil {
		n.server = swarm.NewServer(n.store, swarm.ServerConfig{Limiter: n.limiter, Logger: n.log})
	}
	n.pool = newPool(poolConfig{
		self:     n.cfg.Identity.NodeID(),
		dial:     n.dialer.dial,
		serve:    n.serveStream,
		onPeer:   n.peerChanged,
		log:      n.log,
		max:      n.cfg.MaxSessions,
		idleTime: n.cfg.IdleSession,
	})
	if n.ws != nil {
		n.ws.serve(n.endpoint, n.log)
	}
	return nil
}

// release closes what start has made, whatever that is. It waits for the
// application, which may be in a handler of frames or in the store, as returned
// does.
func (n *Node) release(ctx context.Context) error {
	n.stop()
	errs := []error{n.ws.close()}
	if n.endpoint != nil {
		errs = append(errs, closed(ctx, n.endpoint.Close))
	}
	if n.dht != nil {
		errs = append(errs, n.dht.Close())
	}
	if n.conn != nil {
		errs = append(errs, n.conn.Close())
	} else if n.cfg.Conn != nil {
		errs = append(errs, n.cfg.Conn.Close())
	}
	if n.store != nil {
		errs = append(errs, closed(ctx, n.store.Close))
	}
	return errors.Join(errs...)
}

// closed calls close and returns its error, or after as long as returned waits
// that of returned.
func closed(ctx context.Context, close func() error) error {
	result := make(chan error, 1)
	if late := returned(ctx, func() { result <- close() }); late != nil {
		return late
	}
	return <-result
}

// Stop ends the node in order: running fetches and seeds are cancelled, the
// network is told that we no longer provide, the routing table is saved,
// sessions deliver what was written and close. It takes at most about 8
// seconds, or until ctx ends, whichever comes first; then it is done with
// force. Further calls wait for the first and return the same. The error is about
// records and files, and ErrStillRunning if the application's handlers, loops over
// Receive or calls of the store have not returned by then: they should end when
// their context does, and cannot call Stop themselves and wait for it. What is
// still in the store then holds its lock until it returns. Whether all that was
// written to a session has been delivered, the session's Err says, see
// [session.ErrUnflushed].
func (n *Node) Stop(ctx context.Context) error {
	n.lifecycle.Lock()
	defer n.lifecycle.Unlock()
	before := n.beginStop()
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	switch before {
	case StateStopped:
		return n.stopErr
	case StateCreated:
		n.stopErr = n.release(ctx)
	default:
		n.stop()
		opsErr := returned(ctx, func() { n.ops.Wait(); n.wg.Wait() })
		n.withdraw(ctx)
		var tableErr error
		if n.cfg.Dir != "" {
			tableErr = n.saveTable()
		}
		n.stopErr = errors.Join(opsErr, tableErr, n.pool.close(ctx), n.release(ctx))
	}
	n.setState(before, StateStopped)
	n.stopErr = errors.Join(n.stopErr, n.closeEvents(ctx))
	return n.stopErr
}

// returned waits for wait to return, until ctx ends and stopGrace after that.
// Errors wrap ErrStillRunning.
func returned(ctx context.Context, wait func()) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-done:
		return nil
	case <-time.After(stopGrace):
		return fmt.Errorf("%w: %w", ErrStillRunning, context.Cause(ctx))
	}
}

// closeEvents ends all subscriptions, and waits for the handlers.
func (n *Node) closeEvents(ctx context.Context) error {
	if err := n.events.Close(ctx); err != nil {
		return fmt.Errorf("node: handlers of events did not return: %w", err)
	}
	return nil
}

// beginStop makes the node refuse new calls, and returns its state, which stays
// until everything has ended.
func (n *Node) beginStop() State {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stopping = true
	return n.state
}

// State returns where the node is in its life. While Stop has work to do it is
// still what it was.
func (n *Node) State() State {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state
}

// setState makes a transition, if the node is where it begins: several ways
// lead into the network, and only the first makes it running.
func (n *Node) setState(from, to State) {
	n.mu.Lock()
	ok := n.state == from && (to == StateStopped || !n.stopping)
	if ok {
		n.state = to
	}
	n.mu.Unlock()
	if ok {
		n.emit(EventState, Event{State: to})
	}
}

// active reports ErrState for a node that is not between Start and Stop.
func (n *Node) active() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.activeLocked()
}

func (n *Node) activeLocked() error {
	switch {
	case n.state != StateStarted && n.state != StateRunning:
		return fmt.Errorf("%w: the node is %v", ErrState, n.state)
	case n.stopping:
		return errStopping
	}
	return nil
}

// beginStore is begin for a call that needs the store.
func (n *Node) beginStore(ctx context.Context) (_ context.Context, end func(), err error) {
	if n.cfg.Dir == "" {
		return nil, nil, ErrNoStore
	}
	return n.begin(ctx)
}

// begin registers a call that Stop cancels and waits for. The context ends
// with the caller's or when Stop begins; end must be called.
func (n *Node) begin(ctx context.Context) (_ context.Context, end func(), err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.activeLocked(); err != nil {
		return nil, nil, err
	}
	n.ops.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	unlink := context.AfterFunc(n.ctx, func() { cancel(errStopping) })
	return ctx, func() {
		unlink()
		cancel(nil)
		n.ops.Done()
	}, nil
}

// ID returns the node ID.
func (n *Node) ID() stc.Hash { return n.cfg.Identity.NodeID() }

// Addr returns the address that the node listens on; the zero value unless it
// is between Start and Stop. Its IP may be unspecified.
func (n *Node) Addr() netip.AddrPort {
	if n.active() != nil {
		return netip.AddrPort{}
	}
	return n.endpoint.LocalAddr()
}

// SocketBuffers returns what the system holds for the node's UDP socket; its
// Advice is for the operator. The zero value unless the node is between Start
// and Stop and has such a socket.
func (n *Node) SocketBuffers() transport.Buffers {
	if n.active() != nil {
		return transport.Buffers{}
	}
	if udp, ok := n.conn.(*transport.UDP); ok {
		return udp.Buffers()
	}
	return transport.Buffers{}
}

// Store returns the node's store, or nil if it has none or is not between Start
// and Stop.
func (n *Node) Store() *content.Store {
	if n.active() != nil {
		return nil
	}
	return n.store
}

// StoreDir returns where a node with that Config.Dir keeps its store.
func StoreDir(dir string) string { return filepath.Join(dir, "store") }

// fileChanged is told by the store of files that were served in place.
func (n *Node) fileChanged(e *content.ChangedError) {
	n.filesChanged.Add(1)
	n.emit(EventFileChanged, Event{Path: e.Path, Err: e})
}

func (n *Node) peerChanged(peer stc.Hash, addr string, connected bool) {
	kind := EventPeerConnected
	if !connected {
		kind = EventPeerDisconnected
	}
	n.log.Debug(string(kind), "peer", peer, "addr", addr)
	n.emit(kind, Event{Peer: peer, Addr: addr})
}
