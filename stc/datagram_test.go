package stc

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
)

// Computed by a second implementation from the text of doc.go and DatagramSealer: from seed 01…, to seed 02…, network 03…,
// nonce 00 01 … 17, ad "header", message "ping".
const goldenDatagram = "000102030405060708090a0b0c0d0e0f1011121314151617" +
	"af2cdb9c7d58269ebfa62221caee909b140ec4064e44cd262173a93594350621aebe41cc6b6f598870da3a2d26308695" +
	"6cdae44c13b4d4bff9641d4ce5d09d5c589ea50d"

var datagramAD = []byte("header")

func TestDatagramGolden(t *testing.T) {
	bob := NewDatagramSealer(testIdentity(t, 2), testKeyring(t, 3), 0)
	message, from, err := bob.Open(nil, datagramAD, unhex(t, goldenDatagram))
	if err != nil || string(message) != "ping" || from != testIdentity(t, 1).PublicKey() {
		t.Errorf("Open = %q, %v, %v", message, from, err)
	}
}

func TestDatagramSealOpen(t *testing.T) {
	alice, bob, kr := testIdentity(t, 1), testIdentity(t, 2), testKeyring(t, 3)
	a, b := NewDatagramSealer(alice, kr, 0), NewDatagramSealer(bob, kr, 0)
	for _, size := range []int{0, 1, 1200 - DatagramOverhead} {
		message := bytes.Repeat([]byte{7}, size)
		sealed, err := a.Seal([]byte("head"), bob.PublicKey(), datagramAD, message)
		if err != nil || len(sealed) != 4+size+DatagramOverhead || string(sealed[:4]) != "head" {
			t.Fatalf("Seal of %d bytes = %d bytes, %v", size, len(sealed), err)
		}
		got, from, err := b.Open([]byte("head"), datagramAD, sealed[4:])
		if err != nil || !bytes.Equal(got, append([]byte("head"), message...)) || from != alice.PublicKey() {
			t.Fatalf("Open = %x, %v, %v", got, from, err)
		}
	}
	one, _ := a.Seal(nil, bob.PublicKey(), nil, []byte("m"))
	two, _ := a.Seal(nil, bob.PublicKey(), nil, []byte("m"))
	if bytes.Equal(one[:outerSize], two[:outerSize]) {
		t.Error("two datagrams share nonce and outer part")
	}
	if bytes.Contains(one, alice.public[:]) {
		t.Error("the sender's key travels in clear")
	}
}

