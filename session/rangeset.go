package session

import (
	"sort"

	"github.com/seigr/sttnode/frame"
)

// rangeSet is a set of numbers as ascending, disjoint ranges that do not
// touch. The zero value is empty.
type rangeSet []frame.Range

// search returns the index of the first range that ends at v or later.
func (s rangeSet) search(v uint64) int {
	// Most work is at the top end.
	if n := len(s); n > 0 && s[n-1].End < v {
		return n
	}
	return sort.Search(len(s), func(i int) bool { return s[i].End >= v })
}

// add puts start ≤ x < end into the set.
func (s *rangeSet) add(start, end uint64) {
	if start >= end {
		return
	}
	i := s.search(start)
	j := i
	for j < len(*s) && (*s)[j].Start <= end {
		start = min(start, (*s)[j].Start)
		end = max(end, (*s)[j].End)
		j++
	}
	if i == j {
		*s = append(*s, frame.Range{})
		copy((*s)[i+1:], (*s)[i:])
		(*s)[i] = frame.Range{Start: start, End: end}
		return
	}
	(*s)[i] = frame.Range{Start: start, End: end}
	*s = append((*s)[:i+1], (*s)[j:]...)
}

// sub takes start ≤ x < end out of the set.
func (s *rangeSet) sub(start, end uint64) {
	if start >= end {
		return
	}
	i := s.search(start + 1)
	for i < len(*s) && (*s)[i].Start < end {
		r := (*s)[i]
		switch {
		case r.Start < start && r.End > end:
			*s = append(*s, frame.Range{})
			copy((*s)[i+1:], (*s)[i:])
			(*s)[i].End = start
			(*s)[i+1].Start = end
			return
		case r.Start < start:
			(*s)[i].End = start
			i++
		case r.End > end:
			(*s)[i].Start = end
			return
		default:
			*s = append((*s)[:i], (*s)[i+1:]...)
		}
	}
}

// contains reports whether v is in the set.
func (s rangeSet) contains(v uint64) bool {
	i := s.search(v + 1)
	return i < len(s) && s[i].Start <= v
}

// covers reports whether every number of start ≤ x < end is in the set.
func (s rangeSet) covers(start, end uint64) bool {
	if start >= end {
		return true
	}
	i := s.search(start + 1)
	return i < len(s) && s[i].Start <= start && s[i].End >= end
}

// total returns how many numbers are in the set.
func (s rangeSet) total() (n uint64) {
	for _, r := range s {
		n += r.Len()
	}
	return n
}

// endOf returns the end of the range that holds v, or v if none does.
func (s rangeSet) endOf(v uint64) uint64 {
	if i := s.search(v + 1); i < len(s) && s[i].Start <= v {
		return s[i].End
	}
	return v
}
