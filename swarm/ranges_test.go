package swarm

import (
	"math/rand/v2"
	"testing"
)

// The set agrees with a plain array of booleans on every question.
func TestRangeSetAgainstArray(t *testing.T) {
	rng := rand.New(rand.NewPCG(testSeed(t), 1))
	for range 200 {
		const size = 200
		var plain [size + 1]bool
		var set rangeSet
		for range rng.IntN(60) {
			lo := rng.Uint64N(size)
			s := span{lo, min(size, lo+rng.Uint64N(12))}
			changed := false
			for i := s.lo; i < s.hi; i++ {
				changed = changed || !plain[i]
				plain[i] = true
			}
			if set.add(s) != changed {
				t.Fatalf("add(%v) = %v", s, !changed)
			}
		}
		count := uint64(0)
		for i, b := range plain {
			if b {
				count++
			}
			if set.contains(uint64(i)) != b {
				t.Fatalf("contains(%d) = %v", i, !b)
			}
		}
		if set.len() != count {
			t.Fatalf("len %d, want %d", set.len(), count)
		}
		for i := 1; i < len(set.spans); i++ {
			if set.spans[i].lo <= set.spans[i-1].hi {
				t.Fatalf("spans touch: %v", set.spans)
			}
		}
		for range 100 {
			lo := rng.Uint64N(size)
			s := span{lo, lo + rng.Uint64N(size-lo) + 1}
			any, all := false, true
			for i := s.lo; i < s.hi; i++ {
				any, all = any || plain[i], all && plain[i]
			}
			if set.overlaps(s) != any || set.covers(s) != all {
				t.Fatalf("overlaps(%v) = %v, covers = %v", s, !any, !all)
			}
		}
	}
}
