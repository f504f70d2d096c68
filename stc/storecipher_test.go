package stc

import (
	"bytes"
	"crypto/sha3"
	"encoding/hex"
	"errors"
	"slices"
	"testing"
)

// xaesSeal is XAES-256-GCM with a nonce of the test's choice, from the parts that StoreCipher.Seal uses.
func xaesSeal(c *StoreCipher, nonce, plain, ad []byte) []byte {
	return c.recordAEAD(nonce[:12]).Seal(nil, nonce[12:], plain, ad)
}

// The vectors of c2sp.org/XAES-256-GCM: one key with the top bit of L clear, one with it set.
func TestXAESVectors(t *testing.T) {
	nonce := []byte("ABCDEFGHIJKLMNOPQRSTUVWX")
	for _, v := range []struct {
		key            byte
		k1, ad, sealed string
	}{
		{1, "e531954aca063d5b8d9c47a47d4cc6f0", "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{3, "23810ec50edb99f374409466ed1f4b7b", "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		c := NewStoreCipher([32]byte(bytes.Repeat([]byte{v.key}, 32)))
		if got := hex.EncodeToString(c.k1[:]); got != v.k1 {
			t.Errorf("K1 is %s, want %s", got, v.k1)
		}
		if got := xaesSeal(c, nonce, []byte("XAES-256-GCM"), []byte(v.ad)); hex.EncodeToString(got) != v.sealed {
			t.Errorf("sealed is %x, want %s", got, v.sealed)
		}
		plain, err := c.Open(nil, slices.Concat(nonce, unhex(t, v.sealed)), []byte(v.ad))
		if err != nil || string(plain) != "XAES-256-GCM" {
			t.Errorf("Open = %q, %v", plain, err)
		}
	}
}

// The accumulated test of c2sp.org/XAES-256-GCM: 10,000 random inputs from SHAKE-128, the ciphertexts hashed with SHAKE-128.
func TestXAESAccumulated(t *testing.T) {
	in, out := sha3.NewSHAKE128(), sha3.NewSHAKE128()
	variable := func() []byte {
		var n [1]byte
		in.Read(n[:])
		b := make([]byte, n[0])
		in.Read(b)
		return b
	}
	for range 10_000 {
		var key [32]byte
		var nonce [24]byte
		in.Read(key[:])
		in.Read(nonce[:])
		plain, ad := variable(), variable()
		c := NewStoreCipher(key)
		sealed := xaesSeal(c, nonce[:], plain, ad)
		if got, err := c.Open(nil, slices.Concat(nonce[:], sealed), ad); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("Open = %x, %v", got, err)
		}
		out.Write(sealed)
	}
	sum := make([]byte, 32)
	out.Read(sum)
	if got := hex.EncodeToString(sum); got != "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939" {
		t.Errorf("the hash of all ciphertexts is %s", got)
	}
}

func TestStoreCipher(t *testing.T) {
	c := NewStoreCipher(testIdentity(t, 1).StoreKey())
	ad := []byte("segment 7, record 3")
	for _, size := range []int{0, 1, 15, 16, 17, 16 << 10} {
		plain := bytes.Repeat([]byte{0xab}, size)
		sealed := c.Seal([]byte("head"), plain, ad)
		if len(sealed) != 4+size+StoreOverhead || string(sealed[:4]) != "head" {
			t.Fatalf("%d bytes are sealed to %d", size, len(sealed))
		}
		sealed = sealed[4:]
		if got, err := c.Open([]byte("head"), sealed, ad); err != nil || string(got[:4]) != "head" || !bytes.Equal(got[4:], plain) {
			t.Fatalf("Open = %x, %v", got, err)
		}
		if again := c.Seal(nil, plain, ad); bytes.Equal(again[:storeNonceSize], sealed[:storeNonceSize]) {
			t.Fatal("a nonce repeats")
		}
	}

	sealed := c.Seal(nil, []byte("a record"), ad)
	refuse := func(what string, c *StoreCipher, sealed, ad []byte) {
		t.Helper()
		if got, err := c.Open(nil, sealed, ad); !errors.Is(err, ErrForged) || got != nil {
			t.Errorf("%s: Open = %q, %v", what, got, err)
		}
	}
	for i := range sealed {
		forged := slices.Clone(sealed)
		forged[i] ^= 1
		refuse("altered", c, forged, ad)
		refuse("cut", c, sealed[:i], ad)
	}
	refuse("longer", c, append(slices.Clone(sealed), 0), ad)
	refuse("another place", c, sealed, []byte("segment 7, record 4"))
	refuse("another node", NewStoreCipher(testIdentity(t, 2).StoreKey()), sealed, ad)
}

func FuzzStoreCipherOpen(f *testing.F) {
	c := NewStoreCipher([32]byte{1})
	f.Add([]byte{}, []byte{})
	f.Add(c.Seal(nil, []byte("a record"), []byte("ad")), []byte("ad"))
	f.Add(make([]byte, StoreOverhead), []byte("ad"))
	f.Fuzz(func(t *testing.T, sealed, ad []byte) {
		plain, err := c.Open(nil, sealed, ad)
		if err == nil {
			// Only a seed of the corpus opens, and then it is what its nonce seals to.
			if !bytes.Equal(xaesSeal(c, sealed[:storeNonceSize], plain, ad), sealed[storeNonceSize:]) {
				t.Fatalf("%x opens to %x and is not its seal", sealed, plain)
			}
		} else if !errors.Is(err, ErrForged) {
			t.Fatalf("error is %v", err)
		}
	})
}
