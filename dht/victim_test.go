package dht

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

// victim is a machine under attack, with the real cryptography. What it sends
// is collected.
type victim struct {
	*machine
	t    testing.TB
	now  time.Time
	sent []sentDatagram
}

type sentDatagram struct {
	to netip.AddrPort
	b  []byte
}

func newVictim(t testing.TB, change func(*Config)) *victim {
	t.Helper()
	v := &victim{t: t, now: t0}
	cfg := Config{Identity: testIdentity(t, 5, 0), Keyring: testKeyring(t, 's'), Seed: 1, AssumeReachable: true,
		Send: func(b []byte, to netip.AddrPort) error {
			v.sent = append(v.sent, sentDatagram{to, slices.Clone(b)})
			return nil
		}}
	if change != nil {
		change(&cfg)
	}
	m, err := newMachine(cfg, v.now)
	if err != nil {
		t.Fatal(err)
	}
	v.machine = m
	return v
}

// attacker holds the shared seed and says what it likes from where it likes.
type attacker struct {
	id     *stc.Identity
	sealer *stc.DatagramSealer
	addr   netip.AddrPort
}

func newAttacker(t testing.TB, n int, addr string) *attacker {
	t.Helper()
	id := testIdentity(t, 6, n)
	return &attacker{id: id, sealer: stc.NewDatagramSealer(id, testKeyring(t, 's'), 0), addr: netip.MustParseAddrPort(addr)}
}

func (a *attacker) contact() Contact { return testContact(a.id, a.addr) }

var dhtHeader = frame.AppendHeader(nil, frame.Header{Type: frame.TypeDHT})

// seal makes a datagram of a message.
func (a *attacker) seal(t testing.TB, to stc.PublicKey, m message) []byte {
	t.Helper()
	return a.sealBytes(t, to, m.append(nil))
}

func (a *attacker) sealBytes(t testing.TB, to stc.PublicKey, plain []byte) []byte {
	t.Helper()
	b, err := a.sealer.Seal(slices.Clone(dhtHeader), to, dhtHeader, plain)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// gets delivers a datagram to the victim and returns what it sends because of
// it.
func (v *victim) gets(b []byte, from netip.AddrPort) []sentDatagram {
	v.sent = nil
	v.receive(v.now, b, from)
	v.advance(v.now)
	return v.sent
}

// opens reads a datagram that was sent to the attacker's key.
func (a *attacker) opens(t testing.TB, d sentDatagram) message {
	t.Helper()
	plain, _, err := a.sealer.Open(nil, dhtHeader, d.b[len(dhtHeader):])
	if err != nil {
		t.Fatal(err)
	}
	m, err := decodeMessage(plain)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// asked sends a message and returns the victim's answers to its sender.
func (v *victim) asked(a *attacker, m message) (all []message) {
	v.t.Helper()
	for _, d := range v.gets(a.seal(v.t, v.key, m), a.addr) {
		if d.to != a.addr {
			continue
		}
		if m := a.opens(v.t, d); m.kind.isAnswer() {
			all = append(all, m)
		}
	}
	return all
}

// proof returns a cookie that the victim grants to a at its address.
func (v *victim) proof(a *attacker) cookie {
	v.t.Helper()
	got := v.asked(a, message{kind: kindFindNode, tx: 99})
	if len(got) != 1 || got[0].kind != kindChallenge || got[0].grant == (cookie{}) {
		v.t.Fatalf("a short request without proof gets %+v", got)
	}
	return got[0].grant
}

// fill gives the victim n nodes that are good enough to tell others about.
func (v *victim) fill(n int) {
	for i := range n {
		v.table.heard(v.now, NewContact(testIdentity(v.t, 5, i+1).PublicKey(), testAddr(i+1)), true)
	}
}
