package dht

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
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

// How long nodes stay is learned from those that go, and learned anew when that
// changes; a network in which nobody goes is taken to last.
func TestEstimateOfLifetime(t *testing.T) {
	rng := rand.New(rand.NewPCG(10, testSeed(t)))
	var e estimate
	e.alive(1000 * time.Hour)
	if got := e.lifetime(); got < assumedLifetime {
		t.Errorf("%v although nobody went", got)
	}
	for _, mean := range []time.Duration{3 * time.Hour, 10 * time.Minute} {
		for range 1000 {
			e.died(time.Duration(rng.ExpFloat64() * float64(mean)))
		}
		if got := e.lifetime(); got < mean/2 || got > 2*mean {
			t.Errorf("%v where nodes stay for %v", got, mean)
		}
	}
}
