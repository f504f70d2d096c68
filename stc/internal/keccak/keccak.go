// Package keccak computes SHA3-256's sponge (FIPS 202) for four messages side by side: with AVX-512VL by assembly of its own,
// with AVX2 by circl's permutation. Package stc makes digests of it.
package keccak

import (
	"encoding/binary"
	"unsafe"

	"github.com/cloudflare/circl/simd/keccakf1600"
)

const (
	// Lanes is the number of messages that are permuted at once.
	Lanes = 4

	// Rate is the number of bytes that one permutation absorbs for SHA3-256, FIPS 202 table 3.
	Rate = 136

	rateWords = Rate / 8

	// maxBlocks bounds the work of one call of assembly, some 10 µs: it can't be preempted, and a garbage collection would
	// wait for it.
	maxBlocks = 48
)

// Fast reports whether State takes n long messages, n from 1 to Lanes, faster here than the standard library does one after the
// other. State is right either way.
func Fast(n int) bool { return vector || n > 1 && keccakf1600.IsEnabledX4() }

// State is four sponges. Make one with New, and keep it on the heap: circl's permutation wants its words at a 32-byte boundary,
// which a stack that moves loses. It is for one goroutine at a time.
type State struct {
	permutation keccakf1600.StateX4
	words       *[25 * Lanes]uint64 // inside permutation: word w of lane l is words[Lanes*w+l]
	vector      bool
}

// New returns sponges of zeros.
func New() *State { return newState(vector) }

func newState(vector bool) *State {
	s := &State{vector: vector}
	s.words = (*[25 * Lanes]uint64)(s.permutation.Initialize(false))
	return s
}

// Clear makes a lane's sponge one of zeros.
func (s *State) Clear(lane int) {
	for w := range 25 {
		s.words[Lanes*w+lane] = 0
	}
}

// Absorb adds blocks × Rate bytes of each lane to its sponge, permuting after every Rate bytes. A lane without bytes gets those
// of another: it is one that nobody asks for. Absorb panics when a lane has bytes, but too few, and when no lane has any.
func (s *State) Absorb(in *[Lanes][]byte, blocks int) {
	if blocks <= 0 {
		return
	}
	var some []byte
	for _, data := range in {
		if data != nil {
			some = data
		}
	}
	var at [Lanes]*byte
	for lane, data := range in {
		if data == nil {
			data = some
		}
		at[lane] = unsafe.SliceData(data[:blocks*Rate])
	}
	if !s.vector {
		s.absorbOneByOne(&at, blocks)
		return
	}
	for done := 0; done < blocks; done += maxBlocks {
		var next [Lanes]*byte
		for lane := range next {
			next[lane] = (*byte)(unsafe.Add(unsafe.Pointer(at[lane]), done*Rate))
		}
		absorb(s.words, &next, min(maxBlocks, blocks-done))
	}
}

// absorbOneByOne is Absorb where only the permutation takes all lanes at once.
func (s *State) absorbOneByOne(at *[Lanes]*byte, blocks int) {
	for n := range blocks {
		for lane := range Lanes {
			block := unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(at[lane]), n*Rate)), Rate)
			words := s.words[lane : lane+Lanes*(rateWords-1)+1]
			for w := range rateWords {
				words[Lanes*w] ^= binary.LittleEndian.Uint64(block[8*w:])
			}
		}
		s.permutation.Permute()
	}
}

// Squeeze writes the first 32 bytes of a lane's sponge.
func (s *State) Squeeze(dst *[32]byte, lane int) {
	for w := range len(dst) / 8 {
		binary.LittleEndian.PutUint64(dst[8*w:], s.words[Lanes*w+lane])
	}
}
