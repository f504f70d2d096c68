package swarm

import (
	"slices"
	"time"
)

// schedule decides what to ask now. It appends to out and returns when it
// wants to be called again at the latest, zero for never; any input may change
// that.
func (s *scheduler) schedule(now time.Time, out *plan) (next time.Time) {
	if s.undealt {
		s.undealt = false
		s.deal(out)
	}
	s.expire(now, out)
	s.fill(now, out)
	s.hedge(now, out)
	return s.deadline(now)
}

// expire finds the peers that have been silent for longer than their patience.
// What they owe is offered to others who have it: requests behind the first
// are cancelled, the first is only written off, since it may be half here.
func (s *scheduler) expire(now time.Time, out *plan) {
	for _, p := range s.peers {
		if len(p.byID) > 0 && now.Sub(p.heard) >= s.cfg.timeout {
			out.dead = append(out.dead, p.id)
			continue
		}
		if len(p.open) == 0 || p.snubbed || p.silent(now) < p.patience() {
			continue
		}
		p.snubbed = true
		for i := len(p.open) - 1; i >= 0; i-- {
			r := p.open[i]
			if r.late || !s.elsewhere(r.item, p) {
				continue
			}
			if i > 0 {
				s.cancel(r, out)
			} else {
				r.late = true
				s.asked -= r.size
			}
			s.requeue(r.item)
		}
	}
}

// elsewhere reports whether a peer other than p, in good standing, has the
// item.
func (s *scheduler) elsewhere(it *item, p *schedPeer) bool {
	return slices.ContainsFunc(s.peers, func(q *schedPeer) bool { return q != p && !q.snubbed && q.has(it) })
}

// fill asks for waiting items, one a peer in turn, until the peers' windows,
// the budget or the queues are exhausted. Turns make the budget go round when
// it is what limits.
func (s *scheduler) fill(now time.Time, out *plan) {
	first := s.firstWindow()
	for idle := 0; idle < len(s.peers); {
		if !s.affords() {
			return
		}
		turn := (s.turn + 1) % len(s.peers)
		p := s.peers[turn]
		eager := p.eager(now, first)
		if eager && !s.allowed() {
			return // and it is still its turn
		}
		if s.turn = turn; !eager {
			idle++
			continue
		}
		it := s.pick(p)
		if it == nil {
			idle++
			continue
		}
		s.ask(p, it, now, out)
		idle = 0
	}
}

// firstWindow shares an eighth of the budget among all peers: so much may be
// lost to peers that turn out to be slow.
func (s *scheduler) firstWindow() int {
	return min(firstWindow, s.cfg.budget/(8*max(len(s.peers), 1)))
}

// affords reports whether the budget has room for one more item.
func (s *scheduler) affords() bool {
	used := s.asked + s.held
	return used == 0 || used+s.largest <= s.cfg.budget
}

// unprovenChunks is how many chunks are asked of a peer before the first of them
// has been verified: so much can come of one that lies from the beginning.
const unprovenChunks = 3

// eager reports whether the peer should be asked for more.
func (p *schedPeer) eager(now time.Time, first int) bool {
	switch {
	case p.snubbed, len(p.byID) >= maxOpenRequests, !p.proven && p.unjudged >= unprovenChunks:
		return false
	}
	return p.inFlight == 0 || p.inFlight < p.window(now, first)
}

func (s *scheduler) ask(p *schedPeer, it *item, now time.Time, out *plan) {
	for p.byID[p.nextID] != nil {
		p.nextID++
	}
	alone := len(it.requests) == 0
	r := s.open(p, it, p.nextID, now)
	p.nextID++
	w := wantAction{peer: p.id, request: r.id, hash: it.hash}
	if alone && it.follow != nil && p.following.free() {
		w.follow = it.follow
		s.follow(r)
	}
	out.wants = append(out.wants, w)
}

// open makes a request.
func (s *scheduler) open(p *schedPeer, it *item, id uint32, now time.Time) *request {
	if it.state == itemWaiting {
		s.dequeue(it)
	}
	it.state = itemAsked
	var r *request
	if n := len(s.freed); n > 0 {
		r, s.freed = s.freed[n-1], s.freed[:n-1]
	} else {
		r = new(request)
	}
	*r = request{id: id, peer: p, item: it, size: it.size, sent: now, delivered: p.delivered}
	if len(p.byID) == 0 {
		p.heard = now // from here on it owes us an answer,
	}
	if len(p.open) == 0 {
		p.owing = now // and from here on bytes
	}
	p.byID[r.id] = r
	p.open = append(p.open, r)
	p.inFlight += r.size
	if !it.node {
		p.unjudged++
	}
	s.asked += r.size
	s.allow.take(r.size)
	it.requests = append(it.requests, r)
	return r
}

// pick returns the waiting item that the peer should be asked for next: from
// the first queue in which it has any.
func (s *scheduler) pick(p *schedPeer) *item {
	for i := range s.queues {
		if i > queueOurs && (p.inFlight > 0 || i > queueRarity) && s.spared(p) {
			return nil
		}
		if p.searched[i] == len(s.queues[i].items) {
			continue
		}
		if i != queueUrgent && !s.cfg.sequential {
			if it := s.pickNear(p, i); it != nil {
				return it
			}
		}
		if it := s.search(p, i); it != nil {
			return it
		}
	}
	return nil
}

