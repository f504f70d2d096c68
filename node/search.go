package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/seigr/sttnode/stc"
	"github.com/seigr/sttnode/swarm"
)

const (
	// A search is repeated after searchPauseMin, then after half as long again
	// each time up to searchPauseMax: while nobody is found, and later for those
	// who have come since.
	searchPauseMin = time.Second
	searchPauseMax = time.Minute
	// maxConnectedAsked bounds the connected peers that are asked unprompted.
	maxConnectedAsked = 64
	// maxSourceAddrs bounds the addresses that are tried of one provider.
	maxSourceAddrs = 4
	// reviveAfter is how long a peer that the download has given up stays so
	// although it is found again, and askerAfter although it asks for the same
	// content.
	reviveAfter = 30 * time.Second
	askerAfter  = time.Second
)

// search brings peers to one download, until its context ends.
type search struct {
	f      *fetch
	d      *swarm.Download
	giveUp func() // ends the download with errNobody
	// patient keeps the search on for who reads: peers may come back.
	patient bool
	// again holds a token when there is a reason to look without a pause.
	again chan struct{}

	// Owned by run; read by others when it has returned.
	asked   int   // nodes, in the widest lookup
	joinErr error // why the network was not reached

	given sync.WaitGroup // for a goroutine of each peer that was named
	mu    sync.Mutex
	ways  int              // that may still lead to somebody; guarded by mu
	errs  map[string]error // why named peers were not reached, the last of each; guarded by mu
}

// run searches, once the node has joined, again and again.
func (s *search) run(ctx context.Context) {
	deadline := time.AfterFunc(s.f.opts.SearchTimeout, s.timeout)
	defer deadline.Stop()
	s.f.sources.tell(s.d)
	s.addConnected()
	s.ways = 1 + len(s.f.opts.Peers) // the network, and each peer that was named
	defer s.given.Wait()
	for _, a := range s.f.opts.Peers {
		s.given.Go(func() { s.addGiven(ctx, a) })
	}
	if err := s.f.n.Join(ctx); err != nil {
		s.joinErr = err
		if errors.Is(err, errNobody) { // the time was over first
			s.joinErr = fmt.Errorf("%w in %v: %v", ErrUnreachable, s.f.opts.SearchTimeout, s.f.n.cfg.Bootstrap)
		}
		if !errors.Is(err, ErrUnreachable) {
			s.hopeless() // nobody to join, or nobody who lets us
		}
	}
	for pause := searchPauseMin; ; pause = min(pause*3/2, searchPauseMax) {
		s.addConnected()
		s.lookup(ctx)
		if s.d.Progress().Serving == 0 {
			pause = searchPauseMin
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-s.again:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// hurry ends the pause, or the next one.
func (s *search) hurry() {
	select {
	case s.again <- struct{}{}:
	default:
	}
}

// addAsker adds a peer that has asked this node for the content: it fetches the
// same, or looks for somebody who has it.
func (s *search) addAsker(id stc.Hash) {
	if r, ok := s.f.n.pool.routeTo(id); ok {
		s.f.sources.add(s.d, id, r, sighting{after: askerAfter})
	}
}

// timeout ends a fetch for which nobody is there. One that draws from somebody,
// or has, goes on until the swarm finds that nobody is left.
func (s *search) timeout() {
	// First, so that the download ends for this reason and no other.
	if p := s.d.Progress(); p.Serving == 0 && p.Fetched == 0 {
		s.giveUp()
	}
	if !s.patient {
		s.d.NoMorePeers()
	}
}

// lookup asks the DHT once and adds the providers as they come.
func (s *search) lookup(ctx context.Context) {
	found := s.f.n.dht.FindProviders(ctx, s.f.root)
	for c := range found.Providers() {
		s.f.sources.add(s.d, c.ID, routeTo(c), sighting{named: true, after: reviveAfter})
	}
	stats, err := found.Result()
	s.asked = max(s.asked, stats.Asked)
	if err != nil && ctx.Err() == nil {
		s.f.n.log.Debug("search for providers", "root", s.f.root, "err", err)
	}
}

// addConnected adds the peers that the node has sessions with: asking them
// costs a message each.
func (s *search) addConnected() {
	peers := s.f.n.pool.connectedPeers()
	for _, p := range peers[:min(len(peers), maxConnectedAsked)] {
		s.f.sources.add(s.d, p.id, p.route, sighting{after: reviveAfter})
	}
}

// errNobody ends a download for which the search has found nobody in time.
var errNobody = errors.New("nobody found")

// sources remembers where the peers of a fetch are reached.
type sources struct {
	n *Node

	mu    sync.Mutex
	peers map[stc.Hash]*source
	named uint64              // addresses that the DHT has named
	given map[string]struct{} // addresses that the caller has named and that were reached
}

type source struct {
	routes []route   // those that came first are tried first
	named  bool      // by the DHT, not only because we are connected
	added  time.Time // when the download was last told
	used   string    // how it was reached
}

func newSources(n *Node) *sources {
	return &sources{n: n, peers: make(map[stc.Hash]*source), given: make(map[string]struct{})}
}

// tell makes all peers that are known from an earlier download of the fetch
// known to another one.
func (s *sources) tell(d *swarm.Download) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, p := range s.peers {
		p.added = time.Now()
		s.tellOf(d, id, p.routes[0])
	}
}

func (s *sources) tellOf(d *swarm.Download, id stc.Hash, r route) {
	d.AddPeer(id, r.String(), func(ctx context.Context) (net.Conn, error) { return s.open(ctx, id) })
}

// meet notes that a named address was reached.
func (s *sources) meet(a Address) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.given[a.String()] = struct{}{}
}

// met reports whether a named address was reached.
func (s *sources) met(a Address) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.given[a.String()]
	return ok
}

