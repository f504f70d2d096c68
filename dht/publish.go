package dht

import (
	"container/heap"
	"errors"
	"slices"
	"time"

	"github.com/seigr/sttnode/stc"
)

// publishRun is one publish of one key: a search for the K closest nodes, then
// an ADD_PROVIDER to each. It ends when all of those have answered or failed.
type publishRun struct {
	p      *publisher
	k      *providedKey
	search *search
	asked  []Contact // may hold the record, or soon will
	stored []Contact // hold it for sure
	open   int       // calls without a result
	heard  bool      // somebody has answered
	over   bool
}

// deadline returns when advance must be called at the latest; zero for never.
func (p *publisher) deadline() time.Time {
	var at time.Time
	if len(p.queue) > 0 && p.running < maxPublishing {
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
	for len(p.queue) > 0 && p.running < maxPublishing && !p.queue[0].next.After(now) && p.starts.allow(now) {
		p.start(now, heap.Pop(&p.queue).(*providedKey))
	}
	for len(p.batches) > 0 && p.sends.allow(now) {
		b := p.batches[0]
		p.batches = p.batches[1:]
		p.send(now, b)
	}
}

// send makes the call of a batch.
func (p *publisher) send(now time.Time, b batch) {
	if len(b.keys) == 0 {
		return // all taken back meanwhile
	}
	over := false
	request := message{kind: kindAddProvider, ttl: b.ttl, webSocket: p.m.cfg.WebSocket, keys: b.keys}
	p.m.calls.call(now, b.to, request, callOptions{insist: true}, func(_ time.Time, r report) {
		if over || r.outcome == callStalled {
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
	run := &publishRun{p: p, k: k}
	k.run = run
	s := p.m.startSearch(now, PurposePublish, k.key, nil, func(now time.Time, r searchResult) { run.store(now, r) })
	if !run.over {
		run.search = s
	}
}

// store sends the record to the nodes that the search has found.
func (run *publishRun) store(now time.Time, r searchResult) {
	if run.over {
		return
	}
	if len(r.closest) == 0 {
		err := r.err
		if err == nil {
			err = ErrNoAnswer
		}
		run.end(now, err)
		return
	}
	run.open = len(r.closest)
	for _, c := range r.closest {
		run.asked = append(run.asked, c)
		request := message{kind: kindAddProvider, ttl: run.p.ttl(), webSocket: run.p.m.cfg.WebSocket, keys: []stc.Hash{run.k.key}}
		counted := false
		run.p.m.calls.call(now, c, request, callOptions{insist: true}, func(now time.Time, r report) {
			if r.outcome == callStalled {
				return
			}
			run.heard = run.heard || r.outcome == callAnswered
			if r.outcome == callAnswered && r.answer.stored&1 != 0 {
				if run.over { // late: it counts as a holder, to be told when we withdraw
					run.k.held(c, run.p.m.cfg.K)
					return
				}
				run.stored = append(run.stored, c)
			}
			if counted || run.over {
				return
			}
			counted = true
			if run.open--; run.open == 0 {
				run.end(now, nil)
			}
		})
	}
}

// end ends the run and schedules the key anew. err, if not nil, says why
// nothing was stored.
func (run *publishRun) end(now time.Time, err error) {
	p, k := run.p, run.k
	run.over = true
	k.run = nil
	p.running--
	if run.search != nil {
		run.search.cancel(now, ErrUnprovided)
	}
	if err == nil && len(run.stored) == 0 {
		if err = ErrNoAnswer; run.heard {
			err = ErrRefused
		}
	}
	if err == nil {
		// Former holders stay known: their record has not expired yet.
		for _, c := range run.stored {
			k.held(c, p.m.cfg.K)
		}
		k.fails = 0
		every := p.m.cfg.RepublishInterval
		k.next = now.Add(every - time.Duration(p.m.rng.Int64N(int64(every/republishSpread)+1)))
		p.m.stats.Published++
	} else {
		k.next = now.Add(min(retryAfter<<min(k.fails, 16), maxRetryAfter, p.m.cfg.RepublishInterval))
		k.fails++
		if !errors.Is(err, ErrUnprovided) {
			p.m.stats.PublishFail++
		}
	}
	heap.Push(&p.queue, k)
	k.finish(len(run.stored), err)
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
func (k *providedKey) held(c Contact, limit int) {
	if i := slices.IndexFunc(k.holders, func(x Contact) bool { return x.ID == c.ID }); i >= 0 {
		k.holders[i] = c
		return
	}
	i, _ := slices.BinarySearchFunc(k.holders, c.ID, func(x Contact, id stc.Hash) int {
		return compareDistance(k.key, x.ID, id)
	})
	k.holders = slices.Insert(k.holders, i, c)
	k.holders = k.holders[:min(len(k.holders), 2*limit)]
}

// wants reports whether c is among the limit nodes closest to k that we know
// of, and does not hold its record already, at the address where it is now.
func (k *providedKey) wants(c Contact, limit int) bool {
	if slices.Contains(k.holders, c) {
		return false
	}
	return len(k.holders) < limit || compareDistance(k.key, c.ID, k.holders[limit-1].ID) < 0 || containsID(k.holders, c.ID)
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
