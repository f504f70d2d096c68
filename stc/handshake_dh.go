package stc

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/subtle"
	"io"

	"github.com/flynn/noise"
)

// handshakeDH is Noise's DH function "25519" for one handshake. It holds the two private keys of the handshake instead of
// making them from bytes for every computation, which halves the handshake's cost: crypto/ecdh computes the public key of each
// private key that it is given. And it counts, for Handshake.ReadMessage.
type handshakeDH struct {
	static    *ecdh.PrivateKey
	ephemeral *ecdh.PrivateKey // nil until asked for; the same one from then on
	calls     int              // Diffie-Hellman computations so far
}

// GenerateKeypair returns the handshake's ephemeral key pair. It always takes it from the system's random source.
func (d *handshakeDH) GenerateKeypair(io.Reader) (noise.DHKey, error) {
	if d.ephemeral == nil {
		key, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			return noise.DHKey{}, err
		}
		d.ephemeral = key
	}
	return noise.DHKey{Private: d.ephemeral.Bytes(), Public: d.ephemeral.PublicKey().Bytes()}, nil
}

// DH computes X25519 (RFC 7748 §6.1) of one of the two private keys. It fails on public keys of low order.
func (d *handshakeDH) DH(private, public []byte) ([]byte, error) {
	d.calls++
	peer, err := ecdh.X25519().NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	if d.ephemeral != nil && subtle.ConstantTimeCompare(private, d.ephemeral.Bytes()) == 1 {
		return d.ephemeral.ECDH(peer)
	}
	return d.static.ECDH(peer) // the only other key that newNoise gives away
}

// DHLen is the length of keys and results in bytes.
func (d *handshakeDH) DHLen() int { return noiseKeyLen }

// DHName is the function's part in the protocol name.
func (d *handshakeDH) DHName() string { return "25519" }
