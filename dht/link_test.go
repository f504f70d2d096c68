package dht

import (
	"errors"
	"net/netip"
	"testing"
	"time"
)

// linkedNode adds node number n, which reaches nobody but the node by, over a
// link. Nodes of the network must have been made with linkSend.
func (s *sim) linkedNode(n int, by *simNode, remote string, change func(*Config)) *simNode {
	addr := LinkAddr(testIdentity(s.t, 7, n).NodeID(), netip.MustParseAddrPort(remote))
	return s.addAt(n, addr, func(cfg *Config) {
		cfg.Send = func(b []byte, to netip.AddrPort) error {
			if peer, ok := LinkPeer(to); !ok || peer != by.id {
				return errors.New("blocked")
			}
			s.Send(b, addr, by.addr)
			return nil
		}
		if change != nil {
			change(cfg)
		}
	})
}

// linkSend lets a node answer over links: its datagrams come from its own.
func (s *sim) linkSend(addr netip.AddrPort) func(*Config) {
	return func(cfg *Config) {
		self := LinkAddr(cfg.Identity.NodeID(), addr)
		cfg.Send = func(b []byte, to netip.AddrPort) error {
			from := addr
			if linked(to) {
				from = self
			}
			s.Send(b, from, to)
			return nil
		}
	}
}

// linkNetwork is a network of n nodes, all of which answer over links.
func linkNetwork(t *testing.T, n int) (*sim, []*simNode) {
	s := newSim(t, testSeed(t))
	var all []*simNode
	for i := range n {
		all = append(all, s.addAt(i, testAddr(i+1), s.linkSend(testAddr(i+1))))
		if i > 0 {
			all[i].join(all[0])
		}
	}
	return s, all
}

// joinOverLink joins by a node whose other end of the connection is remote.
func (n *simNode) joinOverLink(by *simNode, remote netip.AddrPort) {
	n.sim.t.Helper()
	if err := n.addContact(n.sim.Now(), NewContact(by.key, LinkAddr(by.id, remote))); err != nil {
		n.sim.t.Fatal(err)
	}
	var err error
	over := false
	n.upkeep.bootstrap(n.sim.Now(), func(e error) { err, over = e, true })
	n.settle()
	n.sim.wait("bootstrap", func() bool { return over })
	if err != nil {
		n.sim.t.Fatalf("bootstrap over a link: %v", err)
	}
}

// A node that only a link leads into the network finds providers whose records
// lie with nodes that it cannot reach, and is in nobody's table.
func TestFindOverLink(t *testing.T) {
	s, all := linkNetwork(t, 60)
	if _, err := all[30].provide(testKey(1)); err != nil {
		t.Fatal(err)
	}
	// The one whose link it is holds no record itself.
	by := all[0]
	for _, n := range all {
		if n != all[30] && n.records.byKey[testKey(1)] == nil {
			by = n
		}
	}
	if by.records.byKey[testKey(1)] != nil {
		t.Fatal("every node holds the record")
	}
	n := s.linkedNode(100, by, "10.9.9.9:40000", nil)
	n.joinOverLink(by, by.addr)
	n.providers(testKey(1))
	s.RunFor(time.Second)
	found, _ := n.providers(testKey(1))
	if len(found) != 1 || found[0] != all[30].contact() {
		t.Errorf("found %v over the link", found)
	}
	for i, other := range all {
		if other.table.get(n.id) != nil {
			t.Errorf("node %d has it in its table", i)
		}
	}
	// What is saved is for another process, which has no such link.
	if entries, _, err := unmarshalTable(n.table.marshal(rtt{})); err != nil || len(entries) != 0 || n.table.len() == 0 {
		t.Errorf("%d of %d entries saved, %v", len(entries), n.table.len(), err)
	}
}

// A node that only a link leads into the network publishes records that all
// others find, and finds those of others, whatever its one peer holds.
func TestRecordsOverLink(t *testing.T) {
	s, all := linkNetwork(t, 60)
	theirs, ours := testRecord(t, 1, 1, 33), testRecord(t, 2, 1, 33)
	if _, err := all[30].putRecord(theirs); err != nil {
		t.Fatal(err)
	}
	by := all[0]
	for _, n := range all {
		if n.signed.get(s.Now(), theirs.Name()).IsZero() {
			by = n
		}
	}
	n := s.linkedNode(100, by, "10.9.9.9:40000", nil)
	n.joinOverLink(by, by.addr)
	if stored, err := n.putRecord(ours); stored != 1 || err != nil {
		t.Errorf("stored at %d, %v", stored, err)
	}
	n.getRecord(theirs.Name())
	s.RunFor(2 * time.Second)
	if got, _ := n.getRecord(theirs.Name()); got != theirs {
		t.Errorf("number %d is found over the link", got.seq)
	}
	holders := 0
	for i, other := range all {
		if got, _ := other.getRecord(ours.Name()); got != ours {
			t.Errorf("node %d finds number %d", i, got.seq)
		}
		if !other.signed.get(s.Now(), ours.Name()).IsZero() {
			holders++
		}
	}
	if holders < 20 {
		t.Errorf("%d nodes hold the record", holders)
	}
}

