package node

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/session"
	"github.com/seigr/sttnode/stc"
)

// pool keeps the sessions with other nodes, one in use for each peer whoever
// began it. It dials when there is none, closes those that nobody uses, and
// runs the accept loop of each.
//
// Two nodes that dial each other at the same moment end up with two sessions.
// Both work; both sides use the one that the node with the lower ID began for
// everything new, and the other falls idle and is closed.
type pool struct {
	cfg  poolConfig
	ctx  context.Context // ends when the pool closes; dials belong to it
	stop context.CancelFunc
	wg   sync.WaitGroup // dials, accept loops and the reaper

	mu       sync.Mutex
	closed   bool
	peers    map[stc.Hash]*peer
	sessions map[frame.SessionID]*pooled // all of peers
	arrived  []*pooled                   // of sessions, those that others have begun and Accept has not returned
	arrival  chan struct{}               // holds a token when arrived has got one
	blind    map[route]*dialCall         // dials to whoever is at an address
	count    int                         // sessions in peers
	dialling int                         // dials under way
	dials    poolDials
}

type poolConfig struct {
	self     stc.Hash
	dial     func(ctx context.Context, r route, peer stc.Hash) (s *session.Session, by route, err error)
	serve    func(ctx context.Context, s *pooled, st *session.Stream)
	onPeer   func(peer stc.Hash, addr string, connected bool)
	log      *slog.Logger
	max      int           // sessions
	idleTime time.Duration // without a stream, until a session is closed
}

// poolDials counts what dialling came to.
type poolDials struct{ done, failed uint64 }

// peer is what the pool has of one node. Guarded by pool.mu.
type peer struct {
	sessions []*pooled // the one to use first
	dial     *dialCall // under way, or nil
}

// pooled is a session of the pool.
type pooled struct {
	*session.Session
	dialled route     // as which it was dialled; zero if the peer has begun it
	opening int       // callers about to open a stream; guarded by pool.mu
	used    time.Time // when it was last seen with a stream; guarded by pool.mu
	closing bool      // the pool has begun to close it; guarded by pool.mu
	held    bool      // by the application; guarded by pool.mu
	packets packetPeer
}

func newPool(cfg poolConfig) *pool {
	p := &pool{
		cfg: cfg, peers: make(map[stc.Hash]*peer), sessions: make(map[frame.SessionID]*pooled),
		arrival: make(chan struct{}, 1), blind: make(map[route]*dialCall),
	}
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.wg.Go(p.reap)
	return p
}

// touch notes that a session is in use.
func (p *pool) touch(s *pooled) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.used = time.Now()
}

// use returns the session to use with a peer, or nil. p.mu is held.
func (p *pool) use(id stc.Hash) *pooled {
	if pe := p.peers[id]; pe != nil {
		for _, s := range pe.sessions {
			if alive(s) {
				return s
			}
		}
	}
	return nil
}

// alive reports whether a stream can be opened on the session. pool.mu is held.
func alive(s *pooled) bool {
	if s.closing {
		return false
	}
	select {
	case <-s.Done():
		return false
	default:
		return s.State() < session.StateClosing
	}
}

// add takes a session that was dialled by a route, or accepted, into the pool,
// and runs it. It returns false, and has closed the session, if the pool is closed.
func (p *pool) add(s *session.Session, dialled route) bool {
	p.mu.Lock()
	added, first := p.addLocked(s, dialled)
	p.mu.Unlock()
	p.announce(s, dialled, added, first)
	return added
}

// announce says what addLocked has done.
func (p *pool) announce(s *session.Session, dialled route, added, first bool) {
	switch {
	case s == nil:
	case !added:
		_ = s.CloseWithError(session.CodeShutdown, "")
	case first:
		p.cfg.onPeer(s.PeerID(), routeOf(s, dialled), true)
	}
}

// addLocked reports whether the session was taken, and whether it is the
// peer's first. p.mu is held.
func (p *pool) addLocked(s *session.Session, dialled route) (added, first bool) {
	id := s.PeerID()
	m := &pooled{Session: s, dialled: dialled, used: time.Now(), packets: newPacketPeer()}
	if p.closed {
		return false, false
	}
	if p.count >= p.cfg.max {
		p.evictLocked() // the endpoint has the hard limit
	}
	pe := p.peers[id]
	if pe == nil {
		pe = new(peer)
		p.peers[id] = pe
	}
	first = len(pe.sessions) == 0
	if !s.Initiator() {
		// A node dials again only when its own end of what it dialled before is
		// gone: it was killed, or has lost its way to us. Nothing more comes
		// there, so what it holds here is let go at once. Of two that it has
		// begun over different carriers it may only have tried which is faster,
		// and ends the one that it does not want.
		for _, old := range pe.sessions {
			if !old.Initiator() && !old.closing && old.Ordered() == s.Ordered() {
				p.replace(old)
			}
		}
	}
	if p.preferred(m) || first || !alive(pe.sessions[0]) {
		pe.sessions = append([]*pooled{m}, pe.sessions...)
	} else {
		pe.sessions = append(pe.sessions, m)
	}
	p.count++
	p.sessions[s.ID()] = m
	if !s.Initiator() {
		p.arrived = append(p.arrived, m)
		p.wakeLocked()
	}
	p.wg.Go(func() { p.run(m) })
	return true, first
}

// preferred reports whether both sides use this session when there are two.
func (p *pool) preferred(s *pooled) bool {
	return s.Initiator() == (p.cfg.self.Compare(s.PeerID()) < 0)
}

