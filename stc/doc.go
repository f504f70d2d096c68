// Package stc is all of sttnode's cryptography and hashing: hashes, identities, key derivation, the handshake, packet
// protection, sealed datagrams, encryption at rest, and streams of bytes as sealed segments. But for readers and writers that it
// is given it does no I/O. It starts no goroutine but the timer of a StreamWriter with FlushAfter, and imports no other package of the module but
// what lies below it: internal/gcm, AES-256-GCM made for packets, two to three times as fast as the standard library's where
// there are VAES and VPCLMULQDQ, and internal/keccak, SHA3-256 of four messages at once where there is AVX-512 or AVX2. Elsewhere both are the standard library's.
//
// Nothing here is invented. The parts, used as published and tested against published vectors:
//
//	SHA3-256                    FIPS 202            names of nodes, blobs and contents; four at a time in SumMany
//	HKDF                        RFC 5869            with SHA3-256, every derived key
//	Ed25519, X25519             RFC 8032, RFC 7748  one key pair for both, by the birational map of RFC 7748 §4.1
//	Noise XXpsk0                noiseprotocol.org   25519, ChaChaPoly, SHA256: the handshake
//	AES-256-GCM                 SP 800-38D          packets, where both sides have AES instructions
//	ChaCha20-Poly1305           RFC 8439            packets elsewhere
//	XChaCha20-Poly1305          draft-irtf-cfrg-xchacha  sealed datagrams
//	XAES-256-GCM                C2SP                records at rest
//
// Guarantees: no nonce is used twice under a key; what does not open is an error
// and gives no bytes; lengths and encodings that are not exactly right are refused;
// nothing that is secret is printed. What is exported is safe for concurrent use
// where its comment says so.
//
// # The key tree
//
// Two kinds of secret come from outside: a node's own seed, and the seeds it shares with others. Everything else is derived.
// Extract and Expand are those of HKDF-SHA3-256; a salt or info string stands beside its arrow, ‖ is concatenation, integers
// are big-endian. Info strings are never prefixes of each other.
//
//	node seed (≥ 32 bytes)
//	   │ Extract, salt "stt v1 node seed"
//	   ▼
//	node PRK ──"stt v1 identity ed25519" ‖ counter (4 bytes)──▶ Ed25519 seed ──▶ identity key pair
//	   │          (the first counter whose public key has sign bit 0)               │
//	   │                                                                            ├── public key, 32 bytes = PublicKey
//	   │                                                                            │      └─ SHA3-256("stt node id v1" ‖ key) = node ID
//	   │                                                                            └── birational image: X25519 static key
//	   ├──"stt v1 store key"───────────────▶ Identity.StoreKey ──▶ StoreCipher ──XAES, nonce──▶ one AES-256-GCM key a record
//	   └──"stt v1 derived key: " ‖ label───▶ Identity.DeriveKey
//
//	shared seed (≥ 32 bytes), the network's or a single peer's
//	   │ Extract, salt "stt v1 shared seed"
//	   ▼
//	seed PRK ──"stt v1 noise psk"───────────────▶ PSK of the handshake
//	   ├───────"stt v1 datagram outer key"──────▶ XChaCha20-Poly1305 key of the outer layer (network's seed only)
//	   ├───────"stt v1 datagram pair secret"────▶ pair secret ─┐
//	   ├───────"stt v1 network id", 8 bytes─────▶ NetworkID    │
//	   └───────"stt v1 stream secret" ─"stt v1 stream key: " ‖ label─▶ Keyring.StreamKey ─▶ StreamEncoder, StreamDecoder
//	                                                           │
//	X25519(own static key, peer's) ‖ pair secret ◀─────────────┘
//	   │ Extract, salt "stt v1 datagram pair"
//	   ▼
//	pair PRK ──"stt v1 datagram inner key" ‖ lower ‖ higher public key──▶ XChaCha20-Poly1305 key of the inner layer
//
//	Noise split: k1 ‖ k2
//	   │ Extract, salt: the handshake hash
//	   ▼
//	session PRK ──"stt v1 traffic of the initiator"──▶ Secret, epoch 0 ──"stt v1 ratchet"──▶ Secret, epoch 1 ──▶ …
//	   └──────────"stt v1 traffic of the responder"──▶ Secret, epoch 0 ──"stt v1 ratchet"──▶ Secret, epoch 1 ──▶ …
//
//	Secret of an epoch ──"stt v1 packet key" ‖ suite (1 byte) ‖ epoch (4 bytes)──▶ 32-byte AEAD key  ─┐
//	   └─────────────────"stt v1 packet iv" ‖ suite ‖ epoch──────────────────────▶ 12-byte IV        ─┴▶ PacketKey
//	                                                         nonce of a packet = IV XOR (epoch ‖ seq (8 bytes))
//
//	key of a stream ──"stt v1 stream segment key" ‖ suite (1 byte) ‖ stream ID (16 bytes)──▶ AEAD key of the stream's segments
//
// # Streams of segments
//
// StreamEncoder turns any bytes into segments and StreamDecoder turns segments into the bytes, whatever carries them: datagrams, messages,
// a file. A segment is sealed by itself and says which stream it belongs to, which number it has, and whether it is the last:
//
//	 0         1         2         3         4             8                16           24             40
//	+---------+---------+---------+---------+-------------+----------------+------------+--------------+---------------- - -+----------+
//	| version | suite   | flags   | 0       | length (4)  | number (8)     | size (8)   | stream ID    | sealed bytes       | tag (16) |
//	|  = 1    |         | 1 last  |         | of the      | from 0, one by | of the     | (16), random | (length)           |          |
//	|         |         | 2 bound.|         | bytes       | one            | stream     |              |                    |          |
//	+---------+---------+---------+---------+-------------+----------------+------------+--------------+---------------- - -+----------+
//	|<---------------------------- authenticated, in clear --------------------------->|
//
// Integers are big-endian. Size is there in every segment of a bounded stream and in the last one of a live stream, otherwise 0. The nonce
// is last (1 byte, 0 or 1) ‖ 0 (3 bytes) ‖ number (8 bytes), as in the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár (2015),
// and no key is used for two streams. So the decoder takes segments in any order and notices what was altered, cut off, left out,
// repeated, moved, or put in from another stream, each with its own error.
//
// # Identity
//
// An Ed25519 public key is a point's y-coordinate and the sign of x. X25519 knows only the point's u = (1+y)/(1−y), so an
// X25519 key stands for two Ed25519 keys. Ours always have sign 0, therefore y = (u−1)/(u+1) leads back to the one: a peer
// that proves its X25519 static key in the handshake or in a datagram has proven the whole identity, and nothing else needs
// to be sent.
//
// # Secrets in memory
//
// Packages fmt, log/slog and encoding/json print Identity, Keyring, Secret and whatever holds keys redacted. Keys are
// overwritten when done with, as far as Go allows: what the standard library's ciphers and ChaCha20-Poly1305 keep inside, and
// what the runtime has copied, can't be.
package stc
