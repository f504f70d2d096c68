package stc

import (
	"crypto/cipher"
	"encoding/binary"
	"sync"

	"github.com/seigr/sttnode/stc/internal/gcm"
)

// PacketKey seals or opens the packets of one direction in one epoch. It is safe for concurrent use and does not allocate
// when dst has room (with ChaCha20-Poly1305 on amd64; elsewhere twice a packet).
//
// The nonce of a packet is the key's secret 12-byte IV XOR (epoch ‖ seq), 4 and 8 bytes big-endian (as RFC 9001 §5.3). It is
// never sent. The caller must never seal twice with one seq: AES-GCM then gives away the XOR of both plaintexts and the key of
// its authentication. Uniqueness of seq within an epoch is the session's to keep.
type PacketKey struct {
	aead  cipher.AEAD
	iv    [packetNonceSize]byte
	epoch uint32
}

// packetNonces recycles nonce buffers: passed through an interface they would escape, one allocation a packet. A buffer in
// the key would be cheaper still by a few nanoseconds, and a concurrent use of the key would then repeat a nonce.
var packetNonces = sync.Pool{New: func() any { return new([packetNonceSize]byte) }}

// PacketKey derives the packet key of the secret's direction for an epoch. ErrUnknownSuite if the suite is none of
// SuiteAES256GCM and SuiteChaCha20Poly1305.
func (s *Secret) PacketKey(suite Suite, epoch uint32) (*PacketKey, error) {
	var context [5]byte
	context[0] = byte(suite)
	binary.BigEndian.PutUint32(context[1:], epoch)
	key := expandKey(s[:], infoPacketKey+string(context[:]))
	defer clear(key[:])
	aead, err := suite.newAEAD(key[:])
	if err != nil {
		return nil, err
	}
	k := &PacketKey{aead: aead, epoch: epoch}
	expandInto(k.iv[:], s[:], infoPacketIV+string(context[:]))
	return k, nil
}

// Seal encrypts plaintext, authenticates it with ad and seq, and appends len(plaintext)+TagSize bytes to dst. As with
// cipher.AEAD, dst may be plaintext[:0]; otherwise the two must not overlap.
func (k *PacketKey) Seal(dst, plaintext, ad []byte, seq uint64) []byte {
	nonce := k.nonce(seq)
	out := k.aead.Seal(dst, nonce[:], plaintext, ad)
	packetNonces.Put(nonce)
	return out
}

// Open verifies ciphertext, ad and seq, and appends the plaintext to dst, which may be ciphertext[:0]. If anything does not
// authenticate the error is ErrForged and the bytes after dst may have been overwritten with zeros.
func (k *PacketKey) Open(dst, ciphertext, ad []byte, seq uint64) ([]byte, error) {
	nonce := k.nonce(seq)
	out, err := k.aead.Open(dst, nonce[:], ciphertext, ad)
	packetNonces.Put(nonce)
	if err != nil {
		return nil, ErrForged
	}
	return out, nil
}

// Erase overwrites the key as far as it can be reached: the IV always, the cipher's own key only where it is ours to reach, in
// AES-256-GCM on amd64 with VAES. Nothing may be sealed or opened with the key at the same time or afterwards.
func (k *PacketKey) Erase() {
	gcm.Wipe(k.aead)
	clear(k.iv[:])
}

func (k *PacketKey) nonce(seq uint64) *[packetNonceSize]byte {
	nonce := packetNonces.Get().(*[packetNonceSize]byte)
	binary.BigEndian.PutUint32(nonce[:4], k.epoch^binary.BigEndian.Uint32(k.iv[:4]))
	binary.BigEndian.PutUint64(nonce[4:], seq^binary.BigEndian.Uint64(k.iv[4:]))
	return nonce
}
