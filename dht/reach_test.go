package dht

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// reachSim is a network of n nodes at public addresses, of which every fifth is
// behind a NAT.
func reachSim(t *testing.T, n int) (s *sim, open, hidden []*simNode) {
	s = newSim(t, testSeed(t))
	for i := range n {
		node := s.addAt(i, netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, byte(i), 9}), 4700), nil)
		if i%5 == 4 {
			node.host.Hide()
			hidden = append(hidden, node)
		} else {
			open = append(open, node)
		}
		if i > 0 {
			node.join(open[0])
		}
		s.RunFor(5 * time.Second)
	}
	return s, open, hidden
}

// Who is behind a NAT finds out, is in nobody's table, and finds and provides
// all the same; who is not serves.
func TestHiddenNodesAreClients(t *testing.T) {
	s, open, hidden := reachSim(t, 50)
	s.RunFor(90 * time.Minute) // who took one in while nobody could tell has asked it since
	for i, n := range open {
		if !n.reach.families[0].reachable {
			t.Errorf("open node %d believes that it is a client: %+v", i, n.reach.families[0])
		}
		for _, h := range hidden {
			if n.table.get(h.id) != nil {
				t.Errorf("node %d has a hidden node in its table", i)
			}
		}
		if n.table.len() < 28 {
			t.Errorf("node %d knows %d of 40", i, n.table.len())
		}
	}
	for i, n := range hidden {
		if n.reach.families[0].reachable {
			t.Errorf("hidden node %d believes that it can be called: %+v", i, n.reach.families[0])
		}
	}
	if stored, err := hidden[1].provide(testKey(1)); stored < 18 || err != nil {
		t.Errorf("a hidden node stored at %d, %v", stored, err)
	}
	if found, r := hidden[2].providers(testKey(1)); !slices.Equal(found, []Contact{hidden[1].contact()}) {
		t.Errorf("found %v, %+v", found, r.stats)
	}
}

// Once the NAT is gone the node becomes one like any other.
func TestHiddenNodeComesIntoTheOpen(t *testing.T) {
	s, open, hidden := reachSim(t, 15)
	s.RunFor(time.Minute)
	n := hidden[0]
	s.Detach(n.host)
	n.host = s.Attach(n.addr, &Machine{n.machine})
	s.RunFor(90 * time.Minute) // it asks again when others answer it
	if !n.reach.families[0].reachable || open[0].table.get(n.id) == nil {
		t.Errorf("still a client: %+v", n.reach.families[0])
	}
}

// Two nodes have nobody to ask: they take part. So do those that are told to.
func TestReachableWithoutWitnesses(t *testing.T) {
	s := newSim(t, testSeed(t))
	nodes := s.network(2, nil)
	s.RunFor(10 * time.Second)
	if !nodes[0].reach.families[0].reachable || !nodes[1].reach.families[0].reachable {
		t.Error("of two nodes one is a client")
	}
	if nodes[1].reach.families[1].reachable || !nodes[1].reach.hidden(netip.MustParseAddrPort("[2001:db8::1]:1")) {
		t.Error("IPv6 counts as reachable although nobody has called there")
	}
	sure := s.add(7, func(c *Config) { c.AssumeReachable = true })
	if sure.reach.hidden(testAddr(1)) || s.add(8, nil).reach.hidden(testAddr(1)) == false {
		t.Error("AssumeReachable makes no difference")
	}
}

// Where a whole network is started at once, everybody's first lookup finds the
// bootstrap node and hardly anybody else. A minute later all know most of the
// others, and that they can be called.
func TestManyStartAtOnce(t *testing.T) {
	s := newSimDelay(t, testSeed(t), 30*time.Millisecond)
	s.SetLoss(0.02)
	nodes := s.network(1, nil)
	for i := 1; i < 70; i++ {
		n := s.add(i, nil)
		nodes = append(nodes, n)
		if err := n.addContact(s.Now(), nodes[0].contact()); err != nil {
			t.Fatal(err)
		}
		n.upkeep.bootstrap(s.Now(), func(error) {})
		n.settle()
		s.RunFor(2 * time.Millisecond)
	}
	s.RunFor(time.Minute)
	for i, n := range nodes {
		if known := n.table.len(); known < 35 {
			t.Errorf("node %d knows %d of 69", i, known)
		}
		if !n.reach.families[0].reachable {
			t.Errorf("node %d believes that it is a client: %+v", i, n.reach.families[0])
		}
	}
}

// Only who has proven its address can have somebody called, only that address,
// and what goes there is one short datagram in a while.
func TestDialBackIsNoWeapon(t *testing.T) {
	v := newVictim(t, nil)
	v.fill(30)
	a := newAttacker(t, 1, "10.0.0.99:4700")
	if got := v.asked(a, message{kind: kindDialBack, pad: 200}); len(got) != 1 || got[0].kind != kindChallenge ||
		slices.ContainsFunc(v.sent, func(d sentDatagram) bool { return d.to != a.addr }) {
		t.Fatalf("without proof: %d datagrams, %+v", len(v.sent), got)
	}
	proof := v.proof(a)
	got := v.asked(a, message{kind: kindDialBack, proof: proof})
	if len(got) != 1 || len(got[0].nodes) != 2 || len(v.sent) < 3 {
		t.Fatalf("with proof: %d datagrams, %+v", len(v.sent), got)
	}
	if i := slices.IndexFunc(v.sent, func(d sentDatagram) bool { return d.to == got[0].nodes[0].Addr }); i < 0 {
		t.Error("passed on to somebody else than it says")
	}

	target := contactOf(9, "198.51.100.5:53")
	public := newAttacker(t, 2, "203.0.113.50:4700")
	proof = v.proof(public)
	dials := func(who *attacker, c Contact, proof cookie) (n int) {
		for range 30 {
			v.asked(who, message{kind: kindDial, proof: proof, nodes: []Contact{c}})
			for _, d := range v.sent {
				if d.to == c.Addr {
					n++
					if len(d.b) > barePing {
						t.Errorf("%d bytes", len(d.b))
					}
				}
			}
		}
		return n
	}
	if n := dials(public, target, cookie{}); n != 0 {
		t.Errorf("%d datagrams for somebody without proof", n)
	}
	if n := dials(public, target, proof); n != 1 {
		t.Errorf("%d datagrams to an address in a second", n)
	}
	if n := dials(public, contactOf(9, "192.168.0.5:53"), proof); n != 0 {
		t.Errorf("%d datagrams to our own network, for somebody on the internet", n)
	}
}
