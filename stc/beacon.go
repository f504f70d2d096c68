package stc

import (
	"crypto/cipher"
	"crypto/rand"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// BeaconOverhead is how much longer a sealed beacon is than its message, in bytes.
const BeaconOverhead = BeaconNonceSize + chacha20poly1305.Overhead

// BeaconNonceSize is the length in bytes of the nonce that a sealed beacon begins with. No two beacons have the same.
const BeaconNonceSize = chacha20poly1305.NonceSizeX

// BeaconSealer seals and opens messages that a node sends to all members of the network at once, who hold the shared seed and no
// other key in common:
//
//	nonce (24) │ XChaCha20-Poly1305(beacon key, message) (n+16)
//
// To anybody else a beacon is random bytes. Every member can have made it, and it can be sent again: who opens one learns that some
// member wrote it some time, and nothing about who. Safe for concurrent use.
type BeaconSealer struct{ aead cipher.AEAD }

// NewBeaconSealer returns a sealer for the network of the keyring.
func NewBeaconSealer(kr *Keyring) *BeaconSealer {
	aead, err := chacha20poly1305.NewX(kr.network.beacon[:])
	if err != nil {
		panic("stc: beacon key: " + err.Error()) // only for a key that is not 32 bytes
	}
	return &BeaconSealer{aead}
}

// Seal appends message, sealed under a random nonce, to dst: len(message)+BeaconOverhead bytes. ad is authenticated and not sent.
func (s *BeaconSealer) Seal(dst, message, ad []byte) []byte {
	var nonce [BeaconNonceSize]byte
	_, _ = rand.Read(nonce[:]) // never fails
	return s.aead.Seal(append(dst, nonce[:]...), nonce[:], message, ad)
}

// Open appends the message of a beacon to dst. What no member has sealed is ErrForged.
func (s *BeaconSealer) Open(dst, sealed, ad []byte) ([]byte, error) {
	if len(sealed) < BeaconOverhead {
		return dst, fmt.Errorf("%w: beacon of %d bytes", ErrForged, len(sealed))
	}
	message, err := s.aead.Open(dst, sealed[:BeaconNonceSize], sealed[BeaconNonceSize:], ad)
	if err != nil {
		return dst, ErrForged
	}
	return message, nil
}