// The connection may have been opened anew, from another port, between a
// request and its answer.
func TestLinkSurvivesReconnect(t *testing.T) {
	s, all := linkNetwork(t, 3)
	n := s.linkedNode(100, all[0], "10.9.9.9:40000", nil)
	n.joinOverLink(all[0], netip.MustParseAddrPort("10.0.0.77:1")) // not where the answers come from
	if r := n.closest(testKey(1)); r.err != nil || r.stats.Answered != 1 {
		t.Errorf("%+v", r)
	}
}

// What a node provides that takes WebSocket is told with that port: beside its
// address if it has announced over UDP, else in its place.
func TestProvideWithWebSocket(t *testing.T) {
	s, all := linkNetwork(t, 10)
	for _, test := range []struct {
		name      string
		webSocket uint16
		told      bool
	}{{"takes WebSocket", 4780, true}, {"is reached by nobody", 0, false}} {
		n := s.linkedNode(100+int(test.webSocket), all[0], "10.9.9.9:40000", func(c *Config) { c.WebSocket = test.webSocket })
		n.joinOverLink(all[0], all[0].addr)
		key := testKey(int(test.webSocket))
		if stored, err := n.provide(key); stored != 1 || err != nil {
			t.Fatalf("%s: stored %d times, %v", test.name, stored, err)
		}
		want := Contact{ID: n.id, Key: n.key, Addr: netip.MustParseAddrPort("10.9.9.9:0"), WebSocket: 4780}
		found, _ := all[5].providers(key)
		if test.told && (len(found) != 1 || found[0] != want) || !test.told && len(found) > 0 {
			t.Errorf("%s: others find %v", test.name, found)
		}
		// The one at the other end has the link.
		if found, _ := all[0].providers(key); len(found) != 1 || found[0].Addr != n.addr {
			t.Errorf("%s: its peer finds %v", test.name, found)
		}
	}

	both := s.addAt(50, testAddr(51), func(c *Config) { s.linkSend(testAddr(51))(c); c.WebSocket = 80 })
	both.join(all[0])
	if _, err := both.provide(testKey(2)); err != nil {
		t.Fatal(err)
	}
	want := both.contact()
	want.WebSocket = 80
	if found, _ := all[5].providers(testKey(2)); len(found) == 0 || found[0] != want {
		t.Errorf("others find %v, want %v", found, want)
	}
}

// Nobody begins more searches over links than a few, and results are kept for
// a bounded number of keys.
func TestErrandsAreBounded(t *testing.T) {
	s, all := linkNetwork(t, 5)
	asker := NewContact(testIdentity(t, 7, 99).PublicKey(), testAddr(99))
	asker.Addr = LinkAddr(asker.ID, asker.Addr)
	for i := range maxErrandKeys {
		all[0].errands.extend(s.Now(), testKey(i), asker, nil)
	}
	if n := all[0].errands.running; n != maxErrands || len(all[0].searches) != maxErrands {
		t.Errorf("%d searches at a time, counted %d", len(all[0].searches), n)
	}
	all[0].settle()
	s.RunFor(time.Minute)
	for i := range 2 * maxErrandKeys {
		all[0].errands.extend(s.Now(), testKey(i), asker, nil)
		all[0].settle()
		s.RunFor(time.Second)
	}
	if n := all[0].errands.byKey.Len(); n != maxErrandKeys {
		t.Errorf("%d keys kept", n)
	}
	if n := all[0].errands.running; n > 1 {
		t.Errorf("%d searches still counted", n)
	}
}

func TestLinkAddr(t *testing.T) {
	id := testIdentity(t, 1, 1).NodeID()
	for remote, want := range map[string]scope{"127.0.0.1:5": scopeLoopback, "10.0.0.1:5": scopePrivate, "203.0.113.5:5": scopePublic, "[::1]:5": scopeLoopback} {
		a := LinkAddr(id, netip.MustParseAddrPort(remote))
		if peer, ok := LinkPeer(a); !ok || peer != id {
			t.Errorf("%v belongs to %v, %v", a, peer, ok)
		}
		if got := scopeOf(a.Addr()); got != want || !usableAddr(a) || normalAddr(a) != a || relayable(a, a) {
			t.Errorf("%v: scope %d", a, got)
		}
	}
	if a := LinkAddr(id, netip.AddrPort{}); scopeOf(a.Addr()) != scopePublic || !usableAddr(a) {
		t.Errorf("of an unknown remote: %v", a)
	}
	for _, other := range []string{"127.0.0.1:5", "[fe80::1%eth0]:5", "[fe80::1%link:xyz]:5"} {
		if _, ok := LinkPeer(netip.MustParseAddrPort(other)); ok {
			t.Errorf("%s is a link", other)
		}
	}
}
