package swarm

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/seigr/sttnode/stc"
)

// scheduler decides which blob is asked from whom, and when. It is a pure
// state machine: answers, have-ranges and the time go in, requests, cancels
// and the time of the next decision come out. It has no goroutine, clock,
// lock or input and output of its own, and for the same input and seed it
// decides the same.
//
// What holds at all times:
//   - bytes asked for and bytes held until the store has them, together, do not
//     exceed the budget, except that one request may be open even if its blob
//     is larger; requests that missed their deadline (at most one a peer) are
//     written off;
//   - what is asked for does not exceed the allowance, if there is one, by more
//     than the last of the requests;
//   - a peer is only asked for what it announced and did not deny: for a
//     chunk an ordinal in its ranges, for a node any ordinal below it;
//   - every waiting item is in exactly one queue, and no other item is in any;
//   - a peer has at most maxOpenRequests unanswered requests, and of one that has
//     sent no right chunk yet at most unprovenChunks are open or not verified.
//
// The order: manifest nodes and what was asked before in vain go first, then
// what the fewest peers with partial content have; of what nobody but a complete
// peer has, our part of it (crowd.go); among equals a random run of neighbours,
// so that fetchers who start together take different chunks from a single seeder.
type scheduler struct {
	cfg   schedulerConfig
	rng   *rand.Rand
	items map[stc.Hash]*item
	peers []*schedPeer // in the order of their coming
	byID  map[peerID]*schedPeer
	next  peerID
	turn  int // whose turn it is to be asked first

	queues [queueCount]itemQueue
	asked  int // bytes of open requests, late ones not included
	held   int // bytes received, not yet given to the store
	allow  allowance
	// largest is the size of the largest item so far. Requests stop when the
	// budget has no room for it.
	largest  int
	draining bool   // nothing will be added any more
	due      uint64 // what begins before this byte of the data is waited for by a reader

	undealt bool // a fellow has come or gone since the last deal

	nextHedge  time.Time // no earlier: looking for work to take over is not cheap
	hedgePause time.Duration

	moved []int      // scratch of compact
	freed []*request // requests to use again
}

type schedulerConfig struct {
	budget     int           // bytes asked for or held
	timeout    time.Duration // a peer silent for so long while it owes us something is dead
	sequential bool          // in the order of ordinals, not at random
	seed       uint64        // of the random order
	self       uint64        // by which we draw lots, 0 for not at all
}

// Queues, in the order in which they are asked from.
const (
	queueUrgent  = 0
	queueOurs    = 1 // only complete peers have it, and it is ours to ask (crowd.go)
	queueRarity  = 2 // from here on by the number of partial peers
	rarityLevels = 8
	queueCount   = queueRarity + rarityLevels
)

const (
	// firstWindow is the most that is asked of a peer before its first answer.
	firstWindow = 1 << 20

	// A peer that denied tolerableMisses requests and four times as many as it
	// answered is of no use.
	tolerableMisses = 64

	// progressBytes is what a peer must send, in any number of blobs, to count
	// as not silent.
	progressBytes = 16 << 10
)

// plan is what the scheduler wants done.
type plan struct {
	wants   []wantAction
	cancels []cancelAction
	dead    []peerID // silent for too long; to be removed by the caller
}

type wantAction struct {
	peer    peerID
	request uint32
	hash    stc.Hash
	follow  *followRequest // what is to follow it, if anything
}

type cancelAction struct {
	peer    peerID
	request uint32
}

func (p *plan) reset() {
	p.wants, p.cancels, p.dead = p.wants[:0], p.cancels[:0], p.dead[:0]
}

func newScheduler(cfg schedulerConfig) *scheduler {
	return &scheduler{
		cfg:   cfg,
		rng:   rand.New(rand.NewPCG(cfg.seed, 0x5357_4152_4d)),
		items: make(map[stc.Hash]*item),
		byID:  make(map[peerID]*schedPeer),
	}
}

