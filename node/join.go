package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/seigr/sttnode/dht"
	"github.com/seigr/sttnode/session"
	"github.com/seigr/sttnode/stc"
)

const (
	// A bootstrap address that fails is tried again after joinBackoffMin, then
	// after twice as long each time, up to joinBackoffMax.
	joinBackoffMin = time.Second
	joinBackoffMax = time.Minute
	// joinCheck is how often a node that has joined looks whether it still
	// knows anybody.
	joinCheck = time.Minute
	// maxJoinAddrs bounds the addresses of one host name that are dialled.
	maxJoinAddrs = 8
)

// joining is what the node knows about its ways into the network.
type joining struct {
	mu      sync.Mutex
	pending int           // ways whose first attempt is under way
	joined  bool          // one of them has led to another node
	errs    []error       // of the first attempts that failed
	settled chan struct{} // closed once joined, or once pending is 0
}

// settle notes the outcome of an attempt. first is true for a way's first.
func (j *joining) settle(first bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if first {
		j.pending--
	}
	if err == nil {
		j.joined = true
	} else if first {
		j.errs = append(j.errs, err)
	}
	if j.joined || j.pending == 0 {
		select {
		case <-j.settled:
		default:
			close(j.settled)
		}
	}
}

// Join waits until the node has joined the network, or until every bootstrap
// address and the saved routing table have been tried once. A node that others
// have joined by has joined as well. Attempts go on
// after an error while the node runs; Join may be called again. Errors:
// ErrNoPeers if there was nothing to try, ErrWrongSeed if somebody was reached
// who holds another shared seed, ErrResolve, ErrUnreachable.
func (n *Node) Join(ctx context.Context) error {
	if err := n.active(); err != nil {
		return err
	}
	j := &n.joining
	select {
	case <-j.settled:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-n.ctx.Done():
		return fmt.Errorf("%w: stopped", ErrState)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.joined:
		return nil
	case len(n.dht.Contacts()) > 0:
		return nil // others have come to us
	case len(j.errs) == 0:
		return ErrNoPeers
	}
	return joinError(j.errs)
}

// joinError makes one error of those of all ways in. What a person can do
// something about comes first.
func joinError(errs []error) error {
	for _, kind := range []error{ErrWrongSeed, ErrResolve} {
		for _, err := range errs {
			if errors.Is(err, kind) {
				return err
			}
		}
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, errors.Join(errs...))
}

// startJoining begins all ways into the network. It is called once, by Start.
func (n *Node) startJoining(knowsNodes bool) {
	ways := len(n.cfg.Bootstrap)
	if knowsNodes {
		ways++
	}
	if n.cfg.LAN {
		ways++
	}
	n.joining.pending = ways // a way may settle as soon as it has begun
	if ways == 0 {
		close(n.joining.settled)
		n.setState(StateStarted, StateRunning)
	}
	if knowsNodes {
		n.wg.Go(n.rejoinSaved)
	}
	if n.cfg.LAN {
		n.wg.Go(n.discover)
		n.wg.Go(n.joinLAN)
	}
	for _, a := range n.cfg.Bootstrap {
		n.wg.Go(func() { n.joinBy(a) })
	}
}

// rejoinSaved joins by the nodes of the saved routing table.
func (n *Node) rejoinSaved() {
	err := n.dht.Bootstrap(n.ctx)
	if err != nil {
		err = fmt.Errorf("nodes known from before: %w", err)
		n.log.Info("none of the nodes known from before answers", "err", err)
	} else {
		n.setState(StateStarted, StateRunning)
	}
	n.joining.settle(true, err)
}

