package dht

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/seigr/sttnode/stc"
)

const asker = "203.0.113.7:4700"

// Without proof there is a challenge and no list, and nothing is stored; with
// it there are both. A padded request gets a list, but not one byte more than
// it brought.
func TestProofOfAddress(t *testing.T) {
	v := newVictim(t, nil)
	v.fill(60)
	for i, c := range v.table.contacts(anyEntry) { // reachable from the asker
		v.table.evict(c.ID)
		c.Addr = netip.MustParseAddrPort(fmt.Sprintf("198.51.%d.1:4700", i))
		v.table.heard(v.now, c, true)
	}
	a := newAttacker(t, 1, asker)
	proof := v.proof(a)
	for _, k := range []kind{kindFindNode, kindFindProviders} {
		if got := v.asked(a, message{kind: k, tx: 1, pad: 100}); len(got) != 1 || got[0].kind != kindChallenge {
			t.Errorf("%v without proof gets %+v", k, got)
		}
		got := v.asked(a, message{kind: k, tx: 2, proof: proof})
		if len(got) != 1 || got[0].kind != k|kindAnswer || len(got[0].nodes) != 20 || got[0].tx != 2 {
			t.Errorf("%v with proof gets %+v", k, got)
		}
	}
	padded := message{kind: kindFindNode, tx: 3}
	padded.pad = maxMessage - padded.size()
	sent := v.gets(a.seal(t, v.key, padded), a.addr)
	if len(sent) == 0 || len(sent[0].b) > MaxDatagram || len(a.opens(t, sent[0]).nodes) != 20 {
		t.Errorf("a padded request is answered with %d datagrams", len(sent))
	}

	key := testKey(1)
	add := message{kind: kindAddProvider, tx: 4, ttl: 3600, keys: []stc.Hash{key}}
	if got := v.asked(a, add); len(got) != 1 || got[0].kind != kindChallenge || v.records.total != 0 {
		t.Errorf("ADD_PROVIDER without proof: %+v, %d records", got, v.records.total)
	}
	add.proof = proof
	if got := v.asked(a, add); len(got) != 1 || got[0].stored != 1 || v.records.total != 1 {
		t.Errorf("ADD_PROVIDER with proof: %+v, %d records", got, v.records.total)
	}
	if got := recordsOf(v.records, v.now, key); len(got) != 1 || got[0] != a.contact() {
		t.Errorf("stored %v", got)
	}
}

// A cookie is worth nothing from another address or for another key.
func TestCookieOfAnother(t *testing.T) {
	v := newVictim(t, nil)
	v.fill(30)
	a, b := newAttacker(t, 1, asker), newAttacker(t, 2, "203.0.113.8:4700")
	proof := v.proof(a)
	for name, thief := range map[string]*attacker{
		"from another address":             {a.id, a.sealer, b.addr},
		"from another port":                {a.id, a.sealer, netip.AddrPortFrom(a.addr.Addr(), 4701)},
		"for another key":                  {b.id, b.sealer, a.addr},
		"for another key and address":      b,
		"for another key of the same user": {testIdentity(t, 6, 3), newAttacker(t, 3, asker).sealer, a.addr},
	} {
		for _, m := range []message{
			{kind: kindFindNode, proof: proof},
			{kind: kindFindProviders, proof: proof},
			{kind: kindAddProvider, proof: proof, ttl: 3600, keys: []stc.Hash{testKey(1)}},
		} {
			if got := v.asked(thief, m); len(got) != 1 || got[0].kind != kindChallenge {
				t.Errorf("%v with a cookie %s: %+v", m.kind, name, got)
			}
		}
	}
	v.now = v.now.Add(2 * v.cfg.CookiePeriod)
	if got := v.asked(a, message{kind: kindFindNode, proof: proof}); len(got) != 1 || got[0].kind != kindChallenge {
		t.Errorf("with an expired cookie: %+v", got)
	}
	if v.records.total != 0 {
		t.Errorf("%d records", v.records.total)
	}
}

