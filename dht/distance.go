package dht

import (
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
