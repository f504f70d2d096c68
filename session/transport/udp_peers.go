package transport

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// maxPeers bounds what a UDP remembers. Beyond it one peer or another is
	// forgotten, which costs a failed system call and no datagram.
	maxPeers = 8192
	// refusalTime is how long a refusal of segmentation is believed: routes
	// and devices change.
	refusalTime = time.Minute
)

// peers is what a UDP has learnt about its peers' paths. Its methods may be
// called concurrently and allocate only for a peer that is new.
type peers struct {
	mu    sync.RWMutex
	known map[netip.AddrPort]path // at most maxPeers; guarded by mu
}

type path struct {
	refused time.Time // when segmentation failed last; zero if it did not
}

func newPeers() *peers { return &peers{known: make(map[netip.AddrPort]path)} }

func (p *peers) get(to netip.AddrPort) path {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.known[to]
}

// refuse records that segmentation fails on the path to a peer.
func (p *peers) refuse(to netip.AddrPort) {
	p.update(to, func(known *path) { known.refused = time.Now() })
}

// refuses reports whether it has, lately.
func (p *peers) refuses(to netip.AddrPort) bool {
	at := p.get(to).refused
	return !at.IsZero() && time.Since(at) < refusalTime
}

func (p *peers) update(peer netip.AddrPort, change func(*path)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known, ok := p.known[peer]
	if !ok && len(p.known) >= maxPeers {
		for other := range p.known { // any one: the order is random
			delete(p.known, other)
			break
		}
	}
	change(&known)
	p.known[peer] = known
}