// Answers that nobody asked for change nothing.
func TestUnsolicitedAnswers(t *testing.T) {
	v := newVictim(t, nil)
	a := newAttacker(t, 1, "10.0.0.9:4700")
	for _, m := range []message{
		{kind: kindPing | kindAnswer, grant: cookie{1}},
		{kind: kindChallenge, grant: cookie{1}},
		{kind: kindFindNode | kindAnswer, nodes: []Contact{contactOf(1, "10.0.0.1:1")}},
		{kind: kindFindProviders | kindAnswer, provides: true, providers: []Contact{contactOf(1, "10.0.0.1:1")}},
		{kind: kindAddProvider | kindAnswer, stored: 1},
	} {
		if got := v.asked(a, m); len(got) != 0 {
			t.Errorf("%v is answered with %+v", m.kind, got)
		}
	}
	if v.table.len() != 0 || v.table.stats(v.now).Candidates != 0 || v.peers.lru.len() != 0 || v.stats.Dropped[DropUnsolicited] != 5 {
		t.Errorf("%d entries, %d peers, dropped %v", v.table.len(), v.peers.lru.len(), v.stats.Dropped)
	}
}

// The number of a request is of use to nobody but the node that was asked, and
// there only at the address that was asked.
func TestAnswersOfOthers(t *testing.T) {
	v := newVictim(t, nil)
	asked, other := newAttacker(t, 1, "10.0.0.9:4700"), newAttacker(t, 2, "10.0.0.10:4700")
	v.sent = nil
	var found []Contact
	if err := v.addContact(v.now, asked.contact()); err != nil {
		t.Fatal(err)
	}
	v.startSearch(v.now, PurposeProviders, testKey(1), func(c Contact) { found = append(found, c) }, func(time.Time, searchResult) {})
	request := asked.opens(t, v.sent[0])
	fake := message{kind: kindFindProviders | kindAnswer, tx: request.tx, provides: true,
		providers: []Contact{contactOf(9, "10.0.0.66:1")}, nodes: []Contact{contactOf(8, "10.0.0.67:1")}}
	wrongTx := fake
	wrongTx.tx++
	for name, d := range map[string]struct {
		by   *attacker
		m    message
		from netip.AddrPort
	}{
		"another node":                    {other, fake, other.addr},
		"another node, the same address":  {other, fake, asked.addr},
		"the right node, another address": {asked, fake, other.addr},
		"the right node, another number":  {asked, wrongTx, asked.addr},
	} {
		v.gets(d.by.seal(t, v.key, d.m), d.from)
		if known := v.peers.near(testKey(1), 10); len(found) != 0 || len(known) != 1 || known[0].Contact != asked.contact() {
			t.Errorf("%s: found %v, knows %v", name, found, known)
		}
	}
	v.gets(asked.seal(t, v.key, fake), asked.addr)
	if len(found) != 2 {
		t.Errorf("the right answer: found %v", found)
	}
}

// Datagrams of strangers, cut, long and damaged ones are dropped, unanswered.
func TestGarbage(t *testing.T) {
	v := newVictim(t, nil)
	a := newAttacker(t, 1, "10.0.0.9:4700")
	good := a.seal(t, v.key, message{kind: kindPing, pad: 200})
	silent := func(name string, b []byte, from netip.AddrPort) {
		t.Helper()
		if got := v.gets(b, from); len(got) != 0 {
			t.Errorf("%s: answered with %d datagrams", name, len(got))
		}
	}
	for n := range good {
		silent(fmt.Sprintf("cut to %d bytes", n), good[:n], a.addr)
	}
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 1
		silent(fmt.Sprintf("byte %d changed", i), bad, a.addr)
	}
	silent("a byte behind it", append(slices.Clone(good), 0), a.addr)
	silent("oversized", a.sealBytes(t, v.key, make([]byte, maxMessage+1)), a.addr)
	silent("very long", make([]byte, 65507), a.addr)
	silent("empty message", a.sealBytes(t, v.key, nil), a.addr)
	silent("not for us", a.seal(t, newAttacker(t, 2, asker).id.PublicKey(), message{kind: kindPing}), a.addr)

	stranger := stc.NewDatagramSealer(a.id, testKeyring(t, 'x'), 0)
	b, err := stranger.Seal(slices.Clone(dhtHeader), v.key, dhtHeader, (&message{kind: kindPing}).append(nil))
	if err != nil {
		t.Fatal(err)
	}
	silent("of a stranger", b, a.addr)
	if v.stats.Dropped[DropStranger] == 0 || v.stats.Dropped[DropForged] == 0 || v.stats.Dropped[DropMalformed] == 0 {
		t.Errorf("dropped %v", v.stats.Dropped)
	}

	// Our own words, sent back.
	if err := v.addContact(v.now, a.contact()); err != nil {
		t.Fatal(err)
	}
	v.sent = nil
	v.advance(v.now)
	silent("our own request", v.sent[0].b, a.addr)
	for _, from := range []string{"0.0.0.0:5", "10.0.0.9:0", "224.0.0.1:5", "255.255.255.255:5"} {
		silent("from "+from, a.seal(t, v.key, message{kind: kindPing, pad: 200}), netip.MustParseAddrPort(from))
	}
	silent("from nowhere", good, netip.AddrPort{})
	if got := v.gets(good, a.addr); len(got) == 0 {
		t.Error("the good datagram is not answered")
	}
}

