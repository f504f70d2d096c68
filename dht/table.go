package dht

import (
	"container/heap"
	"net/netip"
	"slices"
	"time"

	"github.com/seigr/sttnode/stc"
)

// The table knows the network: many nodes near to us, few far away, by
// Maymounkov and Mazières' Kademlia. Bucket i holds nodes that share exactly i
// leading bits with us, so bucket 0 is half of the network. The first four
// buckets are 16, 8, 4 and 2 times as wide as the others: for a few hundred
// small entries more, the first hop of a lookup ends where the third would.
//
// What holds between calls:
//   - our own ID is in no bucket, no ID is in two places, and no two entries
//     have one address;
//   - a bucket holds no more than its width, and of one /24 or /48 no more than
//     its share; the same for the table as a whole;
//   - who is in a bucket has proven its key and that it receives at its
//     address. Whom we only heard of is a candidate at most.
//
// A live entry is never displaced: an old node is more likely to be there
// tomorrow than a new one, and nobody floods us out of our table. Pure state:
// no clock, no goroutine, no input or output. Not safe for concurrent use.
type table struct {
	self    stc.Hash
	seen    *estimate // learns how long nodes stay
	cfg     tableConfig
	buckets [idBits]bucket
	byID    map[stc.Hash]*entry // entries of the buckets, not candidates
	byAddr  map[netip.AddrPort]*entry
	subnets map[netip.Prefix]int
	near    int        // buckets from here on hold no more than k entries together
	checks  checkQueue // all entries, by when upkeep should ask them

	// lastAnswer is when anybody last answered us. If nobody has since a node
	// began to fail, it may be us who are cut off, and the node stays.
	lastAnswer time.Time
}

// tableConfig is the part of Config that the table needs.
type tableConfig struct {
	k            int
	maxPerSubnet int           // entries of one /24 or /48 in the table; <0: no limits
	questionable time.Duration // silence after which an entry is no longer good
	check        time.Duration // silence after which an entry is pinged; a neighbour after a quarter of it
}

// bucketSubnetShare: of every 10 places in a bucket one subnet may have 1.
const bucketSubnetShare = 10

// evictAfter is how many calls in a row a node leaves unanswered before it
// loses its place.
const evictAfter = 2

type bucket struct {
	entries    []*entry
	candidates []candidate // the replacement cache, the best one last
	subnets    map[netip.Prefix]int
	touched    time.Time // when a lookup last aimed into this bucket
}

// candidate is a node that would have a place if there were one. A proven one
// has shown its key and address to us; of the others we were told.
type candidate struct {
	Contact
	proven bool
	tried  time.Time // when we last asked it, to learn whether it is there
}

// entry is a node in a bucket.
type entry struct {
	Contact
	added    time.Time
	heard    time.Time // when it last proved that it is there
	answered time.Time // when it last answered a call of ours; zero: never yet
	failures int       // calls in a row that it did not answer
	failing  time.Time // when the first of them began
	failedAt time.Time // when the last of them was given up
	checked  time.Time // when upkeep last asked it
	due      time.Time // no later than when upkeep should ask it next
	index    int       // in the table's checks
}

// liveness is what we believe of an entry. good → questionable by silence or
// one unanswered call; questionable → bad by a second; anything → good by an
// answer.
type liveness uint8

const (
	// livenessGood has answered us, and was heard of in the last 15 minutes.
	livenessGood liveness = iota
	// livenessQuestionable is silent, has failed once, or never answered yet.
	livenessQuestionable
	// livenessBad has left two calls in a row unanswered.
	livenessBad
)

func (t *table) liveness(e *entry, now time.Time) liveness {
	switch {
	case e.failures >= evictAfter:
		return livenessBad
	case e.failures > 0 || e.answered.IsZero() || now.Sub(e.heard) > t.cfg.questionable:
		return livenessQuestionable
	}
	return livenessGood
}

func newTable(self stc.Hash, seen *estimate, cfg tableConfig) *table {
	return &table{
		self:    self,
		seen:    seen,
		cfg:     cfg,
		byID:    make(map[stc.Hash]*entry),
		byAddr:  make(map[netip.AddrPort]*entry),
		subnets: make(map[netip.Prefix]int),
	}
}

// width returns how many entries bucket i may hold.
func (t *table) width(i int) int {
	if i < 4 {
		return 16 >> i * t.cfg.k
	}
	return t.cfg.k
}

