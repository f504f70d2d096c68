package swarm

import (
	"fmt"

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