// add puts a blob into the window. If it is there already, the ordinals are
// noted with it, and add returns false when they are too many: then the caller
// comes again when the blob has been stored.
func (s *scheduler) add(h stc.Hash, size int, node bool, place span) bool {
	if it := s.items[h]; it != nil {
		return s.addPlace(it, place)
	}
	it := &item{hash: h, size: size, node: node, places: []span{place}}
	s.items[h] = it
	s.largest = max(s.largest, size)
	for _, p := range s.peers {
		if !node && !p.complete && p.has(it) {
			it.partial++
		}
	}
	s.enqueue(it)
	return true
}

// maxPlaces bounds how many separate ranges of ordinals one blob may stand at
// while it is in the window.
const maxPlaces = 256

func (s *scheduler) addPlace(it *item, place span) bool {
	if last := &it.places[len(it.places)-1]; last.hi == place.lo {
		last.hi = place.hi
	} else if len(it.places) < maxPlaces {
		it.places = append(it.places, place)
	} else {
		return false
	}
	// Who has it may have changed: count anew.
	n := 0
	for _, p := range s.peers {
		if !it.node && !p.complete && p.has(it) {
			n++
		}
	}
	s.setPartial(it, n)
	return true
}

// size returns how many items are in the window.
func (s *scheduler) size() int { return len(s.items) }

func (s *scheduler) queueOf(it *item) int {
	if it.node || it.urgent {
		return queueUrgent
	}
	if it.partial <= 0 && s.ours(it) {
		return queueOurs
	}
	return queueRarity + min(max(it.partial, 0), rarityLevels-1)
}

func (s *scheduler) enqueue(it *item) {
	it.state = itemWaiting
	it.queue = s.queueOf(it)
	s.queues[it.queue].push(it)
}

func (s *scheduler) dequeue(it *item) {
	q := &s.queues[it.queue]
	q.remove(it)
	if !q.sparse() {
		return
	}
	s.moved = q.compact(s.moved)
	for _, p := range s.peers {
		p.searched[it.queue] = s.moved[p.searched[it.queue]]
		if p.run.queue == it.queue {
			p.run.next = s.moved[p.run.next]
		}
	}
}

// requeue makes an item available again after a request for it came to
// nothing, unless another one is still expected to be answered.
func (s *scheduler) requeue(it *item) {
	if it.state != itemAsked || slices.ContainsFunc(it.requests, func(r *request) bool { return !r.late }) {
		return
	}
	it.urgent = true
	s.enqueue(it)
}

// verdict says what became of an answer.
type verdict uint8

const (
	// answerWanted: the bytes are to be verified, and then stored or rejected.
	answerWanted verdict = iota
	// answerDuplicate: another peer was faster.
	answerDuplicate
	// answerLate: likewise, and the request had been cancelled or given up.
	answerLate
	// answerUnwanted: it was asked for, and is no longer wanted.
	answerUnwanted
	// answerNoted: nothing is left to do.
	answerNoted
	// answerUseless: the peer keeps denying what it announced.
	answerUseless
	// answerUnasked: no such request; the peer broke the protocol.
	answerUnasked
)

// received takes a BLOB of n bytes. For answerWanted, whatever else is open for
// the same item is cancelled.
func (s *scheduler) received(id peerID, request uint32, n int, now time.Time, out *plan) (*item, verdict) {
	p := s.byID[id]
	if p == nil || p.byID[request] == nil {
		return nil, answerUnasked
	}
	r := p.byID[request]
	it, wasLate := r.item, r.late || r.cancelled
	p.delivered += int64(n)
	p.blobs++
	p.est.sample(now, now.Sub(r.sent), p.delivered-r.delivered)
	s.answered(p, r, now)
	s.hedgePause = 0
	switch {
	case it.state == itemForgotten:
		return it, answerUnwanted
	case it.state != itemWaiting && it.state != itemAsked:
		if wasLate {
			return it, answerLate
		}
		return it, answerDuplicate
	case it.state == itemWaiting:
		s.dequeue(it)
	}
	it.state = itemHeld
	if !it.node {
		p.unjudged++
	}
	s.held += it.size
	for len(it.requests) > 0 {
		s.cancel(it.requests[len(it.requests)-1], out)
	}
	return it, answerWanted
}

