package dht

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/seigr/sttnode/stc"
)

var tableTestConfig = tableConfig{k: 20, maxPerSubnet: 40, questionable: 15 * time.Minute, check: time.Hour}

var t0 = time.Unix(1_700_000_000, 0)

// inBucket returns a contact, number n, that belongs in the bucket. Its ID is
// not the ID of its key, which the table does not look at.
func inBucket(self stc.Hash, bucket, n int, addr string) Contact {
	rng := rand.New(rand.NewPCG(uint64(bucket), uint64(n)))
	c := Contact{ID: randomID(rng, self, bucket), Addr: netip.MustParseAddrPort(addr)}
	binary.BigEndian.PutUint64(c.Key[:], rng.Uint64()>>1)
	return c
}

// private returns contact number n of a bucket, at a private address of its own.
func private(self stc.Hash, bucket, n int) Contact {
	return inBucket(self, bucket, n, fmt.Sprintf("10.%d.%d.%d:1", bucket, n/250, n%250+1))
}

func TestFirstBucketsAreWider(t *testing.T) {
	self := stc.Sum([]byte("self"))
	tab := newTable(self, new(estimate), newClock(t0), tableTestConfig)
	for bucket, want := range []int{320, 160, 80, 40, 20, 20} {
		for n := range want {
			if p, first := tab.heard(t0, private(self, bucket, n), true); p != placedNew || !first {
				t.Fatalf("bucket %d: node %d is %d", bucket, n, p)
			}
		}
		if p, _ := tab.heard(t0, private(self, bucket, want), true); p != placedCandidate {
			t.Errorf("bucket %d: node %d is %d", bucket, want, p)
		}
	}
	if tab.len() != 640 {
		t.Errorf("%d entries", tab.len())
	}
}

func TestOwnIDIsNeverIn(t *testing.T) {
	self := stc.Sum([]byte("self"))
	tab := newTable(self, new(estimate), newClock(t0), tableTestConfig)
	me := Contact{ID: self, Addr: testAddr(1)}
	tab.learned(me)
	if p, _ := tab.heard(t0, me, true); p != placedNowhere || tab.len() != 0 || tab.wants(me) || tab.restore(savedEntry{Contact: me}) {
		t.Error("we are in our own table")
	}
}

func TestLiveness(t *testing.T) {
	self := stc.Sum([]byte("self"))
	tab := newTable(self, new(estimate), newClock(t0), tableTestConfig)
	c := private(self, 0, 1)
	now := t0
	expect := func(step string, want liveness) {
		t.Helper()
		if e := tab.get(c.ID); e == nil {
			t.Errorf("%s: gone", step)
		} else if got := tab.liveness(e, now); got != want {
			t.Errorf("%s: %d, want %d", step, got, want)
		}
	}
	tab.heard(now, c, false)
	expect("has asked us, not answered yet", livenessQuestionable)
	tab.heard(now, c, true)
	expect("has answered", livenessGood)
	now = now.Add(15*time.Minute + 1)
	expect("silent", livenessQuestionable)
	tab.heard(now, c, false)
	expect("heard of again", livenessGood)
	tab.failed(now, c, now)
	expect("failed once", livenessQuestionable)
	tab.heard(now, c, true)
	expect("answered after a failure", livenessGood)
}

// One failure is no reason to lose a node; two are, and the one heard of last
// takes its place.
func TestTwoFailuresEvict(t *testing.T) {
	self := stc.Sum([]byte("self"))
	tab := newTable(self, new(estimate), newClock(t0), tableTestConfig)
	for n := range 20 {
		tab.heard(t0, private(self, 7, n), true)
	}
	older, newer := private(self, 7, 100), private(self, 7, 101)
	tab.heard(t0, older, true)
	tab.heard(t0, newer, true)
	dead := private(self, 7, 3)

	now := t0.Add(time.Minute)
	tab.heard(now, private(self, 7, 4), true) // the network is there
	if tab.failed(now, dead, now.Add(-time.Second)) {
		t.Error("evicted by one failure")
	}
	// A call that was under way at the same time is the same failure.
	if tab.failed(now, dead, now.Add(-time.Millisecond)) {
		t.Error("evicted by two failures at once")
	}
	now = now.Add(time.Minute)
	if !tab.failed(now, dead, now.Add(-time.Second)) || tab.get(dead.ID) != nil {
		t.Error("not evicted by two failures")
	}
	if e := tab.get(newer.ID); e == nil || tab.get(older.ID) != nil {
		t.Error("its place did not go to the candidate heard of last")
	} else if shareable(e) {
		t.Error("others are told of a node that has not answered from its place")
	}
}

