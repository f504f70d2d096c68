package stc

import (
	"crypto/subtle"
	"fmt"

	"github.com/flynn/noise"
)

// MaxHandshakeMessage is the longest handshake message in bytes, the limit of Noise (§3 of its specification).
const MaxHandshakeMessage = noise.MaxMsgLen

// The protocol Noise_XXpsk0_25519_ChaChaPoly_SHA256.
var (
	noisePattern = noise.HandshakeXX
	noiseCipher  = noise.CipherChaChaPoly
	noiseHash    = noise.HashSHA256 // the Diffie-Hellman function is handshakeDH
)

const (
	noisePSKPlacement = 0
	noiseMessages     = 3
	noiseKeyLen       = 32
)

// Handshake is one side of a Noise XXpsk0 handshake. It does no I/O and keeps no time:
//
//	initiator                                     responder
//	    1  psk, e           ──────────────────────▶            opens only with the shared seed
//	    2             ◀──────────────────────  e, ee, s, es    the responder's identity, known to the initiator from here on
//	    3  s, se            ──────────────────────▶            the initiator's identity; both sides are complete
//
// Each message carries a payload that is encrypted and authenticated; that of message 1 only under the shared seed, so it is
// neither forward secret nor safe from replay. Payloads of messages 2 and 3 are proven to be from the peer.
//
// State: a side writes and reads in the order of the drawing; a call out of turn fails with ErrHandshake and changes nothing.
// A message that does not authenticate (ErrForged, or ErrWrongSeed for message 1) changes nothing either: the handshake still
// waits for the genuine one, so that injecting garbage does not end it. Every other error is final: all later calls fail
// with ErrHandshake.
//
// A Handshake is for one goroutine at a time.
type Handshake struct {
	id        *Identity
	kr        *Keyring
	prologue  []byte
	initiator bool
	expected  Hash // initiator: the only acceptable peer; zero: any

	seed  *seedKeys // the seed in use; responder: nil until message 1 is read
	noise *noise.HandshakeState
	done  int // messages written and read
	dead  bool

	// What rebuild needs to play the messages so far again, and whether it must.
	message1   []byte // responder: message 1 as it came
	ownPayload []byte // payload of the last message written
	dh         *handshakeDH
	stale      bool

	peer    PublicKey
	secrets *[2]Secret // when complete: of the initiator's direction, of the responder's; nil once handed out
}

// NewInitiator starts a handshake with the node named peer, under the keyring's seed for it, or, if peer is zero, with
// whoever answers, under the network's seed. prologue (protocol version and the like) is copied and must be equal on both
// sides.
func NewInitiator(id *Identity, kr *Keyring, peer Hash, prologue []byte) (*Handshake, error) {
	seed := kr.network
	if !peer.IsZero() {
		seed, _ = kr.forPeer(peer)
	}
	h := newHandshake(id, kr, prologue)
	h.initiator, h.expected, h.seed = true, peer, seed
	var err error
	if h.noise, err = h.newNoise(seed); err != nil {
		return nil, err
	}
	return h, nil
}

// NewResponder waits for a handshake. It costs next to nothing until a message 1 arrives. prologue as in NewInitiator.
func NewResponder(id *Identity, kr *Keyring, prologue []byte) (*Handshake, error) {
	return newHandshake(id, kr, prologue), nil
}

func newHandshake(id *Identity, kr *Keyring, prologue []byte) *Handshake {
	return &Handshake{
		id:       id,
		kr:       kr,
		prologue: append([]byte(nil), prologue...),
		dh:       &handshakeDH{},
	}
}

// newNoise makes the state before message 1.
func (h *Handshake) newNoise(seed *seedKeys) (*noise.HandshakeState, error) {
	private := h.id.secret.dh
	state, err := noise.NewHandshakeState(noise.Config{
		CipherSuite:           noise.NewCipherSuite(h.dh, noiseCipher, noiseHash),
		Pattern:               noisePattern,
		Initiator:             h.initiator,
		Prologue:              h.prologue,
		PresharedKey:          seed.psk[:],
		PresharedKeyPlacement: noisePSKPlacement,
		StaticKeypair:         noise.DHKey{Private: private.Bytes(), Public: private.PublicKey().Bytes()},
	})
	if err != nil {
		return nil, fmt.Errorf("stc: starting a handshake: %w", err)
	}
	return state, nil
}

