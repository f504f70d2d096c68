package session

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/session/transport"
)

// acceptBacklog is how many sessions wait for Accept. More are refused.
const acceptBacklog = 256

// Endpoint is one local address: it dials and accepts sessions and hands
// each datagram to the session that it belongs to. Its methods may be called
// concurrently.
//
// Goroutines: one reads the carrier, some do the arithmetic of handshakes
// that others begin; the loop of a session has one only while it has more to
// do than those who bring it work should wait for. Close waits for all.
type Endpoint struct {
	link    *link // the socket
	cfg     Config
	cookies cookies
	resets  resetKey
	hints   *rate.Limiter // of REFUSED and UNKNOWN, which strangers can ask for

	accepted   chan *Session
	handshakes chan handshakePacket
	closing    chan struct{} // closed when Close begins
	stopped    atomic.Bool   // sessions end without further ado
	wg         sync.WaitGroup
	counters   counters
	budget     *budget

	handling     context.Context // of the application's frames; ends when Close has ended the sessions
	stopHandling context.CancelFunc

	peerStreams atomic.Int64 // open now, of all sessions, begun by peers
	waiting     atomic.Int64 // memory in all inboxes, in bytes
	sending     atomic.Int64 // bytes that all sessions hold for their peers

	mu       sync.RWMutex // guards what follows
	closed   bool
	sessions map[frame.SessionID]*Session
	dials    map[frame.SessionID]chan handshakePacket
	half     map[halfKey]*halfOpen
	halfAddr map[netip.AddrPort]*halfOpen
	links    map[*link]*Session // ordered links, with the session on each or nil
	past     Totals             // of sessions that have ended
}

// NewEndpoint starts an endpoint on conn, which it owns from then on.
func NewEndpoint(conn transport.Conn, cfg Config) (*Endpoint, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if conn == nil {
		return nil, fmt.Errorf("%w: no carrier", ErrConfig)
	}
	e := &Endpoint{
		link: &link{datagrams: conn}, cfg: cfg,
		hints:      rate.NewLimiter(10, 10),
		accepted:   make(chan *Session, acceptBacklog),
		handshakes: make(chan handshakePacket, 256),
		closing:    make(chan struct{}),
		sessions:   make(map[frame.SessionID]*Session),
		dials:      make(map[frame.SessionID]chan handshakePacket),
		half:       make(map[halfKey]*halfOpen),
		halfAddr:   make(map[netip.AddrPort]*halfOpen),
		links:      make(map[*link]*Session),
	}
	e.handling, e.stopHandling = context.WithCancel(context.Background())
	e.budget = newBudget(&e.cfg)
	_, _ = rand.Read(e.cookies.key[:]) // never fails
	e.resets = resetKey(cfg.Identity.DeriveKey(resetLabel))
	e.wg.Add(1)
	go e.read()
	for range handshakeWorkers {
		e.wg.Add(1)
		go e.answer()
	}
	return e, nil
}

// LocalAddr returns the address that the endpoint listens on; its IP may be
// unspecified.
func (e *Endpoint) LocalAddr() netip.AddrPort { return e.link.datagrams.LocalAddr() }

// Accept returns the next session that a peer has begun, or [ErrClosed].
func (e *Endpoint) Accept(ctx context.Context) (*Session, error) {
	select {
	case s := <-e.accepted:
		return s, nil
	case <-e.closing:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// SendDatagram sends a whole DHT frame.
func (e *Endpoint) SendDatagram(b []byte, to netip.AddrPort) error {
	return e.link.send(b, len(b), to)
}

// Sessions returns the sessions that have not ended, in no order.
func (e *Endpoint) Sessions() []*Session {
	e.mu.RLock()
	defer e.mu.RUnlock()
	out := make([]*Session, 0, len(e.sessions))
	for _, s := range e.sessions {
		out = append(out, s)
	}
	return out
}

// Close ends all sessions in order, as Session.Close does, then the endpoint
// and its carrier. It returns when every goroutine has ended, at the latest
// after about Config.Linger, or when the last [FrameHandler] returns.
func (e *Endpoint) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		e.wg.Wait()
		return nil
	}
	e.closed = true
	e.mu.Unlock()
	close(e.closing)
	var wg sync.WaitGroup
	for _, s := range e.Sessions() {
		wg.Go(func() {
			s.requestClose(closeRequest{code: CodeShutdown, reason: "the node stops", flush: true, by: time.Now().Add(e.cfg.Linger)})
			<-s.done
		})
	}
	wg.Wait()
	e.stopHandling()
	e.stopped.Store(true)
	for _, s := range e.Sessions() {
		s.strand.ask()
	}
	e.mu.RLock()
	for k := range e.links {
		_ = k.ordered.Close()
	}
	e.mu.RUnlock()
	err := e.link.datagrams.Close()
	e.wg.Wait()
	return err
}

// add registers a session and starts its loop.
func (e *Endpoint) add(s *Session, l *loop) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
		return ErrClosed
	case e.sessions[s.id] != nil || s.id.IsZero():
		return fmt.Errorf("session ID %s is taken", s.id)
	}
	peer, err := e.budget.admit(s.peerID)
	if err != nil {
		return err
	}
	s.credit.peer, s.user.in.memory.peer = peer, peer
	e.sessions[s.id] = s
	if s.link.ordered != nil {
		e.links[s.link] = s
		s.link.ordered.Admit(s.strand.ask)
	}
	e.counters.handshakes.Add(1)
	e.wg.Add(1)
	s.strand.start(l.round)
	return nil
}

