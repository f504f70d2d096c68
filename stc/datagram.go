package stc

import (
	"bytes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"fmt"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/crypto/chacha20poly1305"
)

const (
	outerSize = datagramNonceLen + PublicKeySize + chacha20poly1305.Overhead

	// DatagramOverhead is how much longer a sealed datagram is than its message, in bytes.
	DatagramOverhead = outerSize + chacha20poly1305.Overhead

	// DefaultCachedPairs is how many pair keys a DatagramSealer keeps when told no number: about 2 MiB.
	DefaultCachedPairs = 4096
)

// DatagramSealer seals and opens single datagrams between nodes that know each other's public keys, without a session:
//
//	nonce (24) │ XChaCha20-Poly1305(outer key, sender's public key) (48) │ XChaCha20-Poly1305(pair key, message) (n+16)
//	           ╰─ ad: ad                                                 ╰─ ad: ad ‖ nonce ‖ outer part ‖ recipient's node ID
//
// The outer key comes from the network's seed, so that a stranger's datagram costs one AEAD check of 32 bytes. The pair key
// comes from X25519 of both static keys and the seed shared with that peer, so that an opened message is proven to be from the
// key that it names and, by the recipient's ID, to be for us: it can't be passed on to another node or sent back.
//
// What it doesn't give: forward secrecy, and protection against replay. The protocol above matches answers to requests and
// makes repeated requests harmless. A holder of the network's seed can make us compute one X25519 (some tens of µs) a datagram by
// naming made-up senders; limiting that by address is the protocol's as well.
//
// Safe for concurrent use.
type DatagramSealer struct {
	id    *Identity
	kr    *Keyring
	outer cipher.AEAD
	pairs *lru.Cache[PublicKey, *pairKey] // only peers that we wrote to or that have proven themselves
}

// pairKey is immutable.
type pairKey struct {
	aead       cipher.AEAD
	peerID     Hash
	generation uint64 // of the keyring when the key was derived
}

// datagramScratch holds what goes through the AEAD interface and would escape to the heap otherwise.
type datagramScratch struct {
	nonce [datagramNonceLen]byte
	key   PublicKey
	ad    []byte
}

var datagramScratches = sync.Pool{New: func() any { return &datagramScratch{ad: make([]byte, 0, 256)} }}

// NewDatagramSealer returns a sealer that keeps up to cachePairs pair keys (about 500 bytes each), the least recently used
// ones being derived anew. Zero or less means DefaultCachedPairs.
func NewDatagramSealer(id *Identity, kr *Keyring, cachePairs int) *DatagramSealer {
	if cachePairs <= 0 {
		cachePairs = DefaultCachedPairs
	}
	pairs, err := lru.New[PublicKey, *pairKey](cachePairs)
	if err != nil {
		panic("stc: pair key cache: " + err.Error()) // only for a size that is not positive
	}
	outer, err := chacha20poly1305.NewX(kr.network.outer[:])
	if err != nil {
		panic("stc: outer datagram key: " + err.Error()) // only for a key that is not 32 bytes
	}
	return &DatagramSealer{id: id, kr: kr, outer: outer, pairs: pairs}
}

// Seal appends message, sealed for the owner of the key to, to dst: len(message)+DatagramOverhead bytes. ad is authenticated
// and not sent. dst must not overlap message. Errors: ErrBadKey, ErrOwnKey.
func (s *DatagramSealer) Seal(dst []byte, to PublicKey, ad, message []byte) ([]byte, error) {
	if to == s.id.public {
		return nil, fmt.Errorf("sealing a datagram: %w", ErrOwnKey)
	}
	pair, cached, err := s.pair(to)
	if err != nil {
		return nil, fmt.Errorf("sealing a datagram for %v: %w", to, err)
	}
	if !cached {
		s.pairs.Add(to, pair)
	}
	scratch := datagramScratches.Get().(*datagramScratch)
	defer datagramScratches.Put(scratch)
	rand.Read(scratch.nonce[:]) // never fails since Go 1.24: it ends the program instead
	scratch.key = s.id.public

	start := len(dst)
	dst = append(dst, scratch.nonce[:]...)
	dst = s.outer.Seal(dst, scratch.nonce[:], scratch.key[:], ad)
	scratch.ad = innerAD(scratch.ad[:0], ad, dst[start:], pair.peerID)
	return pair.aead.Seal(dst, scratch.nonce[:], message, scratch.ad), nil
}

