package swarm

import (
	"slices"
	"sort"
)

// span is a half-open range of chunk ordinals, [lo, hi).
type span struct{ lo, hi uint64 }

func (s span) len() uint64 { return s.hi - s.lo }

// rangeSet is a set of ordinals, kept as ascending spans that neither overlap
// nor touch. The zero value is empty.
type rangeSet struct{ spans []span }

// add includes s and returns whether the set changed.
func (r *rangeSet) add(s span) bool {
	if s.lo >= s.hi {
		return false
	}
	// Appending to the last span is what a download in order does.
	if n := len(r.spans); n == 0 || r.spans[n-1].hi < s.lo {
		r.spans = append(r.spans, s)
		return true
	}
	// i is the first span that s overlaps or touches, j the first one behind s.
	i := sort.Search(len(r.spans), func(i int) bool { return r.spans[i].hi >= s.lo })
	j := i
	for j < len(r.spans) && r.spans[j].lo <= s.hi {
		j++
	}
	if i == j {
		r.spans = slices.Insert(r.spans, i, s)
		return true
	}
	if r.spans[i].lo <= s.lo && s.hi <= r.spans[i].hi {
		return false
	}
	s.lo = min(s.lo, r.spans[i].lo)
	s.hi = max(s.hi, r.spans[j-1].hi)
	r.spans = slices.Replace(r.spans, i, j, s)
	return true
}

// overlaps reports whether any ordinal of s is in the set.
func (r *rangeSet) overlaps(s span) bool {
	i := sort.Search(len(r.spans), func(i int) bool { return r.spans[i].hi > s.lo })
	return i < len(r.spans) && r.spans[i].lo < s.hi
}

// contains reports whether x is in the set.
func (r *rangeSet) contains(x uint64) bool { return r.overlaps(span{x, x + 1}) }

// covers reports whether all of s is in the set.
func (r *rangeSet) covers(s span) bool {
	i := sort.Search(len(r.spans), func(i int) bool { return r.spans[i].hi > s.lo })
	return s.lo >= s.hi || i < len(r.spans) && r.spans[i].lo <= s.lo && s.hi <= r.spans[i].hi
}

// len returns how many ordinals are in the set.
func (r *rangeSet) len() (n uint64) {
	for _, s := range r.spans {
		n += s.len()
	}
	return n
}

func (r *rangeSet) clone() rangeSet { return rangeSet{slices.Clone(r.spans)} }
