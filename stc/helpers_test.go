package stc

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// unhex reads a vector written as hexadecimal.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// seedOf returns the 32-byte seed n, n, n, …
func seedOf(n byte) []byte { return bytes.Repeat([]byte{n}, MinSeedSize) }

func testIdentity(t testing.TB, n byte) *Identity {
	t.Helper()
	id, err := NewIdentity(seedOf(n))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func testKeyring(t testing.TB, n byte) *Keyring {
	t.Helper()
	kr, err := NewKeyring(seedOf(n))
	if err != nil {
		t.Fatal(err)
	}
	return kr
}

// testRand returns randomness that STT_TEST_SEED replays.
func testRand(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("STT_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("STT_TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// runHandshake lets a dial b, expecting the node peer (zero: anyone), and returns both finished sides.
func runHandshake(t testing.TB, a *Identity, aKeys *Keyring, b *Identity, bKeys *Keyring, peer Hash) (initiator, responder *Handshake) {
	t.Helper()
	initiator, err := NewInitiator(a, aKeys, peer, []byte("test"))
	if err != nil {
		t.Fatal(err)
	}
	responder, err = NewResponder(b, bKeys, []byte("test"))
	if err != nil {
		t.Fatal(err)
	}
	from, to := initiator, responder
	for i := range 3 {
		msg, err := from.WriteMessage(nil, []byte{'p', byte(i)})
		if err != nil {
			t.Fatalf("writing message %d: %v", i+1, err)
		}
		payload, err := to.ReadMessage(nil, msg)
		if err != nil {
			t.Fatalf("reading message %d: %v", i+1, err)
		}
		if string(payload) != string([]byte{'p', byte(i)}) {
			t.Fatalf("payload of message %d is %q", i+1, payload)
		}
		from, to = to, from
	}
	return initiator, responder
}
