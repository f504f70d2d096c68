package swarm

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/seigr/sttnode/stc"
)

// enter gives a stream of a peer its place. When all are taken, a peer that has
// none gets one of those of the peer that has most.
func (s *Server) enter(peer stc.Hash, st *serverStream) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.peers[peer]
	switch {
	case p != nil && p.streams >= s.cfg.MaxStreamsPerPeer:
		return fmt.Errorf("%w: %d of one peer", ErrBusy, p.streams)
	case len(s.streams) >= s.cfg.MaxStreams && (p != nil || !s.makePlace()):
		return fmt.Errorf("%w: %d", ErrBusy, len(s.streams))
	case p == nil:
		p = &servedPeer{slots: semaphore.NewWeighted(readsPerPeer)}
		s.peers[peer] = p
	}
	st.peer = p
	p.streams++
	s.streams[st] = struct{}{}
	return nil
}

func (s *Server) leave(peer stc.Hash, st *serverStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st)
	if st.ending {
		st.peer.ending--
	}
	if st.peer.streams--; st.peer.streams == 0 {
		delete(s.peers, peer)
	}
}

// makePlace ends the latest stream of the peer that has most, unless all have
// only one. Until that stream has left, there is one more than MaxStreams. The
// caller holds mu.
func (s *Server) makePlace() bool {
	var victim *serverStream
	most := 2
	for st := range s.streams {
		n := st.peer.streams - st.peer.ending
		if !st.ending && (n > most || n == most && (victim == nil || st.begun.After(victim.begun))) {
			victim, most = st, n
		}
	}
	return s.expel(victim)
}

const (
	// A stream that has been taking a batch for slowTime, and slowFactor times
	// as long as others take for one, makes room when room is wanted. On a slow
	// uplink all take long, and nobody has to.
	slowTime   = 20 * time.Second
	slowFactor = 20
)

// reclaim ends the streams that have been taking their batches for far longer
// than others need.
func (s *Server) reclaim() {
	now := time.Now()
	patience := max(slowTime, slowFactor*s.pace.mean())
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.reclaimed) < reclaimInterval {
		return
	}
	s.reclaimed = now
	for st := range s.streams {
		if since := st.writing.Load(); since != 0 && !st.ending && now.Sub(time.Unix(0, since)) > patience {
			s.expel(st)
		}
	}
}

// expel ends a stream for the sake of others, and returns whether there was
// one. The caller holds mu.
func (s *Server) expel(st *serverStream) bool {
	if st == nil {
		return false
	}
	st.ending = true
	st.peer.ending++
	s.ended.Add(1)
	st.end(fmt.Errorf("%w: the room is needed by others", ErrBusy))
	return true
}

// pace is how long streams take for a batch of late, on the average. It is
// safe for concurrent use; the zero value is no time at all.
type pace struct {
	mu  sync.Mutex
	avg time.Duration
}

// paceWeight is over how many batches the average is taken, more or less.
const paceWeight = 64

func (p *pace) note(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.avg += (d - p.avg) / paceWeight
}

func (p *pace) mean() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.avg
}