// missing takes a MISSING.
func (s *scheduler) missing(id peerID, request uint32, now time.Time) verdict {
	p := s.byID[id]
	if p == nil || p.byID[request] == nil {
		return answerUnasked
	}
	r := p.byID[request]
	it := r.item
	s.allow.giveBack(r.size)
	s.answered(p, r, now)
	if it.state == itemWaiting || it.state == itemAsked {
		if !it.node && !p.complete && p.has(it) {
			s.setPartial(it, it.partial-1)
		}
		it.missing = append(it.missing, id)
		s.requeue(it)
	}
	p.missed++
	if p.missed >= tolerableMisses && p.missed > 4*p.blobs {
		return answerUseless
	}
	return answerNoted
}

// cancelled takes a CANCELLED.
func (s *scheduler) cancelled(id peerID, request uint32, now time.Time) verdict {
	p := s.byID[id]
	if p == nil || p.byID[request] == nil || !p.byID[request].cancelled {
		return answerUnasked
	}
	s.allow.giveBack(p.byID[request].size)
	s.answered(p, p.byID[request], now)
	return answerNoted
}

// answered closes a request. The peer is alive again.
func (s *scheduler) answered(p *schedPeer, r *request, now time.Time) {
	p.heard = now
	if p.snubbed {
		p.snubbed = false
		p.ceiling = max(r.size, 1)
		p.rescan()
	} else if p.ceiling > 0 {
		if p.ceiling *= 2; p.ceiling > queueBytes {
			p.ceiling = 0
		}
	}
	if !r.item.node {
		p.unjudged--
	}
	s.detach(r)
	delete(p.byID, r.id)
	s.free(r)
}

// detach takes a request out of all counts. It stays in byID while an answer
// is due.
func (s *scheduler) detach(r *request) {
	if r.cancelled {
		return
	}
	p := r.peer
	p.inFlight -= r.size
	if !r.late {
		s.asked -= r.size
	}
	p.open = remove(p.open, r)
	r.item.requests = remove(r.item.requests, r)
}

// cancel closes a request whose answer is no longer needed.
func (s *scheduler) cancel(r *request, out *plan) {
	s.detach(r)
	r.cancelled = true
	out.cancels = append(out.cancels, cancelAction{r.peer.id, r.id})
}

// forget gives up all that is not here: what waits leaves the window, and so
// does what was asked for, which is cancelled.
func (s *scheduler) forget(out *plan) {
	drop := func(it *item) {
		it.state = itemForgotten
		delete(s.items, it.hash)
	}
	for _, p := range s.peers {
		for len(p.open) > 0 {
			r := p.open[len(p.open)-1]
			if r.item.state == itemAsked {
				drop(r.item)
			}
			s.cancel(r, out)
		}
		p.rescan()
	}
	for i := range s.queues {
		for _, it := range s.queues[i].items {
			if it != nil {
				drop(it)
			}
		}
		s.queues[i] = itemQueue{}
	}
}

// proved notes that a chunk of the peer has been verified.
func (s *scheduler) proved(id peerID) {
	if p := s.byID[id]; p != nil {
		p.proven = true
	}
}

// rejected takes back an item whose bytes were not what its hash says.
func (s *scheduler) rejected(it *item) {
	s.held -= it.size
	it.state = itemAsked
	s.requeue(it)
}

// handedOver tells that the store has the bytes of an item.
func (s *scheduler) handedOver(it *item) {
	s.held -= it.size
	it.state = itemStoring
}

// stored closes an item.
func (s *scheduler) stored(it *item) {
	it.state = itemDone
	delete(s.items, it.hash)
}

// progress tells how many bytes the peer's stream has brought in all, whole
// blobs or not.
func (s *scheduler) progress(id peerID, total int64, now time.Time) {
	if p := s.byID[id]; p != nil && total-p.heardAt >= progressBytes {
		p.heard, p.heardAt = now, total
	}
}

func (s *scheduler) free(r *request) {
	*r = request{}
	s.freed = append(s.freed, r)
}

// remove deletes one element, which is near the front.
func remove(list []*request, r *request) []*request {
	if i := slices.Index(list, r); i >= 0 {
		return slices.Delete(list, i, i+1)
	}
	return list
}
