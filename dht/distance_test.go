package dht

import (
	"math/big"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/seigr/sttnode/stc"
)

func randomHash(rng *rand.Rand) stc.Hash {
	var h stc.Hash
	for i := range h {
		h[i] = byte(rng.Uint32())
	}
	return h
}

// anyHash draws hashes that often share long prefixes.
var anyHash = rapid.Custom(func(t *rapid.T) stc.Hash {
	var h stc.Hash
	for i := range h {
		h[i] = rapid.SampledFrom([]byte{0, 0, 0, 1, 0x80, 0xFF}).Draw(t, "byte")
	}
	return h
})

func xor(a, b stc.Hash) *big.Int {
	var x stc.Hash
	for i := range x {
		x[i] = a[i] ^ b[i]
	}
	return new(big.Int).SetBytes(x[:])
}

func TestDistanceIsXOR(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		target, a, b := anyHash.Draw(t, "target"), anyHash.Draw(t, "a"), anyHash.Draw(t, "b")
		if got, want := compareDistance(target, a, b), xor(target, a).Cmp(xor(target, b)); got != want {
			t.Errorf("compareDistance(%v, %v, %v) = %d, want %d", target, a, b, got, want)
		}
		if got, want := commonPrefix(a, b), idBits-xor(a, b).BitLen(); got != want {
			t.Errorf("commonPrefix(%v, %v) = %d, want %d", a, b, got, want)
		}
	})
}

func TestRandomIDBelongsInItsBucket(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, testSeed(t)))
	self := randomHash(rng)
	for prefix := range idBits {
		if got := commonPrefix(self, randomID(rng, self, prefix)); got != prefix {
			t.Errorf("random ID for bucket %d shares %d bits", prefix, got)
		}
	}
	if a, b := randomID(rng, self, 3), randomID(rng, self, 3); a == b {
		t.Error("two random IDs are equal")
	}
}
