package swarm

import (
	"context"
	"slices"
	"sync"
	"time"
)

// readAhead shares the bytes between store and streams among the peers that are
// served. A peer that holds none may take any; one that holds some may hold an
// eighth of all, and leaves the last quarter to those who hold none. When bytes
// become free they go to who waits and has held the fewest for the shortest
// time. So peers that take nothing of what is read for them do not keep the
// others from being served.
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

// reclaimInterval is how long somebody waits before it is looked who holds the
// bytes.
const reclaimInterval = 250 * time.Millisecond

// take takes n bytes for a peer, at most batchSizeLarge. While it waits it calls
// reclaim now and then. It fails only when ctx ends.
func (r *readAhead) take(ctx context.Context, p *servedPeer, n int64, reclaim func()) error {
	r.mu.Lock()
	if r.fits(p, n) {
		r.grant(p, n)
		r.mu.Unlock()
		return nil
	}
	c := &claim{p, n, make(chan struct{})}
	r.waiting = append(r.waiting, c)
	r.mu.Unlock()
	timer := time.NewTicker(reclaimInterval)
	defer timer.Stop()
	for {
		select {
		case <-c.granted:
			return nil
		case <-timer.C:
			reclaim()
		case <-ctx.Done():
			r.mu.Lock()
			i := slices.Index(r.waiting, c)
			if i >= 0 {
				r.waiting = slices.Delete(r.waiting, i, i+1)
			}
			r.mu.Unlock()
			if i < 0 {
				r.give(p, n, 0)
			}
			return ctx.Err()
		}
	}
}

// give returns what was taken a time ago.
func (r *readAhead) give(p *servedPeer, n int64, held time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used -= n
	p.ahead -= n
	p.aheadTime += float64(n) * held.Seconds()
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
	if p.ahead == 0 {
		return r.used+n <= r.limit
	}
	return p.ahead+n <= r.limit/8 && r.used+n <= r.limit*3/4
}

func (r *readAhead) grant(p *servedPeer, n int64) {
	r.used += n
	p.ahead += n
}
