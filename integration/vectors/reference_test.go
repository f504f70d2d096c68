package vectors

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha3"
	"crypto/sha512"
	"encoding/binary"
	"fmt"

	"github.com/flynn/noise"
	"golang.org/x/crypto/chacha20poly1305"
)

// A second implementation of docs/PROTOCOL.md, as far as bytes go: written
// from that page and the standards that it names, with nothing of the packages
// that it checks.

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func be16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// varint is the integer (v) of section 1.
func varint(v uint64) []byte {
	switch {
	case v < 1<<6:
		return []byte{byte(v)}
	case v < 1<<14:
		return be16(uint16(v) | 1<<14)
	case v < 1<<30:
		return be32(uint32(v) | 2<<30)
	}
	return binary.BigEndian.AppendUint64(nil, v|3<<62)
}

func hash(parts ...[]byte) []byte {
	h := sha3.Sum256(cat(parts...))
	return h[:]
}

func extract(salt string, secret ...[]byte) []byte {
	return must(hkdf.Extract(sha3.New256, cat(secret...), []byte(salt)))
}

func expand(prk []byte, size int, info string, more ...[]byte) []byte {
	return must(hkdf.Expand(sha3.New256, prk, info+string(cat(more...)), size))
}

// node is what section 2 makes of a node seed.
type node struct {
	counter uint32
	edSeed  []byte
	public  []byte
	id      []byte
	static  *ecdh.PrivateKey
}

func newNode(seed []byte) node {
	n := signing(seed, "stt v1 identity ed25519", "")
	scalar := sha512.Sum512(n.edSeed)
	n.id = hash([]byte("stt node id v1"), n.public)
	n.static = must(ecdh.X25519().NewPrivateKey(scalar[:32])) // which clamps
	return n
}

// signing is the first Ed25519 key of a node seed whose public key has the sign bit
// clear.
func signing(seed []byte, info, label string) node {
	prk := extract("stt v1 node seed", seed)
	for n := uint32(0); ; n++ {
		edSeed := expand(prk, 32, info, be32(n), []byte(label))
		public := []byte(ed25519.NewKeyFromSeed(edSeed).Public().(ed25519.PublicKey))
		if public[31]&0x80 == 0 {
			return node{counter: n, edSeed: edSeed, public: public}
		}
	}
}

// network is what section 2 makes of a shared seed.
type network struct{ psk, outer, pair, chunker []byte }

func newNetwork(seed []byte) network {
	prk := extract("stt v1 shared seed", seed)
	return network{
		psk:     expand(prk, 32, "stt v1 noise psk"),
		outer:   expand(prk, 32, "stt v1 datagram outer key"),
		pair:    expand(prk, 32, "stt v1 datagram pair secret"),
		chunker: expand(prk, 32, "stt v1 chunker key"),
	}
}

// pairKey is the inner key of datagrams between two nodes.
func (n network) pairKey(own, peer node) []byte {
	shared := must(own.static.ECDH(peer.static.PublicKey()))
	low, high := own.public, peer.public
	if bytes.Compare(low, high) > 0 {
		low, high = high, low
	}
	return expand(extract("stt v1 datagram pair", shared, n.pair), 32, "stt v1 datagram inner key", low, high)
}

// newNoise begins the handshake of section 4 with an ephemeral key.
func newNoise(initiator bool, own node, net network, ephemeral []byte) *noise.HandshakeState {
	return must(noise.NewHandshakeState(noise.Config{
		CipherSuite: noise.NewCipherSuite(noise.DH25519, noise.CipherChaChaPoly, noise.HashSHA256),
		Pattern:     noise.HandshakeXX, Initiator: initiator, Prologue: []byte("stt/1"),
		PresharedKey: net.psk, PresharedKeyPlacement: 0,
		StaticKeypair: noise.DHKey{Private: own.static.Bytes(), Public: own.static.PublicKey().Bytes()},
		Random:        bytes.NewReader(ephemeral), // from which it takes the ephemeral key
	}))
}

// traffic derives the secrets of epoch 0 from a complete handshake.
func traffic(h *noise.HandshakeState, c1, c2 *noise.CipherState) (initiator, responder []byte) {
	k1, k2 := c1.UnsafeKey(), c2.UnsafeKey()
	prk := extract(string(h.ChannelBinding()), k1[:], k2[:])
	return expand(prk, 32, "stt v1 traffic of the initiator"), expand(prk, 32, "stt v1 traffic of the responder")
}

func ratchet(secret []byte) []byte { return expand(secret, 32, "stt v1 ratchet") }

// packetKeys are the keys of one direction in one epoch.
type packetKeys struct {
	key, iv []byte
	epoch   uint32
	aead    cipher.AEAD
}

func newPacketKeys(secret []byte, suite byte, epoch uint32) packetKeys {
	k := packetKeys{
		key:   expand(secret, 32, "stt v1 packet key", []byte{suite}, be32(epoch)),
		iv:    expand(secret, 12, "stt v1 packet iv", []byte{suite}, be32(epoch)),
		epoch: epoch,
	}
	if suite == 1 {
		k.aead = must(cipher.NewGCM(must(aes.NewCipher(k.key))))
	} else {
		k.aead = must(chacha20poly1305.New(k.key))
	}
	return k
}

func (k packetKeys) nonce(seq uint64) []byte {
	n := binary.BigEndian.AppendUint64(be32(k.epoch), seq)
	for i := range n {
		n[i] ^= k.iv[i]
	}
	return n
}

func header(typ, epoch byte, id []byte, stream, seq uint64) []byte {
	return cat([]byte{typ, epoch}, id, varint(stream), varint(seq))
}

// seal makes a frame of section 3.
func (k packetKeys) seal(typ byte, id []byte, stream, seq uint64, payload []byte) []byte {
	h := header(typ, byte(k.epoch), id, stream, seq)
	return k.aead.Seal(h, k.nonce(seq), payload, h)
}

// open takes one apart whose stream and sequence number are one byte each.
func (k packetKeys) open(b []byte) (typ byte, stream uint64, payload []byte, err error) {
	if len(b) < 12+16 || b[10] > 63 || b[11] > 63 {
		return 0, 0, nil, fmt.Errorf("frame %x is not as short as expected", b)
	}
	payload, err = k.aead.Open(nil, k.nonce(uint64(b[11])), b[12:], b[:12])
	return b[0], uint64(b[10]), payload, err
}

func helloFrame(id, cookie, message []byte) []byte {
	b := cat(header(1, 0, id, 0, 0), []byte{1, byte(len(cookie))}, cookie, be16(uint16(len(message))), message)
	return append(b, make([]byte, 1200-len(b))...)
}

func xor(parts ...[]byte) []byte {
	out := make([]byte, 8)
	for _, p := range parts {
		for i := range out {
			out[i] ^= p[i]
		}
	}
	return out
}

// param is one pair of the parameters.
func param(id uint64, value []byte) []byte { return cat(varint(id), varint(uint64(len(value))), value) }

// datagram seals a message of section 7.
func datagram(net network, from, to node, nonce, message []byte) []byte {
	h := header(6, 0, make([]byte, 8), 0, 0)
	outer := must(chacha20poly1305.NewX(net.outer)).Seal(nil, nonce, from.public, h)
	ad := cat(h, nonce, outer, to.id)
	inner := must(chacha20poly1305.NewX(net.pairKey(from, to))).Seal(nil, nonce, message, ad)
	return cat(h, nonce, outer, inner)
}
