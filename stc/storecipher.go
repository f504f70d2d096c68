package stc

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"sync"

	"github.com/seigr/sttnode/stc/internal/gcm"
)

const (
	storeNonceSize = 24

	// StoreOverhead is how much longer a sealed record is than its plaintext, in bytes: a nonce of 24 and a tag of 16.
	StoreOverhead = storeNonceSize + TagSize
)

// StoreCipher seals records at rest with XAES-256-GCM (C2SP): each record under an AES-256-GCM key of its own, derived from
// the store's key and a random 24-byte nonce that stands in front of the record. With 2⁸⁰ records under one key the chance that
// any two share a nonce is below 2⁻³², so it needs no counter that a crash or a restored backup could set back.
//
// A StoreCipher is immutable and safe for concurrent use.
type StoreCipher struct {
	block cipher.Block // AES-256 under the store's key
	k1    [aes.BlockSize]byte
}

// NewStoreCipher returns the cipher for a key, as from Identity.StoreKey.
func NewStoreCipher(key [32]byte) *StoreCipher {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("stc: store cipher: " + err.Error()) // only for a key that is not 16, 24 or 32 bytes
	}
	c := &StoreCipher{block: block}
	// K1 of CMAC (NIST SP 800-38B §6.1): E(0) doubled in GF(2¹²⁸).
	block.Encrypt(c.k1[:], c.k1[:])
	var msb byte
	for i := len(c.k1) - 1; i >= 0; i-- {
		msb, c.k1[i] = c.k1[i]>>7, c.k1[i]<<1|msb
	}
	c.k1[len(c.k1)-1] ^= msb * 0b10000111
	return c
}

// Seal appends nonce, encrypted plaintext and tag to dst: len(plaintext)+StoreOverhead bytes. ad, which says what the record
// is and where it belongs, is authenticated and not stored. plaintext, up to 64 GiB, must not overlap dst's free space.
func (c *StoreCipher) Seal(dst, plaintext, ad []byte) []byte {
	start := len(dst)
	var random [storeNonceSize]byte
	rand.Read(random[:]) // never fails since Go 1.24: it ends the program instead
	dst = append(dst, random[:]...)
	nonce := dst[start : start+storeNonceSize : start+storeNonceSize]
	aead := c.recordAEAD(nonce[:12])
	defer gcm.Wipe(aead)
	return aead.Seal(dst, nonce[12:], plaintext, ad)
}

// Open verifies a record with its ad and appends the plaintext to dst, which must not overlap sealed. Anything else than what
// Seal returned for this key and ad is ErrForged.
func (c *StoreCipher) Open(dst, sealed, ad []byte) ([]byte, error) {
	if len(sealed) < StoreOverhead {
		return nil, ErrForged
	}
	aead := c.recordAEAD(sealed[:12])
	defer gcm.Wipe(aead)
	out, err := aead.Open(dst, sealed[12:storeNonceSize], sealed[storeNonceSize:], ad)
	if err != nil {
		return nil, ErrForged
	}
	return out, nil
}

// recordKeys recycles the buffers of derived keys, which escape through the cipher.Block interface.
var recordKeys = sync.Pool{New: func() any { return new([2 * aes.BlockSize]byte) }}

// recordAEAD derives the AES-256-GCM key of the records whose nonce begins with these 12 bytes: the counter-mode KDF of NIST
// SP 800-108 with CMAC-AES-256, label "X", which comes to two AES calls. Setting up the key allocates, with the standard
// library twice, about 1.3 KiB: it has no way of giving an existing AES-GCM another key.
func (c *StoreCipher) recordAEAD(prefix []byte) cipher.AEAD {
	key := recordKeys.Get().(*[2 * aes.BlockSize]byte)
	defer recordKeys.Put(key)
	for i := range 2 {
		half := key[i*aes.BlockSize : (i+1)*aes.BlockSize]
		half[0], half[1], half[2], half[3] = 0, byte(i+1), 'X', 0
		copy(half[4:], prefix)
		subtle.XORBytes(half, half, c.k1[:])
		c.block.Encrypt(half, half)
	}
	defer clear(key[:]) // runs before Put
	aead, err := gcm.New(key[:])
	if err != nil {
		panic("stc: record key: " + err.Error()) // only for a key that is not 32 bytes
	}
	return aead
}
