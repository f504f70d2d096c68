package dht

import (
	"container/heap"
	"errors"
	"slices"
	"time"

	"github.com/seigr/sttnode/stc"
)

// publishRun is one publish of one key: an ADD_PROVIDER to each of the K closest
// nodes. A search finds them, and storing does not wait for its end:
//
//   - at once, those get the record that we know well and that are as close as
//     the K closest are expected to be;
//   - as soon as publishWitnesses nodes have answered the search, those of the K
//     closest that anybody named who has answered, each of whom knows the
//     neighbourhood of the key;
//   - at the end of the search, those that nobody has named;
//   - when one of them has to be asked again, fails or refuses, the next one.
//
// The run ends when the search has and the K closest have all answered.
type publishRun struct {
	p      *publisher
	k      *providedKey
	search *search
	asked  []*Contact        // may hold the record, or soon will
	stored []*Contact        // hold it for sure
	passed map[stc.Hash]bool // asked; true if it was asked again, failed or refused, and has not stored it since
	open   int               // calls without a result
	done   bool              // the search is over
	heard  bool              // somebody has answered
	over   bool
	err    error // of the search
}

const (
	// publishK is how many nodes the search of a publish looks for. Each of
	// them names the K closest.
	publishK = 6
	// publishWitnesses: so many of them have answered before we store at nodes
	// that we only heard of.
	publishWitnesses = 2
	// publishTrust: who was heard of within this part of a lifetime is there
	// most likely.
	publishTrust = 6
	// publishAsks times K nodes are asked at most to store one key.
	publishAsks = 4
)

// deadline returns when advance must be called at the latest; zero for never.
func (p *publisher) deadline() time.Time {
	var at time.Time
	if len(p.queue) > 0 && p.mayStart() {
		if at = p.queue[0].next; at.Before(p.starts.next()) {
			at = p.starts.next()
		}
	}
	if len(p.batches) > 0 {
		at = earlier(p.sends.next(), at)
	}
	return at
}

// advance starts the publishes and sends the batches that are due.
func (p *publisher) advance(now time.Time) {
	for len(p.queue) > 0 && p.mayStart() && !p.queue[0].next.After(now) && p.starts.allow(now) {
		switch k := heap.Pop(&p.queue).(*providedKey); {
		case p.sweeping(k.key):
			k.next = now.Add(sweepWait)
			heap.Push(&p.queue, k)
		case p.crowded(now, k.key):
			p.sweep(now, k)
		default:
			p.start(now, k)
		}
	}
	for len(p.batches) > 0 && p.sends.allow(now) {
		b := p.batches[0]
		p.batches = p.batches[1:]
		p.send(now, b)
	}
}

// mayStart reports whether not too much is under way.
func (p *publisher) mayStart() bool {
	return p.running < maxPublishing && len(p.batches) < maxWaitingBatches
}

// send makes the call of a batch.
func (p *publisher) send(now time.Time, b batch) {
	if len(b.keys) == 0 { // all taken back meanwhile
		b.onDone(nil, 0, false)
		return
	}
	over := false
	request := message{kind: kindAddProvider, ttl: b.ttl, webSocket: p.m.cfg.WebSocket, keys: b.keys}
	p.m.calls.call(now, b.to, request, callOptions{insist: true}, func(_ time.Time, r report) {
		if over || r.outcome.pending() {
			return
		}
		over = true
		if r.outcome == callAnswered {
			b.onDone(b.keys, r.answer.stored, true)
		} else {
			b.onDone(b.keys, 0, false)
		}
	})
}

// start begins a publish of a key that has just left the queue.
func (p *publisher) start(now time.Time, k *providedKey) {
	p.running++
	run := &publishRun{p: p, k: k, passed: make(map[stc.Hash]bool)}
	k.run = run
	s := p.m.startSearch(now, PurposePublish, k.key, nil, func(now time.Time, r searchResult) {
		run.done, run.err = true, r.err
		if run.search != nil {
			run.store(now)
		}
	})
	run.search = s
	s.onStep = run.store
	run.store(now)
}

// store sends the record to the nodes that are to have it and were not asked
// yet, and ends the run when there is nobody left to ask or to wait for.
func (run *publishRun) store(now time.Time) {
	if run.over {
		return
	}
	m, l := run.p.m, run.search.lookup
	targets := l.candidates(m.cfg.K, func(id stc.Hash) bool { return run.passed[id] })
	witnessed := l.stats.answered >= publishWitnesses
	radius, known := m.estimate.radius(m.cfg.K)
	waiting := 0
	for _, c := range targets {
		passed, asked := run.passed[c.ID]
		switch {
		case asked && !passed:
			if !slices.ContainsFunc(run.stored, func(x *Contact) bool { return x.ID == c.ID }) {
				waiting++
			}
		case len(run.asked) >= publishAsks*m.cfg.K:
		case run.done, witnessed && l.toldOf(c.ID), known && fraction(c.ID, run.k.key) < holdersWithin*radius && m.wellKnown(now, c):
			waiting++
			run.ask(now, &c)
		}
	}
	// Who has stalled is waited for only where nobody else is left.
	if run.done && (waiting == 0 && len(targets) >= m.cfg.K || run.open == 0) {
		run.end(now, nil)
	}
}