// While nobody answers, it is we who are cut off: the table is kept. A bad
// entry gives way to who proves itself.
func TestOutageKeepsTheTable(t *testing.T) {
	self := stc.Sum([]byte("self"))
	tab := newTable(self, new(estimate), newClock(t0), tableTestConfig)
	var all []Contact
	for n := range 20 {
		all = append(all, private(self, 7, n))
		tab.heard(t0, all[n], true)
	}
	for i := range 5 {
		now := t0.Add(time.Duration(i+1) * time.Hour)
		for _, c := range all {
			if tab.failed(now, c, now.Add(-time.Second)) {
				t.Fatal("evicted although nobody answers")
			}
		}
	}
	if got := tab.closest(self, 20, callable); len(got) != 0 {
		t.Errorf("%d bad nodes are called", len(got))
	}
	now := t0.Add(6 * time.Hour)
	newcomer := private(self, 7, 50)
	if p, _ := tab.heard(now, newcomer, true); p != placedNew || tab.len() != 20 {
		t.Errorf("newcomer is %d among %d", p, tab.len())
	}
	left := tab.contacts(anyEntry)[0]
	if !tab.failed(now.Add(time.Minute), left, now.Add(59*time.Second)) {
		t.Error("not evicted although somebody answers now")
	}
	checkTable(t, tab)
	back := tab.contacts(func(e *entry) bool { return e.failures >= evictAfter })[0]
	tab.heard(now.Add(2*time.Minute), back, true)
	if got := tab.closest(self, 20, callable); len(got) != 2 || got[0].ID != back.ID && got[1].ID != back.ID {
		t.Errorf("%d nodes are called when a second one has answered", len(got))
	}
	checkTable(t, tab)
}

func TestSubnetLimits(t *testing.T) {
	self := stc.Sum([]byte("self"))
	count := func(cfg tableConfig, format string) (perBucket [5]int, total int) {
		tab := newTable(self, new(estimate), newClock(t0), cfg)
		for bucket := range perBucket {
			for n := range 60 {
				tab.heard(t0, inBucket(self, bucket, n, fmt.Sprintf(format, 60*bucket+n)), true)
			}
			perBucket[bucket] = len(tab.buckets[bucket].entries)
		}
		return perBucket, tab.len()
	}
	for _, format := range []string{"203.0.113.7:1%03d", "[2001:db8:5:%d::1]:1"} {
		if buckets, total := count(tableTestConfig, format); buckets != [5]int{32, 8, 0, 0, 0} || total != 40 {
			t.Errorf("%s: %v, %d in all", format, buckets, total)
		}
	}
	wide := tableTestConfig
	wide.maxPerSubnet = 1000
	if buckets, _ := count(wide, "203.0.113.7:1%03d"); buckets != [5]int{32, 16, 8, 4, 2} {
		t.Errorf("a tenth of each bucket: %v", buckets)
	}
	for _, format := range []string{"192.168.1.7:1%03d", "127.0.0.1:1%03d", "[fd00::1]:1%03d"} {
		if buckets, _ := count(tableTestConfig, format); buckets != [5]int{60, 60, 60, 40, 20} {
			t.Errorf("%s is limited: %v", format, buckets)
		}
	}
	wide.maxPerSubnet = -1
	if buckets, _ := count(wide, "203.0.113.7:1%03d"); buckets != [5]int{60, 60, 60, 40, 20} {
		t.Errorf("limited without limits: %v", buckets)
	}
}