// Open verifies a sealed datagram and appends its message to dst, which must not overlap sealed. from is the proven sender.
//
// Errors: ErrForged if it is too short or the inner part does not authenticate (for another recipient, another seed for this
// peer, or altered); ErrWrongSeed if the outer part does not, which is what all strangers get; ErrBadKey; ErrOwnKey if it
// names us as its sender.
func (s *DatagramSealer) Open(dst []byte, ad, sealed []byte) (message []byte, from PublicKey, err error) {
	if len(sealed) < DatagramOverhead {
		return nil, PublicKey{}, ErrForged
	}
	scratch := datagramScratches.Get().(*datagramScratch)
	defer datagramScratches.Put(scratch)
	copy(scratch.nonce[:], sealed)
	key, err := s.outer.Open(scratch.key[:0], scratch.nonce[:], sealed[datagramNonceLen:outerSize], ad)
	if err != nil {
		return nil, PublicKey{}, ErrWrongSeed
	}
	sender := PublicKey(key)
	if sender == s.id.public {
		return nil, PublicKey{}, ErrOwnKey
	}
	pair, cached, err := s.pair(sender)
	if err != nil {
		return nil, PublicKey{}, fmt.Errorf("opening a datagram: %w", err)
	}
	scratch.ad = innerAD(scratch.ad[:0], ad, sealed[:outerSize], s.id.nodeID)
	message, err = pair.aead.Open(dst, scratch.nonce[:], sealed[outerSize:], scratch.ad)
	if err != nil {
		return nil, PublicKey{}, ErrForged
	}
	if !cached { // made-up senders must not displace real ones
		s.pairs.Add(sender, pair)
	}
	return message, sender, nil
}

// innerAD is unambiguous although ad is of any length: what follows it has a fixed one.
func innerAD(dst, ad, outer []byte, recipient Hash) []byte {
	dst = append(dst, ad...)
	dst = append(dst, outer...)
	return append(dst, recipient[:]...)
}

// pair returns the key shared with a peer, and whether it came from the cache. A key derived before the keyring changed is
// derived anew.
func (s *DatagramSealer) pair(peer PublicKey) (key *pairKey, cached bool, err error) {
	if key, ok := s.pairs.Get(peer); ok && key.generation == s.kr.generation.Load() {
		return key, true, nil
	}
	montgomery, err := peer.X25519()
	if err != nil {
		return nil, false, err
	}
	public, err := ecdh.X25519().NewPublicKey(montgomery[:])
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", ErrBadKey, err)
	}
	shared, err := s.id.secret.dh.ECDH(public)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", ErrBadKey, err)
	}
	key = &pairKey{peerID: peer.NodeID()}
	seed, generation := s.kr.forPeer(key.peerID)
	key.generation = generation

	low, high := s.id.public, peer
	if bytes.Compare(low[:], high[:]) > 0 {
		low, high = high, low
	}
	secret := append(shared, seed.pair[:]...)
	prk := extract(secret, []byte(saltPair))
	aeadKey := expandKey(prk, infoPairKey+string(low[:])+string(high[:]))
	clear(secret)
	clear(shared)
	clear(prk)
	defer clear(aeadKey[:])
	if key.aead, err = chacha20poly1305.NewX(aeadKey[:]); err != nil {
		return nil, false, err
	}
	return key, false, nil
}