// WriteMessage appends the next handshake message with its payload to dst. payload must be short enough for a message of at
// most MaxHandshakeMessage bytes.
func (h *Handshake) WriteMessage(dst, payload []byte) ([]byte, error) {
	if err := h.turn(true); err != nil {
		return nil, err
	}
	const keysAndTags = 2*noiseKeyLen + 2*TagSize // at most, in any of the three
	if len(payload) > MaxHandshakeMessage-keysAndTags {
		return nil, fmt.Errorf("%w: payload of %d bytes", ErrHandshake, len(payload))
	}
	out, initiator, responder, err := h.noise.WriteMessage(dst, payload)
	if err != nil { // the peer's ephemeral key is of low order
		return nil, h.fail(fmt.Errorf("handshake message %d: %w: %w", h.done+1, ErrBadKey, err))
	}
	h.done++
	switch h.done {
	case 1, 2:
		h.ownPayload = append([]byte(nil), payload...)
	case noiseMessages:
		h.complete(initiator, responder)
	}
	return out, nil
}

// ReadMessage verifies the next handshake message and appends its payload to dst, which must not overlap msg.
//
// Errors: ErrForged (altered, cut, of another handshake), ErrWrongSeed (message 1: no seed that we hold; later: a peer that
// the keyring has another seed for), ErrWrongPeer (message 2: not the node that was asked for), ErrBadKey, ErrHandshake.
// Handshake says which of them are final.
func (h *Handshake) ReadMessage(dst, msg []byte) ([]byte, error) {
	if err := h.turn(false); err != nil {
		return nil, err
	}
	if len(msg) > MaxHandshakeMessage {
		return nil, fmt.Errorf("handshake message %d: %w: %d bytes", h.done+1, ErrForged, len(msg))
	}
	if h.done == 0 {
		return h.readFirst(dst, msg)
	}
	if h.stale {
		if err := h.rebuild(); err != nil {
			return nil, h.fail(err)
		}
	}
	calls := h.dh.calls
	out, initiator, responder, err := h.noise.ReadMessage(dst, msg)
	if err != nil {
		h.stale = h.dh.calls != calls
		return nil, fmt.Errorf("handshake message %d: %w: %w", h.done+1, ErrForged, err)
	}
	if err := h.acceptPeer(h.noise.PeerStatic()); err != nil {
		return nil, h.fail(fmt.Errorf("handshake message %d: %w", h.done+1, err))
	}
	h.done++
	if h.done == noiseMessages {
		h.complete(initiator, responder)
	}
	return out, nil
}

// readFirst finds the seed that message 1 was made with: the network's, then those for single peers.
func (h *Handshake) readFirst(dst, msg []byte) ([]byte, error) {
	if len(msg) < noiseKeyLen+TagSize {
		return nil, fmt.Errorf("handshake message 1: %w: %d bytes", ErrForged, len(msg))
	}
	out, err := h.tryFirst(dst, msg, h.kr.network)
	if err == nil {
		return out, nil
	}
	for _, seed := range h.kr.peerSeeds() {
		if out, err := h.tryFirst(dst, msg, seed); err == nil {
			return out, nil
		}
	}
	return nil, fmt.Errorf("handshake message 1: %w: %w", ErrWrongSeed, err)
}

func (h *Handshake) tryFirst(dst, msg []byte, seed *seedKeys) ([]byte, error) {
	state, err := h.newNoise(seed)
	if err != nil {
		return nil, err
	}
	out, _, _, err := state.ReadMessage(dst, msg)
	if err != nil {
		return nil, err
	}
	h.noise, h.seed, h.done = state, seed, 1
	h.message1 = append([]byte(nil), msg...)
	return out, nil
}