// A node that comes back at another address is one node, there; one that comes
// back under another ID at the same address is another.
func TestMovesAndTakeovers(t *testing.T) {
	self := stc.Sum([]byte("self"))
	tab := newTable(self, new(estimate), newClock(t0), tableTestConfig)
	c := inBucket(self, 3, 1, "10.0.0.1:4700")
	tab.heard(t0, c, true)

	moved := c
	moved.Addr = netip.MustParseAddrPort("10.0.0.1:4701")
	if p, first := tab.heard(t0, moved, true); p != placedKnown || !first || tab.len() != 1 || tab.get(c.ID).Addr != moved.Addr {
		t.Errorf("moved: %d, first %v, %d entries", p, first, tab.len())
	}
	if tab.failed(t0, c, t0); tab.get(c.ID).failures != 0 {
		t.Error("a failure at the former address counts")
	}

	heir := inBucket(self, 9, 2, "10.0.0.1:4701")
	if p, _ := tab.heard(t0, heir, true); p != placedNew || tab.get(c.ID) != nil || tab.len() != 1 {
		t.Errorf("taken over: %d, %d entries", p, tab.len())
	}
}

// What we were only told never makes it into a bucket, and never displaces
// what has proven itself from the replacement cache.
func TestHearsayIsCandidateAtMost(t *testing.T) {
	self := stc.Sum([]byte("self"))
	tab := newTable(self, new(estimate), newClock(t0), tableTestConfig)
	for n := range 100 {
		tab.learned(private(self, 5, n))
	}
	if tab.len() != 0 || len(tab.buckets[5].candidates) != 20 {
		t.Errorf("%d entries, %d candidates", tab.len(), len(tab.buckets[5].candidates))
	}
	for n := range 40 {
		tab.heard(t0, private(self, 5, 200+n), true)
	}
	for n := range 100 {
		tab.learned(private(self, 5, 300+n))
	}
	for _, c := range tab.buckets[5].candidates {
		if !c.proven {
			t.Error("hearsay has displaced a proven candidate")
		}
	}
	if len(tab.buckets[5].candidates) != 20 {
		t.Errorf("%d candidates", len(tab.buckets[5].candidates))
	}
}

func anyAddr(netip.AddrPort) bool { return true }

// fill names each candidate of a bucket with room once an interval.
func TestFill(t *testing.T) {
	self := stc.Sum([]byte("self"))
	tab := newTable(self, new(estimate), newClock(t0), tableTestConfig)
	for n := range 3 {
		tab.learned(private(self, 5, n))
	}
	var got []Contact
	for range 5 {
		if c, ok := tab.fill(t0, anyAddr); ok {
			got = append(got, c)
		}
	}
	if len(got) != 3 || got[0] == got[1] || got[1] == got[2] || got[0] == got[2] {
		t.Errorf("asked %v", got)
	}
	tab.learned(got[0]) // told again: no reason to ask again
	if c, ok := tab.fill(t0.Add(time.Minute), anyAddr); ok {
		t.Errorf("%v is asked again", c)
	}
	tab.failed(t0.Add(time.Minute), got[0], t0)
	if _, ok := tab.fill(t0.Add(time.Hour), anyAddr); !ok || len(tab.buckets[5].candidates) != 2 {
		t.Error("who did not answer is still a candidate, or nobody is asked again after an interval")
	}
}

func TestClosestIsTheClosest(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, testSeed(t)))
	self := randomHash(rng)
	tab := newTable(self, new(estimate), newClock(t0), tableTestConfig)
	for n := range 3000 {
		tab.heard(t0, private(self, min(n%12, 9+rng.IntN(5)), n), true)
	}
	for range 200 {
		target := randomID(rng, self, rng.IntN(14))
		all := tab.contacts(anyEntry)
		sortByDistance(target, all)
		got := contactsOf(nil, tab.closest(target, 20, shareable))
		if len(got) < 20 || !slices.Equal(got[:20], all[:20]) {
			t.Fatalf("target in bucket %d: not the closest", commonPrefix(self, target))
		}
	}
	if got := contactsOf(nil, tab.closest(self, 20, shareable)); commonPrefix(self, got[0].ID) < commonPrefix(self, got[19].ID) {
		t.Error("closest to ourselves are not the deepest")
	}
}