// joinBy keeps the node in the network by one bootstrap address: it dials until
// somebody answers, and again whenever the node no longer knows anybody.
func (n *Node) joinBy(a Address) {
	backoff := joinBackoffMin
	for first := true; ; first = false {
		link, err := n.joinOnce(a)
		if n.ctx.Err() != nil {
			n.joining.settle(first, n.ctx.Err())
			return
		}
		n.joining.settle(first, err)
		if err != nil {
			n.log.Info("bootstrap node not reached", "addr", a, "err", err, "again_in", backoff)
			n.emit(EventJoinFailed, Event{Addr: a.String(), Err: err})
			// Spread, so that nodes that lost their bootstrap node at the same
			// moment do not come back in step.
			if !n.sleep(backoff + rand.N(backoff/4)) {
				return
			}
			backoff = min(2*backoff, joinBackoffMax)
			continue
		}
		backoff = joinBackoffMin
		if err := n.dht.Bootstrap(n.ctx); err != nil && n.ctx.Err() == nil {
			n.log.Info("first lookup", "err", err)
		}
		if !n.stay(link) {
			return
		}
	}
}

// stay returns true when the node has to join anew: it knows nobody any more,
// or has lost the link, which may be nil, that it joined by. It returns false
// when the node stops.
func (n *Node) stay(link *dhtLink) bool {
	tick := time.NewTicker(joinCheck)
	defer tick.Stop()
	var lost <-chan struct{}
	if link != nil {
		lost = link.done
	}
	for {
		select {
		case <-lost:
			if !link.spare.Load() {
				return n.sleep(joinBackoffMin + rand.N(joinBackoffMin))
			}
			lost = nil
		case <-tick.C:
			if len(n.dht.Contacts()) == 0 {
				return true
			}
		case <-n.ctx.Done():
			return false
		}
	}
}

// sleep waits and reports false if the node stops meanwhile.
func (n *Node) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-n.ctx.Done():
		return false
	}
}

// joinOnce dials all addresses of a bootstrap address at once and returns at
// the first session; the others are welcome when they come. The link is not nil
// if one was opened, because the address is one of WebSocket.
func (n *Node) joinOnce(a Address) (*dhtLink, error) {
	if a.URL != "" {
		link, err := n.joinAt(route{ws: a.URL}, a.Peer)
		var name *net.DNSError
		if errors.As(err, &name) && name.IsNotFound {
			err = fmt.Errorf("%w: %w", ErrResolve, err)
		}
		if err != nil {
			err = fmt.Errorf("bootstrap %v: %w", a, err)
		}
		return link, err
	}
	addrs, err := a.resolve(n.ctx, n.endpoint.LocalAddr().Addr())
	if err != nil {
		return nil, err
	}
	addrs = addrs[:min(len(addrs), maxJoinAddrs)]
	results := make(chan error, len(addrs))
	for _, addr := range addrs {
		n.wg.Go(func() {
			_, err := n.joinAt(udpRoute(addr), a.Peer)
			results <- err
		})
	}
	var errs []error
	for range addrs {
		err := <-results
		if err == nil {
			return nil, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("bootstrap %v: %w", a, errors.Join(errs...))
}

// joinAt learns who is at an address, by a session that proves it, and makes
// the node known to the DHT.
func (n *Node) joinAt(r route, peer stc.Hash) (*dhtLink, error) {
	s, err := n.meet(n.ctx, r, peer)
	if err != nil {
		return nil, err
	}
	return n.introduce(s, r)
}

// meet returns a session with the node at an address; a zero peer accepts
// whoever is there.
func (n *Node) meet(ctx context.Context, r route, peer stc.Hash) (*session.Session, error) {
	if peer.IsZero() {
		return n.pool.dialAny(ctx, r)
	}
	p, _, err := n.pool.get(ctx, peer, r)
	if err != nil {
		return nil, err
	}
	n.pool.opened(p)
	return p.Session, nil
}

// introduce makes the peer of a session, which was dialled by r, known to the
// DHT. The link is not nil if one was opened for that.
func (n *Node) introduce(s *session.Session, r route) (link *dhtLink, err error) {
	if s.Ordered() {
		link, err = n.link(s, r)
	} else {
		err = n.dht.AddContact(dht.NewContact(s.PeerKey(), s.RemoteAddr()))
	}
	if err != nil {
		return link, err
	}
	n.log.Info("joined", "peer", s.PeerID(), "addr", r)
	n.joining.settle(false, nil)
	n.setState(StateStarted, StateRunning)
	n.emit(EventJoined, Event{Peer: s.PeerID(), Addr: r.String()})
	return link, nil
}
