package dht

import (
	"cmp"
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
	clock   clock
	cfg     tableConfig
	buckets []bucket                  // as many as were ever needed, idBits at most
	byAddr  map[netip.AddrPort]*entry // entries of the buckets, not candidates
	subnets map[subnet]int            // entries of each
	near    int                       // buckets from here on are our wider neighbourhood
	checks  checkQueue                // all entries, by when upkeep should ask them

	// lastAnswer is when anybody last answered us. If nobody has since a node
	// began to fail, it may be us who are cut off, and the node stays.
	lastAnswer stamp

	bad   int      // entries that have left evictAfter calls in a row unanswered
	found []*entry // what closest returned last
}

// tableConfig is the part of Config that the table needs.
type tableConfig struct {
	k            int
	maxPerSubnet int           // entries of one /24 or /48 in the table; <0: no limits
	questionable time.Duration // silence after which an entry is no longer good
	check        time.Duration // silence after which an entry is pinged; a neighbour sooner
}

// bucketSubnetShare: of every 10 places in a bucket one subnet may have 1.
const bucketSubnetShare = 10

// evictAfter is how many calls in a row a node leaves unanswered before it
// loses its place.
const evictAfter = 2

type bucket struct {
	entries    []slot        // by ID
	candidates []candidate   // the replacement cache, the best one last
	asked      stamp         // when somebody was last asked who else belongs here
	wait       time.Duration // after that, until it is worth it again
}

// slot is an entry's place. The first bytes of its ID lie here as well, for
// those who look for one of many: entries are in no cache of the CPU, most times.
type slot struct {
	prefix uint64
	*entry
}

// candidate is a node that would have a place if there were one. A proven one
// has shown its key and address to us; of the others we were told.
type candidate struct {
	Contact
	proven bool
	tried  stamp // when we last asked it, to learn whether it is there
}

// entry is a node in a bucket.
type entry struct {
	Contact
	added    stamp
	heard    stamp // when it last proved that it is there
	answered stamp // when it last answered a call of ours; zero: never yet
	failing  stamp // when the first of failures began
	failedAt stamp // when the last of them was given up
	checked  stamp // when upkeep last asked it
	failures int32 // calls in a row that it did not answer
	index    int32 // in the table's checks
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
	case e.failures > 0 || e.answered == 0 || t.clock.at(now).sub(e.heard) > t.cfg.questionable:
		return livenessQuestionable
	}
	return livenessGood
}

func newTable(self stc.Hash, seen *estimate, clock clock, cfg tableConfig) *table {
	return &table{
		self:    self,
		seen:    seen,
		clock:   clock,
		cfg:     cfg,
		byAddr:  make(map[netip.AddrPort]*entry),
		subnets: make(map[subnet]int),
	}
}

// width returns how many entries bucket i may hold.
func (t *table) width(i int) int {
	if i < 4 {
		return 16 >> i * t.cfg.k
	}
	return t.cfg.k
}

// fullness returns how many entries of bucket i are enough for us to look for
// no more by ourselves. The wide buckets are filled up by those who come to us.
func (t *table) fullness(i int) int {
	if w := t.width(i); w > t.cfg.k {
		return w * 3 / 4
	}
	return t.cfg.k
}

// bucketOf returns the bucket that id belongs in, nil for our own.
func (t *table) bucketOf(id stc.Hash) (b *bucket, index int) {
	i := commonPrefix(t.self, id)
	if i == idBits {
		return nil, i
	}
	for len(t.buckets) <= i {
		t.buckets = append(t.buckets, bucket{})
	}
	return &t.buckets[i], i
}

// len returns how many entries the buckets hold.
func (t *table) len() int { return len(t.byAddr) }

// get returns the entry of id, or nil.
func (t *table) get(id stc.Hash) *entry {
	if i := commonPrefix(t.self, id); i < len(t.buckets) {
		return t.buckets[i].get(id)
	}
	return nil
}

func (b *bucket) get(id stc.Hash) *entry {
	if i, found := b.search(id); found {
		return b.entries[i].entry
	}
	return nil
}

// search returns where in the entries id is, or belongs.
func (b *bucket) search(id stc.Hash) (i int, found bool) {
	prefix := idPrefix(&id)
	return slices.BinarySearchFunc(b.entries, id, func(s slot, id stc.Hash) int {
		if s.prefix != prefix {
			return cmp.Compare(s.prefix, prefix)
		}
		return s.ID.Compare(id)
	})
}

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
		t.lastAnswer = t.clock.at(now)
	}
	b, i := t.bucketOf(c.ID)
	if b == nil {
		return placedNowhere, false
	}
	if e := b.get(c.ID); e != nil {
		if linked(c.Addr) && !linked(e.Addr) && e.failures == 0 {
			return placedKnown, false // datagrams do, which need no connection
		}
		if e.Addr != c.Addr && !t.move(e, c.Addr) {
			return placedNowhere, false
		}
		return placedKnown, t.refresh(e, now, answered)
	}
	defer t.vacate(c.Addr)()
	if t.bad > 0 && !t.hasRoom(i, c.Addr) {
		// Bad entries stay as long as nobody wants their place.
		if j := slices.IndexFunc(b.entries, func(s slot) bool { return s.failures >= evictAfter }); j >= 0 {
			t.take(b.entries[j].entry)
		}
	}
	if !t.hasRoom(i, c.Addr) {
		t.addCandidate(i, candidate{Contact: c, proven: true})
		return placedCandidate, false
	}
	e := &entry{Contact: c, added: t.clock.at(now)}
	t.insert(i, e)
	return placedNew, t.refresh(e, now, answered)
}