// Whatever is sent from an address that has not proven itself, in whatever
// order, no more bytes come back than went in.
func TestNoAmplification(t *testing.T) {
	attackers := make([]*attacker, 4)
	for i := range attackers {
		attackers[i] = newAttacker(t, i, asker)
	}
	signed := []Record{testRecord(t, 1, 5, 0), testRecord(t, 2, 5, 300), testRecord(t, 3, 5, 835), testRecord(t, 4, 5, MaxRecordValue)}
	rapid.Check(t, func(rt *rapid.T) {
		v := newVictim(t, func(c *Config) { c.ClientOnly = rapid.IntRange(0, 9).Draw(rt, "client") == 0 })
		v.fill(rapid.IntRange(0, 40).Draw(rt, "known"))
		for i := range 5 {
			v.records.add(v.now, testKey(i), NewContact(testIdentity(t, 5, i+1).PublicKey(), netip.MustParseAddrPort("198.51.100.1:1")), time.Hour)
		}
		for _, rec := range signed {
			v.holdOwn(v.now, rec)
		}
		addrs := []netip.AddrPort{netip.MustParseAddrPort(asker), netip.MustParseAddrPort("10.0.0.200:4700"), netip.MustParseAddrPort("[2001:db8::5]:1")}
		in, out := map[netip.AddrPort]int{}, map[netip.AddrPort]int{}
		type call struct {
			who  *attacker
			from netip.AddrPort
			tx   uint64
		}
		asked := map[call]bool{} // requests of the victim, by whom they reached
		var last message         // of what the victim said to anybody: its tx, replayed
		for range rapid.IntRange(1, 30).Draw(rt, "datagrams") {
			v.now = v.now.Add(time.Duration(rapid.SampledFrom([]int{0, 1, 1000, 5000}).Draw(rt, "wait")) * time.Millisecond)
			a := attackers[rapid.IntRange(0, 3).Draw(rt, "who")]
			from := rapid.SampledFrom(addrs).Draw(rt, "from")
			m := message{
				kind:   rapid.SampledFrom([]kind{1, 2, 3, 4, 5, 6, 7, 8, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88}).Draw(rt, "kind"),
				client: rapid.Bool().Draw(rt, "client"),
				tx:     last.tx,
				keys:   []stc.Hash{testKey(1)}, ttl: 60, target: testKey(rapid.IntRange(0, 5).Draw(rt, "target")),
				nodes: []Contact{contactOf(1, "198.51.100.77:1")}, record: signed[1].bytes(),
			}
			if m.kind == kindGetRecord {
				m.target = stc.Hash(rapid.SampledFrom(signed).Draw(rt, "record").Name())
			}
			if rapid.Bool().Draw(rt, "grant") {
				m.grant = cookie{1}
			}
			if rapid.Bool().Draw(rt, "proof") {
				m.proof = cookie{2}
			}
			if !m.kind.isAnswer() {
				m.pad = rapid.SampledFrom([]int{0, 1, 15, 16, 17, 100, 126, 127, 128, 500, maxMessage - m.size() - 1, maxMessage - m.size()}).Draw(rt, "pad")
			}
			b := a.seal(t, v.key, m)
			in[from] += len(b)
			if m.kind.isAnswer() && asked[call{a, from, m.tx}] {
				in[from] += 1 << 30 // answers what it was asked there: proven
			}
			sent := v.gets(b, from)
			// Let it repeat what it may want to repeat.
			v.now = v.now.Add(time.Duration(rapid.SampledFrom([]int{0, 700, 3000}).Draw(rt, "later")) * time.Millisecond)
			v.advance(v.now)
			for _, d := range append(sent, v.sent[len(sent):]...) {
				out[d.to] += len(d.b)
				if m, ok := a.tryOpen(d); ok && d.to == from {
					last = m
					asked[call{a, from, m.tx}] = !m.kind.isAnswer() || asked[call{a, from, m.tx}]
				}
			}
			for _, addr := range addrs {
				if out[addr] > in[addr] {
					rt.Fatalf("%v sent %d bytes and got %d", addr, in[addr], out[addr])
				}
			}
		}
	})
}

