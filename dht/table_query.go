package dht

import (
	"container/heap"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sort"
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
func (t *table) closest(target stc.Hash, n int, keep func(*entry) bool) []*entry {
	t.found = t.found[:0]
	t.inOrder(0, &target, func(e *entry) bool {
		if len(t.found) < n && keep(e) {
			t.found = append(t.found, e)
		}
		return len(t.found) < n
	})
	return t.found
}

// inOrder calls visit with the entries that share so many bits with us, those
// closest to target first, until it returns false. Where target differs from us
// in the next bit, everybody in the next bucket does, and is closer to it than
// all in deeper ones; else those are closer.
func (t *table) inOrder(shared int, target *stc.Hash, visit func(*entry) bool) bool {
	if shared == len(t.buckets) {
		return true
	}
	entries := t.buckets[shared].entries
	if bit(*target, shared) != bit(t.self, shared) {
		return inOrder(entries, target, visit) && t.inOrder(shared+1, target, visit)
	}
	return t.inOrder(shared+1, target, visit) && inOrder(entries, target, visit)
}

// inOrder does the same for slots, which are in the order of their IDs: those
// that are alike in the first bit in which some of them differ lie together.
func inOrder(slots []slot, target *stc.Hash, visit func(*entry) bool) bool {
	if len(slots) < 2 {
		return len(slots) == 0 || visit(slots[0].entry)
	}
	first, last := &slots[0], &slots[len(slots)-1]
	differ := bits.LeadingZeros64(first.prefix ^ last.prefix)
	if differ == 64 {
		differ = commonPrefix(first.ID, last.ID)
	}
	split := sort.Search(len(slots), func(i int) bool { return slots[i].bit(differ) == 1 })
	near, far := slots[:split], slots[split:]
	if bit(*target, differ) == 1 {
		near, far = far, near
	}
	return inOrder(near, target, visit) && inOrder(far, target, visit)
}

// bit returns bit i of the slot's ID.
func (s *slot) bit(i int) byte {
	if i < 64 {
		return byte(s.prefix >> (63 - i) & 1)
	}
	return bit(s.ID, i)
}

// sample returns up to n random entries that pass keep.
func (t *table) sample(rng *rand.Rand, n int, keep func(*entry) bool) (chosen []*entry) {
	// The queue of checks holds all entries in one list. It is gone through
	// from a random place in steps that meet each of them once.
	total := len(t.checks)
	if total == 0 {
		return nil
	}
	at, step := rng.IntN(total), 1+rng.IntN(total)
	for gcd(step, total) != 1 {
		step = 1 + rng.IntN(total)
	}
	for range total {
		if e := t.checks[at].entry; keep(e) {
			if chosen = append(chosen, e); len(chosen) == n {
				break
			}
		}
		at = (at + step) % total
	}
	return chosen
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
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

// Bounds of how long entries may be silent.
const (
	minCheck = 10 * time.Minute
	// Neighbours may be silent for this part of the time only: what we tell
	// about them is what lookups end with. They are the closest so many times k
	// that we know, so that those around any target close to us are among them.
	nearCheck         = 4
	wideNeighbourhood = 2
)

// checkInterval returns how long e may be silent before it is asked. The
// shorter nodes stay, the more often all are asked.
func (t *table) checkInterval(e *entry) time.Duration {
	every := max(min(t.cfg.check, t.seen.lifetime()/2), min(t.cfg.check, minCheck))
	if commonPrefix(t.self, e.ID) >= t.near {
		every /= nearCheck
	}
	return every
}

// due appends to dst up to limit entries that are to be asked now, notes that
// they are, and returns when the next one is to be.
func (t *table) due(dst []Contact, now time.Time, limit int) (due []Contact, next time.Time) {
	at := t.clock.at(now)
	for len(t.checks) > 0 {
		e, next := t.checks[0].entry, t.checks[0].due
		if next > at || limit == 0 {
			return dst, t.clock.time(next)
		}
		// An entry that was heard of meanwhile has time.
		if next = t.nextCheck(e); next <= at {
			limit--
			e.checked = at
			dst = append(dst, e.Contact)
			next = t.nextCheck(e)
		}
		t.checks.set(e, next)
	}
	return dst, now.Add(t.cfg.check)
}

// check is an entry and when upkeep should ask it, at the earliest.
type check struct {
	due stamp
	*entry
}

// checkQueue orders entries by when they are due.
type checkQueue []check

// set changes when an entry is due.
func (q *checkQueue) set(e *entry, due stamp) {
	(*q)[e.index].due = due
	heap.Fix(q, int(e.index))
}

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
	*q = append(*q, check{never, e})
}
func (q *checkQueue) Pop() any {
	old := *q
	e := old[len(old)-1].entry
	old[len(old)-1] = check{}
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
		if len(b.entries) >= t.fullness(i) {
			continue
		}
		for j := len(b.candidates) - 1; j >= 0; j-- {
			c := &b.candidates[j]
			if !t.fresh(i, c, at) {
				continue
			}
			if c.tried = at; wanted(c.Addr) {
				return c.Contact, true
			}
		}
	}
	return Contact{}, false
}