// forget takes a session out that has ended.
func (e *Endpoint) forget(s *Session) {
	st := s.Stats()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sessions[s.id] == s {
		delete(e.sessions, s.id)
		e.budget.leave(s.peerID)
		s.streams.leave(e)
		e.past.add(st)
	}
	if s.link.ordered != nil {
		e.wg.Go(func() { _ = s.link.ordered.Close() })
	}
}

// smallDatagram is the size up to which a receive is copied out, so that a
// few bytes that wait for their session do not hold a large buffer.
const smallDatagram = 2 << 10

// packetBuffer is memory for received frames, shared by the runs that point
// into it. Without a pool it is garbage when released.
type packetBuffer struct {
	refs atomic.Int32
	pool *sync.Pool
	data []byte
}

func newBufferPool(size int) *sync.Pool {
	p := &sync.Pool{}
	p.New = func() any { return &packetBuffer{pool: p, data: make([]byte, size)} }
	return p
}

var (
	largeBuffers = newBufferPool(transport.MaxBatch)
	smallBuffers = newBufferPool(smallDatagram)
)

func getBuffer(pool *sync.Pool) *packetBuffer {
	b := pool.Get().(*packetBuffer)
	b.refs.Store(1)
	return b
}

func (b *packetBuffer) release() {
	if b.refs.Add(-1) == 0 && b.pool != nil {
		b.pool.Put(b)
	}
}

// read is the goroutine that takes datagrams from the carrier.
func (e *Endpoint) read() {
	defer e.wg.Done()
	for {
		buf := getBuffer(largeBuffers)
		n, size, from, err := e.link.datagrams.Receive(buf.data)
		if err != nil {
			buf.release()
			if !e.isClosed() {
				e.cfg.Logger.Error("the socket failed; no more datagrams", "error", err)
			}
			return
		}
		if n <= smallDatagram {
			small := getBuffer(smallBuffers)
			copy(small.data, buf.data[:n])
			buf.release()
			buf = small
		}
		e.dispatch(run{buf: buf, data: buf.data[:n], size: size, from: from, at: time.Now(), link: e.link})
		buf.release()
	}
}

func (e *Endpoint) isClosed() bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.closed
}

// dispatch hands each datagram of a run to whom it belongs; neighbours of
// one session go together.
func (e *Endpoint) dispatch(r run) {
	e.counters.received.Add(1)
	for b := r.data; len(b) > 0; {
		n := min(r.size, len(b))
		if n < frame.MinHeaderSize {
			b = b[n:]
			continue
		}
		switch t := frame.Type(b[0]); t {
		case frame.TypeDHT:
			if e.cfg.Datagram != nil {
				e.cfg.Datagram(b[:n], r.from)
			}
		case frame.TypeHandshake:
			e.queueHandshake(b[:n], r)
		default:
			id := frame.SessionID(b[2:10])
			for n < len(b) && len(b)-n >= frame.MinHeaderSize && b[n] != byte(frame.TypeHandshake) &&
				b[n] != byte(frame.TypeDHT) && frame.SessionID(b[n+2:n+10]) == id {
				n = min(n+r.size, len(b))
			}
			e.mu.RLock()
			s := e.sessions[id]
			e.mu.RUnlock()
			if s != nil {
				s.deliver(r, b[:n])
			} else {
				e.unknown(b[:n], r, t)
			}
		}
		b = b[n:]
	}
}

// deliver puts datagrams into the session's inbox.
func (s *Session) deliver(r run, data []byte) {
	r.data = data
	r.buf.refs.Add(1)
	for !s.inbox.put(r) {
		if r.link.ordered != nil {
			select {
			case <-s.inbox.room:
				continue
			case <-s.done:
			}
		}
		s.ep.counters.dropped.Add(1)
		r.buf.release()
		return
	}
	// What is quickly done is done here. A transfer is opened beside the
	// reading of what comes next.
	if len(data) <= smallDatagram {
		s.strand.lend()
	} else {
		s.strand.ask()
	}
}

// unknown takes datagrams of no session that we know: AUTH_PROOF, or what
// the initiator has sent right behind it.
func (e *Endpoint) unknown(b []byte, r run, t frame.Type) {
	if t == frame.TypeAuth {
		e.queueHandshake(b[:min(r.size, len(b))], r)
		return
	}
	e.mu.Lock()
	if s := e.sessions[frame.SessionID(b[2:10])]; s != nil { // since dispatch looked
		e.mu.Unlock()
		s.deliver(r, b)
		return
	}
	h := e.halfAddr[r.from]
	if h != nil && len(h.early) < maxEarly && h.earlyBytes+len(b) <= maxEarlyBytes {
		// Copied, so that it does not hold a buffer many times as long.
		r.buf = &packetBuffer{data: append([]byte(nil), b...)}
		r.buf.refs.Store(1)
		r.data = r.buf.data
		h.early = append(h.early, r)
		h.earlyBytes += len(b)
	}
	e.mu.Unlock()
	if h == nil {
		e.counters.stray.Add(1)
		e.sendUnknown(b[:min(r.size, len(b))], r.from)
	}
}