// silence returns for how long nobody has answered us; 0 before anybody did.
func (t *table) silence(now time.Time) time.Duration {
	if t.lastAnswer == 0 {
		return 0
	}
	return t.clock.at(now).sub(t.lastAnswer)
}

func (t *table) refresh(e *entry, now time.Time, answered bool) (first bool) {
	at := t.clock.at(now)
	if e.heard != 0 {
		t.seen.alive(at.sub(e.heard))
	}
	e.heard = at
	if e.added == 0 { // it was a candidate
		e.added = at
	}
	if answered {
		first = e.answered == 0
		if e.failures >= evictAfter {
			t.bad--
		}
		e.answered, e.failures, e.failedAt = at, 0, 0
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
	e.answered, e.failures, e.failedAt = 0, 0, 0 // known there, not here
	t.insert(i, e)
	return true
}

// restore puts an entry of a former run back, if there is room.
func (t *table) restore(e savedEntry) bool {
	b, i := t.bucketOf(e.ID)
	if b == nil || b.get(e.ID) != nil || t.byAddr[e.Addr] != nil || !t.hasRoom(i, e.Addr) {
		return false
	}
	t.insert(i, &entry{Contact: e.Contact, added: t.clock.at(e.added), heard: t.clock.at(e.heard)})
	return true
}

// learned takes note that somebody told us about c.
func (t *table) learned(c Contact) {
	if b, i := t.bucketOf(c.ID); b != nil && b.get(c.ID) == nil {
		t.addCandidate(i, candidate{Contact: c})
	}
}

// failed takes note that the node did not answer, at the address that e was
// called at, a call begun at since. Calls that were under way together count
// as one: a burst lost at once is one failure. It reports whether the node
// lost its place.
func (t *table) failed(now time.Time, c Contact, since time.Time) (evicted bool) {
	e := t.get(c.ID)
	if e == nil || e.Addr != c.Addr {
		t.dropCandidate(c)
		return false
	}
	began := t.clock.at(since)
	if e.failures > 0 && began < e.failedAt || e.answered != 0 && began < e.answered {
		return false
	}
	switch e.failures++; e.failures {
	case 1:
		e.failing = began
	case evictAfter:
		t.bad++
	}
	e.failedAt = t.clock.at(now)
	t.checks.set(e, t.nextCheck(e))
	if e.failures < evictAfter || t.lastAnswer == 0 || t.lastAnswer <= e.failing {
		return false
	}
	if e.heard != 0 {
		t.seen.died(e.failing.sub(e.heard))
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
	if e := b.get(id); e != nil {
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
	net, limited := subnetOf(addr)
	if !limited || t.cfg.maxPerSubnet < 0 {
		return true
	}
	inTable, share := t.subnets[net], max(1, t.width(i)/bucketSubnetShare)
	return inTable < t.cfg.maxPerSubnet && (inTable < share || b.ofSubnet(net) < share)
}

// ofSubnet counts the entries of a subnet.
func (b *bucket) ofSubnet(net subnet) (n int) {
	for _, e := range b.entries {
		if s, limited := subnetOf(e.Addr); limited && s == net {
			n++
		}
	}
	return n
}

// wants reports whether c would become an entry if it proved itself, and is worth
// asking for that.
func (t *table) wants(c Contact) bool {
	b, i := t.bucketOf(c.ID)
	return b != nil && b.get(c.ID) == nil && len(b.entries) < t.fullness(i) && t.hasRoom(i, c.Addr)
}

func (t *table) insert(i int, e *entry) {
	b := &t.buckets[i]
	j, _ := b.search(e.ID)
	b.entries = slices.Insert(b.entries, j, slot{idPrefix(&e.ID), e})
	b.candidates = slices.DeleteFunc(b.candidates, func(c candidate) bool { return c.ID == e.ID })
	t.byAddr[e.Addr] = e
	t.near = t.holding(wideNeighbourhood * t.cfg.k)
	heap.Push(&t.checks, e)
	t.checks.set(e, t.nextCheck(e))
	if net, limited := subnetOf(e.Addr); limited {
		t.subnets[net]++
	}
}

// take removes an entry and nothing else.
func (t *table) take(e *entry) {
	b, _ := t.bucketOf(e.ID)
	if j, found := b.search(e.ID); found {
		b.entries = slices.Delete(b.entries, j, j+1)
	}
	if e.failures >= evictAfter {
		t.bad--
	}
	delete(t.byAddr, e.Addr)
	heap.Remove(&t.checks, int(e.index))
	t.near = t.holding(wideNeighbourhood * t.cfg.k)
	if net, limited := subnetOf(e.Addr); limited {
		if t.subnets[net]--; t.subnets[net] <= 0 {
			delete(t.subnets, net)
		}
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
