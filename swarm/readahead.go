package swarm

import (
	"context"
	"slices"
	"sync"
	"time"
)

// readAhead shares the bytes between store and streams among the peers that are
// served. A peer that was quick with its last ones and holds none may take any. All
// others leave the last quarter: those that hold some, up to an eighth of all, and
// those that were slow, or have had none yet. When bytes become free they go to who
// waits and has held the fewest for the shortest time. So peers that take nothing
// of what is read for them do not keep the others from being served.
//
// It is safe for concurrent use.
type readAhead struct {
	limit int64

	mu      sync.Mutex
	used    int64
	waiting []*claim // in the order of their coming
}

// claim is who waits for bytes.
type claim struct {
	peer    *servedPeer
	n       int64
	granted chan struct{} // closed by who grants it, holding mu
}

// contended reports whether somebody waits who holds nothing.
func (r *readAhead) contended() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.waiting, func(c *claim) bool { return c.peer.ahead == 0 })
}

// take takes n bytes for a peer, at most batchSizeLarge. It fails only when ctx
// ends.
func (r *readAhead) take(ctx context.Context, p *servedPeer, n int64) error {
	r.mu.Lock()
	if r.fits(p, n) {
		r.grant(p, n)
		r.mu.Unlock()
		return nil
	}
	c := &claim{p, n, make(chan struct{})}
	r.waiting = append(r.waiting, c)
	r.mu.Unlock()
	select {
	case <-c.granted:
		return nil
	case <-ctx.Done():
		r.mu.Lock()
		i := slices.Index(r.waiting, c)
		if i >= 0 {
			r.waiting = slices.Delete(r.waiting, i, i+1)
		}
		r.mu.Unlock()
		if i < 0 {
			r.give(p, n, 0, true)
		}
		return ctx.Err()
	}
}

// patience is for how long a peer may hold bytes that others wait for.
func (r *readAhead) patience(p *servedPeer) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.quick {
		return parkAfter
	}
	return parkAfterNew
}

// give returns what was taken a time ago. If others waited for it, that was not
// quick.
func (r *readAhead) give(p *servedPeer, n int64, held time.Duration, parked bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used -= n
	p.ahead -= n
	p.aheadTime += float64(n) * held.Seconds()
	if n > 0 {
		p.quick = held < parkAfter && !parked
	}
	for {
		next := -1
		for i, c := range r.waiting {
			if r.fits(c.peer, c.n) && (next < 0 || c.peer.aheadTime < r.waiting[next].peer.aheadTime) {
				next = i
			}
		}
		if next < 0 {
			return
		}
		c := r.waiting[next]
		r.waiting = slices.Delete(r.waiting, next, next+1)
		r.grant(c.peer, c.n)
		close(c.granted)
	}
}

func (r *readAhead) fits(p *servedPeer, n int64) bool {
	switch {
	case p.ahead == 0 && p.quick:
		return r.used+n <= r.limit
	case p.ahead == 0 || p.ahead+n <= r.limit/8:
		return r.used+n <= r.limit*3/4
	}
	return false
}

func (r *readAhead) grant(p *servedPeer, n int64) {
	r.used += n
	p.ahead += n
}
