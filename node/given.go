package node

import (
	"context"
	"errors"
	"time"

	"github.com/seigr/sttnode/swarm"
)

// hopeless notes that there is nothing to wait for on one of the ways to peers.
func (s *search) hopeless() {
	s.mu.Lock()
	s.ways--
	last := s.ways == 0
	s.mu.Unlock()
	if last {
		s.addConnected()
		s.d.NoMorePeers()
	}
}

const (
	// A named peer that does not answer is tried again after givenPauseMin,
	// then after twice as long each time up to givenPauseMax.
	givenPauseMin = 500 * time.Millisecond
	givenPauseMax = 8 * time.Second
)

// addGiven reaches a peer that the caller has named, however often that takes,
// and hands it to the download and to the DHT, which it may be the only way
// into.
func (s *search) addGiven(ctx context.Context, a Address) {
	for pause := givenPauseMin; ; pause = min(2*pause, givenPauseMax) {
		err := s.reachGiven(ctx, a)
		if err == nil || ctx.Err() != nil {
			return
		}
		s.f.n.log.Info("peer not reached", "addr", a, "err", err)
		s.mu.Lock()
		if s.errs == nil {
			s.errs = make(map[string]error)
		}
		_, again := s.errs[a.String()]
		s.errs[a.String()] = err
		s.mu.Unlock()
		if !again && isHopeless(err) {
			s.hopeless()
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// isHopeless reports whether trying again soon is not worth waiting for.
func isHopeless(err error) bool {
	return errors.Is(err, ErrWrongSeed) || errors.Is(err, ErrResolve) || errors.Is(err, ErrSelf)
}

// reachGiven tries all addresses that a named one stands for.
func (s *search) reachGiven(ctx context.Context, a Address) error {
	n := s.f.n
	switch {
	case a.Peer == n.ID():
		return ErrSelf
	case s.f.sources.met(a):
		return nil // by an earlier download of the fetch
	}
	routes, err := n.routesOf(ctx, a)
	if err != nil {
		return err
	}
	results := make(chan error, len(routes))
	for _, r := range routes { // A host name may have addresses of which only one works.
		s.given.Go(func() { results <- s.meetGiven(ctx, r, a) })
	}
	var errs []error
	for range routes {
		err := <-results
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (s *search) meetGiven(ctx context.Context, r route, a Address) error {
	n := s.f.n
	met, err := n.meet(ctx, r, a.Peer)
	if err != nil {
		return err
	}
	s.f.sources.meet(a)
	s.f.sources.add(s.d, met.PeerID(), r, sighting{after: reviveAfter})
	if _, err := n.introduce(met, r); err != nil {
		n.log.Debug("peer not made known to the DHT", "addr", a, "err", err)
	}
	return nil
}

// nobody is the error of a fetch to which no peer has given anything.
func (s *search) nobody(p swarm.Progress) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, a := range s.f.opts.Peers {
		if err := s.errs[a.String()]; errors.Is(err, ErrWrongSeed) {
			return err
		} else if err != nil {
			errs = append(errs, err)
		}
	}
	given := len(s.f.opts.Peers)
	if s.joinErr != nil && s.asked == 0 && (given == 0 || !errors.Is(s.joinErr, ErrNoPeers)) {
		return s.joinErr // If nobody could be asked, that is why.
	}
	return &NoProviderError{
		Root: s.f.root, Asked: s.asked, Failed: len(p.Sources) - s.f.sources.connectedOnly(), Given: given, Err: errors.Join(errs...),
	}
}
