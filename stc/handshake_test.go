package stc

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/flynn/noise"
)

// sides returns the two ends of a handshake that has not begun.
func sides(t testing.TB, a *Identity, aKeys *Keyring, b *Identity, bKeys *Keyring, peer Hash) (initiator, responder *Handshake) {
	t.Helper()
	initiator, err := NewInitiator(a, aKeys, peer, []byte("test"))
	if err != nil {
		t.Fatal(err)
	}
	responder, err = NewResponder(b, bKeys, []byte("test"))
	if err != nil {
		t.Fatal(err)
	}
	return initiator, responder
}

func mustWrite(t testing.TB, h *Handshake, payload string) []byte {
	t.Helper()
	msg, err := h.WriteMessage(nil, []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

func mustRead(t testing.TB, h *Handshake, msg []byte) {
	t.Helper()
	if _, err := h.ReadMessage(nil, msg); err != nil {
		t.Fatal(err)
	}
}

func TestHandshake(t *testing.T) {
	alice, bob, kr := testIdentity(t, 1), testIdentity(t, 2), testKeyring(t, 3)
	initiator, responder := sides(t, alice, kr, bob, kr, bob.NodeID())

	first, err := initiator.WriteMessage([]byte("frame"), []byte("hello"))
	if err != nil || string(first[:5]) != "frame" {
		t.Fatalf("message 1 is %x, %v", first, err)
	}
	if payload, err := responder.ReadMessage([]byte("got "), first[5:]); err != nil || string(payload) != "got hello" {
		t.Fatalf("payload 1 is %q, %v", payload, err)
	}
	if !initiator.PeerKey().IsZero() || !responder.PeerKey().IsZero() {
		t.Error("nobody has proven a key yet")
	}
	mustRead(t, initiator, mustWrite(t, responder, "response"))
	if initiator.PeerKey() != bob.PublicKey() || !responder.PeerKey().IsZero() {
		t.Error("after message 2 the initiator knows its peer, the responder doesn't")
	}
	third := mustWrite(t, initiator, "proof")
	if !initiator.Complete() || responder.Complete() {
		t.Error("after writing message 3 the initiator is complete, the responder isn't")
	}
	if _, _, err := responder.Secrets(); !errors.Is(err, ErrHandshake) {
		t.Errorf("secrets before completion: %v", err)
	}
	mustRead(t, responder, third)
	if !responder.Complete() || responder.PeerKey() != alice.PublicKey() {
		t.Error("the responder is not complete, or with another peer")
	}

	i1, r1, err1 := initiator.Secrets()
	i2, r2, err2 := responder.Secrets()
	if err1 != nil || err2 != nil || *i1 != *i2 || *r1 != *r2 || *i1 == *r1 {
		t.Fatalf("secrets: %v %v", err1, err2)
	}
	if _, _, err := initiator.Secrets(); !errors.Is(err, ErrHandshake) {
		t.Errorf("secrets are handed out twice: %v", err)
	}
	again, _ := runHandshake(t, alice, kr, bob, kr, Hash{})
	if i3, _, _ := again.Secrets(); *i3 == *i1 {
		t.Error("two sessions have one secret")
	}
	sealed := mustPacketKey(t, i1, SuiteAES256GCM, 0).Seal(nil, []byte("data"), nil, 0)
	if got, err := mustPacketKey(t, i2, SuiteAES256GCM, 0).Open(nil, sealed, nil, 0); err != nil || string(got) != "data" {
		t.Errorf("the responder opens %q, %v", got, err)
	}
}

func TestHandshakeOutOfTurn(t *testing.T) {
	alice, bob, kr := testIdentity(t, 1), testIdentity(t, 2), testKeyring(t, 3)
	initiator, responder := sides(t, alice, kr, bob, kr, Hash{})
	wrong := func(_ []byte, err error) {
		t.Helper()
		if !errors.Is(err, ErrHandshake) {
			t.Errorf("out of turn: %v", err)
		}
	}
	wrong(initiator.ReadMessage(nil, make([]byte, 100)))
	wrong(responder.WriteMessage(nil, nil))
	wrong(initiator.WriteMessage(nil, make([]byte, MaxHandshakeMessage)))
	first := mustWrite(t, initiator, "")
	wrong(initiator.WriteMessage(nil, nil))
	mustRead(t, responder, first)
	wrong(responder.ReadMessage(nil, first)) // a retransmission
	second := mustWrite(t, responder, "")
	mustRead(t, initiator, second)
	wrong(initiator.ReadMessage(nil, second))
	mustRead(t, responder, mustWrite(t, initiator, ""))
	wrong(initiator.WriteMessage(nil, nil))
	wrong(responder.WriteMessage(nil, nil))
	wrong(responder.ReadMessage(nil, first))
	if !initiator.Complete() || !responder.Complete() {
		t.Error("calls out of turn changed something")
	}
}

func TestHandshakeWrongSeed(t *testing.T) {
	initiator, responder := sides(t, testIdentity(t, 1), testKeyring(t, 3), testIdentity(t, 2), testKeyring(t, 4), Hash{})
	if _, err := responder.ReadMessage(nil, mustWrite(t, initiator, "")); !errors.Is(err, ErrWrongSeed) || errors.Is(err, ErrForged) {
		t.Errorf("another network's hello: %v", err)
	}
}

func TestHandshakeWrongPeer(t *testing.T) {
	alice, bob, kr := testIdentity(t, 1), testIdentity(t, 2), testKeyring(t, 3)
	initiator, responder := sides(t, alice, kr, bob, kr, testIdentity(t, 4).NodeID())
	mustRead(t, responder, mustWrite(t, initiator, ""))
	second := mustWrite(t, responder, "")
	if payload, err := initiator.ReadMessage(nil, second); !errors.Is(err, ErrWrongPeer) || payload != nil {
		t.Fatalf("another node's answer: %q, %v", payload, err)
	}
	if !initiator.PeerKey().IsZero() || initiator.Complete() {
		t.Error("the wrong peer is taken for the right one")
	}
	if _, err := initiator.ReadMessage(nil, second); !errors.Is(err, ErrHandshake) {
		t.Errorf("after the end: %v", err)
	}
	if _, err := initiator.WriteMessage(nil, nil); !errors.Is(err, ErrHandshake) {
		t.Errorf("after the end: %v", err)
	}
}

// Which seed two nodes must use: the one set for the very peer wins, on both sides, and admits nobody else.
func TestHandshakePeerSeeds(t *testing.T) {
	alice, bob, carol := testIdentity(t, 1), testIdentity(t, 2), testIdentity(t, 4)
	keys := func(network byte, peers ...any) *Keyring { // peer, seed, peer, seed, …
		kr := testKeyring(t, network)
		for i := 0; i < len(peers); i += 2 {
			if err := kr.SetPeerSeed(peers[i].(*Identity).NodeID(), seedOf(byte(peers[i+1].(int)))); err != nil {
				t.Fatal(err)
			}
		}
		return kr
	}
	for _, c := range []struct {
		name         string
		alice, bob   *Keyring
		peer         Hash
		failsReading int // the message whose reader returns ErrWrongSeed; 0: none
	}{
		{"network's seed", keys(3), keys(3), bob.NodeID(), 0},
		{"seeds for others don't matter", keys(3, carol, 7), keys(3, carol, 8), bob.NodeID(), 0},
		{"both hold the same peer seed", keys(3, bob, 9), keys(3, alice, 9), bob.NodeID(), 0},
		{"so across networks", keys(3, bob, 9), keys(5, alice, 9), bob.NodeID(), 0},
		{"one's network seed is the other's peer seed", keys(9), keys(5, alice, 9), bob.NodeID(), 0},
		{"different peer seeds", keys(3, bob, 9), keys(3, alice, 8), bob.NodeID(), 1},
		{"only the initiator holds one", keys(3, bob, 9), keys(3), bob.NodeID(), 1},
		{"only the responder holds one", keys(3), keys(3, alice, 9), bob.NodeID(), 3},
		{"the responder's is for another", keys(3, bob, 9), keys(3, carol, 9), bob.NodeID(), 3},
		{"dialled without a name", keys(3, bob, 9), keys(3, alice, 9), Hash{}, 2},
		{"dialled without a name, no peer seeds", keys(3), keys(3), Hash{}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			initiator, responder := sides(t, alice, c.alice, bob, c.bob, c.peer)
			from, to := initiator, responder
			for n := 1; n <= 3; n++ {
				_, err := to.ReadMessage(nil, mustWrite(t, from, ""))
				if n == c.failsReading {
					if !errors.Is(err, ErrWrongSeed) || to.Complete() || !to.PeerKey().IsZero() {
						t.Errorf("message %d: %v, complete %v, peer %v", n, err, to.Complete(), to.PeerKey())
					}
					return
				}
				if err != nil {
					t.Fatalf("message %d: %v", n, err)
				}
				from, to = to, from
			}
		})
	}
}

// A seed that is set while a handshake is under way counts at the moment the peer is known.
func TestHandshakeKeyringChanges(t *testing.T) {
	alice, bob, kr := testIdentity(t, 1), testIdentity(t, 2), testKeyring(t, 3)
	initiator, responder := sides(t, alice, testKeyring(t, 3), bob, kr, Hash{})
	mustRead(t, responder, mustWrite(t, initiator, ""))
	mustRead(t, initiator, mustWrite(t, responder, ""))
	if err := kr.SetPeerSeed(alice.NodeID(), seedOf(9)); err != nil {
		t.Fatal(err)
	}
	if _, err := responder.ReadMessage(nil, mustWrite(t, initiator, "")); !errors.Is(err, ErrWrongSeed) {
		t.Error(err)
	}
}

// Flips each byte of each message and cuts it everywhere. All of it must fail, and none of it may keep the handshake from
// completing with the genuine message: otherwise anyone on the path could end it with one packet.
func TestHandshakeTampered(t *testing.T) {
	alice, bob, kr := testIdentity(t, 1), testIdentity(t, 2), testKeyring(t, 3)
	initiator, responder := sides(t, alice, kr, bob, kr, bob.NodeID())
	from, to := initiator, responder
	for n := 1; n <= 3; n++ {
		msg := mustWrite(t, from, "a payload")
		refuse := func(forged []byte) {
			t.Helper()
			payload, err := to.ReadMessage(nil, forged)
			if payload != nil || !errors.Is(err, ErrForged) && !(n == 1 && errors.Is(err, ErrWrongSeed)) {
				t.Fatalf("message %d, forged: %q, %v", n, payload, err)
			}
			if to.Complete() || !to.PeerKey().IsZero() {
				t.Fatalf("message %d, forged, is believed", n)
			}
		}
		for i := range msg {
			for _, bit := range []byte{1, 0x80} {
				forged := slices.Clone(msg)
				forged[i] ^= bit
				refuse(forged)
			}
			refuse(msg[:i])
		}
		refuse(append(slices.Clone(msg), 0))
		refuse(make([]byte, len(msg))) // an ephemeral key of low order
		refuse(make([]byte, MaxHandshakeMessage+1))
		payload, err := to.ReadMessage(nil, msg)
		if err != nil || string(payload) != "a payload" {
			t.Fatalf("the genuine message %d: %q, %v", n, payload, err)
		}
		from, to = to, from
	}
	i1, r1, err1 := initiator.Secrets()
	i2, r2, err2 := responder.Secrets()
	if err1 != nil || err2 != nil || *i1 != *i2 || *r1 != *r2 {
		t.Errorf("the sides disagree: %v, %v", err1, err2)
	}
}

// Recorded messages are worth nothing to another handshake.
func TestHandshakeReplayed(t *testing.T) {
	alice, bob, kr := testIdentity(t, 1), testIdentity(t, 2), testKeyring(t, 3)
	initiator, responder := sides(t, alice, kr, bob, kr, bob.NodeID())
	first := mustWrite(t, initiator, "hello")
	mustRead(t, responder, first)
	second := mustWrite(t, responder, "")
	mustRead(t, initiator, second)
	third := mustWrite(t, initiator, "")
	mustRead(t, responder, third)

	// Message 1 can be replayed, as in any protocol whose initiator speaks first; it leads no further.
	_, other := sides(t, alice, kr, bob, kr, Hash{})
	mustRead(t, other, first)
	mustWrite(t, other, "")
	if _, err := other.ReadMessage(nil, third); !errors.Is(err, ErrForged) || other.Complete() {
		t.Errorf("message 3 replayed: %v", err)
	}
	fresh, _ := sides(t, alice, kr, bob, kr, bob.NodeID())
	mustWrite(t, fresh, "hello")
	if _, err := fresh.ReadMessage(nil, second); !errors.Is(err, ErrForged) || !fresh.PeerKey().IsZero() {
		t.Errorf("message 2 replayed: %v", err)
	}
	// Reflected to their sender.
	mirror, _ := sides(t, alice, kr, bob, kr, Hash{})
	if _, err := mirror.ReadMessage(nil, mustWrite(t, mirror, "")); !errors.Is(err, ErrForged) {
		t.Errorf("message 1 reflected: %v", err)
	}
}

func TestHandshakePrologue(t *testing.T) {
	alice, bob, kr := testIdentity(t, 1), testIdentity(t, 2), testKeyring(t, 3)
	prologue := []byte("version 1")
	initiator, err := NewInitiator(alice, kr, Hash{}, prologue)
	if err != nil {
		t.Fatal(err)
	}
	same, _ := NewResponder(bob, kr, prologue)
	prologue[8] = '2' // the caller's slice is the caller's again
	other, _ := NewResponder(bob, kr, prologue)
	first := mustWrite(t, initiator, "")
	if _, err := other.ReadMessage(nil, first); !errors.Is(err, ErrWrongSeed) {
		t.Errorf("another prologue: %v", err)
	}
	mustRead(t, same, first)
}

// A holder of the seed may send any ephemeral and static key; what is no identity must not become a peer.
func TestHandshakeInsider(t *testing.T) {
	bob, kr := testIdentity(t, 2), testKeyring(t, 3)
	insider := func(static noise.DHKey) *noise.HandshakeState {
		state, err := noise.NewHandshakeState(noise.Config{
			CipherSuite: noise.NewCipherSuite(noise.DH25519, noiseCipher, noiseHash), Pattern: noisePattern, Initiator: true,
			PresharedKey: kr.network.psk[:], StaticKeypair: static,
		})
		if err != nil {
			t.Fatal(err)
		}
		return state
	}
	private := bytes.Repeat([]byte{7}, 32)
	for name, static := range map[string]noise.DHKey{
		"low order":        {Private: private, Public: make([]byte, 32)},
		"another's key":    {Private: private, Public: testIdentity(t, 1).secret.dh.PublicKey().Bytes()},
		"on the twist":     {Private: private, Public: append([]byte{2}, make([]byte, 31)...)},
		"the peer's own":   {Private: private, Public: bob.secret.dh.PublicKey().Bytes()},
		"not canonical, 9": {Private: private, Public: unhex(t, "f6ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f")},
	} {
		state := insider(static)
		responder, _ := NewResponder(bob, kr, nil)
		first, _, _, err := state.WriteMessage(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		mustRead(t, responder, first)
		if _, _, _, err := state.ReadMessage(nil, mustWrite(t, responder, "")); err != nil {
			t.Fatal(err)
		}
		third, _, _, err := state.WriteMessage(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := responder.ReadMessage(nil, third); err == nil || responder.Complete() || !responder.PeerKey().IsZero() {
			t.Errorf("%s: %v, peer %v", name, err, responder.PeerKey())
		}
	}

	// An ephemeral key of low order in message 1 passes there and ends the handshake when the answer needs it.
	state, err := noise.NewHandshakeState(noise.Config{
		CipherSuite: noise.NewCipherSuite(lowOrderDH{noise.DH25519}, noiseCipher, noiseHash), Pattern: noisePattern, Initiator: true,
		PresharedKey: kr.network.psk[:],
	})
	if err != nil {
		t.Fatal(err)
	}
	first, _, _, err := state.WriteMessage(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	responder, _ := NewResponder(bob, kr, nil)
	mustRead(t, responder, first)
	if _, err := responder.WriteMessage(nil, nil); !errors.Is(err, ErrBadKey) {
		t.Errorf("ephemeral key of low order: %v", err)
	}
	if _, err := responder.WriteMessage(nil, nil); !errors.Is(err, ErrHandshake) {
		t.Errorf("after the end: %v", err)
	}
}

// lowOrderDH chooses an ephemeral key of low order.
type lowOrderDH struct{ noise.DHFunc }

func (lowOrderDH) GenerateKeypair(io.Reader) (noise.DHKey, error) {
	return noise.DHKey{Private: make([]byte, 32), Public: make([]byte, 32)}, nil
}

// FuzzHandshakeReadMessage alters a genuine message, or feeds the raw bytes, at each of the three steps. Nothing but the
// genuine message may be accepted, and it still must be afterwards.
func FuzzHandshakeReadMessage(f *testing.F) {
	alice, bob, kr := testIdentity(f, 1), testIdentity(f, 2), testKeyring(f, 3)
	f.Add(uint8(1), uint16(0), []byte{})
	f.Add(uint8(1), uint16(3), []byte{1})
	f.Add(uint8(2), uint16(0), append(make([]byte, 40), 1))
	f.Add(uint8(3), uint16(16), []byte{})
	f.Add(uint8(3), uint16(0), append(make([]byte, 60), 0x80))
	f.Fuzz(func(t *testing.T, step uint8, cut uint16, mask []byte) {
		initiator, responder := sides(t, alice, kr, bob, kr, bob.NodeID())
		from, to := initiator, responder
		for n := uint8(1); n <= 3; n++ {
			msg := mustWrite(t, from, "payload")
			if n == 1+step%3 {
				altered := slices.Clone(msg)
				for i := range min(len(mask), len(altered)) {
					altered[i] ^= mask[i]
				}
				if len(mask) > len(altered) {
					altered = append(altered, mask[len(altered):]...)
				}
				altered = altered[:len(altered)-min(int(cut), len(altered))]
				for _, hostile := range [][]byte{altered, mask} {
					if bytes.Equal(hostile, msg) {
						continue
					}
					if payload, err := to.ReadMessage(nil, hostile); err == nil {
						t.Fatalf("message %d: %x is accepted for %x: %q", n, hostile, msg, payload)
					} else if !errors.Is(err, ErrForged) && !errors.Is(err, ErrWrongSeed) {
						t.Fatalf("message %d: error is %v", n, err)
					}
				}
			}
			mustRead(t, to, msg)
			from, to = to, from
		}
		i1, _, err1 := initiator.Secrets()
		i2, _, err2 := responder.Secrets()
		if err1 != nil || err2 != nil || *i1 != *i2 {
			t.Fatal("the sides disagree")
		}
	})
}
