package swarm

import (
	"slices"
	"time"
)

// addPeer makes a peer known, which has nothing yet.
func (s *scheduler) addPeer(now time.Time) peerID {
	s.next++
	p := &schedPeer{id: s.next, byID: make(map[uint32]*request), heard: now}
	s.peers = append(s.peers, p)
	s.byID[p.id] = p
	return p.id
}

// removePeer forgets a peer; what it owes goes back to the queues.
func (s *scheduler) removePeer(id peerID) {
	p := s.byID[id]
	if p == nil {
		return
	}
	for len(p.open) > 0 {
		r := p.open[0]
		it := r.item
		s.detach(r)
		s.requeue(it)
	}
	for _, r := range p.byID {
		s.free(r)
	}
	if !p.complete {
		s.recount(p.has, -1)
	}
	delete(s.byID, id)
	s.peers = slices.DeleteFunc(s.peers, func(q *schedPeer) bool { return q == p })
	if p.fellow() {
		s.undealt = true
	}
}

// has reports whether the peer announced the item and has not denied it.
func (p *schedPeer) has(it *item) bool {
	if slices.Contains(it.missing, p.id) {
		return false
	}
	if p.complete {
		return true
	}
	for _, place := range it.places {
		// A node with nothing below it, and the root before its extent is
		// known, can only be found by asking.
		if place.len() == 0 || p.have.overlaps(place) {
			return true
		}
	}
	return false
}

// maxPeerRanges is how many separate ranges of a peer are remembered. What it
// announces beyond is not asked of it: that costs its help, not our memory.
const maxPeerRanges = 1 << 15

// peerHas adds ranges to what the peer announced.
func (s *scheduler) peerHas(id peerID, spans []span) {
	p := s.byID[id]
	if p == nil || p.complete || len(p.have.spans) >= maxPeerRanges {
		return
	}
	if !p.announced {
		if p.announced = true; p.fellow() {
			s.undealt = true
		}
	}
	var grown rangeSet
	for _, sp := range spans {
		if !p.have.covers(sp) {
			grown.add(sp)
		}
	}
	if len(grown.spans) == 0 {
		return
	}
	s.recount(func(it *item) bool {
		return !p.has(it) && !slices.Contains(it.missing, id) && slices.ContainsFunc(it.places, grown.overlaps)
	}, +1)
	for _, sp := range grown.spans {
		p.have.add(sp)
	}
	p.rescan()
}

// peerHasAll notes that the peer announced the whole content.
func (s *scheduler) peerHasAll(id peerID) {
	p := s.byID[id]
	if p == nil || p.complete {
		return
	}
	s.recount(p.has, -1)
	was := p.fellow()
	p.complete, p.have = true, rangeSet{}
	p.rescan()
	if was {
		s.undealt = true
	}
}

// rescan lets the peer look at all waiting items again.
func (p *schedPeer) rescan() {
	clear(p.searched[:])
	p.run.left = 0
}

// recount changes for all chunks that concerns is true of how many partial
// peers have them. Waiting ones change their queues in the order in which they
// wait, so that the outcome does not depend on the order of a map.
func (s *scheduler) recount(concerns func(*item) bool, by int) {
	var waiting []*item
	for i := range s.queues {
		for _, it := range s.queues[i].items {
			if it != nil && !it.node && concerns(it) {
				waiting = append(waiting, it)
			}
		}
	}
	for _, it := range s.items {
		if it.state != itemWaiting && !it.node && concerns(it) {
			it.partial += by
		}
	}
	for _, it := range waiting {
		s.setPartial(it, it.partial+by)
	}
}

// setPartial changes how many partial peers have the item, and so its queue.
func (s *scheduler) setPartial(it *item, n int) {
	it.partial = n
	if it.state == itemWaiting && it.queue != s.queueOf(it) {
		s.dequeue(it)
		s.enqueue(it)
	}
}