// sighting says how a peer was found.
type sighting struct {
	named bool          // by the DHT
	after time.Duration // the download is told again no sooner, unless the address is new
}

// add makes a peer, or another address of one, known to the download.
func (s *sources) add(d *swarm.Download, id stc.Hash, r route, by sighting) {
	s.mu.Lock()
	p := s.peers[id]
	if p == nil {
		p = new(source)
		s.peers[id] = p
	}
	fresh := time.Since(p.added) >= by.after
	if p.learn(r) {
		fresh = true
		if by.named {
			s.named++
		}
	}
	p.named = p.named || by.named
	if !fresh {
		s.mu.Unlock()
		return
	}
	p.added = time.Now()
	s.mu.Unlock()
	s.tellOf(d, id, r)
}

// learn takes note of a route and reports whether it is a new one.
func (p *source) learn(r route) bool {
	for i, known := range p.routes {
		switch {
		case known.covers(r):
			return false
		case known.udp == r.udp && known.ws == "":
			p.routes[i] = r
			return true
		}
	}
	if len(p.routes) >= maxSourceAddrs {
		return false
	}
	p.routes = append(p.routes, r)
	return true
}

// open opens a stream to a peer by the first of its routes that leads there.
func (s *sources) open(ctx context.Context, id stc.Hash) (net.Conn, error) {
	s.mu.Lock()
	routes := slices.Clone(s.peers[id].routes)
	s.mu.Unlock()
	var errs []error
	for _, r := range routes {
		st, err := s.n.pool.open(ctx, id, r, protocolSwarm)
		if err == nil {
			used := s.n.pool.reached(id)
			s.mu.Lock()
			s.peers[id].used = used
			s.mu.Unlock()
			return st, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// reached returns how a peer of the fetch was reached last; empty if it was not.
func (s *sources) reached(id stc.Hash) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.peers[id]; p != nil {
		return p.used
	}
	return ""
}

// found returns how many addresses of providers the DHT has named.
func (s *sources) found() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.named
}

// connectedOnly returns how many peers nobody has named as providers.
func (s *sources) connectedOnly() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for p := range maps.Values(s.peers) {
		if !p.named {
			n++
		}
	}
	return n
}