// Somebody is asked about the buckets that have room: at once again as long as
// that tells of nodes to try, and ever later if it does not.
func TestWantingBuckets(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, testSeed(t)))
	self := randomHash(rng)
	tab := newTable(self, new(estimate), newClock(t0), tableTestConfig)
	for bucket, entries := range []int{10, 10, 10, 40, 20, 10, 10} {
		for n := range entries {
			tab.heard(t0, private(self, bucket, n), true)
		}
	}
	// Buckets 3 and 4 are full, 5 and 6 hold 20 nodes together: our neighbourhood.
	now := t0
	for want := range 3 {
		target, found, _ := tab.wanting(rng, now, time.Hour)
		if !found || commonPrefix(self, target) != want {
			t.Fatalf("bucket %d instead of %d", commonPrefix(self, target), want)
		}
		if want == 1 {
			for n := range 5 {
				tab.learned(private(self, 1, 95+n))
			}
		}
		tab.told(now, target, anyAddr)
	}
	if _, found, next := tab.wanting(rng, now, time.Hour); found || next.Sub(now) != minWiden {
		t.Errorf("asked again: %v, next in %v", found, next.Sub(now))
	}
	for n := 99; n >= 95; n-- {
		if c, ok := tab.fill(now, anyAddr); !ok || c != private(self, 1, n) {
			t.Fatalf("fills with %v, %v", c, ok)
		}
	}
	if target, found, _ := tab.wanting(rng, now, time.Hour); !found || commonPrefix(self, target) != 1 {
		t.Error("what was told of is used up, and nobody is asked for more")
	}
	var waits []time.Duration
	for len(waits) < 10 {
		target, found, next := tab.wanting(rng, now, time.Hour)
		if found && commonPrefix(self, target) == 0 {
			waits = append(waits, now.Sub(t0))
		}
		if !found {
			now = next
		}
	}
	if waits[0] != minWiden || waits[1] != 3*minWiden || waits[9]-waits[8] != time.Hour {
		t.Errorf("asked in vain after %v", waits)
	}
}

// Whatever happens, what the table promises holds.
func TestTableInvariants(t *testing.T) {
	self := stc.Sum([]byte("self"))
	rapid.Check(t, func(t *rapid.T) {
		cfg := tableTestConfig
		cfg.k, cfg.maxPerSubnet = 2, 5
		tab := newTable(self, new(estimate), newClock(t0), cfg)
		now := t0
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3600).Draw(t, "wait")) * time.Second)
			c := inBucket(self, rapid.IntRange(3, 5).Draw(t, "bucket"), rapid.IntRange(0, 8).Draw(t, "node"), "10.0.0.1:1")
			c.Addr = netip.AddrPortFrom(netip.MustParseAddr(rapid.SampledFrom([]string{"203.0.113.1", "203.0.113.2", "198.51.100.1", "10.0.0.1", "10.0.0.2"}).Draw(t, "ip")),
				rapid.Uint16Range(1, 4).Draw(t, "port"))
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0, 1:
				tab.heard(now, c, rapid.Bool().Draw(t, "answered"))
			case 2:
				tab.failed(now, c, now.Add(-time.Second))
			case 3:
				tab.learned(c)
			case 4:
				tab.evict(c.ID)
			case 5:
				tab.due(nil, now, 3)
				tab.fill(now, anyAddr)
			}
			checkTable(t, tab)
		}
	})
}

