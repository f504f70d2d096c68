package dht

import (
	"container/heap"
	"math/bits"
	"slices"
	"time"

	"github.com/seigr/sttnode/stc"
)

// publisher keeps the keys that we provide known: it stores each at the K
// closest nodes, stores it there again before it expires, offers it to closer
// nodes as they turn up, and takes it back from whoever holds it. Like
// everything in machine it has neither clock nor goroutine.
//
// A key is scheduled, for its next publish, or running: first the search for
// its K closest nodes, then storing at them (publishRun).
type publisher struct {
	m       *machine
	keys    map[stc.Hash]*providedKey
	list    []*providedKey // the same, in an order that a seed repeats
	queue   keyQueue       // the scheduled ones
	running int
	paced   time.Duration // the interval that keys were last scheduled by
	sweeps  []stc.Hash    // targets of the sweeps whose nodes are being looked for
	starts  pacer         // of publishes
	batches []batch       // to be sent, in order
	sends   pacer         // of batches
}

// Bounds on how fast we publish, so that many keys at once are no flood for
// the few nodes of a small network.
const (
	maxPublishing   = 8
	publishesPerSec = 25
	batchesPerSec   = 100
	maxBatches      = 8192

	minRepublish    = time.Minute // of the interval, however short nodes stay
	republishSpread = 20          // a republish comes up to a 20th of its interval early
	retryAfter      = 30 * time.Second
	maxRetryAfter   = time.Hour
)

// providedKey is one key that we provide.
type providedKey struct {
	key     stc.Hash
	holders []*Contact // nodes that hold our record, the closest first, 2 K at most
	next    time.Time  // when it is to be published
	index   int        // in the queue; −1 while it runs
	place   int        // in the list
	fails   int        // publishes in a row after which nobody held it
	waiters []func(stored int, err error)
	run     *publishRun // nil while it is scheduled
	swept   bool        // a sweep is under way that has begun with it, or stores it
}

// batch is one ADD_PROVIDER of several keys to one node.
type batch struct {
	to     Contact
	keys   []stc.Hash
	ttl    uint32
	onDone func(sent []stc.Hash, stored uint32, ok bool) // ok: answered; called once
}

func newPublisher(m *machine) *publisher {
	return &publisher{
		m:      m,
		keys:   make(map[stc.Hash]*providedKey),
		starts: pacer{interval: time.Second / publishesPerSec, burst: publishesPerSec},
		sends:  pacer{interval: time.Second / batchesPerSec, burst: batchesPerSec},
	}
}

// provides reports whether we provide key.
func (p *publisher) provides(key stc.Hash) bool { return p.keys[key] != nil }

// holders returns how many nodes are known to hold our record of key.
func (p *publisher) holders(key stc.Hash) int {
	k := p.keys[key]
	if k == nil {
		return 0
	}
	n := len(k.holders)
	if k.run != nil {
		for _, c := range k.run.stored {
			if !slices.ContainsFunc(k.holders, func(x *Contact) bool { return x.ID == c.ID }) {
				n++
			}
		}
	}
	return n
}

// provide makes key one that we provide, and publishes it as soon as may be;
// done learns how that ended. The key stays provided even if it failed: it is
// tried again.
func (p *publisher) provide(now time.Time, key stc.Hash, done func(stored int, err error)) {
	k := p.keys[key]
	if k == nil {
		k = &providedKey{key: key, next: now, place: len(p.list)}
		p.keys[key] = k
		p.list = append(p.list, k)
		heap.Push(&p.queue, k)
	} else if k.run == nil && !k.swept {
		p.hurry(now, k)
	}
	k.waiters = append(k.waiters, done)
	p.advance(now)
}

// hurry schedules a key, which does not run, at once.
func (p *publisher) hurry(now time.Time, k *providedKey) {
	if k.next.After(now) {
		k.next = now
		heap.Fix(&p.queue, k.index)
	}
}

// unprovide stops providing keys and takes the records back from their
// holders; done learns how many records are gone for sure.
func (p *publisher) unprovide(now time.Time, keys []stc.Hash, done func(withdrawn int)) {
	byHolder := make(map[stc.Hash]int) // index into work
	var work []batch
	for _, key := range keys {
		k := p.keys[key]
		if k == nil {
			continue
		}
		for _, h := range p.stop(now, k) {
			i, ok := byHolder[h.ID]
			if !ok || len(work[i].keys) == maxKeys {
				i = len(work)
				byHolder[h.ID] = i
				work = append(work, batch{to: *h})
			}
			work[i].keys = append(work[i].keys, key)
		}
	}
	open, withdrawn := len(work), 0
	if open == 0 {
		done(0)
		return
	}
	for i := range work {
		work[i].onDone = func(_ []stc.Hash, stored uint32, ok bool) {
			if ok {
				withdrawn += bits.OnesCount32(stored)
			}
			if open--; open == 0 {
				done(withdrawn)
			}
		}
	}
	p.batches = append(work, p.batches...) // first of all: somebody waits for it
	p.advance(now)
}

