package dht

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/seigr/sttnode/stc"
)

// world is a set of nodes, each of which knows some of the others.
type world struct {
	rng   *rand.Rand
	all   []Contact
	knows map[stc.Hash][]Contact
}

// newWorld makes n nodes of which each knows, by distance, the 60 closest to
// itself and 30 of all.
func newWorld(rng *rand.Rand, n int) *world {
	w := &world{rng: rng, knows: make(map[stc.Hash][]Contact)}
	for i := range n {
		w.all = append(w.all, Contact{ID: randomHash(rng), Addr: testAddr(i + 1)})
	}
	for _, c := range w.all {
		near := slices.Clone(w.all)
		sortByDistance(c.ID, near)
		known := slices.Clone(near[1:min(61, n)])
		for range 30 {
			known = append(known, w.all[rng.IntN(n)])
		}
		w.knows[c.ID] = known
	}
	return w
}

// answer is what node id answers to a question about target.
func (w *world) answer(id, target stc.Hash) []Contact {
	known := slices.Clone(w.knows[id])
	sortByDistance(target, known)
	return known[:min(20, len(known))]
}

func (w *world) closest(target stc.Hash, n int) []Contact {
	all := slices.Clone(w.all)
	sortByDistance(target, all)
	return all[:min(n, len(all))]
}

var lookupTestConfig = lookupConfig{k: 20, alpha: 4, spare: 2, maxAsked: 400, perSubnet: 2}

// Answers come in any order: the result is the k closest, and not more nodes
// are asked at a time than is allowed.
func TestLookupConverges(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector, which shorter tests serve as well")
	}
	rng := rand.New(rand.NewPCG(3, testSeed(t)))
	w := newWorld(rng, 1000)
	totalAsked, found := 0, 0
	for i := range 100 {
		target := randomHash(rng)
		l := newLookup(target, lookupTestConfig)
		l.add(w.answer(w.all[i].ID, w.all[(i+1)%1000].ID)) // a view from somewhere
		out := l.next()
		for len(out) > 0 {
			j := rng.IntN(len(out))
			c := out[j]
			out = slices.Delete(out, j, j+1)
			l.answered(c.ID, w.answer(c.ID, target))
			more := l.next()
			out = append(out, more...)
			if converged := slices.ContainsFunc(l.targets(20), func(n *lookupNode) bool { return n.state == lookupAnswered }); !converged && len(more) > 0 && len(out) > 5 {
				t.Fatalf("%d asked at a time", len(out))
			}
		}
		if !l.done() || !l.complete() {
			t.Fatal("nobody is asked and the lookup is not done")
		}
		found += countCommon(l.result(), w.closest(target, 20))
		totalAsked += l.stats.asked
	}
	// Not every node of such a world can be found from everywhere.
	if mean := float64(found) / 100; mean < 19.8 {
		t.Errorf("%.2f of the 20 closest on average", mean)
	}
	if mean := float64(totalAsked) / 100; mean > 40 {
		t.Errorf("%.1f nodes asked on average", mean)
	}
}

// Dead nodes are in the way: each stalls, frees its slot and fails. The result
// is the closest of the living.
func TestLookupPassesDeadNodes(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, testSeed(t)))
	w := newWorld(rng, 500)
	dead := map[stc.Hash]bool{}
	for len(dead) < 50 {
		dead[w.all[rng.IntN(500)].ID] = true
	}
	found := 0
	for i := range 50 {
		target := randomHash(rng)
		l := newLookup(target, lookupTestConfig)
		l.add(w.knows[w.all[i].ID])
		var stalled []Contact
		out := l.next()
		for len(out)+len(stalled) > 0 {
			if len(out) == 0 { // only then do the stalled ones time out
				l.failed(stalled[0].ID)
				stalled = stalled[1:]
			} else if c := out[0]; dead[c.ID] {
				l.stalled(c.ID)
				stalled, out = append(stalled, c), out[1:]
			} else {
				l.answered(c.ID, w.answer(c.ID, target))
				out = out[1:]
			}
			out = append(out, l.next()...)
		}
		want := slices.DeleteFunc(w.closest(target, 500), func(c Contact) bool { return dead[c.ID] })[:20]
		if !l.complete() || slices.ContainsFunc(l.result(), func(c Contact) bool { return dead[c.ID] }) {
			t.Errorf("lookup %d: complete %v, with dead nodes", i, l.complete())
		}
		found += countCommon(l.result(), want)
	}
	// Whoever answers has a tenth of its list wasted on the dead.
	if mean := float64(found) / 50; mean < 18.5 {
		t.Errorf("%.2f of the 20 closest on average", mean)
	}
}

