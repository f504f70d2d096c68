package dht

import (
	"encoding/binary"
	"math"
	"slices"
	"time"

	"github.com/seigr/sttnode/stc"
)

// estimate is what we believe of the network as a whole, from what we see of
// it: how densely nodes lie, and how long they stay. Both only ever decide what
// is tried first and how often, never what is believed; so who could mislead
// them gains little. Not safe for concurrent use.
type estimate struct {
	spacings []float64 // of the last lookups, a ring
	next     int

	watched time.Duration // how long nodes were seen alive, all together
	deaths  float64       // nodes of those that were seen to go
	faded   float64       // the part of assumedWeight that is forgotten
}

const (
	spacingSamples = 15
	// Before anything is known, nodes are taken to stay for this long. It
	// counts like this part of one node that did, and is forgotten like that:
	// what we see of a network in which nobody stays must soon outweigh it.
	assumedLifetime = 96 * time.Hour
	assumedWeight   = 1.0 / 256
	// Of what was seen, half is forgotten whenever this many nodes have gone.
	rememberedDeaths = 64
)

// fraction returns the distance of a and b as a share of the whole space.
func fraction(a, b stc.Hash) float64 {
	return math.Ldexp(float64(binary.BigEndian.Uint64(a[:])^binary.BigEndian.Uint64(b[:])), -64)
}

// closest learns from the n nodes closest to target, that the last of them is
// at distance far: n nodes fill that share of the space.
func (e *estimate) closest(target, farthest stc.Hash, n int) {
	spacing := fraction(target, farthest) / float64(n)
	if len(e.spacings) < spacingSamples {
		e.spacings = append(e.spacings, spacing)
		return
	}
	e.spacings[e.next] = spacing
	e.next = (e.next + 1) % spacingSamples
}

// radius returns the distance, as a share of the space, within which the n nodes
// closest to any key are expected; ok is false before anything is known. It is
// the median of what lookups saw, which a few ground IDs do not move.
func (e *estimate) radius(n int) (r float64, ok bool) {
	if len(e.spacings) == 0 {
		return 0, false
	}
	sorted := slices.Sorted(slices.Values(e.spacings))
	return sorted[len(sorted)/2] * float64(n), true
}

// nodes returns the estimated size of the network; 0 before anything is known.
func (e *estimate) nodes() int {
	r, ok := e.radius(1)
	if !ok || r == 0 {
		return 0
	}
	return int(1/r + 0.5)
}

// alive learns that a node was there for d more.
func (e *estimate) alive(d time.Duration) { e.watched += max(d, 0) }

// died learns that a node is gone that was last heard of d ago. It has stayed
// for some part of that: as long as a node that goes within d does on average.
func (e *estimate) died(d time.Duration) {
	mean := e.lifetime().Seconds()
	if x := max(d, 0).Seconds() / mean; x > 1e-6 {
		e.alive(time.Duration((1 - x/math.Expm1(x)) * mean * float64(time.Second)))
	}
	if e.deaths++; e.deaths >= rememberedDeaths {
		e.deaths, e.watched, e.faded = e.deaths/2, e.watched/2, (1+e.faded)/2
	}
}

// lifetime returns the mean time that a node stays on, as the maximum
// likelihood estimate for a memoryless one: time seen by nodes seen to go.
func (e *estimate) lifetime() time.Duration {
	assumed := assumedWeight * (1 - e.faded)
	return time.Duration((assumed*float64(assumedLifetime) + float64(e.watched)) / (assumed + e.deaths))
}
