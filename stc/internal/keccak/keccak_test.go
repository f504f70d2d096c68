package keccak

import (
	"crypto/sha3"
	"fmt"
	"math/rand/v2"
	"testing"
)

// states are both ways to absorb, where this machine has both.
func states() map[string]*State {
	all := map[string]*State{"permutation": newState(false)}
	if vector {
		all["vector"] = newState(true)
	}
	return all
}

// pad returns a message of so many blocks, and its SHA3-256.
func pad(r *rand.ChaCha8, blocks, short int) (padded []byte, digest [32]byte) {
	padded = make([]byte, blocks*Rate)
	message := padded[:len(padded)-short]
	r.Read(message)
	digest = sha3.Sum256(message)
	padded[len(message)] ^= 0x06
	padded[len(padded)-1] ^= 0x80
	return padded, digest
}

func TestAbsorbEqualsSHA3(t *testing.T) {
	for name, s := range states() {
		r := rand.NewChaCha8([32]byte{1})
		for _, blocks := range []int{1, 2, 3, maxBlocks - 1, maxBlocks, maxBlocks + 1, 2*maxBlocks + 5} {
			for used := 1; used < 1<<Lanes; used++ {
				var in [Lanes][]byte
				var want [Lanes][32]byte
				for lane := range Lanes {
					if used>>lane&1 == 0 {
						continue // its state is whatever the round before left
					}
					in[lane], want[lane] = pad(r, blocks, 1+(blocks+lane)%Rate)
					s.Clear(lane)
				}
				first := blocks / 3
				s.Absorb(&in, first)
				for lane := range in {
					if in[lane] != nil {
						in[lane] = in[lane][first*Rate:]
					}
				}
				s.Absorb(&in, blocks-first)
				for lane := range in {
					var got [32]byte
					if s.Squeeze(&got, lane); in[lane] != nil && got != want[lane] {
						t.Fatalf("%s: %d blocks in lanes %04b: lane %d is %x, want %x", name, blocks, used, lane, got, want[lane])
					}
				}
			}
		}
	}
}

func TestAbsorbPanicsOnShortInput(t *testing.T) {
	for name, s := range states() {
		for _, in := range [][Lanes][]byte{{}, {make([]byte, Rate-1)}, {make([]byte, 2*Rate), make([]byte, Rate)}} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s takes two blocks of %d and %d bytes", name, len(in[0]), len(in[1]))
					}
				}()
				s.Absorb(&in, 2)
			}()
		}
	}
}

func BenchmarkAbsorb(b *testing.B) {
	for name, s := range states() {
		b.Run(fmt.Sprintf("way=%s/4x256KiB", name), func(b *testing.B) {
			var in [Lanes][]byte
			const blocks = 256 << 10 / Rate
			for lane := range in {
				in[lane] = make([]byte, blocks*Rate)
			}
			b.SetBytes(Lanes * blocks * Rate)
			for b.Loop() {
				s.Absorb(&in, blocks)
			}
		})
	}
}