// depth returns the number of buckets that somebody is asked about one by one.
// The deeper ones hold no more than k nodes together: our neighbourhood, all of
// which a lookup of our own ID finds.
func (t *table) depth() int { return t.holding(t.cfg.k) }

// holding returns the first bucket from which on all together hold no more than
// limit entries.
func (t *table) holding(limit int) int {
	n := 0
	for i := len(t.buckets) - 1; i >= 0; i-- {
		if n += len(t.buckets[i].entries); n > limit {
			return i + 1
		}
	}
	return 0
}

// unproven returns the candidates of target's bucket, if that is short of
// entries.
func (t *table) unproven(target stc.Hash) []candidate {
	i := commonPrefix(t.self, target)
	if i >= len(t.buckets) || len(t.buckets[i].entries) >= t.fullness(i) {
		return nil
	}
	return t.buckets[i].candidates
}

// minWiden is how long a bucket waits after nobody new was found for it; the
// time doubles with each further attempt in vain, to the refresh interval.
const minWiden = 30 * time.Second

// goodYield: an answer is worth another question if this part of k nodes that it
// tells of were not known.
const goodYield = 4

// wanting returns a random ID in a bucket that has room and no candidate to
// try, to ask somebody about, and notes that somebody is; else when to look
// again. The farthest such bucket comes first.
func (t *table) wanting(rng *rand.Rand, now time.Time, interval time.Duration) (target stc.Hash, found bool, next time.Time) {
	next = now.Add(interval)
	for i := range t.depth() {
		b := &t.buckets[i]
		if len(b.entries) >= t.fullness(i) || t.hasFresh(i, now) {
			continue
		}
		if at := t.clock.time(b.asked).Add(b.wait); b.asked != 0 && at.After(now) {
			next = earlier(at, next)
			continue
		}
		b.asked, b.wait = t.clock.at(now), min(max(2*b.wait, minWiden), interval)
		return randomID(rng, t.self, i), true, now
	}
	return stc.Hash{}, false, next
}

// told takes note that somebody has answered what wanting had it asked. If that
// brought a good number of candidates whose address mayAsk agrees to, it is
// worth asking for more as soon as they are used up.
func (t *table) told(now time.Time, target stc.Hash, mayAsk func(netip.AddrPort) bool) {
	b, i := t.bucketOf(target)
	if b == nil {
		return
	}
	fresh, at := 0, t.clock.at(now)
	for j := range b.candidates {
		if c := &b.candidates[j]; t.fresh(i, c, at) && mayAsk(c.Addr) {
			fresh++
		}
	}
	if fresh >= max(1, t.cfg.k/goodYield) {
		b.wait = 0
	}
}

// hasFresh reports whether bucket i has a fresh candidate.
func (t *table) hasFresh(i int, now time.Time) bool {
	at := t.clock.at(now)
	return slices.ContainsFunc(t.buckets[i].candidates, func(c candidate) bool { return t.fresh(i, &c, at) })
}

// fresh reports whether a candidate of bucket i would be an entry if it were
// there, which was not tried lately.
func (t *table) fresh(i int, c *candidate, at stamp) bool {
	return (c.tried == 0 || at.sub(c.tried) >= t.cfg.check) && t.hasRoom(i, c.Addr)
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