func fourNodes() (nodes []Contact) {
	for i := range 4 {
		nodes = append(nodes, Contact{ID: stc.Hash{0: byte(i + 1)}, Addr: testAddr(i + 1)})
	}
	return nodes
}

// A stalled call frees its slot and its place: the lookup ends without it if
// there are others, and counts its answer whenever it comes.
func TestLookupStallAndLateAnswer(t *testing.T) {
	n := fourNodes()
	cfg := lookupTestConfig
	cfg.alpha, cfg.k = 1, 3
	l := newLookup(stc.Hash{}, cfg)
	l.add(n)
	if got := l.next(); !slices.Equal(got, n[:1]) {
		t.Fatalf("first asked %v", got)
	}
	if got := l.next(); len(got) != 0 {
		t.Fatalf("asked %v beyond alpha", got)
	}
	l.stalled(n[0].ID)
	if got := l.next(); !slices.Equal(got, n[1:2]) {
		t.Fatalf("after the stall, asked %v", got)
	}
	l.answered(n[1].ID, nil)
	if got := l.next(); !slices.Equal(got, n[2:]) {
		t.Fatalf("then asked %v, of which one is in the place of the stalled one", got)
	}
	l.answered(n[2].ID, nil)
	if l.done() {
		t.Fatal("done with an answer missing")
	}
	l.answered(n[3].ID, nil)
	if !l.done() || !slices.Equal(l.result(), n[1:]) {
		t.Fatalf("done %v with %v", l.done(), l.result())
	}
	l.failed(n[0].ID)
	if !l.done() || l.stats.failed != 1 {
		t.Fatalf("done %v, %+v", l.done(), l.stats)
	}
	if !l.answered(n[0].ID, nil) || !slices.Equal(l.result(), n[:3]) || l.stats.failed != 0 || l.stats.answered != 4 {
		t.Errorf("the late answer did not count: %v, %+v", l.result(), l.stats)
	}
	if l.answered(n[0].ID, nil) {
		t.Error("a second answer counts")
	}
}

// Where there are no others, stalled nodes are waited for.
func TestLookupWaitsForTheStalled(t *testing.T) {
	n := fourNodes()
	l := newLookup(stc.Hash{}, lookupTestConfig)
	l.add(n)
	l.next()
	l.stalled(n[3].ID)
	for _, c := range n[:3] {
		l.answered(c.ID, nil)
	}
	if l.done() {
		t.Error("done although one of four may answer still")
	}
	l.failed(n[3].ID)
	if !l.done() || !slices.Equal(l.result(), n[:3]) {
		t.Errorf("done %v with %v", l.done(), l.result())
	}
}

// Answers and failures of nodes that were not asked mean nothing.
func TestLookupIgnoresTheUnasked(t *testing.T) {
	n := fourNodes()
	l := newLookup(stc.Hash{}, lookupTestConfig)
	l.add(n)
	l.stalled(n[0].ID)
	l.failed(n[0].ID)
	if l.answered(n[0].ID, n) || l.answered(stc.Hash{9}, n) || l.stats != (lookupCounts{}) {
		t.Errorf("%+v", l.stats)
	}
	if got := l.next(); len(got) != 4 {
		t.Errorf("asked %v", got)
	}
}