func TestDatagramRefused(t *testing.T) {
	alice, bob, carol, kr := testIdentity(t, 1), testIdentity(t, 2), testIdentity(t, 4), testKeyring(t, 3)
	a, b, c := NewDatagramSealer(alice, kr, 0), NewDatagramSealer(bob, kr, 0), NewDatagramSealer(carol, kr, 0)
	sealed, err := a.Seal(nil, bob.PublicKey(), datagramAD, []byte("message"))
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(what string, s *DatagramSealer, ad, sealed []byte, want error) {
		t.Helper()
		if m, from, err := s.Open(nil, ad, sealed); !errors.Is(err, want) || m != nil || !from.IsZero() {
			t.Errorf("%s: Open = %q, %v, %v, want %v", what, m, from, err, want)
		}
	}
	refuse("for another recipient", c, datagramAD, sealed, ErrForged)
	refuse("reflected to its sender", a, datagramAD, sealed, ErrOwnKey)
	refuse("another header", b, []byte("Header"), sealed, ErrWrongSeed)
	refuse("stranger", NewDatagramSealer(bob, testKeyring(t, 9), 0), datagramAD, sealed, ErrWrongSeed)
	for i := range sealed {
		want := ErrForged
		if i < outerSize {
			want = ErrWrongSeed
		}
		forged := slices.Clone(sealed)
		forged[i] ^= 0x80
		refuse("altered", b, datagramAD, forged, want)
		refuse("cut", b, datagramAD, sealed[:i], ErrForged)
	}
	refuse("longer", b, datagramAD, append(slices.Clone(sealed), 0), ErrForged)

	// An outer part moved onto another datagram of the same sender and recipient.
	other, _ := a.Seal(nil, bob.PublicKey(), datagramAD, []byte("another"))
	refuse("spliced", b, datagramAD, slices.Concat(other[:outerSize], sealed[outerSize:]), ErrForged)

	// Insiders know the outer key and may name anyone as the sender.
	insider := func(sender []byte, inner []byte) []byte {
		nonce := make([]byte, datagramNonceLen)
		out := a.outer.Seal(slices.Clone(nonce), nonce, sender, datagramAD)
		return append(out, inner...)
	}
	inner := make([]byte, 40)
	refuse("carol's name on a forgery", b, datagramAD, insider(carol.public[:], inner), ErrForged)
	refuse("our own name on a forgery", b, datagramAD, insider(bob.public[:], inner), ErrOwnKey)
	refuse("a sender of low order", b, datagramAD, insider(make([]byte, 32), inner), ErrBadKey)
	refuse("a sender off the curve", b, datagramAD, insider(append([]byte{2}, make([]byte, 31)...), inner), ErrBadKey)
	// The key pair of carol can't speak for alice: carol seals under her own pair key, with alice's outer part.
	nonce := sealed[:datagramNonceLen]
	pair, _, err := c.pair(bob.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	mine := pair.aead.Seal(nil, nonce, []byte("x"), innerAD(nil, datagramAD, sealed[:outerSize], bob.nodeID))
	refuse("carol under alice's name", b, datagramAD, slices.Concat(sealed[:outerSize], mine), ErrForged)

	if _, err := a.Seal(nil, alice.PublicKey(), nil, nil); !errors.Is(err, ErrOwnKey) {
		t.Errorf("sealing for oneself: %v", err)
	}
	if _, err := a.Seal(nil, PublicKey{}, nil, nil); !errors.Is(err, ErrBadKey) {
		t.Errorf("sealing for nobody: %v", err)
	}
	// After all that the genuine one still opens.
	if m, from, err := b.Open(nil, datagramAD, sealed); err != nil || string(m) != "message" || from != alice.PublicKey() {
		t.Errorf("Open = %q, %v, %v", m, from, err)
	}
}

func TestDatagramPeerSeed(t *testing.T) {
	alice, bob := testIdentity(t, 1), testIdentity(t, 2)
	aKeys, bKeys := testKeyring(t, 3), testKeyring(t, 3)
	a, b := NewDatagramSealer(alice, aKeys, 0), NewDatagramSealer(bob, bKeys, 0)
	try := func(want error) {
		t.Helper()
		sealed, err := a.Seal(nil, bob.PublicKey(), nil, []byte("m"))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.Open(nil, nil, sealed); !errors.Is(err, want) {
			t.Errorf("Open: %v, want %v", err, want)
		}
	}
	try(nil) // both caches are warm from here on
	if err := aKeys.SetPeerSeed(bob.NodeID(), seedOf(8)); err != nil {
		t.Fatal(err)
	}
	try(ErrForged)
	if err := bKeys.SetPeerSeed(alice.NodeID(), seedOf(8)); err != nil {
		t.Fatal(err)
	}
	try(nil)
	aKeys.RemovePeerSeed(bob.NodeID())
	try(ErrForged)
	bKeys.RemovePeerSeed(alice.NodeID())
	try(nil)
}

// The cache is bounded, and who can't prove its name gets no place in it.
func TestDatagramPairCache(t *testing.T) {
	kr, bob := testKeyring(t, 3), testIdentity(t, 2)
	b := NewDatagramSealer(bob, kr, 3)
	for n := byte(10); n < 20; n++ {
		sender := NewDatagramSealer(testIdentity(t, n), kr, 0)
		sealed, err := sender.Seal(nil, bob.PublicKey(), nil, []byte{n})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.Open(nil, nil, sealed); err != nil {
			t.Fatal(err)
		}
	}
	if n := b.pairs.Len(); n != 3 {
		t.Errorf("%d pairs are cached", n)
	}
	before := b.pairs.Keys()
	for n := byte(30); n < 40; n++ {
		sender := NewDatagramSealer(testIdentity(t, n), kr, 0)
		sealed, _ := sender.Seal(nil, bob.PublicKey(), nil, []byte{n})
		sealed[len(sealed)-1] ^= 1
		if _, _, err := b.Open(nil, nil, sealed); !errors.Is(err, ErrForged) {
			t.Fatal(err)
		}
	}
	if !slices.Equal(b.pairs.Keys(), before) {
		t.Error("forged datagrams displace cached pairs")
	}
}

func TestDatagramDoesNotAllocate(t *testing.T) {
	if raceEnabled || chachaAllocates {
		t.Skip("race detector or portable ChaCha20-Poly1305")
	}
	bob, kr := testIdentity(t, 2), testKeyring(t, 3)
	a, b := NewDatagramSealer(testIdentity(t, 1), kr, 0), NewDatagramSealer(bob, kr, 0)
	sealed, opened, message := make([]byte, 0, 1200), make([]byte, 0, 1200), make([]byte, 300)
	n := testing.AllocsPerRun(100, func() {
		var err error
		if sealed, err = a.Seal(sealed[:0], bob.PublicKey(), datagramAD, message); err != nil {
			t.Fatal(err)
		}
		if _, _, err = b.Open(opened, datagramAD, sealed); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a datagram", n)
	}
}

// FuzzDatagramOpen feeds raw bytes, and what an insider can make: any sender's key and any inner part under a good outer one.
func FuzzDatagramOpen(f *testing.F) {
	alice, bob, kr := testIdentity(f, 1), testIdentity(f, 2), testKeyring(f, 3)
	b := NewDatagramSealer(bob, kr, 4)
	golden, err := hex.DecodeString(goldenDatagram)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{}, []byte{})
	f.Add(golden, alice.public[:])
	f.Add(golden[:DatagramOverhead], make([]byte, 32))
	f.Add(bytes.Repeat([]byte{1}, 200), bob.public[:])
	f.Fuzz(func(t *testing.T, sealed, sender []byte) {
		if m, from, err := b.Open(nil, datagramAD, sealed); err == nil && !bytes.Equal(sealed, golden) {
			t.Fatalf("%x opens to %q from %v", sealed, m, from)
		}
		var key [PublicKeySize]byte
		copy(key[:], sender)
		nonce := make([]byte, chacha20poly1305.NonceSizeX)
		inside := b.outer.Seal(slices.Clone(nonce), nonce, key[:], datagramAD)
		inside = append(inside, sealed...)
		m, from, err := b.Open(nil, datagramAD, inside)
		if err == nil {
			t.Fatalf("a forgery under %x opens to %q from %v", key, m, from)
		}
		if !errors.Is(err, ErrForged) && !errors.Is(err, ErrBadKey) && !errors.Is(err, ErrOwnKey) {
			t.Fatalf("error is %v", err)
		}
	})
}
