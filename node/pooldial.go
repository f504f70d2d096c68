package node

import (
	"context"
	"fmt"
	"time"

	"github.com/seigr/sttnode/session"
	"github.com/seigr/sttnode/stc"
)

// dialCall is a dial that several callers may wait for.
type dialCall struct {
	route route
	done  chan struct{}
	err   error // valid once done is closed
}

// open returns a new stream to the peer, behind its preamble. It uses a session
// that exists, or dials r, which must be the peer's.
func (p *pool) open(ctx context.Context, id stc.Hash, r route, protocol string) (*session.Stream, error) {
	for attempt := 0; ; attempt++ {
		s, fresh, err := p.get(ctx, id, r)
		if err != nil {
			return nil, err
		}
		st, err := s.OpenStream(ctx)
		p.opened(s)
		if err == nil {
			if _, err = st.Write(appendPreamble(nil, protocol)); err == nil {
				return st, nil
			}
			st.Reset(streamStopping)
		}
		// A session that was there may have ended without our noticing; a new
		// one that fails says something about the peer.
		if fresh || attempt > 0 || ctx.Err() != nil {
			return nil, fmt.Errorf("stream to %v: %w", id, err)
		}
		p.remove(s)
	}
}

// dialAny returns a session with whoever answers at r.
func (p *pool) dialAny(ctx context.Context, r route) (*session.Session, error) {
	s, by, err := p.cfg.dial(ctx, r, stc.Hash{})
	if err != nil {
		return nil, err
	}
	if s.PeerID() == p.cfg.self {
		_ = s.CloseWithError(session.CodeNone, "own address")
		return nil, fmt.Errorf("dial %v: %w", r, ErrSelf)
	}
	if !p.add(s, by) {
		return nil, session.ErrClosed
	}
	return s, nil
}

// get returns a session with the peer, counted as opening until opened is
// called, and whether it was dialled for this call.
func (p *pool) get(ctx context.Context, id stc.Hash, r route) (s *pooled, fresh bool, err error) {
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, false, session.ErrClosed
		}
		if s := p.use(id); s != nil {
			s.opening++
			p.mu.Unlock()
			return s, fresh, nil
		}
		call, err := p.dialLocked(id, r)
		p.mu.Unlock()
		if err != nil {
			return nil, false, err
		}
		select {
		case <-call.done:
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		}
		// Another caller's dial may have gone to an address that is dead.
		if call.err != nil && call.route == r {
			return nil, false, call.err
		}
		fresh = call.err == nil
	}
}

func (p *pool) opened(s *pooled) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.opening--
	s.used = time.Now()
}

// dialLocked joins the dial to a peer that is under way, or begins one. p.mu is
// held.
func (p *pool) dialLocked(id stc.Hash, r route) (*dialCall, error) {
	pe := p.peers[id]
	if pe != nil && pe.dial != nil {
		return pe.dial, nil
	}
	if p.count+p.dialling >= p.cfg.max && !p.evictLocked() {
		return nil, fmt.Errorf("%w: %d sessions are in use", ErrTooManyPeers, p.count)
	}
	if pe == nil {
		pe = new(peer)
		p.peers[id] = pe
	}
	call := &dialCall{route: r, done: make(chan struct{})}
	pe.dial = call
	p.dialling++
	p.wg.Go(func() {
		s, by, err := p.cfg.dial(p.ctx, r, id)
		call.err = err // names the address
		// The session takes the dial's place at once, so that nobody begins
		// another one in between.
		p.mu.Lock()
		pe.dial = nil
		p.dialling--
		p.dials.done++
		var added, first bool
		if err != nil {
			p.dials.failed++
			p.forgetLocked(id)
		} else if added, first = p.addLocked(s, by); !added {
			call.err = session.ErrClosed
		}
		p.mu.Unlock()
		p.announce(s, by, added, first)
		close(call.done)
	})
	return call, nil
}
