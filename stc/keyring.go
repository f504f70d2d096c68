package stc

import (
	"encoding/hex"
	"fmt"
	"sync"
	"sync/atomic"
)

// MaxPeerSeeds is how many single peers a Keyring holds seeds for. The limit bounds what a stranger's first handshake message
// costs a responder: one HKDF and one AEAD check for each seed.
const MaxPeerSeeds = 256

// NetworkID is a short public name of a network, derived one-way from its shared seed. It is for logs and status pages: two
// nodes that show different ones do not share a seed. It is never sent and proves nothing.
type NetworkID [8]byte

// String returns the ID in lower-case hexadecimal.
func (n NetworkID) String() string { return hex.EncodeToString(n[:]) }

// Keyring holds the network's shared seed and, for single peers, seeds that win over it. It keeps derived keys only, never
// the seeds. Safe for concurrent use. Printing one shows its NetworkID only.
type Keyring struct {
	network *seedKeys // immutable

	mu    sync.RWMutex
	peers map[Hash]*seedKeys // guarded by mu; the values are immutable

	// Counts the changes of peers, so that caches of keys derived from seeds notice them. Written under mu.
	generation atomic.Uint64
}

// seedKeys is what one shared seed turns into.
type seedKeys struct {
	psk       [keySize]byte // pre-shared key of the Noise handshake
	outer     [keySize]byte // outer layer of sealed datagrams
	pair      [keySize]byte // the seed's part in the key of a pair of nodes
	chunker   [keySize]byte // decides where content is cut
	stream    [keySize]byte // the keys of byte streams come from it
	beacon    [keySize]byte // beacons to all members
	networkID NetworkID
}

func newSeedKeys(seed []byte) (*seedKeys, error) {
	if len(seed) < MinSeedSize {
		return nil, fmt.Errorf("%w: %d bytes, at least %d are needed", ErrSeedTooShort, len(seed), MinSeedSize)
	}
	prk := extract(seed, []byte(saltSharedSeed))
	defer clear(prk)
	k := &seedKeys{
		psk:     expandKey(prk, infoPSK),
		outer:   expandKey(prk, infoOuter),
		pair:    expandKey(prk, infoPairSecret),
		chunker: expandKey(prk, infoChunker),
		stream:  expandKey(prk, infoStreamSecret),
		beacon:  expandKey(prk, infoBeacon),
	}
	expandInto(k.networkID[:], prk, infoNetworkID)
	return k, nil
}

// NewKeyring derives the keys of a network from its shared seed: secret random bytes, at least MinSeedSize of them, else
// ErrSeedTooShort. The seed is not kept.
func NewKeyring(sharedSeed []byte) (*Keyring, error) {
	network, err := newSeedKeys(sharedSeed)
	if err != nil {
		return nil, fmt.Errorf("shared seed: %w", err)
	}
	return &Keyring{network: network, peers: make(map[Hash]*seedKeys)}, nil
}

// SetPeerSeed makes seed, at least MinSeedSize bytes, the one shared with the node named peer, in place of the network's and
// of one set before. From then on that peer is accepted with this seed only; sessions that exist are not touched.
// Errors: ErrSeedTooShort, ErrTooManyPeerSeeds for a new peer beyond MaxPeerSeeds, ErrBadHash for the zero Hash.
func (k *Keyring) SetPeerSeed(peer Hash, seed []byte) error {
	if peer.IsZero() {
		return fmt.Errorf("seed for a peer: %w: the zero ID names nobody", ErrBadHash)
	}
	keys, err := newSeedKeys(seed)
	if err != nil {
		return fmt.Errorf("seed for peer %v: %w", peer, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, known := k.peers[peer]; !known && len(k.peers) >= MaxPeerSeeds {
		return fmt.Errorf("seed for peer %v: %w: %d are held", peer, ErrTooManyPeerSeeds, len(k.peers))
	}
	k.peers[peer] = keys
	k.generation.Add(1)
	return nil
}

// RemovePeerSeed forgets the seed for a single peer; the network's seed is the one shared with it again.
func (k *Keyring) RemovePeerSeed(peer Hash) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, known := k.peers[peer]; known {
		delete(k.peers, peer)
		k.generation.Add(1)
	}
}

// NetworkID returns the public name of the network whose seed this keyring was made from.
func (k *Keyring) NetworkID() NetworkID { return k.network.networkID }

// ChunkerKey returns the key by which the nodes of the network cut content into chunks, so that the borders tell outsiders
// nothing and all nodes cut the same bytes alike. It comes from the network's seed alone.
func (k *Keyring) ChunkerKey() [32]byte { return k.network.chunker }

// StreamKey returns a key for a [StreamEncoder] and its [StreamDecoder] that every holder of the network's seed can derive. Labels keep
// applications apart: the keys of different labels are unrelated.
func (k *Keyring) StreamKey(label string) [32]byte {
	return expandKey(k.network.stream[:], infoStreamKey+label)
}

// forPeer returns the keys of the seed shared with a node, and the generation that the answer belongs to.
func (k *Keyring) forPeer(peer Hash) (keys *seedKeys, generation uint64) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if keys, ok := k.peers[peer]; ok {
		return keys, k.generation.Load()
	}
	return k.network, k.generation.Load()
}

// peerSeeds returns the keys of all seeds for single peers, at most MaxPeerSeeds, in no order.
func (k *Keyring) peerSeeds() []*seedKeys {
	k.mu.RLock()
	defer k.mu.RUnlock()
	all := make([]*seedKeys, 0, len(k.peers))
	for _, keys := range k.peers {
		all = append(all, keys)
	}
	return all
}
