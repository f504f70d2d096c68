package stc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
)

// Computed by a second implementation from the text of doc.go.
func TestKeyringGolden(t *testing.T) {
	seed := make([]byte, 32)
	for i := range seed {
		seed[i] = byte(i)
	}
	kr, err := NewKeyring(seed)
	if err != nil {
		t.Fatal(err)
	}
	for what, pair := range map[string][2][]byte{
		"psk":         {kr.network.psk[:], unhex(t, "99ba2df6c9d807fdab80f5565b607425ff3148ee7af0646147d4af1dd235598c")},
		"outer key":   {kr.network.outer[:], unhex(t, "1334963324ffa5056a78e6ad0b1bce41610b85d10457b10dd4579b62dbcb12fa")},
		"chunker key": {kr.network.chunker[:], unhex(t, "1f8bfb894445a7a443d550e6f457055960c73f91be1b4d5cdc1ca418f259984d")},
		"pair secret": {kr.network.pair[:], unhex(t, "3dfad77b53cff3fdfbb89848486e921c666552191ac061caf6c4574d42a1c1c9")},
	} {
		if !bytes.Equal(pair[0], pair[1]) {
			t.Errorf("%s is %x, want %x", what, pair[0], pair[1])
		}
	}
	if got := kr.NetworkID().String(); got != "f54852e5a980a5f7" {
		t.Errorf("network ID is %s", got)
	}
}

func TestNodeAndSharedSeedAreApart(t *testing.T) {
	id, kr := testIdentity(t, 9), testKeyring(t, 9)
	keys := map[[32]byte]string{}
	for name, key := range map[string][32]byte{
		"node PRK": id.secret.prk, "store": id.StoreKey(), "derived": id.DeriveKey(""), "derived store": id.DeriveKey("store key"),
		"psk": kr.network.psk, "outer": kr.network.outer, "pair": kr.network.pair,
		"chunker": kr.ChunkerKey(), "beacon": kr.network.beacon, "stream": kr.network.stream,
	} {
		if other, taken := keys[key]; taken {
			t.Errorf("%s and %s are one key", name, other)
		}
		keys[key] = name
	}
}

func TestKeyringPeerSeeds(t *testing.T) {
	kr := testKeyring(t, 1)
	peer := func(n int) (h Hash) {
		binary.BigEndian.PutUint32(h[28:], uint32(n+1))
		return h
	}
	if err := kr.SetPeerSeed(Hash{}, seedOf(2)); !errors.Is(err, ErrBadHash) {
		t.Errorf("seed for the zero ID: %v", err)
	}
	for n := range MaxPeerSeeds {
		if err := kr.SetPeerSeed(peer(n), seedOf(2)); err != nil {
			t.Fatal(err)
		}
	}
	if err := kr.SetPeerSeed(peer(MaxPeerSeeds), seedOf(2)); !errors.Is(err, ErrTooManyPeerSeeds) {
		t.Errorf("one too many: %v", err)
	}
	if err := kr.SetPeerSeed(peer(0), seedOf(3)); err != nil {
		t.Errorf("replacing one when full: %v", err)
	}
	if keys, _ := kr.forPeer(peer(0)); keys.psk != testKeyring(t, 3).network.psk {
		t.Error("the new seed is not in use")
	}
	kr.RemovePeerSeed(peer(0))
	if keys, _ := kr.forPeer(peer(0)); keys != kr.network {
		t.Error("without a seed of its own a peer shares the network's")
	}
	if err := kr.SetPeerSeed(peer(MaxPeerSeeds), seedOf(2)); err != nil {
		t.Errorf("after one was removed: %v", err)
	}
	if n := len(kr.peerSeeds()); n != MaxPeerSeeds {
		t.Errorf("%d seeds", n)
	}
}

func TestKeyringConcurrent(t *testing.T) {
	kr, alice, bob := testKeyring(t, 1), testIdentity(t, 1), testIdentity(t, 2)
	a, b := NewDatagramSealer(alice, kr, 2), NewDatagramSealer(bob, kr, 2)
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 50 {
			_ = kr.SetPeerSeed(Hash{byte(i + 1)}, seedOf(byte(i)))
			kr.RemovePeerSeed(Hash{byte(i)})
		}
	})
	for range 2 {
		wg.Go(func() {
			for range 50 {
				sealed, err := a.Seal(nil, bob.PublicKey(), nil, []byte("m"))
				if err != nil {
					t.Error(err)
					return
				}
				if m, from, err := b.Open(nil, nil, sealed); err != nil || string(m) != "m" || from != alice.PublicKey() {
					t.Errorf("Open = %q, %v, %v", m, from, err)
				}
			}
		})
	}
	wg.Wait()
}
