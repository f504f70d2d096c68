package node

import (
	"context"
	"fmt"
	"slices"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/session"
	"github.com/seigr/sttnode/stc"
)

// What the application sees of the pool: it names sessions by their IDs, and
// those that it holds are not closed for being idle.

// hold returns the session to use with a peer, held, or nil.
func (p *pool) hold(id stc.Hash) *pooled {
	p.mu.Lock()
	defer p.mu.Unlock()
	return held(p.use(id))
}

// held marks a session, which may be nil, as the application's. pool.mu is held.
func held(s *pooled) *pooled {
	if s != nil {
		s.held = true
	}
	return s
}

// connect returns a session with the peer, or with whoever is at r if the peer
// is zero, and holds it: one that is there, or a new one. Callers that come at
// the same moment share the dial.
func (p *pool) connect(ctx context.Context, peer stc.Hash, r route) (*pooled, error) {
	if !peer.IsZero() {
		s, _, err := p.get(ctx, peer, r)
		if err != nil {
			return nil, err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		s.opening--
		return held(s), nil
	}
	p.mu.Lock()
	if s := p.atLocked(r); s != nil {
		defer p.mu.Unlock()
		return held(s), nil
	}
	call := p.blind[r]
	if call == nil {
		if p.closed {
			p.mu.Unlock()
			return nil, session.ErrClosed
		}
		call = &dialCall{route: r, done: make(chan struct{})}
		p.blind[r] = call
		p.wg.Go(func() {
			_, call.err = p.dialAny(p.ctx, r)
			p.mu.Lock()
			delete(p.blind, r)
			p.mu.Unlock()
			close(call.done)
		})
	}
	p.mu.Unlock()
	select {
	case <-call.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if call.err != nil {
		return nil, call.err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.atLocked(r); s != nil {
		return held(s), nil
	}
	return nil, fmt.Errorf("%v: %w", r, session.ErrClosed) // it has ended already
}

// atLocked returns a live session with whoever is at r, or nil. p.mu is held.
func (p *pool) atLocked(r route) *pooled {
	for _, s := range p.sessions {
		if alive(s) && (s.dialled == r || r.ws != "" && s.dialled.covers(r) || r.ws == "" && !s.Ordered() && s.RemoteAddr() == r.udp) {
			return s
		}
	}
	return nil
}

// takeArrived returns the next session that a peer has begun, held, or nil.
func (p *pool) takeArrived() *pooled {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.arrived) > 0 {
		s := p.arrived[0]
		p.arrived = p.arrived[1:]
		if len(p.arrived) > 0 {
			p.wakeLocked() // another caller may wait
		}
		if alive(s) {
			return held(s)
		}
	}
	return nil
}

// wakeLocked makes one caller of Accept look. p.mu is held.
func (p *pool) wakeLocked() {
	select {
	case p.arrival <- struct{}{}:
	default:
	}
}

// byID returns the live session of that ID, or ErrNoSession.
func (p *pool) byID(id frame.SessionID) (*pooled, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.sessions[id]; s != nil && alive(s) {
		return s, nil
	}
	return nil, fmt.Errorf("%w: %v", ErrNoSession, id)
}

// all returns the live sessions in the order of their creation.
func (p *pool) all() []*session.Session {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []*session.Session
	for _, s := range p.sessions {
		if alive(s) {
			all = append(all, s.Session)
		}
	}
	slices.SortFunc(all, func(a, b *session.Session) int { return a.Stats().Created.Compare(b.Stats().Created) })
	return all
}
