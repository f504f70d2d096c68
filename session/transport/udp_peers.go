package transport

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// maxPeers bounds what a UDP remembers. Beyond it one peer or another is
	// forgotten: that costs a failed system call, or the kernel chooses the
	// address that the next datagrams leave from.
	maxPeers = 8192
	// refusalTime is how long a refusal of segmentation is believed: routes
	// and devices change.
	refusalTime = time.Minute
	// sourceTime is how long after the last datagram from a peer its answers
	// keep their address. It is longer than sessions are silent, and short
	// enough for those that lost the way to this address, but not to another.
	sourceTime = 15 * time.Second
	// heardPrecision is how exactly that is measured.
	heardPrecision = time.Second
)

// peers is what a UDP has learnt about its peers' paths. Its methods may be
// called concurrently and allocate only for a peer that is new.
//
// Whoever forges a peer's address can have it answered from another of our
// addresses until it is heard from again. That is a change of path, which
// sessions survive.
type peers struct {
	mu    sync.RWMutex
	known map[netip.AddrPort]path // at most maxPeers; guarded by mu
}

type path struct {
	refused time.Time  // when segmentation failed last; zero if it did not
	source  netip.Addr // of ours, that the peer uses; invalid if unknown
	heard   time.Time  // when it did so last, to heardPrecision
}

func (k path) refuses(now time.Time) bool {
	return !k.refused.IsZero() && now.Sub(k.refused) < refusalTime
}

// sourceAt returns the address to send from, or an invalid one to leave it to
// the kernel.
func (k path) sourceAt(now time.Time) netip.Addr {
	if now.Sub(k.heard) >= sourceTime {
		return netip.Addr{}
	}
	return k.source
}

func newPeers() *peers { return &peers{known: make(map[netip.AddrPort]path)} }

func (p *peers) get(peer netip.AddrPort) (path, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	k, ok := p.known[peer]
	return k, ok
}

// refuse records that segmentation fails on the path to a peer.
func (p *peers) refuse(peer netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.known[peer]
	k.refused = time.Now()
	p.put(peer, k)
}

// reached records that a peer has reached us at an address.
func (p *peers) reached(peer netip.AddrPort, at netip.Addr) {
	now := time.Now()
	if k, _ := p.get(peer); k.source == at && now.Sub(k.heard) < heardPrecision {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.known[peer]
	k.source, k.heard = at, now
	p.put(peer, k)
}

// forgetSource leaves it to the kernel again where to send from.
func (p *peers) forgetSource(peer netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k, ok := p.known[peer]; ok {
		k.source = netip.Addr{}
		p.known[peer] = k
	}
}

// put stores what is known; p.mu is held.
func (p *peers) put(peer netip.AddrPort, k path) {
	if _, ok := p.known[peer]; !ok && len(p.known) >= maxPeers {
		for other := range p.known { // any one: the order is random
			delete(p.known, other)
			break
		}
	}
	p.known[peer] = k
}