// wellKnown reports whether c has answered us, was heard of so lately that it is
// there most likely, and will take us for who we are without a challenge.
func (m *machine) wellKnown(now time.Time, c Contact) bool {
	e := m.table.get(c.ID)
	return e != nil && e.Addr == c.Addr && e.answered != 0 && e.failures == 0 &&
		m.table.clock.at(now).sub(e.heard) < m.estimate.lifetime()/publishTrust && m.peers.proof(now, c) != cookie{}
}

// ask asks c to store the record.
func (run *publishRun) ask(now time.Time, c *Contact) {
	run.asked = append(run.asked, c)
	run.passed[c.ID] = false
	run.open++
	counted := false
	request := message{kind: kindAddProvider, ttl: run.p.ttl(), webSocket: run.p.m.cfg.WebSocket, keys: []stc.Hash{run.k.key}}
	opts := callOptions{insist: len(run.search.lookup.sorted) < run.p.m.cfg.K}
	run.p.m.calls.call(now, *c, request, opts, func(now time.Time, r report) {
		stored := r.outcome == callAnswered && r.answer.stored&1 != 0
		run.heard = run.heard || r.outcome == callAnswered
		switch {
		case run.over: // late: it counts as a holder, to be told when we withdraw
			if stored {
				run.k.held(c, run.p.m.cfg.K)
			}
			return
		case stored:
			run.passed[c.ID] = false
			run.stored = append(run.stored, c)
		case r.outcome != callStalled:
			run.passed[c.ID] = true
		}
		if !r.outcome.pending() && !counted {
			counted = true
			run.open--
		}
		run.store(now)
	})
}

// end ends the run and schedules the key anew. err, if not nil, says why
// nothing was stored.
func (run *publishRun) end(now time.Time, err error) {
	p, k := run.p, run.k
	run.over = true
	k.run = nil
	p.running--
	if run.search != nil {
		run.search.onStep = nil
		run.search.cancel(now, ErrUnprovided)
	}
	if err == nil && len(run.stored) == 0 {
		switch {
		case run.heard:
			err = ErrRefused
		case run.err != nil:
			err = run.err
		default:
			err = ErrNoAnswer
		}
	}
	if err == nil {
		// Former holders stay known: their record has not expired yet.
		for _, c := range run.stored {
			k.held(c, p.m.cfg.K)
		}
		k.fails = 0
		every := p.interval()
		p.paced = every
		k.next = now.Add(every - time.Duration(p.m.rng.Int64N(int64(every/republishSpread)+1)))
		p.m.stats.Published++
	} else {
		k.next = now.Add(p.backOff(k))
		if !errors.Is(err, ErrUnprovided) {
			p.m.stats.PublishFail++
		}
	}
	heap.Push(&p.queue, k)
	k.finish(len(run.stored), err)
}

// backOff returns when a key that nobody holds is tried again, ever later.
func (p *publisher) backOff(k *providedKey) time.Duration {
	k.fails++
	return min(retryAfter<<min(k.fails-1, 16), maxRetryAfter, p.m.cfg.RepublishInterval)
}

// finish tells everybody who waits for the publish of k how it ended.
func (k *providedKey) finish(stored int, err error) {
	waiters := k.waiters
	k.waiters = nil
	for _, done := range waiters {
		done(stored, err)
	}
}

// held takes note that c holds our record of k.
func (k *providedKey) held(c *Contact, limit int) {
	if i := slices.IndexFunc(k.holders, func(x *Contact) bool { return x.ID == c.ID }); i >= 0 {
		k.holders[i] = c
		return
	}
	i, _ := slices.BinarySearchFunc(k.holders, c.ID, func(x *Contact, id stc.Hash) int {
		return compareDistance(k.key, x.ID, id)
	})
	k.holders = slices.Insert(k.holders, i, c)
	k.holders = k.holders[:min(len(k.holders), 2*limit)]
}

// wants reports whether c is among the limit nodes closest to k that we know
// of, and does not hold its record already, at the address where it is now.
func (k *providedKey) wants(c Contact, limit int) bool {
	for _, h := range k.holders {
		if h.ID == c.ID {
			return *h != c
		}
	}
	return len(k.holders) < limit || compareDistance(k.key, c.ID, k.holders[limit-1].ID) < 0
}

func containsID(cs []Contact, id stc.Hash) bool {
	return slices.ContainsFunc(cs, func(c Contact) bool { return c.ID == id })
}

// keyQueue orders provided keys by the time of their next publish.
type keyQueue []*providedKey

func (q keyQueue) Len() int { return len(q) }
func (q keyQueue) Less(i, j int) bool {
	if !q[i].next.Equal(q[j].next) {
		return q[i].next.Before(q[j].next)
	}
	return q[i].key.Compare(q[j].key) < 0
}
func (q keyQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}
func (q *keyQueue) Push(x any) {
	k := x.(*providedKey)
	k.index = len(*q)
	*q = append(*q, k)
}
func (q *keyQueue) Pop() any {
	old := *q
	k := old[len(old)-1]
	k.index = -1
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return k
}
