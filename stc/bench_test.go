package stc

import (
	"fmt"
	"testing"
)

// One at a time is the standard library's: a lane of its own pays, if at all, from minAlone on.
func BenchmarkSum(b *testing.B) {
	for _, size := range []int{100, minAlone, 4 << 10, 256 << 10} {
		data := [][]byte{make([]byte, size)}
		var dst [1]Hash
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				dst[0] = Sum(data[0])
			}
		})
		b.Run(fmt.Sprintf("size=%d/one-at-a-time", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				sumEach(dst[:], data)
			}
		})
	}
}

// SumMany of 4×256 KiB against one at a time is the figure of the design; the other cases show what uneven batches cost.
func BenchmarkSumMany(b *testing.B) {
	for _, c := range []struct {
		name string
		n    int
		size func(i int) int
	}{
		{"4x256KiB", 4, func(int) int { return 256 << 10 }},
		{"16x256KiB", 16, func(int) int { return 256 << 10 }},
		{"5x256KiB", 5, func(int) int { return 256 << 10 }},
		{"2x256KiB", 2, func(int) int { return 256 << 10 }},
		{"64xMixed", 64, func(i int) int { return 1 + i*7919%(64<<10) }},
		{"64x100B", 64, func(int) int { return 100 }},
	} {
		data := make([][]byte, c.n)
		total := 0
		for i := range data {
			data[i] = make([]byte, c.size(i))
			total += len(data[i])
		}
		dst := make([]Hash, c.n)
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(total))
			b.ReportAllocs()
			for b.Loop() {
				SumMany(dst, data)
			}
		})
		b.Run(c.name+"/one-at-a-time", func(b *testing.B) {
			b.SetBytes(int64(total))
			for b.Loop() {
				sumEach(dst, data)
			}
		})
	}
}

func BenchmarkPacketKey(b *testing.B) {
	for _, suite := range []Suite{SuiteAES256GCM, SuiteChaCha20Poly1305} {
		secret := Secret{1, 2, 3}
		key, err := secret.PacketKey(suite, 0)
		if err != nil {
			b.Fatal(err)
		}
		plain, ad := make([]byte, 1400), make([]byte, 20)
		sealed := make([]byte, 0, len(plain)+TagSize)
		b.Run("Seal1400/"+suite.String(), func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			var seq uint64
			for b.Loop() {
				sealed = key.Seal(sealed[:0], plain, ad, seq)
				seq++
			}
		})
		sealed = key.Seal(sealed[:0], plain, ad, 7)
		opened := make([]byte, 0, len(plain))
		b.Run("Open1400/"+suite.String(), func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := key.Open(opened, sealed, ad, 7); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("Derive/"+suite.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := secret.PacketKey(suite, 1); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkStoreCipher(b *testing.B) {
	c := NewStoreCipher([32]byte{1})
	for _, size := range []int{64, 4 << 10, 256 << 10} {
		plain, ad := make([]byte, size), make([]byte, 40)
		sealed := make([]byte, 0, size+StoreOverhead)
		b.Run(fmt.Sprintf("Seal/%d", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				sealed = c.Seal(sealed[:0], plain, ad)
			}
		})
		opened := make([]byte, 0, size)
		b.Run(fmt.Sprintf("Open/%d", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Open(opened, sealed, ad); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDatagram(b *testing.B) {
	alice, bob, kr := testIdentity(b, 1), testIdentity(b, 2), testKeyring(b, 3)
	from, to := NewDatagramSealer(alice, kr, 0), NewDatagramSealer(bob, kr, 0)
	message, ad := make([]byte, 200), make([]byte, 20)
	sealed, err := from.Seal(nil, bob.PublicKey(), ad, message)
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 0, 2048)
	b.Run("Seal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := from.Seal(buf, bob.PublicKey(), ad, message); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := to.Open(buf, ad, sealed); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("OpenNewPeer", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			to.pairs.Purge()
			if _, _, err := to.Open(buf, ad, sealed); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("OpenStranger", func(b *testing.B) {
		stranger := NewDatagramSealer(bob, testKeyring(b, 4), 0)
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := stranger.Open(buf, ad, sealed); err == nil {
				b.Fatal("opened")
			}
		}
	})
}

func BenchmarkHandshake(b *testing.B) {
	alice, bob, kr := testIdentity(b, 1), testIdentity(b, 2), testKeyring(b, 3)
	b.Run("BothSides", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			runHandshake(b, alice, kr, bob, kr, bob.NodeID())
		}
	})
	initiator, err := NewInitiator(alice, kr, Hash{}, nil)
	if err != nil {
		b.Fatal(err)
	}
	hello, err := initiator.WriteMessage(nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("StrangersHello", func(b *testing.B) {
		other := testKeyring(b, 4)
		b.ReportAllocs()
		for b.Loop() {
			responder, _ := NewResponder(bob, other, nil)
			if _, err := responder.ReadMessage(nil, hello); err == nil {
				b.Fatal("opened")
			}
		}
	})
	b.Run("Identity", func(b *testing.B) {
		seed := make([]byte, 32)
		for b.Loop() {
			seed[0]++
			if _, err := NewIdentity(seed); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("ParsePublicKey", func(b *testing.B) {
		key := alice.PublicKey()
		for b.Loop() {
			if _, err := ParsePublicKey(key[:]); err != nil {
				b.Fatal(err)
			}
		}
	})
}
