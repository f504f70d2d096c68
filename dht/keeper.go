package dht

import (
	"fmt"
	"slices"
	"time"

	"github.com/seigr/sttnode/stc"
)

// keeper puts signed records at the nodes closest to their names, and those that
// we keep again and again: before they expire, and when a node turns up that is
// close enough to hold one. Like everything in machine it has neither clock nor
// goroutine.
type keeper struct {
	m       *machine
	list    []*keptRecord
	running int // puts under way
	once    int // of those, the ones of records that we do not keep
}

const (
	maxKept      = 1024             // names that we keep
	maxPutting   = 4                // puts of them under way at a time
	maxOnce      = 16               // puts of others under way at a time
	newcomerWait = 10 * time.Second // until a record is put again because somebody turned up: others may follow
)

// keptRecord is a record that is put again and again.
type keptRecord struct {
	name    stc.Name
	rec     Record
	next    time.Time // when it is to be put
	holders []Contact // that took it, the closest first
	fails   int       // puts in a row that nobody took
	running bool
	waiters []func(stored int, err error)
}

func (k *keeper) find(name stc.Name) *keptRecord {
	if i := slices.IndexFunc(k.list, func(r *keptRecord) bool { return r.name == name }); i >= 0 {
		return k.list[i]
	}
	return nil
}

// keep puts rec now and until it is dropped; done learns how the first put ends,
// or at once if it is kept already. One that is older than what we keep is
// refused.
func (k *keeper) keep(now time.Time, rec Record, done func(stored int, err error)) {
	r := k.find(rec.Name())
	switch {
	case r == nil && len(k.list) >= maxKept:
		done(0, fmt.Errorf("%w: %d names are kept", ErrBusy, maxKept))
		return
	case r == nil:
		r = &keptRecord{name: rec.Name(), rec: rec, next: now}
		k.list = append(k.list, r)
	case r.rec.Newer(rec):
		done(len(r.holders), fmt.Errorf("%w: it is number %d, not %d", ErrStale, r.rec.seq, rec.seq))
		return
	case r.rec != rec:
		r.rec, r.holders, r.next = rec, nil, now // a put that runs is of the old one
	case len(r.holders) > 0:
		done(len(r.holders), nil)
		return
	default:
		r.next = now
	}
	r.waiters = append(r.waiters, done)
	k.advance(now)
}

// drop keeps a name no longer. What others hold of it expires.
func (k *keeper) drop(name stc.Name) {
	if r := k.find(name); r != nil {
		k.list = slices.DeleteFunc(k.list, func(x *keptRecord) bool { return x == r })
		r.finish(0, ErrUnprovided)
	}
}

// kept returns the records that we keep, in the order in which they came.
func (k *keeper) kept() []Record {
	var all []Record
	for _, r := range k.list {
		all = append(all, r.rec)
	}
	return all
}

// deadline returns when advance must be called at the latest; zero for never.
func (k *keeper) deadline() time.Time {
	var at time.Time
	if k.running-k.once < maxPutting {
		for _, r := range k.list {
			if !r.running {
				at = earlierOf(r.next, at)
			}
		}
	}
	return at
}

// advance starts the puts that are due.
func (k *keeper) advance(now time.Time) {
	for _, r := range slices.Clone(k.list) {
		if k.running-k.once >= maxPutting {
			return
		}
		if !r.running && !r.next.After(now) {
			r.running = true
			rec := r.rec
			k.put(now, rec, func(now time.Time, res putResult) { k.done(now, r, rec, res) })
		}
	}
}

// done takes note of how a put of a kept record has ended. A newer record that
// was found is the owner's as well: it is kept from now on.
func (k *keeper) done(now time.Time, r *keptRecord, put Record, res putResult) {
	r.running = false
	switch {
	case k.find(r.name) != r:
		return // dropped meanwhile
	case r.rec != put:
		r.next = now
		return
	case res.newer.Newer(r.rec):
		r.rec, r.holders, r.next, r.fails = res.newer, nil, now, 0
	case res.err != nil:
		r.fails++
		every := k.m.publisher.interval()
		r.next = now.Add(min(retryAfter<<min(r.fails-1, 16), maxRetryAfter, every))
	default:
		r.holders, r.fails = res.holders, 0
		every := k.m.publisher.interval()
		r.next = now.Add(every - time.Duration(k.m.rng.Int64N(int64(every/republishSpread)+1)))
	}
	r.finish(len(res.holders), res.err)
}

