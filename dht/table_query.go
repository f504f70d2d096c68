package dht

import (
	"container/heap"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/seigr/sttnode/stc"
)

// How soon a node that has just failed to answer is asked again; the time
// doubles with each further failure. Few nodes fail more than twice without
// being evicted, except when we are cut off; then this is how soon we notice
// that we no longer are.
const (
	recheckAfter    = 5 * time.Second
	maxRecheckAfter = 10 * time.Minute
)

// closest returns the n entries closest to target that pass keep, or all if
// there are no more, the closest first. The result is valid until the next call.
//
// Seen from us, whoever shares target's bucket is closer to target than the
// nodes of all deeper buckets, and those are closer than the ones of each
// shallower bucket in turn; so only the buckets that are needed are looked at.
func (t *table) closest(target stc.Hash, n int, keep func(*entry) bool) []*entry {
	t.found = t.found[:0]
	collect := func(from, to int) {
		t.scan.reset(target, n-len(t.found))
		for i := from; i < to; i++ {
			for _, s := range t.buckets[i].entries {
				if t.scan.mayTake(s.prefix) && keep(s.entry) {
					t.scan.take(&s.ID, s.entry)
				}
			}
		}
		for _, x := range t.scan.list {
			t.found = append(t.found, x.value)
		}
	}
	home := commonPrefix(t.self, target)
	if home < len(t.buckets) {
		collect(home, home+1)
	}
	if len(t.found) < n && home+1 < len(t.buckets) {
		collect(home+1, len(t.buckets))
	}
	for i := min(home, len(t.buckets)) - 1; i >= 0 && len(t.found) < n; i-- {
		collect(i, i+1)
	}
	return t.found
}

// contactsOf appends the contacts of entries to dst.
func contactsOf(dst []Contact, entries []*entry) []Contact {
	dst = slices.Grow(dst, len(entries))
	for _, e := range entries {
		dst = append(dst, e.Contact)
	}
	return dst
}

// shareable reports whether others may be told about e: it has answered us at
// its address, and is not bad.
func shareable(e *entry) bool { return e.answered != 0 && e.failures < evictAfter }

// anyEntry passes every entry.
func anyEntry(*entry) bool { return true }

// callable reports whether a lookup may begin with e.
func callable(e *entry) bool { return e.failures < evictAfter }

// nextCheck returns when upkeep should ask e whether it is there.
func (t *table) nextCheck(e *entry) stamp {
	var at stamp
	switch {
	case e.failures > 0:
		at = e.failedAt.add(min(recheckAfter<<min(e.failures-1, 16), maxRecheckAfter))
	case e.answered == 0:
		at = e.added
	default:
		// Spread over a quarter of the interval, so that those who were met
		// together are not asked together for ever.
		every := t.checkInterval(e)
		at = max(e.answered, e.heard).add(every - every/4*time.Duration(e.ID[stc.HashSize-1])/0xFF)
	}
	if e.checked != 0 {
		at = max(at, e.checked.add(recheckAfter))
	}
	return at
}

// checkInterval returns how long e may be silent before it is asked. Neighbours
// are asked more often: what we tell about them is what lookups end with. The
// shorter nodes stay, the more often all are asked.
func (t *table) checkInterval(e *entry) time.Duration {
	every := min(t.cfg.check, max(t.seen.lifetime()/2, t.cfg.check/6))
	if commonPrefix(t.self, e.ID) >= t.near {
		every /= 4
	}
	return every
}

// due appends to dst up to limit entries that are to be asked now, notes that
// they are, and returns when the next one is to be.
func (t *table) due(dst []Contact, now time.Time, limit int) (due []Contact, next time.Time) {
	at := t.clock.at(now)
	for len(t.checks) > 0 {
		e := t.checks[0]
		if e.due > at || limit == 0 {
			return dst, t.clock.time(e.due)
		}
		// An entry that was heard of meanwhile has time.
		if e.due = t.nextCheck(e); e.due <= at {
			limit--
			e.checked = at
			dst = append(dst, e.Contact)
			e.due = t.nextCheck(e)
		}
		heap.Fix(&t.checks, 0)
	}
	return dst, now.Add(t.cfg.check)
}

// checkQueue orders entries by when they are due.
type checkQueue []*entry

func (q checkQueue) Len() int { return len(q) }
func (q checkQueue) Less(i, j int) bool {
	if q[i].due != q[j].due {
		return q[i].due < q[j].due
	}
	return q[i].ID.Compare(q[j].ID) < 0
}
func (q checkQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = int32(i), int32(j)
}
func (q *checkQueue) Push(x any) {
	e := x.(*entry)
	e.index = int32(len(*q))
	*q = append(*q, e)
}
func (q *checkQueue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return e
}

// fill returns a candidate that was not asked in the last interval, whose
// bucket has room for it and whose address wanted agrees to, and notes that it
// is asked. The best bucket to fill is the deepest.
func (t *table) fill(now time.Time, wanted func(netip.AddrPort) bool) (Contact, bool) {
	at := t.clock.at(now)
	for i := len(t.buckets) - 1; i >= 0; i-- {
		b := &t.buckets[i]
		if len(b.entries) >= t.width(i) {
			continue
		}
		for j := len(b.candidates) - 1; j >= 0; j-- {
			c := &b.candidates[j]
			if c.tried != 0 && at.sub(c.tried) < t.cfg.check || !t.hasRoom(i, c.Addr) || !wanted(c.Addr) {
				continue
			}
			c.tried = at
			return c.Contact, true
		}
	}
	return Contact{}, false
}

// touch notes that a lookup for target has begun.
func (t *table) touch(now time.Time, target stc.Hash) {
	if b, _ := t.bucketOf(target); b != nil {
		b.touched = t.clock.at(now)
	}
}

// depth returns the number of buckets that are refreshed one by one. The
// deeper ones hold no more than k nodes together: our neighbourhood, all of
// which a lookup of our own ID finds.
func (t *table) depth() int {
	n := 0
	for i := len(t.buckets) - 1; i >= 0; i-- {
		if n += len(t.buckets[i].entries); n > t.cfg.k {
			return i + 1
		}
	}
	return 0
}

// stale returns a random ID in a bucket that no lookup has aimed at for the
// interval, and when to ask again if there is none.
func (t *table) stale(rng *rand.Rand, now time.Time, interval time.Duration) (target stc.Hash, found bool, next time.Time) {
	next = now.Add(interval)
	for i := range t.depth() {
		b := &t.buckets[i]
		if at := t.clock.time(b.touched).Add(interval); b.touched != 0 && at.After(now) {
			next = earlier(at, next)
			continue
		}
		return randomID(rng, t.self, i), true, now
	}
	return stc.Hash{}, false, next
}

// contacts returns the entries that pass keep, the bucket of the farthest first.
func (t *table) contacts(keep func(*entry) bool) []Contact {
	all := make([]Contact, 0, t.len())
	for i := range t.buckets {
		for _, e := range t.buckets[i].entries {
			if keep(e.entry) {
				all = append(all, e.Contact)
			}
		}
	}
	return all
}