// bucketOf returns the bucket that id belongs in, nil for our own.
func (t *table) bucketOf(id stc.Hash) (b *bucket, index int) {
	i := commonPrefix(t.self, id)
	if i == idBits {
		return nil, i
	}
	return &t.buckets[i], i
}

// len returns how many entries the buckets hold.
func (t *table) len() int { return len(t.byID) }

// get returns the entry of id, or nil.
func (t *table) get(id stc.Hash) *entry { return t.byID[id] }

// placement is what became of a contact.
type placement uint8

const (
	placedNowhere   placement = iota // own ID, no room, or too many of its subnet
	placedCandidate                  // in the replacement cache
	placedKnown                      // was an entry already
	placedNew                        // is an entry now
)

// heard takes note that c has proven, now, its key and that it receives at
// c.Addr: by a valid cookie, by a session, or, if answered, by answering a call.
// first reports that it is the first answer of this entry.
func (t *table) heard(now time.Time, c Contact, answered bool) (p placement, first bool) {
	if answered {
		t.lastAnswer = now
	}
	b, i := t.bucketOf(c.ID)
	if b == nil {
		return placedNowhere, false
	}
	if e := t.byID[c.ID]; e != nil {
		if linked(c.Addr) && !linked(e.Addr) && e.failures == 0 {
			return placedKnown, false // datagrams do, which need no connection
		}
		if e.Addr != c.Addr && !t.move(e, c.Addr) {
			return placedNowhere, false
		}
		return placedKnown, t.refresh(e, now, answered)
	}
	defer t.vacate(c.Addr)()
	if !t.hasRoom(i, c.Addr) {
		// Bad entries stay as long as nobody wants their place.
		if j := slices.IndexFunc(b.entries, func(e *entry) bool { return e.failures >= evictAfter }); j >= 0 {
			t.take(b.entries[j])
		}
	}
	if !t.hasRoom(i, c.Addr) {
		t.addCandidate(i, candidate{Contact: c, proven: true})
		return placedCandidate, false
	}
	e := &entry{Contact: c, added: now}
	t.insert(i, e)
	return placedNew, t.refresh(e, now, answered)
}

func (t *table) refresh(e *entry, now time.Time, answered bool) (first bool) {
	if !e.heard.IsZero() {
		t.seen.alive(now.Sub(e.heard))
	}
	e.heard = now
	if answered {
		first = e.answered.IsZero()
		e.answered, e.failures, e.failedAt = now, 0, time.Time{}
	}
	return first
}

// vacate removes the entry at addr: somebody else has proven to be there, and
// one socket is one node. The returned function gives its place away, once the
// new one has found its own.
func (t *table) vacate(addr netip.AddrPort) (refill func()) {
	old := t.byAddr[addr]
	if old == nil {
		return func() {}
	}
	t.take(old)
	_, i := t.bucketOf(old.ID)
	return func() { t.promote(i) }
}

// move gives an entry the address that it was heard from. If the limits forbid
// that, it loses its place.
func (t *table) move(e *entry, addr netip.AddrPort) bool {
	_, i := t.bucketOf(e.ID)
	defer t.vacate(addr)()
	t.take(e)
	if !t.hasRoom(i, addr) {
		defer t.promote(i)
		return false
	}
	e.Addr = addr
	e.answered, e.failures, e.failedAt = time.Time{}, 0, time.Time{} // known there, not here
	t.insert(i, e)
	return true
}

// restore puts an entry of a former run back, if there is room.
func (t *table) restore(e entry) bool {
	b, i := t.bucketOf(e.ID)
	if b == nil || t.byID[e.ID] != nil || t.byAddr[e.Addr] != nil || !t.hasRoom(i, e.Addr) {
		return false
	}
	t.insert(i, &e)
	return true
}

// learned takes note that somebody told us about c.
func (t *table) learned(c Contact) {
	if b, i := t.bucketOf(c.ID); b != nil && t.byID[c.ID] == nil {
		t.addCandidate(i, candidate{Contact: c})
	}
}

// failed takes note that the node did not answer, at the address that e was
// called at, a call begun at since. Calls that were under way together count
// as one: a burst lost at once is one failure. It reports whether the node
// lost its place.
func (t *table) failed(now time.Time, c Contact, since time.Time) (evicted bool) {
	e := t.byID[c.ID]
	if e == nil || e.Addr != c.Addr {
		t.dropCandidate(c)
		return false
	}
	if e.failures > 0 && since.Before(e.failedAt) || since.Before(e.answered) {
		return false
	}
	if e.failures++; e.failures == 1 {
		e.failing = since
	}
	e.failedAt = now
	e.due = t.nextCheck(e)
	heap.Fix(&t.checks, e.index)
	if e.failures < evictAfter || !t.lastAnswer.After(e.failing) {
		return false
	}
	if !e.heard.IsZero() {
		t.seen.died(e.failing.Sub(e.heard))
	}
	t.evict(c.ID)
	return true
}