// stop forgets a key and returns who may hold a record of it.
func (p *publisher) stop(now time.Time, k *providedKey) []*Contact {
	holders := slices.Clone(k.holders)
	if run := k.run; run != nil {
		for _, c := range run.asked {
			if !slices.ContainsFunc(holders, func(x *Contact) bool { return x.ID == c.ID }) {
				holders = append(holders, c)
			}
		}
		run.end(now, ErrUnprovided)
	}
	heap.Remove(&p.queue, k.index)
	k.finish(0, ErrUnprovided)
	delete(p.keys, k.key)
	last := p.list[len(p.list)-1]
	p.list[k.place], last.place = last, k.place
	p.list[len(p.list)-1] = nil
	p.list = p.list[:len(p.list)-1]
	// What waits to be offered must not be stored after it was taken back.
	for i := range p.batches {
		if b := &p.batches[i]; b.ttl > 0 {
			b.keys = slices.DeleteFunc(b.keys, func(x stc.Hash) bool { return x == k.key })
		}
	}
	return holders
}

// provided returns the keys that we provide, in no order.
func (p *publisher) provided() []stc.Hash {
	keys := make([]stc.Hash, 0, len(p.list))
	for _, k := range p.list {
		keys = append(keys, k.key)
	}
	return keys
}

// nodeUp takes note that a node that we had not known has answered: it gets
// the records that it is close enough to hold. So records follow a network
// that grows, and a node that could not publish for want of others does so
// when the first turns up.
func (p *publisher) nodeUp(now time.Time, c Contact) {
	var keys []stc.Hash
	for _, k := range p.list {
		switch {
		case k.run != nil, k.swept:
			// Its search finds the node if it is close enough.
		case len(k.holders) == 0:
			p.hurry(now, k)
		case k.wants(c, p.m.cfg.K):
			keys = append(keys, k.key)
		}
	}
	for len(keys) > 0 && len(p.batches) < maxBatches {
		n := min(len(keys), maxKeys)
		p.batches = append(p.batches, batch{to: c, keys: slices.Clone(keys[:n]), ttl: p.ttl(),
			onDone: func(sent []stc.Hash, stored uint32, _ bool) { p.offered(&c, sent, stored) }})
		keys = keys[n:]
	}
}

// offered takes note of which of the keys that were offered to c it stored.
// One that was taken back meanwhile is taken back from c as well.
func (p *publisher) offered(c *Contact, sent []stc.Hash, stored uint32) {
	var gone []stc.Hash
	for i, key := range sent {
		switch k := p.keys[key]; {
		case stored>>i&1 == 0:
		case k != nil:
			k.held(c, p.m.cfg.K)
		default:
			gone = append(gone, key)
		}
	}
	if len(gone) > 0 {
		p.batches = append(p.batches, batch{to: *c, keys: gone, onDone: func([]stc.Hash, uint32, bool) {}})
	}
}

// interval is the time between two publishes of a key: the shorter, the shorter
// nodes stay, so that some holders are always left.
func (p *publisher) interval() time.Duration {
	return min(p.m.cfg.RepublishInterval, max(p.m.estimate.lifetime()/2, minRepublish))
}

// hasten brings the next publishes forward if nodes turn out to stay for less
// long than was believed when those were scheduled.
func (p *publisher) hasten(now time.Time) {
	every := p.interval()
	if every > p.paced-p.paced/4 {
		return
	}
	p.paced = every
	for _, k := range p.list {
		if soonest := now.Add(time.Duration(p.m.rng.Int64N(int64(every)))); k.run == nil && k.fails == 0 && soonest.Before(k.next) {
			k.next = soonest
			heap.Fix(&p.queue, k.index)
		}
	}
}

// ttl is what we ask others to keep our records for, in seconds.
func (p *publisher) ttl() uint32 { return uint32(p.m.cfg.RecordTTL / time.Second) }

// close tells everybody who waits for a publish that it will not come.
func (p *publisher) close() {
	for _, k := range p.list {
		k.finish(0, ErrClosed)
	}
}
