package content

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"

	"github.com/seigr/sttnode/stc"
)

// bloom is a set of hashes in constant memory that may hold more than was added, never less (B. Bloom, 1970). The collector
// uses such sets for what to keep, so an error keeps garbage until the next collection, whose filter errs elsewhere.
type bloom struct {
	bits []uint64
	seed [bloomProbes]uint64
}

const (
	bloomProbes  = 4
	minBloomBits = 1 << 16
	maxBloomBits = 1 << 27 // 16 MiB
)

// newBloom returns an empty set made for n hashes: 1 % errors as long as the memory suffices, which it does up to 13 million.
func newBloom(n uint64) *bloom {
	size := uint64(minBloomBits)
	for size < maxBloomBits && size < 10*n {
		size *= 2
	}
	f := &bloom{bits: make([]uint64, size/64)}
	for i := range f.seed {
		f.seed[i] = rand.Uint64() | 1
	}
	return f
}

func (f *bloom) positions(h stc.Hash) (at [bloomProbes]uint64) {
	for i := range at {
		// A hash's bytes are as good as random; the multiplication makes them so differently in each filter.
		hi, lo := bits.Mul64(binary.LittleEndian.Uint64(h[8*i:]), f.seed[i])
		at[i] = (hi ^ lo) & uint64(len(f.bits)*64-1)
	}
	return at
}

func (f *bloom) add(h stc.Hash) {
	for _, at := range f.positions(h) {
		f.bits[at/64] |= 1 << (at % 64)
	}
}

func (f *bloom) has(h stc.Hash) bool {
	for _, at := range f.positions(h) {
		if f.bits[at/64]&(1<<(at%64)) == 0 {
			return false
		}
	}
	return true
}

// hashSet is a bloom for nobody knows how many hashes: a row of filters, each eight times as large as the one before, up to a
// last one that takes all the rest. The zero hashSet is empty.
type hashSet struct {
	filters []*bloom
	room    uint64 // hashes that the last filter is made for and has not taken
}

func (s *hashSet) add(h stc.Hash) {
	if s.room == 0 {
		n := uint64(minBloomBits / 10)
		for range s.filters {
			n *= 8
		}
		s.filters = append(s.filters, newBloom(n))
		if s.room = n; 10*n >= maxBloomBits {
			s.room = 1 << 62
		}
	}
	s.room--
	s.filters[len(s.filters)-1].add(h)
}

func (s *hashSet) has(h stc.Hash) bool {
	for _, f := range s.filters {
		if f.has(h) {
			return true
		}
	}
	return false
}