func (r *keptRecord) finish(stored int, err error) {
	waiters := r.waiters
	r.waiters = nil
	for _, done := range waiters {
		done(stored, err)
	}
}

// nodeUp has the records put again soon that a node which has just turned up
// should hold: all that nobody or too few hold, and those that it is closer to.
func (k *keeper) nodeUp(now time.Time, c Contact) {
	for _, r := range k.list {
		n := len(r.holders)
		if n == 0 {
			r.next = earlier(now, r.next)
		} else if n < k.m.cfg.K || compareDistance(stc.Hash(r.name), c.ID, r.holders[n-1].ID) < 0 {
			r.next = earlier(now.Add(newcomerWait), r.next)
		}
	}
}

// relay puts a record on behalf of a node that may reach nobody but us.
func (k *keeper) relay(now time.Time, rec Record) {
	if k.once < maxOnce && k.m.table.len() > 0 {
		k.once++
		k.put(now, rec, func(time.Time, putResult) { k.once-- })
	}
}

// close tells everybody who waits that nothing will come.
func (k *keeper) close() {
	for _, r := range k.list {
		r.finish(0, ErrClosed)
	}
}

// putResult is how a put ended.
type putResult struct {
	holders []Contact // that hold the record now, the closest first
	newer   Record    // that was found instead, if one was
	err     error     // nil if somebody holds it
}

// put stores rec at the K nodes closest to its name, which a lookup finds that
// asks for a newer record at the same time: if there is one, it ends with
// ErrStale. done is called once.
func (k *keeper) put(now time.Time, rec Record, done func(time.Time, putResult)) *search {
	m := k.m
	k.running++
	end := func(now time.Time, res putResult) {
		k.running--
		done(now, res)
	}
	m.holdOwn(now, rec)
	return m.startRecordSearch(now, PurposePublish, rec.Name(), rec.seq, func(now time.Time, r searchResult) {
		switch {
		case r.err != nil:
			end(now, putResult{err: r.err})
		case r.record.Newer(rec):
			m.holdOwn(now, r.record)
			end(now, putResult{newer: r.record, err: staleError(rec, r.record.seq)})
		default:
			k.store(now, rec, r.closest, end)
		}
	})
}

func staleError(rec Record, seq uint64) error {
	return fmt.Errorf("%w: the network has number %d, this is number %d", ErrStale, seq, rec.seq)
}

// holdOwn holds a record in our own store, for those who ask us.
func (m *machine) holdOwn(now time.Time, rec Record) {
	if !m.cfg.ClientOnly {
		m.signed.add(now, rec, Contact{ID: m.id}, m.cfg.RecordTTL)
	}
}

// store asks nodes to hold rec.
func (k *keeper) store(now time.Time, rec Record, nodes []Contact, end func(time.Time, putResult)) {
	var res putResult
	open, answers, stale := len(nodes), 0, 0
	request := message{kind: kindPutRecord, ttl: k.m.publisher.ttl(), record: rec.bytes()}
	for _, c := range nodes {
		over := false
		k.m.calls.call(now, c, request, callOptions{insist: true}, func(now time.Time, r report) {
			if over || r.outcome.pending() {
				return
			}
			over = true
			if r.outcome == callAnswered {
				answers++
				switch r.answer.code {
				case putStored:
					res.holders = append(res.holders, c)
				case putStale:
					stale++
				}
			}
			if open--; open > 0 {
				return
			}
			sortByDistance(stc.Hash(rec.Name()), res.holders)
			switch {
			case len(res.holders) > 0:
			case stale > 0:
				res.err = fmt.Errorf("%w: another one has come meanwhile", ErrStale)
			case answers > 0:
				res.err = ErrRefused
			default:
				res.err = ErrNoAnswer
			}
			end(now, res)
		})
	}
}
