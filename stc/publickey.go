package stc

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"fmt"

	"filippo.io/edwards25519"
	"filippo.io/edwards25519/field"
)

// PublicKeySize is the length of a PublicKey in bytes.
const PublicKeySize = 32

// PublicKey is a whole identity in 32 bytes: an Ed25519 public key (RFC 8032) whose sign bit is clear. Because of the clear
// bit its X25519 image (RFC 7748 §4.1) determines it uniquely, in both directions: the static key that a peer proves in a
// Noise handshake is its identity. The zero PublicKey is nobody's.
//
// A PublicKey made by ParsePublicKey is valid. One copied from elsewhere need not be: X25519 checks it, Verify fails on it.
type PublicKey [PublicKeySize]byte

// ParsePublicKey reads a public key and refuses with ErrBadKey whatever is not the one canonical encoding of a curve point
// with sign bit 0 and an order above 8.
func ParsePublicKey(b []byte) (PublicKey, error) {
	if len(b) != PublicKeySize {
		return PublicKey{}, fmt.Errorf("%w: %d bytes instead of %d", ErrBadKey, len(b), PublicKeySize)
	}
	key := PublicKey(b)
	if _, err := key.point(); err != nil {
		return PublicKey{}, err
	}
	return key, nil
}

// NodeID returns SHA3-256("stt node id v1" ‖ key), the name of the node that owns the key.
func (k PublicKey) NodeID() Hash {
	var b [len(domainNodeID) + PublicKeySize]byte
	copy(b[:], domainNodeID)
	copy(b[len(domainNodeID):], k[:])
	return Sum(b[:])
}

// X25519 returns the Montgomery u-coordinate of the same point: u = (1+y)/(1−y). ErrBadKey as from ParsePublicKey.
func (k PublicKey) X25519() ([32]byte, error) {
	p, err := k.point()
	if err != nil {
		return [32]byte{}, err
	}
	return [32]byte(p.BytesMontgomery()), nil
}

// Verify reports whether sig is the key owner's Ed25519 signature of msg. Whoever signs separates domains: a message must
// begin with bytes that no other kind of message begins with.
func (k PublicKey) Verify(msg, sig []byte) bool {
	return k[31]&0x80 == 0 && ed25519.Verify(k[:], msg, sig)
}

// IsZero reports whether k is the zero PublicKey.
func (k PublicKey) IsZero() bool { return k == PublicKey{} }

// String returns the key in lower-case hexadecimal.
func (k PublicKey) String() string { return hex.EncodeToString(k[:]) }

// point decodes and checks the key. The library's decoder follows RFC 8032 loosely, so the encoding is compared as well.
// Points with a torsion component pass: they give their owner, and nobody else, further names for the same private key.
func (k PublicKey) point() (*edwards25519.Point, error) {
	if k[31]&0x80 != 0 {
		return nil, fmt.Errorf("%w: sign bit is set", ErrBadKey)
	}
	p, err := new(edwards25519.Point).SetBytes(k[:])
	if err != nil {
		return nil, fmt.Errorf("%w: not a curve point", ErrBadKey)
	}
	if !bytes.Equal(p.Bytes(), k[:]) {
		return nil, fmt.Errorf("%w: encoding is not canonical", ErrBadKey)
	}
	if new(edwards25519.Point).MultByCofactor(p).Equal(edwards25519.NewIdentityPoint()) == 1 {
		return nil, fmt.Errorf("%w: point of low order", ErrBadKey)
	}
	return p, nil
}

// publicKeyFromX25519 is the inverse of PublicKey.X25519: y = (u−1)/(u+1), sign bit 0. It refuses every u that the inverse
// doesn't lead back to: non-canonical ones, those on the curve's twist, and those of low order.
func publicKeyFromX25519(u []byte) (PublicKey, error) {
	x, err := new(field.Element).SetBytes(u)
	if err != nil {
		return PublicKey{}, fmt.Errorf("%w: %d bytes", ErrBadKey, len(u))
	}
	one := new(field.Element).One()
	y := new(field.Element).Add(x, one)
	y.Invert(y)
	y.Multiply(y, new(field.Element).Subtract(x, one))
	key := PublicKey(y.Bytes())
	back, err := key.X25519()
	if err != nil {
		return PublicKey{}, err
	}
	if !bytes.Equal(back[:], u) {
		return PublicKey{}, fmt.Errorf("%w: X25519 key is not canonical", ErrBadKey)
	}
	return key, nil
}