// evict removes a node and gives its place to the best proven candidate.
func (t *table) evict(id stc.Hash) {
	b, i := t.bucketOf(id)
	if b == nil {
		return
	}
	if e := t.byID[id]; e != nil {
		t.take(e)
		t.promote(i)
	}
	b.candidates = slices.DeleteFunc(b.candidates, func(c candidate) bool { return c.ID == id })
}

// promote gives free places of bucket i to proven candidates, the one heard
// last first. It becomes an entry that has yet to answer.
func (t *table) promote(i int) {
	b := &t.buckets[i]
	for j := len(b.candidates) - 1; j >= 0 && len(b.entries) < t.width(i); j-- {
		c := b.candidates[j]
		if !c.proven || t.byAddr[c.Addr] != nil || !t.hasRoom(i, c.Addr) {
			continue
		}
		b.candidates = slices.Delete(b.candidates, j, j+1)
		t.insert(i, &entry{Contact: c.Contact})
	}
}

// hasRoom reports whether bucket i may take one more entry at addr.
func (t *table) hasRoom(i int, addr netip.AddrPort) bool {
	b := &t.buckets[i]
	if len(b.entries) >= t.width(i) {
		return false
	}
	subnet, limited := subnetOf(addr)
	return !limited || t.cfg.maxPerSubnet < 0 || b.subnets[subnet] < max(1, t.width(i)/bucketSubnetShare) && t.subnets[subnet] < t.cfg.maxPerSubnet
}

// wants reports whether c would become an entry if it proved itself.
func (t *table) wants(c Contact) bool {
	b, i := t.bucketOf(c.ID)
	return b != nil && t.byID[c.ID] == nil && t.hasRoom(i, c.Addr)
}

func (t *table) insert(i int, e *entry) {
	b := &t.buckets[i]
	b.entries = append(b.entries, e)
	b.candidates = slices.DeleteFunc(b.candidates, func(c candidate) bool { return c.ID == e.ID })
	t.byID[e.ID], t.byAddr[e.Addr] = e, e
	t.near = t.depth()
	e.due = t.nextCheck(e)
	heap.Push(&t.checks, e)
	if subnet, limited := subnetOf(e.Addr); limited {
		if b.subnets == nil {
			b.subnets = make(map[netip.Prefix]int)
		}
		b.subnets[subnet]++
		t.subnets[subnet]++
	}
}

// take removes an entry and nothing else.
func (t *table) take(e *entry) {
	b, _ := t.bucketOf(e.ID)
	b.entries = slices.DeleteFunc(b.entries, func(x *entry) bool { return x == e })
	delete(t.byID, e.ID)
	delete(t.byAddr, e.Addr)
	heap.Remove(&t.checks, e.index)
	t.near = t.depth()
	if subnet, limited := subnetOf(e.Addr); limited {
		decrement(b.subnets, subnet)
		decrement(t.subnets, subnet)
	}
}

func decrement(counts map[netip.Prefix]int, key netip.Prefix) {
	if counts[key]--; counts[key] <= 0 {
		delete(counts, key)
	}
}

// addCandidate puts c behind the other candidates of bucket i, which makes it
// the best. The cache holds k: the oldest unproven one makes room, and what is
// unproven makes nothing proven go.
func (t *table) addCandidate(i int, c candidate) {
	b := &t.buckets[i]
	for j, old := range b.candidates {
		if old.ID != c.ID {
			continue
		}
		if old.proven && !c.proven {
			return
		}
		if !c.proven {
			c.tried = old.tried
		}
		b.candidates = append(slices.Delete(b.candidates, j, j+1), c)
		return
	}
	if len(b.candidates) >= t.cfg.k {
		j := slices.IndexFunc(b.candidates, func(x candidate) bool { return !x.proven })
		switch {
		case j >= 0:
		case c.proven:
			j = 0
		default:
			return
		}
		b.candidates = slices.Delete(b.candidates, j, j+1)
	}
	b.candidates = append(b.candidates, c)
}

func (t *table) dropCandidate(c Contact) {
	if b, _ := t.bucketOf(c.ID); b != nil {
		b.candidates = slices.DeleteFunc(b.candidates, func(x candidate) bool { return x.Contact == c })
	}
}
