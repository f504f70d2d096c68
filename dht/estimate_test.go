package dht

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/seigr/sttnode/stc"
)

// The size that lookups suggest is that of the network, roughly, even when a
// third of them end among IDs that somebody has ground.
func TestEstimateOfSize(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector, which shorter tests serve as well")
	}
	rng := rand.New(rand.NewPCG(9, testSeed(t)))
	w := newWorld(rng, 2000)
	var e estimate
	if _, ok := e.radius(20); ok || e.nodes() != 0 {
		t.Error("knows something before the first lookup")
	}
	for i := range 30 {
		target := randomHash(rng)
		farthest := w.closest(target, 20)[19].ID
		if i%3 == 0 {
			farthest = randomID(rng, target, 40)
		}
		e.closest(target, farthest, 20)
	}
	if n := e.nodes(); n < 1200 || n > 3300 {
		t.Errorf("%d of 2000 nodes", n)
	}
	if r, _ := e.radius(20); math.Abs(r*2000/20-1) > 0.5 {
		t.Errorf("the 20 closest within %.4f", r)
	}
}

// How long nodes stay is learned from those that go, however rarely one looks,
// and learned anew when that changes; a network in which nobody goes is taken to
// last.
func TestEstimateOfLifetime(t *testing.T) {
	rng := rand.New(rand.NewPCG(10, testSeed(t)))
	var e estimate
	e.alive(1000 * time.Hour)
	if got := e.lifetime(); got < assumedLifetime {
		t.Errorf("%v although nobody went", got)
	}
	for _, mean := range []time.Duration{3 * time.Hour, 10 * time.Minute} {
		for _, look := range []time.Duration{mean / 10, mean, 3 * mean} {
			for range 1000 {
				e.seenEvery(look, time.Duration(rng.ExpFloat64()*float64(mean)))
			}
			if got := e.lifetime(); got < mean/2 || got > 2*mean {
				t.Errorf("%v where nodes stay for %v, seen every %v", got, mean, look)
			}
		}
	}
}

// seenEvery has a node that is looked at in intervals stay for a time.
func (e *estimate) seenEvery(interval, stay time.Duration) {
	for ; stay > interval; stay -= interval {
		e.alive(interval)
	}
	e.died(interval)
}

// A node that has just joined a network in which nobody stays sees that by the
// first nodes that go: it does not take it for one that lasts.
func TestLifetimeOfNewcomer(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, testSeed(t)))
	const mean = 2 * time.Minute
	var e estimate
	for range 30 {
		e.seenEvery(30*time.Second, time.Duration(rng.ExpFloat64()*float64(mean)))
	}
	if got := e.lifetime(); got > 3*mean {
		t.Errorf("%v where nodes stay for %v", got, mean)
	}
}

// When nodes turn out to stay for minutes, what was planned for a network that
// lasts is done earlier: the next publish of a key, and the look at our neighbours.
func TestPlansFollowLifetime(t *testing.T) {
	s := newSim(t, testSeed(t))
	node, other := s.add(0, nil), s.add(1, nil)
	m, key := node.machine, stc.Sum([]byte("planned"))
	if err := m.addContact(s.Now(), testContact(testIdentity(t, 7, 1), other.addr)); err != nil {
		t.Fatal(err)
	}
	m.publisher.provide(s.Now(), key, func(int, error) {})
	node.host.Settle()
	s.RunFor(10 * time.Second)
	k, now := m.publisher.keys[key], s.Now()
	m.upkeep.refreshSelf = now.Add(m.cfg.RefreshInterval / 2) // as in a network of more than two
	if k.next.Sub(now) < m.cfg.RepublishInterval*9/10 {
		t.Fatalf("planned in %v", k.next.Sub(now))
	}
	for range 50 {
		m.estimate.seenEvery(time.Minute, 90*time.Second)
	}
	c := testContact(testIdentity(t, 7, 2), testAddr(3))
	m.table.heard(now, c, true)
	for i := range time.Duration(evictAfter) {
		at := now.Add((i + 1) * time.Second)
		m.table.lastAnswer = m.table.clock.at(at)
		m.onFail(at, c, at.Add(-time.Millisecond))
	}
	if in := k.next.Sub(now); in > 3*time.Minute {
		t.Errorf("the next publish comes in %v", in)
	}
	if in := m.upkeep.refreshSelf.Sub(now); in > 3*time.Minute {
		t.Errorf("the next lookup of our own ID comes in %v", in)
	}
}