// run accepts the streams of a session until it ends. Every stream has a
// goroutine that run waits for.
func (p *pool) run(s *pooled) {
	var streams sync.WaitGroup
	for {
		st, err := s.AcceptStream(p.ctx)
		if err != nil {
			break
		}
		p.touch(s)
		streams.Go(func() {
			defer p.touch(s) // also when a handler ends its goroutine
			p.cfg.serve(p.ctx, s, st)
		})
	}
	if p.ctx.Err() == nil {
		<-s.Done()
	}
	p.remove(s)
	streams.Wait()
}

// remove takes a session out of the pool. It does not close it.
func (p *pool) remove(s *pooled) {
	id := s.PeerID()
	p.mu.Lock()
	gone := false
	if pe := p.peers[id]; pe != nil {
		for i, other := range pe.sessions {
			if other == s {
				pe.sessions = append(pe.sessions[:i:i], pe.sessions[i+1:]...)
				p.count--
				p.dropLocked(s)
				gone = len(pe.sessions) == 0
				break
			}
		}
		p.forgetLocked(id)
	}
	p.mu.Unlock()
	if gone {
		p.cfg.onPeer(id, routeOf(s.Session, s.dialled), false)
	}
}

// dropLocked takes a session out of what is kept beside peers. p.mu is held.
func (p *pool) dropLocked(s *pooled) {
	if p.sessions[s.ID()] == s {
		delete(p.sessions, s.ID())
	}
	if i := slices.Index(p.arrived, s); i >= 0 {
		p.arrived = slices.Delete(p.arrived, i, i+1)
	}
}

// forgetLocked drops the entry of a peer of which nothing is left.
func (p *pool) forgetLocked(id stc.Hash) {
	if pe := p.peers[id]; pe != nil && len(pe.sessions) == 0 && pe.dial == nil {
		delete(p.peers, id)
	}
}

// evictLocked makes room for one session by closing the one that has been
// unused for longest. It reports false if all are in use.
func (p *pool) evictLocked() bool {
	var oldest *pooled
	for _, pe := range p.peers {
		for _, s := range pe.sessions {
			if p.idleLocked(s) && (oldest == nil || s.used.Before(oldest.used)) {
				oldest = s
			}
		}
	}
	if oldest == nil {
		return false
	}
	p.closeIdle(oldest)
	return true
}

// idleLocked reports whether nobody uses the session now.
func (p *pool) idleLocked(s *pooled) bool {
	return s.opening == 0 && !s.held && alive(s) && s.Stats().Streams == 0
}

// closeIdle closes a session without waiting for it; p.run, which ends with
// it, takes it out of the pool. p.mu is held.
func (p *pool) closeIdle(s *pooled) {
	s.closing = true
	p.wg.Go(func() {
		if err := s.Close(); err != nil && !errors.Is(err, session.ErrClosed) {
			p.cfg.log.Debug("closing an idle session", "peer", s.PeerID(), "err", err)
		}
	})
}

// reap closes sessions that have had no stream for the idle time.
func (p *pool) reap() {
	tick := time.NewTicker(max(p.cfg.idleTime/4, time.Second))
	defer tick.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case now := <-tick.C:
			p.mu.Lock()
			for _, pe := range p.peers {
				for _, s := range pe.sessions {
					if !p.idleLocked(s) {
						s.used = now
					} else if now.Sub(s.used) >= p.cfg.idleTime {
						p.closeIdle(s)
					}
				}
			}
			p.mu.Unlock()
		}
	}
}

// replace ends a session whose peer has begun another. p.mu is held.
func (p *pool) replace(s *pooled) {
	s.closing = true
	p.wg.Go(func() { _ = s.CloseWithError(session.CodeNone, "replaced by a newer session") })
}

// connected is a peer that the pool has a session with.
type connected struct {
	id    stc.Hash
	route route // where it could be dialled
}

// connectedPeers returns the peers with a live session, in no order.
func (p *pool) connectedPeers() []connected {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []connected
	for id := range p.peers {
		if s := p.use(id); s != nil {
			all = append(all, connected{id, s.route()})
		}
	}
	return all
}

// routeTo returns where a peer with a live session could be dialled.
func (p *pool) routeTo(id stc.Hash) (r route, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.use(id); s != nil {
		return s.route(), true
	}
	return r, false
}

func (s *pooled) route() route {
	r := s.dialled
	if !s.Ordered() {
		r.udp = s.RemoteAddr() // it may have moved
	}
	return r
}

// reached returns how a peer is reached now; empty if there is no session.
func (p *pool) reached(id stc.Hash) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.use(id); s != nil {
		return routeOf(s.Session, s.dialled)
	}
	return ""
}

// spawn runs f beside the sessions; ctx ends when the pool closes, which waits
// for f. The caller is one that the node waits for before it closes the pool.
func (p *pool) spawn(f func(ctx context.Context)) { p.wg.Go(func() { f(p.ctx) }) }

func (p *pool) stats() PeerStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := PeerStats{Dials: p.dials.done, DialFailures: p.dials.failed}
	for id := range p.peers {
		if p.use(id) != nil {
			s.Connected++
		}
	}
	return s
}

// close ends all dials and sessions and waits for everything that the pool
// runs, as returned does. Sessions get the time that ctx leaves to deliver what was
// written.
func (p *pool) close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	var all []*pooled
	for _, pe := range p.peers {
		all = append(all, pe.sessions...)
	}
	p.mu.Unlock()
	p.stop()
	var closing sync.WaitGroup
	for _, s := range all {
		closing.Go(func() {
			hurry := context.AfterFunc(ctx, func() { _ = s.CloseWithError(session.CodeShutdown, "stopping") })
			defer hurry()
			_ = s.Close()
		})
	}
	closing.Wait()
	return returned(ctx, p.wg.Wait)
}
