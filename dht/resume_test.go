package dht

import (
	"net/netip"
	"testing"
	"time"
)

// resumed returns a network of n nodes that all know each other by Resume; the
// last one is behind a NAT. Who resumed longer ago was heard of later.
func (s *sim) resumed(n int) []*simNode {
	var nodes []*simNode
	for i := range n {
		nodes = append(nodes, s.add(i, nil))
	}
	nodes[n-1].host.Hide()
	for i, node := range nodes {
		var known []Acquaintance
		for j, other := range nodes[:n-1] {
			if i != j {
				known = append(known, Acquaintance{&Machine{other.machine}, other.addr, 90 * time.Millisecond, s.Now().Add(-time.Duration(j) * time.Second)})
			}
		}
		(&Machine{node.machine}).Resume(s.Now(), node.addr, i < n-1, known)
		node.settle()
	}
	return nodes
}

// A network that is resumed is there at once: nodes have proven
// their addresses to each other, those that can be called know it, how long
// answers take is known, and how many nodes there are, about.
func TestResume(t *testing.T) {
	s := newSim(t, testSeed(t))
	nodes := s.resumed(100)
	refreshes := map[time.Time]bool{}
	for i, n := range nodes {
		to := nodes[(i+1)%99].contact()
		if hidden := n.reach.hidden(to.Addr); hidden != (i == 99) {
			t.Errorf("node %d says that it is a client: %v", i, hidden)
		}
		if n.table.len() < 90 || n.estimate.nodes() < 40 || n.estimate.nodes() > 250 {
			t.Errorf("node %d knows %d of about %d nodes", i, n.table.len(), n.estimate.nodes())
		}
		if e := n.table.get(to.ID); !shareable(e) || !n.table.clock.time(e.heard).Equal(s.Now().Add(-time.Duration((i+1)%99)*time.Second)) {
			t.Errorf("node %d: entry %+v", i, e)
		}
		if got := n.peers.expected(to); got != 90*time.Millisecond {
			t.Errorf("node %d expects answers after %v", i, got)
		}
		if n.table.silence(s.Now()) != 0 {
			t.Errorf("node %d believes that it is cut off", i)
		}
		if at := n.upkeep.refreshSelf; at.Before(s.Now()) || at.After(s.Now().Add(n.upkeep.selfInterval())) {
			t.Errorf("node %d looks itself up at %v", i, at)
		}
		refreshes[n.upkeep.refreshSelf] = true
	}
	if len(refreshes) < 90 {
		t.Errorf("100 nodes look themselves up at %d times", len(refreshes))
	}

	key, provider := testKey(1), nodes[3]
	if stored, err := provider.provide(key); stored != 20 || err != nil {
		t.Errorf("stored at %d, %v", stored, err)
	}
	if found, _ := nodes[99].providers(key); len(found) != 1 || found[0] != provider.contact() {
		t.Errorf("found %v", found)
	}
	for _, n := range nodes {
		for method, rpc := range n.stats.RPC {
			if rpc.Challenged+rpc.Refused > 0 {
				t.Errorf("method %d: %d challenges for a node that has proven its address", method, rpc.Challenged+rpc.Refused)
			}
		}
	}
}

// A lookup goes on with other nodes of the table if all that it began with are
// dead, and looks no farther than it has to.
func TestLookupWhoseSeedsAreDead(t *testing.T) {
	s := newSim(t, testSeed(t))
	nodes := s.resumed(121)
	asker, key := nodes[0], testKey(1)
	contacts := asker.table.contacts(anyEntry)
	sortByDistance(key, contacts)
	alive := map[netip.AddrPort]bool{asker.addr: true}
	for _, c := range contacts[90:] {
		alive[c.Addr] = true
	}
	for _, n := range nodes {
		if !alive[n.addr] {
			s.remove(n)
		}
	}
	r := asker.closest(key)
	if r.err != nil || len(r.closest) < 20 || !alive[r.closest[0].Addr] || r.stats.Asked > 119 {
		t.Errorf("%d nodes found, %+v, %v", len(r.closest), r.stats, r.err)
	}
	// Nobody at all: it ends when everybody was asked, and says so.
	for _, n := range nodes[1:] {
		s.remove(n)
	}
	if r := nodes[0].closest(testKey(2)); r.err != ErrNoAnswer || r.stats.Duration > 30*time.Second {
		t.Errorf("%+v, %v", r.stats, r.err)
	}
}
