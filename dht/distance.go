package dht

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"slices"

	"github.com/seigr/sttnode/stc"
)

// idBits is the length of a node ID, and so the number of buckets.
const idBits = 8 * stc.HashSize

// compareDistance orders a and b by their distance to target: −1 if a is
// closer, 0 if a == b, +1 if b is closer. The distance of two IDs is their XOR
// read as a number (Maymounkov and Mazières, Kademlia, section 2.1), so it is
// decided by the first bit in which a and b differ.
func compareDistance(target, a, b stc.Hash) int {
	for i := 0; i < stc.HashSize; i += 8 {
		x, y := binary.BigEndian.Uint64(a[i:]), binary.BigEndian.Uint64(b[i:])
		if x == y {
			continue
		}
		t := binary.BigEndian.Uint64(target[i:])
		if x^t < y^t {
			return -1
		}
		return 1
	}
	return 0
}

// commonPrefix returns how many leading bits a and b share, 0 to 256.
func commonPrefix(a, b stc.Hash) int {
	for i := 0; i < stc.HashSize; i += 8 {
		if x := binary.BigEndian.Uint64(a[i:]) ^ binary.BigEndian.Uint64(b[i:]); x != 0 {
			return 8*i + bits.LeadingZeros64(x)
		}
	}
	return idBits
}

// randomID returns a random ID that shares exactly prefix leading bits with
// self, 0 ≤ prefix < 256: one that belongs in bucket number prefix.
func randomID(rng *rand.Rand, self stc.Hash, prefix int) stc.Hash {
	var id stc.Hash
	for i := 0; i < stc.HashSize; i += 8 {
		binary.BigEndian.PutUint64(id[i:], rng.Uint64())
	}
	for i := range prefix {
		setBit(&id, i, bit(self, i))
	}
	setBit(&id, prefix, bit(self, prefix)^1)
	return id
}

func bit(h stc.Hash, i int) byte { return h[i/8] >> (7 - i%8) & 1 }

func setBit(h *stc.Hash, i int, v byte) {
	h[i/8] = h[i/8]&^(0x80>>(i%8)) | v<<(7-i%8)
}

// sortByDistance sorts contacts by the distance of their IDs to target, the
// closest first.
func sortByDistance(target stc.Hash, contacts []Contact) {
	slices.SortFunc(contacts, func(a, b Contact) int { return compareDistance(target, a.ID, b.ID) })
}

// idPrefix returns the first eight bytes of an ID as a number.
func idPrefix(id *stc.Hash) uint64 { return binary.BigEndian.Uint64(id[:]) }

// nearest keeps the n values closest to a target of those that it is shown,
// the closest first.
type nearest[T any] struct {
	target stc.Hash
	prefix uint64
	n      int
	list   []near[T]
}

type near[T any] struct {
	prefix uint64 // of the distance
	id     *stc.Hash
	value  T
}

func newNearest[T any](target stc.Hash, n int) nearest[T] {
	s := nearest[T]{list: make([]near[T], 0, min(n, 64))}
	s.reset(target, n)
	return s
}

// reset forgets all values and begins anew.
func (s *nearest[T]) reset(target stc.Hash, n int) {
	s.target, s.prefix, s.n, s.list = target, idPrefix(&target), n, s.list[:0]
}

// mayTake reports whether take would keep a value of an ID with this prefix, or
// at least might: it is the quick part of the comparison.
func (s *nearest[T]) mayTake(prefix uint64) bool {
	return len(s.list) < s.n || s.n > 0 && prefix^s.prefix <= s.list[s.n-1].prefix
}

// take keeps a value if it is among the n closest so far.
func (s *nearest[T]) take(id *stc.Hash, value T) {
	x := near[T]{prefix: idPrefix(id) ^ s.prefix, id: id, value: value}
	i, _ := slices.BinarySearchFunc(s.list, x, func(a, b near[T]) int {
		if a.prefix != b.prefix {
			return cmp.Compare(a.prefix, b.prefix)
		}
		return compareDistance(s.target, *a.id, *b.id)
	})
	if i >= s.n {
		return
	}
	if len(s.list) == s.n {
		s.list = s.list[:s.n-1]
	}
	s.list = slices.Insert(s.list, i, x)
}