// Once two of the closest nodes have answered, the rest is asked in one go, and
// two to spare; one more for each that they should have told of and have not.
func TestLookupWidensAtTheEnd(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, testSeed(t)))
	w := newWorld(rng, 100)
	target := randomHash(rng)
	all := w.closest(target, 100)
	l := newLookup(target, lookupTestConfig)
	l.add(all)
	if got := l.next(); !slices.Equal(got, all[:4]) {
		t.Fatalf("asked %d first", len(got))
	}
	l.answered(all[1].ID, nil)
	if got := l.next(); !slices.Equal(got, all[4:6]) {
		t.Errorf("asked %d more after one of the closest has answered", len(got))
	}
	l.answered(all[0].ID, all[:17])
	if got := l.next(); !slices.Equal(got, all[6:25]) {
		t.Errorf("asked %d more after two of the closest have answered", len(got))
	}
}

// A node that tells of many that are closer is none of the closest itself: the
// next step is a careful one again.
func TestLookupStaysNarrowOnItsWay(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, testSeed(t)))
	w := newWorld(rng, 100)
	target := randomHash(rng)
	all := w.closest(target, 100)
	l := newLookup(target, lookupTestConfig)
	l.add(all[90:])
	l.next()
	l.answered(all[90].ID, all[60:80])
	if got := l.next(); !slices.Equal(got, all[60:62]) {
		t.Errorf("asked %d", len(got))
	}
	l.answered(all[91].ID, all[40:80])
	if got := l.next(); len(got) != 0 {
		t.Errorf("asked %d more", len(got))
	}
}

// A lookup of few nodes that is told of some which do not answer looks for more;
// those that only we believed in are no reason to.
func TestLookupWidensOnSuspicion(t *testing.T) {
	for _, test := range []struct {
		told bool
		want int
	}{{true, 20}, {false, 6}} {
		rng := rand.New(rand.NewPCG(12, testSeed(t)))
		w := newWorld(rng, 100)
		cfg := lookupTestConfig
		cfg.k = 6
		l := newLookup(w.all[0].ID, cfg)
		if test.told {
			l.add(w.all[1:2])
			l.next()
			l.answered(w.all[1].ID, w.all[2:40])
		} else {
			l.add(w.all[1:40])
		}
		for range suspicious {
			if l.widen(20); l.cfg.k != 6 {
				t.Fatal("suspects too early")
			}
			l.stalled(l.next()[0].ID)
		}
		if l.widen(20); l.cfg.k != test.want {
			t.Errorf("told %v: looks for %d nodes", test.told, l.cfg.k)
		}
	}
}

// Preferred nodes are asked first, and no longer once somebody has answered.
func TestLookupPrefers(t *testing.T) {
	n := fourNodes()
	cfg := lookupTestConfig
	cfg.alpha = 1
	l := newLookup(stc.Hash{}, cfg)
	l.add(n)
	l.prefer([]stc.Hash{n[2].ID, n[3].ID, {99}})
	if got := l.next(); !slices.Equal(got, n[2:3]) {
		t.Errorf("first asked %v", got)
	}
	l.stalled(n[2].ID)
	if got := l.next(); !slices.Equal(got, n[3:]) {
		t.Errorf("then asked %v", got)
	}
	l.answered(n[3].ID, nil)
	if got := l.next(); !slices.Equal(got, n[:2]) {
		t.Errorf("at last asked %v", got)
	}
}

func TestLookupNeverAsksItself(t *testing.T) {
	n := fourNodes()
	cfg := lookupTestConfig
	cfg.self = n[0].ID
	l := newLookup(stc.Hash{}, cfg)
	l.add(n)
	if got := l.next(); slices.Contains(got, n[0]) {
		t.Error("asks itself")
	}
}