// IDs that share their first 64 bits, and more, are in order like any others.
func TestOrderOfGroundIDs(t *testing.T) {
	self := stc.Hash{0: 0x80}
	tab := newTable(self, new(estimate), newClock(t0), tableTestConfig)
	var ids []stc.Hash
	for i := range 16 {
		id := stc.Hash{7: byte(i % 4), 9: byte(i / 4 % 2), 31: byte(i)}
		ids = append(ids, id)
		tab.heard(t0, Contact{ID: id, Addr: testAddr(i + 1)}, true)
	}
	for _, target := range ids {
		slices.SortFunc(ids, func(a, b stc.Hash) int { return compareDistance(target, a, b) })
		for i, e := range tab.closest(target, 20, anyEntry) {
			if e.ID != ids[i] {
				t.Fatalf("seen from %v, %v is at place %d", target, e.ID, i)
			}
		}
	}
}

// anyEntry passes every entry.
func anyEntry(*entry) bool { return true }

func checkTable(t interface{ Fatalf(string, ...any) }, tab *table) {
	ids, addrs, subnets := map[stc.Hash]bool{}, map[netip.AddrPort]bool{}, map[subnet]int{}
	for i := range tab.buckets {
		b := &tab.buckets[i]
		if len(b.entries) > tab.width(i) || len(b.candidates) > tab.cfg.k {
			t.Fatalf("bucket %d holds %d and %d candidates", i, len(b.entries), len(b.candidates))
		}
		here := map[subnet]int{}
		for _, e := range b.entries {
			if commonPrefix(tab.self, e.ID) != i || ids[e.ID] || addrs[e.Addr] || tab.get(e.ID) != e.entry || tab.byAddr[e.Addr] != e.entry {
				t.Fatalf("entry %v at %v is in the wrong place, twice, or not indexed", e.ID, e.Addr)
			}
			ids[e.ID], addrs[e.Addr] = true, true
			if net, limited := subnetOf(e.Addr); limited {
				here[net]++
				subnets[net]++
			}
		}
		for net, n := range here {
			if n > max(1, tab.width(i)/bucketSubnetShare) || b.ofSubnet(net) != n {
				t.Fatalf("bucket %d: %d of %x, counted %d", i, n, net, b.ofSubnet(net))
			}
		}
		for _, c := range b.candidates {
			if ids[c.ID] {
				t.Fatalf("candidate %v is an entry", c.ID)
			}
		}
	}
	bad := 0
	for _, c := range tab.checks {
		if c.failures >= evictAfter {
			bad++
		}
	}
	if tab.bad != bad {
		t.Fatalf("%d entries are bad, counted %d", bad, tab.bad)
	}
	if len(ids) != tab.len() || len(ids) != len(tab.checks) || len(addrs) != len(tab.byAddr) || len(subnets) != len(tab.subnets) {
		t.Fatalf("%d entries, %d by address, %d to check; subnets %v, counted %v", len(ids), len(tab.byAddr), len(tab.checks), subnets, tab.subnets)
	}
	for net, n := range subnets {
		if n > tab.cfg.maxPerSubnet || tab.subnets[net] != n {
			t.Fatalf("%d of %x, counted %d", n, net, tab.subnets[net])
		}
	}
}

// What has become an entry from a candidate is saved like any other.
func TestSavedCandidate(t *testing.T) {
	self := stc.Sum([]byte("self"))
	tab := newTable(self, new(estimate), newClock(t0), tableTestConfig)
	for n := range 21 { // the last one is a candidate
		tab.heard(t0, private(self, 7, n), true)
	}
	tab.evict(private(self, 7, 0).ID)
	now := t0.Add(time.Minute)
	tab.heard(now, private(self, 7, 20), true)
	saved, _, err := unmarshalTable(tab.marshal(rtt{}))
	if err != nil || len(saved) != 20 {
		t.Fatalf("%d entries, %v", len(saved), err)
	}
	want := savedEntry{private(self, 7, 20), now, now}
	if !slices.ContainsFunc(saved, func(e savedEntry) bool {
		return e.Key == want.Key && e.added.Equal(now) && e.heard.Equal(now)
	}) {
		t.Errorf("saved %+v without %+v", saved, want)
	}
}