// tryOpen returns the message in d, if it is for a.
func (a *attacker) tryOpen(d sentDatagram) (message, bool) {
	plain, _, err := a.sealer.Open(nil, dhtHeader, d.b[len(dhtHeader):])
	if err != nil {
		return message{}, false
	}
	m, err := decodeMessage(plain)
	return m, err == nil
}

// A flood by somebody who holds the seed and invents a new sender for every
// datagram costs a bounded number of key agreements, and who has proven itself
// is served meanwhile.
func TestFloodOfInventedSenders(t *testing.T) {
	v := newVictim(t, func(c *Config) { c.RateStrangers = 50 })
	v.fill(30)
	honest := newAttacker(t, 1000, "10.0.7.7:4700")
	proof := v.proof(honest)
	if got := v.asked(honest, message{kind: kindFindNode, proof: proof}); len(got) != 1 || len(got[0].nodes) == 0 {
		t.Fatalf("before the flood: %+v", got)
	}
	opened := v.stats.Dropped[DropRate]
	for i := range 500 {
		a := newAttacker(t, i, fmt.Sprintf("203.0.%d.%d:4700", i/200, i%200+1))
		v.gets(a.seal(t, v.key, message{kind: kindPing, pad: 300}), a.addr)
	}
	if dropped := v.stats.Dropped[DropRate] - opened; dropped < 400 {
		t.Errorf("of 500 datagrams of invented senders, %d were dropped unopened", dropped)
	}
	if got := v.asked(honest, message{kind: kindFindNode, proof: proof}); len(got) != 1 || len(got[0].nodes) == 0 {
		t.Errorf("during the flood: %+v", got)
	}
	if len(v.verifying) > maxVerifying || len(v.calls.byTx) > maxVerifying+20 {
		t.Errorf("%d verifications, %d calls", len(v.verifying), len(v.calls.byTx))
	}
}

// A node whose ID changes behind its address is a new node: the old one goes,
// the new one has to answer for itself.
func TestChangedIDBehindAnAddress(t *testing.T) {
	v := newVictim(t, nil)
	old, heir := newAttacker(t, 1, "10.0.0.9:4700"), newAttacker(t, 2, "10.0.0.9:4700")
	v.table.heard(v.now, old.contact(), true)
	proof := v.proof(heir)
	if v.table.get(old.id.NodeID()) == nil {
		t.Error("somebody who has proven nothing has displaced a node")
	}
	v.asked(heir, message{kind: kindFindNode, proof: proof})
	e := v.table.get(heir.id.NodeID())
	if v.table.get(old.id.NodeID()) != nil || e == nil || shareable(e) {
		t.Error("the old node is still there, or the new one is told of before it has answered")
	}
}

// Somebody on the internet cannot send us to hosts of our own network, nor
// anybody anywhere by naming one address under many IDs.
func TestPoisonedLists(t *testing.T) {
	v := newVictim(t, nil)
	a := newAttacker(t, 1, asker)
	if err := v.addContact(v.now, a.contact()); err != nil {
		t.Fatal(err)
	}
	v.advance(v.now)
	var found []Contact
	v.sent = nil
	v.startSearch(v.now, PurposeProviders, testKey(1), func(c Contact) { found = append(found, c) }, func(time.Time, searchResult) {})
	request := a.opens(t, v.sent[0])
	answer := message{kind: kindFindProviders | kindAnswer, tx: request.tx}
	for i := range 10 {
		answer.providers = append(answer.providers, contactOf(byte(i+1), fmt.Sprintf("192.168.0.%d:22", i+1)))
		answer.nodes = append(answer.nodes, NewContact(testIdentity(t, 5, 50+i).PublicKey(), netip.MustParseAddrPort("198.51.100.9:53")))
	}
	answer.nodes = append(answer.nodes[:8], NewContact(testIdentity(t, 5, 70).PublicKey(), netip.MustParseAddrPort("10.1.1.1:22")),
		NewContact(v.key, netip.MustParseAddrPort("198.51.100.1:1")))
	v.gets(a.seal(t, v.key, answer), a.addr)
	count := map[netip.AddrPort]int{}
	for range 200 {
		v.now = v.now.Add(100 * time.Millisecond)
		v.advance(v.now)
	}
	for _, d := range v.sent {
		if count[d.to]++; scopeOf(d.to.Addr()) != scopePublic {
			t.Errorf("sends to %v", d.to)
		}
	}
	if len(found) != 0 {
		t.Errorf("believes in providers %v", found)
	}
	// Two IDs are asked by the search, twice or three times; one by upkeep.
	if count[netip.MustParseAddrPort("198.51.100.9:53")] > 7 {
		t.Errorf("sent %v", count)
	}
}