// A liar that tells of ever closer nodes is not followed for ever, and cannot
// make us remember without bound.
func TestLookupIsBounded(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, testSeed(t)))
	target := randomHash(rng)
	l := newLookup(target, lookupTestConfig)
	l.add([]Contact{{ID: randomHash(rng), Addr: testAddr(1)}})
	out, port := l.next(), 2
	for len(out) > 0 {
		c := out[0]
		var closer []Contact
		for range 27 {
			id := randomID(rng, target, min(idBits-1, commonPrefix(target, c.ID)+1))
			closer = append(closer, Contact{ID: id, Addr: testAddr(port)})
			port++
		}
		l.answered(c.ID, closer)
		if len(l.sorted) > lookupRemembers*20+30 || len(l.byID) != len(l.sorted) {
			t.Fatalf("%d candidates, %d by ID", len(l.sorted), len(l.byID))
		}
		out = append(out[1:], l.next()...)
	}
	if l.stats.asked != 400 || !l.done() {
		t.Errorf("asked %d, done %v", l.stats.asked, l.done())
	}
}

// Candidates that have failed do not keep others out.
func TestLookupHasRoomBesideTheFailed(t *testing.T) {
	cfg := lookupTestConfig
	cfg.k = 2
	l := newLookup(stc.Hash{}, cfg)
	for i := range lookupRemembers * cfg.k {
		l.add([]Contact{{ID: stc.Hash{1, byte(i)}, Addr: testAddr(i + 1)}})
	}
	for out := l.next(); len(out) > 0; out = l.next() {
		for _, c := range out {
			l.failed(c.ID)
		}
	}
	far := Contact{ID: stc.Hash{2}, Addr: testAddr(100)}
	if !l.lost() || !l.add([]Contact{far}) || l.add([]Contact{far}) {
		t.Error("another one does not count")
	}
	if got := l.next(); !slices.Equal(got, []Contact{far}) || l.lost() {
		t.Errorf("asked %v", got)
	}
}

// A thousand IDs at one address are worth two questions, not a thousand.
func TestLookupAsksAnAddressTwice(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, testSeed(t)))
	l := newLookup(stc.Hash{}, lookupTestConfig)
	addr := netip.MustParseAddrPort("10.0.0.1:1")
	for range 50 {
		l.add([]Contact{{ID: randomHash(rng), Addr: addr}})
	}
	asked := 0
	for out := l.next(); len(out) > 0; out = l.next() {
		asked += len(out)
		for _, c := range out {
			l.failed(c.ID)
		}
	}
	if asked != 2 || !l.done() {
		t.Errorf("asked %d times, done %v", asked, l.done())
	}
}

// A node that failed at an old address and is told of at a new one is asked
// there.
func TestLookupFollowsAMove(t *testing.T) {
	n := fourNodes()
	l := newLookup(stc.Hash{}, lookupTestConfig)
	l.add(n[:2])
	l.next()
	l.failed(n[0].ID)
	moved := n[0]
	moved.Addr = testAddr(100)
	l.answered(n[1].ID, []Contact{n[0], moved})
	if got := l.next(); !slices.Equal(got, []Contact{moved}) {
		t.Errorf("asked %v", got)
	}
}

// Forty nodes of four /24 crowd around the target: of each, two are asked and
// part of the result, as long as others are there.
func TestLookupPrefersManySubnets(t *testing.T) {
	var crowd, honest []Contact
	for i := range 40 {
		addr := netip.MustParseAddrPort(fmt.Sprintf("203.0.%d.%d:1", i%4, i+1))
		crowd = append(crowd, Contact{ID: stc.Hash{31: byte(i + 1)}, Addr: addr})
	}
	for i := range 30 {
		addr := netip.MustParseAddrPort(fmt.Sprintf("198.51.%d.1:1", i))
		honest = append(honest, Contact{ID: stc.Hash{0: byte(i + 1)}, Addr: addr})
	}
	l := newLookup(stc.Hash{}, lookupTestConfig)
	l.add(crowd)
	l.add(honest)
	for out := l.next(); len(out) > 0; out = l.next() {
		for _, c := range out {
			l.answered(c.ID, nil)
		}
	}
	if got := countCommon(l.result(), honest); got != 12 || len(l.result()) != 20 {
		t.Errorf("%d honest nodes among %d", got, len(l.result()))
	}
}
