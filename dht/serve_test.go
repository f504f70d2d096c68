package dht

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/seigr/sttnode/stc"
)

// Who asks for the first time is answered and pinged in return, so that it can
// be taken into the table, all for no more than it sent; also when the answer
// could fill a datagram. Its answer to the ping makes it known.
func TestAskerIsPingedInReturn(t *testing.T) {
	v := newVictim(t, nil)
	for i := range 30 {
		addr := netip.MustParseAddrPort(fmt.Sprintf("[2001:db8:%x::1]:4700", i+1))
		v.table.heard(v.now, NewContact(testIdentity(t, 5, i+1).PublicKey(), addr), true)
	}
	a := newAttacker(t, 1, "[2001:db8:aaaa::1]:4700")
	for _, k := range []kind{kindFindNode, kindFindProviders, kindPing} {
		a.id = testIdentity(t, 6, 10+int(k))
		a.sealer = stc.NewDatagramSealer(a.id, testKeyring(t, 's'), 0)
		a.addr = netip.AddrPortFrom(a.addr.Addr(), 4700+uint16(k))
		request := message{kind: k, tx: 7}
		request.pad = padding(k, request.size())
		b := a.seal(t, v.key, request)
		sent := v.gets(b, a.addr)
		if len(sent) != 2 || len(sent[0].b)+len(sent[1].b) > len(b) {
			t.Fatalf("%v: %d datagrams in return", k, len(sent))
		}
		answer, ping := a.opens(t, sent[0]), a.opens(t, sent[1])
		if answer.kind != k|kindAnswer || k != kindPing && len(answer.nodes) < 16 || ping.kind != kindPing || ping.grant == (cookie{}) {
			t.Errorf("%v: %v with %d nodes, then %v", k, answer.kind, len(answer.nodes), ping.kind)
		}
		if v.table.get(a.id.NodeID()) != nil {
			t.Errorf("%v: in the table without proof", k)
		}
		v.gets(a.seal(t, v.key, message{kind: kindPing | kindAnswer, tx: ping.tx, grant: cookie{1}}), a.addr)
		if e := v.table.get(a.id.NodeID()); e == nil || !shareable(e) {
			t.Errorf("%v: not in the table after its answer", k)
		}
	}
}

// Who says that it is a client is in no table from that moment on, whether it
// says so when it asks or when it answers.
func TestClientFlag(t *testing.T) {
	v := newVictim(t, nil)
	a := newAttacker(t, 1, "10.0.0.9:4700")
	proof := v.proof(a)
	v.asked(a, message{kind: kindFindNode, proof: proof, client: true})
	if v.table.len() != 0 || len(v.peers.near(testKey(1), 10)) != 0 {
		t.Error("a client that asked is in the table or begins lookups")
	}
	v.asked(a, message{kind: kindFindNode, proof: proof})
	if v.table.get(a.id.NodeID()) == nil {
		t.Fatal("a node that asked is not in the table")
	}
	v.asked(a, message{kind: kindFindNode, proof: proof, client: true})
	if v.table.len() != 0 {
		t.Error("a node that has become a client is still in the table")
	}

	b := newAttacker(t, 2, "10.0.0.10:4700")
	v.sent, v.now = nil, v.now.Add(time.Second)
	if err := v.addContact(v.now, b.contact()); err != nil {
		t.Fatal(err)
	}
	v.advance(v.now)
	i := slices.IndexFunc(v.sent, func(d sentDatagram) bool { return d.to == b.addr })
	ping := b.opens(t, v.sent[i])
	v.gets(b.seal(t, v.key, message{kind: kindPing | kindAnswer, tx: ping.tx, client: true}), b.addr)
	if v.table.len() != 0 || len(v.peers.near(testKey(1), 10)) != 0 {
		t.Error("a client that answered is in the table or begins lookups")
	}
}

// A cookie in its last period is good and is replaced in the answer; a fresh
// one is not.
func TestCookiesAreRenewed(t *testing.T) {
	v := newVictim(t, nil)
	a := newAttacker(t, 1, "10.0.0.9:4700")
	proof := v.proof(a)
	if got := v.asked(a, message{kind: kindFindNode, proof: proof}); len(got) != 1 || got[0].grant != (cookie{}) {
		t.Errorf("with a fresh cookie: %+v", got)
	}
	v.now = v.now.Add(v.cfg.CookiePeriod)
	got := v.asked(a, message{kind: kindFindNode, proof: proof})
	if len(got) != 1 || got[0].kind != kindFindNode|kindAnswer || got[0].grant == (cookie{}) || got[0].grant == proof {
		t.Fatalf("with an old cookie: %+v", got)
	}
	v.now = v.now.Add(v.cfg.CookiePeriod)
	if got := v.asked(a, message{kind: kindFindNode, proof: got[0].grant}); len(got) != 1 || got[0].kind != kindFindNode|kindAnswer {
		t.Errorf("with the new cookie, a period later: %+v", got)
	}
}

// A lookup also begins at nodes that were heard of lately and for which the
// table has no room.
func TestLookupsBeginAtRecentPeers(t *testing.T) {
	v := newVictim(t, func(c *Config) { c.K = 4 })
	target := randomID(v.rng, v.id, 0)
	var closest Contact
	for i := range 200 { // bucket 0 holds 64
		c := NewContact(testIdentity(t, 5, i+1).PublicKey(), testAddr(i+1))
		v.met(v.now, c, true)
		if closest.Key.IsZero() || compareDistance(target, c.ID, closest.ID) < 0 {
			closest = c
		}
	}
	if v.table.get(closest.ID) != nil {
		v.table.take(v.table.get(closest.ID))
	}
	if !slices.Contains(v.seeds(target, func(stc.Hash) bool { return false }), closest) {
		t.Error("a lookup does not begin at the closest node that was heard of")
	}
	v.onFail(v.now, closest, v.now)
	if slices.Contains(v.seeds(target, func(stc.Hash) bool { return false }), closest) {
		t.Error("a lookup begins at a node that did not answer")
	}
}