// pickNear continues the peer's run in the queue, or begins another one at a
// random place. It gives up soon; then the search finds whatever there is.
func (s *scheduler) pickNear(p *schedPeer, queue int) *item {
	items := s.queues[queue].items
	if p.run.queue == queue {
		for p.run.left > 0 && p.run.next < len(items) {
			it := items[p.run.next]
			p.run.next++
			p.run.left--
			if it != nil && p.canSend(it) {
				return it
			}
		}
	}
	for range 4 {
		at := s.rng.IntN(len(items))
		if it := items[at]; it != nil && p.canSend(it) {
			p.run = run{queue: queue, next: at + 1, left: runLength - 1}
			return it
		}
	}
	return nil
}

// search looks at each item of the queue once between two rescans.
func (s *scheduler) search(p *schedPeer, queue int) *item {
	items := s.queues[queue].items
	for p.searched[queue] < len(items) {
		it := items[p.searched[queue]]
		p.searched[queue]++
		if it != nil && p.canSend(it) {
			return it
		}
	}
	return nil
}

// canSend reports whether the peer has the item and has not been asked for it.
func (p *schedPeer) canSend(it *item) bool {
	return p.has(it) && !slices.ContainsFunc(it.requests, func(r *request) bool { return r.peer == p })
}

const (
	// hedgeInterval is how often peers without work look for some to take over.
	// The interval doubles up to maxHedgeInterval while there is none and no
	// blob comes.
	hedgeInterval    = 10 * time.Millisecond
	maxHedgeInterval = 320 * time.Millisecond
	// comingNext is how many of a peer's oldest requests are taken to be on
	// their way, so that a CANCEL would come too late.
	comingNext = 3
	// hedgeDepth is how many requests of a peer they look at.
	hedgeDepth = 32
	// unknownRate is the guess, in bytes per second, while nobody has answered:
	// so low that only small blobs, the first manifest nodes, are raced then.
	unknownRate = 64 << 10
	// maxCopies is from how many peers one blob may be expected, but for a
	// manifest node while nobody has sent anything: nothing is known of any then,
	// and all else waits for it.
	maxCopies = 2
)

// hedge gives peers with nothing to do what others would deliver much later.
// Requests that their peer will hardly have begun with are taken over: it gets
// a CANCEL. The others are raced, and only when their peer has fallen silent
// or nothing else is left to ask for.
func (s *scheduler) hedge(now time.Time, out *plan) {
	if now.Before(s.nextHedge) {
		return
	}
	s.hedgePause = min(max(2*s.hedgePause, hedgeInterval), maxHedgeInterval)
	s.nextHedge = now.Add(s.hedgePause)
	first, guess := s.firstWindow(), s.meanRate()
	for _, p := range s.peers {
		for p.eager(now, first) && s.affords() && !s.allow.spent() && !s.spared(p) {
			r, race := s.latest(p, guess, now)
			if r == nil {
				break
			}
			it := r.item
			if !race {
				s.cancel(r, out)
			}
			s.ask(p, it, now, out)
		}
	}
}

// latest returns the open request, of a peer other than p, that p would answer
// soonest in comparison, or nil when p would not be clearly earlier, and
// whether it can only be raced.
func (s *scheduler) latest(p *schedPeer, guess float64, now time.Time) (found *request, race bool) {
	var worst time.Duration
	strangers := !slices.ContainsFunc(s.peers, func(q *schedPeer) bool { return q.blobs > 0 })
	for _, q := range s.peers {
		if q == p {
			continue
		}
		bytes := q.inFlight
		for i := len(q.open) - 1; i >= max(0, len(q.open)-hedgeDepth); i-- {
			r := q.open[i]
			left := q.remaining(now, bytes)
			bytes -= r.size
			if left <= worst || left <= p.arrival(r.size, guess)*3/2+hedgeInterval {
				break
			}
			if r.item.state != itemAsked || !p.canSend(r.item) ||
				len(r.item.requests) >= maxCopies && !(strangers && r.item.node) {
				continue
			}
			coming := i < comingNext
			if coming && !q.snubbed && !s.worthRacing(r.item) {
				continue
			}
			found, race, worst = r, coming, left
			break
		}
	}
	return found, race
}

// worthRacing reports whether an item may be expected from two peers at once:
// when somebody waits for it, and when nothing else is left to ask for, be it
// that this is the end of the content, or that all which follows hangs on a
// manifest node.
func (s *scheduler) worthRacing(it *item) bool {
	if !it.node && it.offset < s.due {
		return true
	}
	for i := range s.queues {
		if s.queues[i].live > 0 {
			return false
		}
	}
	return s.draining || it.node
}

// meanRate returns the mean of the peers' known rates, the guess for a peer
// that has not answered yet.
func (s *scheduler) meanRate() float64 {
	sum, n := 0.0, 0
	for _, p := range s.peers {
		if p.est.known() {
			sum += p.est.bytesPerSecond()
			n++
		}
	}
	if n == 0 {
		return unknownRate
	}
	return sum / float64(n)
}

// deadline returns when something will be overdue, or someone without work
// should look for some. It is always later than now.
func (s *scheduler) deadline(now time.Time) (next time.Time) {
	sooner := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	first := s.firstWindow()
	for _, p := range s.peers {
		if len(p.byID) > 0 {
			if !p.snubbed && len(p.open) > 0 {
				sooner(now.Add(p.patience() - p.silent(now)))
			}
			if dead := p.heard.Add(s.cfg.timeout); dead.After(now) {
				sooner(dead)
			}
		}
		if s.asked > 0 && p.eager(now, first) && s.affords() && !s.allow.spent() {
			sooner(s.nextHedge)
		}
	}
	return next
}
