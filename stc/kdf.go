package stc

import (
	"crypto/hkdf"
	"crypto/sha3"
)

// Salts of HKDF-Extract: one for each kind of input, so that the same bytes used as a node seed and as a shared seed give
// unrelated keys.
const (
	saltNodeSeed   = "stt v1 node seed"
	saltSharedSeed = "stt v1 shared seed"
	saltPair       = "stt v1 datagram pair"
)

// Info strings of HKDF-Expand, one for each purpose. None is a prefix of another, because some are followed by variable bytes.
const (
	infoIdentity     = "stt v1 identity ed25519" // ‖ counter, 4 bytes big-endian
	infoNameKey      = "stt v1 name ed25519"     // ‖ counter, 4 bytes big-endian ‖ label
	infoStore        = "stt v1 store key"
	infoDerived      = "stt v1 derived key: " // ‖ label
	infoPSK          = "stt v1 noise psk"
	infoOuter        = "stt v1 datagram outer key"
	infoPairSecret   = "stt v1 datagram pair secret"
	infoPairKey      = "stt v1 datagram inner key" // ‖ lower public key ‖ higher public key
	infoChunker      = "stt v1 chunker key"
	infoStreamSecret = "stt v1 stream secret"
	infoStreamKey    = "stt v1 stream key: "       // ‖ label
	infoSegmentKey   = "stt v1 stream segment key" // ‖ suite, 1 byte ‖ stream ID, 16 bytes
	infoBeacon       = "stt v1 beacon key"
	infoNetworkID    = "stt v1 network id"
	infoInitiator    = "stt v1 traffic of the initiator"
	infoResponder    = "stt v1 traffic of the responder"
	infoRatchet      = "stt v1 ratchet"
	infoPacketKey    = "stt v1 packet key" // ‖ suite, 1 byte ‖ epoch, 4 bytes big-endian
	infoPacketIV     = "stt v1 packet iv"  // ‖ suite, 1 byte ‖ epoch, 4 bytes big-endian
	domainNodeID     = "stt node id v1"    // hashed in front of the public key
	domainName       = "stt name v1"       // hashed in front of the public key
	domainNameCheck  = "stt name text v1"  // hashed in front of the name
	keySize          = 32
	packetNonceSize  = 12
	datagramNonceLen = 24
)

// extract is HKDF-Extract (RFC 5869 §2.2) with SHA3-256. The caller clears secret and the result when done with them.
func extract(secret []byte, salt []byte) []byte {
	prk, err := hkdf.Extract(sha3.New256, secret, salt)
	if err != nil {
		panic("stc: HKDF-Extract refuses SHA3-256: " + err.Error()) // only a Go toolchain that restricts algorithms does
	}
	return prk
}

// expandInto is HKDF-Expand (RFC 5869 §2.3) with SHA3-256 into out, at most 255·32 bytes.
func expandInto(out []byte, prk []byte, info string) {
	okm, err := hkdf.Expand(sha3.New256, prk, info, len(out))
	if err != nil {
		panic("stc: HKDF-Expand refuses SHA3-256: " + err.Error())
	}
	copy(out, okm)
	clear(okm)
}

// expandKey is expandInto for a key of 32 bytes.
func expandKey(prk []byte, info string) (key [keySize]byte) {
	expandInto(key[:], prk, info)
	return key
}
