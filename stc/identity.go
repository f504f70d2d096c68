package stc

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/sha512"
	"fmt"
)

// MinSeedSize is the least length of a node seed and of a shared seed in bytes. Longer ones are used in full.
const MinSeedSize = 32

// Identity is a node's private side: its keys, all derived from the node seed. It is immutable and safe for concurrent use.
// Printing one shows its node ID only.
type Identity struct {
	public PublicKey
	nodeID Hash
	// Behind a pointer, so that printing a struct that contains an Identity shows an address and not the keys.
	secret *identitySecret
}

type identitySecret struct {
	prk     [keySize]byte // HKDF-Extract of the node seed; root of everything else here
	signing ed25519.PrivateKey
	dh      *ecdh.PrivateKey // birational image of signing
}

// NewIdentity derives the identity of a node from its seed: secret random bytes, at least MinSeedSize of them, else
// ErrSeedTooShort. The same seed always gives the same identity. The seed is not kept and may be cleared by the caller.
func NewIdentity(nodeSeed []byte) (*Identity, error) {
	if len(nodeSeed) < MinSeedSize {
		return nil, fmt.Errorf("node seed: %w: %d bytes, at least %d are needed", ErrSeedTooShort, len(nodeSeed), MinSeedSize)
	}
	prk := extract(nodeSeed, []byte(saltNodeSeed))
	defer clear(prk)
	secret := &identitySecret{prk: [keySize]byte(prk)}
	secret.signing = deriveSigning(prk, infoIdentity, "")
	public := PublicKey(secret.signing.Public().(ed25519.PublicKey))

	// RFC 8032 §5.1.5: the scalar of an Ed25519 key is the first half of SHA-512(seed), clamped as X25519 clamps.
	digest := sha512.Sum512(secret.signing.Seed())
	defer clear(digest[:])
	dh, err := ecdh.X25519().NewPrivateKey(digest[:32])
	if err != nil {
		return nil, fmt.Errorf("stc: deriving the X25519 key: %w", err)
	}
	secret.dh = dh
	return &Identity{public: public, nodeID: public.NodeID(), secret: secret}, nil
}

// NodeID returns the node's name, PublicKey().NodeID().
func (id *Identity) NodeID() Hash { return id.nodeID }

// PublicKey returns the node's public key.
func (id *Identity) PublicKey() PublicKey { return id.public }

// Sign returns the Ed25519 signature (64 bytes, deterministic) of msg. Callers separate domains by a fixed text at the
// beginning of msg.
func (id *Identity) Sign(msg []byte) []byte { return ed25519.Sign(id.secret.signing, msg) }

// StoreKey returns the key under which this node encrypts what it keeps on disk; see NewStoreCipher.
func (id *Identity) StoreKey() [32]byte { return expandKey(id.secret.prk[:], infoStore) }

// DeriveKey returns a 32-byte key for the purpose named by label. Keys of different labels are independent of each other and
// of every key of this package.
func (id *Identity) DeriveKey(label string) [32]byte {
	return expandKey(id.secret.prk[:], infoDerived+label)
}
