package stc

import (
	"crypto/rand"
	"errors"
	"io"

	"github.com/cloudflare/circl/dh/x25519"
	"github.com/flynn/noise"
)

// handshakeDH is Noise's DH function "25519" for one handshake, on circl's X25519. Of the four multiplications of a side, the
// making of the ephemeral key takes half of what it takes with crypto/ecdh, and the others six sevenths.
type handshakeDH struct {
	ephemeral *ephemeralKey // nil until asked for; the same one from then on
	calls     int           // Diffie-Hellman computations so far, for Handshake.ReadMessage
}

type ephemeralKey struct{ private, public x25519.Key }

func newEphemeralKey(private x25519.Key) *ephemeralKey {
	k := &ephemeralKey{private: private}
	x25519.KeyGen(&k.public, &k.private)
	return k
}

// GenerateKeypair returns the handshake's ephemeral key pair. It always takes it from the system's random source.
func (d *handshakeDH) GenerateKeypair(io.Reader) (noise.DHKey, error) {
	if d.ephemeral == nil {
		var private x25519.Key
		_, _ = rand.Read(private[:]) // never fails
		d.ephemeral = newEphemeralKey(private)
	}
	return noise.DHKey{Private: d.ephemeral.private[:], Public: d.ephemeral.public[:]}, nil
}

var errLowOrder = errors.New("stc: X25519 with a point of low order")

// DH computes X25519 (RFC 7748 §6.1). It fails on public keys of low order.
func (d *handshakeDH) DH(private, public []byte) ([]byte, error) {
	d.calls++
	if len(private) != x25519.Size || len(public) != x25519.Size {
		return nil, errLowOrder
	}
	var shared x25519.Key
	if !x25519.Shared(&shared, (*x25519.Key)(private), (*x25519.Key)(public)) {
		return nil, errLowOrder
	}
	return shared[:], nil
}

// DHLen is the length of keys and results in bytes.
func (d *handshakeDH) DHLen() int { return noiseKeyLen }

// DHName is the function's part in the protocol name.
func (d *handshakeDH) DHName() string { return "25519" }