// rebuild brings the noise state back to before a message that failed half way through: the library undoes its hashes then,
// but not the keys that a Diffie-Hellman has changed. The messages so far are played again with the same ephemeral key.
func (h *Handshake) rebuild() error {
	state, err := h.newNoise(h.seed)
	if err != nil {
		return err
	}
	if !h.initiator {
		if _, _, _, err := state.ReadMessage(nil, h.message1); err != nil {
			return fmt.Errorf("stc: rebuilding a handshake: %w", err)
		}
	}
	if _, _, _, err := state.WriteMessage(nil, h.ownPayload); err != nil {
		return fmt.Errorf("stc: rebuilding a handshake: %w", err)
	}
	h.noise, h.stale = state, false
	return nil
}

// turn checks that a call is what the handshake waits for.
func (h *Handshake) turn(write bool) error {
	switch {
	case h.dead:
		return fmt.Errorf("%w: it has failed", ErrHandshake)
	case h.done == noiseMessages:
		return fmt.Errorf("%w: it is complete", ErrHandshake)
	case write != (h.initiator == (h.done%2 == 0)):
		return fmt.Errorf("%w: message %d is the other side's", ErrHandshake, h.done+1)
	}
	return nil
}

// fail ends the handshake and passes err on.
func (h *Handshake) fail(err error) error {
	h.dead = true
	h.forget()
	return err
}

// acceptPeer turns the peer's proven static key into its identity and decides whether we talk to it under this seed. The seed
// must be the one that the keyring has for this very peer: a seed meant for one peer admits no other, and where there is one,
// the network's seed doesn't do.
func (h *Handshake) acceptPeer(static []byte) error {
	peer, err := publicKeyFromX25519(static)
	if err != nil {
		return err
	}
	id := peer.NodeID()
	if !h.expected.IsZero() && id != h.expected {
		return fmt.Errorf("%w: %v instead of %v", ErrWrongPeer, id, h.expected)
	}
	seed, _ := h.kr.forPeer(id)
	if subtle.ConstantTimeCompare(seed.psk[:], h.seed.psk[:]) != 1 {
		return fmt.Errorf("%w: the keyring has another one for %v", ErrWrongSeed, id)
	}
	h.peer = peer
	return nil
}

// complete derives the traffic secrets, HKDF-SHA3-256 over both split keys, salted with the handshake hash, and forgets
// everything else.
func (h *Handshake) complete(initiator, responder *noise.CipherState) {
	k1, k2 := initiator.UnsafeKey(), responder.UnsafeKey()
	keys := append(append(make([]byte, 0, 2*keySize), k1[:]...), k2[:]...)
	prk := extract(keys, h.noise.ChannelBinding())
	h.secrets = &[2]Secret{Secret(expandKey(prk, infoInitiator)), Secret(expandKey(prk, infoResponder))}
	clear(keys)
	clear(k1[:])
	clear(k2[:])
	clear(prk)
	h.forget()
}

// forget drops what could bring back a past session's keys.
func (h *Handshake) forget() {
	h.dh, h.noise, h.seed, h.message1, h.ownPayload = nil, nil, nil, nil, nil
}

// PeerKey returns the peer's proven identity: for the initiator from message 2 on, for the responder from message 3 on, zero
// before.
func (h *Handshake) PeerKey() PublicKey { return h.peer }

// Complete reports whether all three messages have been written and read.
func (h *Handshake) Complete() bool { return h.done == noiseMessages && !h.dead }

// Secrets hands out the traffic secrets of epoch 0: what the initiator sends under and what the responder sends under. They
// belong to the caller. ErrHandshake before the handshake is complete and on every call after the first.
func (h *Handshake) Secrets() (initiator, responder *Secret, err error) {
	if h.secrets == nil {
		return nil, nil, fmt.Errorf("%w: no secrets to hand out", ErrHandshake)
	}
	initiator, responder = new(Secret), new(Secret)
	*initiator, *responder = h.secrets[0], h.secrets[1]
	h.secrets[0].Erase()
	h.secrets[1].Erase()
	h.secrets = nil
	return initiator, responder, nil
}
