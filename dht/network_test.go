package dht

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/seigr/sttnode/stc"
)

func testKey(n int) stc.Hash { return stc.Sum(fmt.Appendf(nil, "content %d", n)) }

func countCommon(a, b []Contact) (n int) {
	for _, c := range a {
		if slices.Contains(b, c) {
			n++
		}
	}
	return n
}

// In a network of 200 nodes a lookup finds exactly the 20 nodes closest to its
// target, from everywhere.
func TestLookupFindsTheClosest(t *testing.T) {
	long(t)
	s := newSim(t, testSeed(t))
	nodes := s.network(200, nil)
	var hops, asked int
	for i, n := range nodes {
		target := testKey(i)
		r := n.closest(target)
		if want := bruteForce(nodes, n, target, 20); !slices.Equal(r.closest, want) {
			t.Errorf("node %d: %d of the %d closest found", i, countCommon(r.closest, want), len(want))
		}
		if !r.stats.Complete || r.err != nil {
			t.Errorf("node %d: %+v, %v", i, r.stats, r.err)
		}
		hops += r.stats.Hops
		asked += r.stats.Asked
	}
	t.Logf("mean hops %.2f, asked %.1f; %d datagrams in all", float64(hops)/200, float64(asked)/200, s.Sent())
}

// The same in networks smaller than, as large as, and a little larger than the
// number of nodes that hold a record.
func TestSmallNetworks(t *testing.T) {
	for _, size := range []int{2, 3, 5, 10, 20, 21, 22, 45} {
		s := newSim(t, testSeed(t))
		nodes := s.network(size, nil)
		s.RunFor(10 * time.Second)
		for i, n := range nodes {
			if !n.reach.families[0].reachable || size <= 22 && n.table.len() < size-2 {
				t.Errorf("%d nodes: node %d knows %d, reachable %v", size, i, n.table.len(), n.reach.families[0].reachable)
			}
			key := testKey(i)
			if stored, err := n.provide(key); stored < min(20, size-2) || err != nil {
				t.Errorf("%d nodes: stored at %d, %v", size, stored, err)
			}
		}
		for i, n := range nodes {
			for j := i % 7; j < size; j += 7 {
				p := nodes[j]
				if found, r := n.providers(testKey(j)); i != j && (!slices.Equal(found, []Contact{p.contact()}) || !r.stats.Complete) {
					t.Errorf("%d nodes: node %d found %d providers at %d: %+v", size, i, len(found), j, r.stats)
				}
			}
			if found, r := n.providers(testKey(1000 + i)); len(found) != 0 || !r.stats.Complete || r.stats.Answered < min(20, size-2) {
				t.Errorf("%d nodes: what nobody has: %v, %+v", size, found, r)
			}
		}
	}
}

// Taken back while it is being offered to a node that has just come: that one
// does not hold it afterwards either.
func TestUnprovideDuringOffer(t *testing.T) {
	offers := 0
	for wait := time.Duration(0); wait < 600*time.Millisecond; wait += 20 * time.Millisecond {
		s := newSimDelay(t, testSeed(t), 0)
		nodes := s.network(4, nil)
		s.RunFor(time.Second)
		p := nodes[2]
		p.provide(testKey(1))
		added := p.stats.RPC[MethodAddProvider].Sent
		newcomer := s.add(10, nil)
		if err := newcomer.addContact(s.Now(), p.contact()); err != nil {
			t.Fatal(err)
		}
		newcomer.upkeep.bootstrap(s.Now(), func(error) {})
		newcomer.settle()
		s.RunFor(wait)
		offers += int(p.stats.RPC[MethodAddProvider].Sent - added)
		p.unprovide(testKey(1))
		s.RunFor(time.Minute)
		for i, n := range append(nodes, newcomer) {
			if n.records.total != 0 {
				t.Errorf("after %v: node %d holds a record", wait, i)
			}
		}
	}
	if offers == 0 {
		t.Error("nothing was offered")
	}
}

// Several nodes behind one loopback address, and in one home network, are
// several nodes.
func TestManyNodesAtOneAddress(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector, which shorter tests serve as well")
	}
	for _, ip := range []string{"127.0.0.1", "::1", "192.168.1.9"} {
		s := newSim(t, testSeed(t))
		var nodes []*simNode
		for i := range 30 {
			nodes = append(nodes, s.addAt(i, netip.AddrPortFrom(netip.MustParseAddr(ip), uint16(4700+i)), nil))
			if i > 0 {
				nodes[i].join(nodes[0])
			}
		}
		for i, n := range nodes {
			if stored, err := n.provide(testKey(i)); stored < 20 || stored > mostHolders || err != nil {
				t.Errorf("%s: stored at %d, %v", ip, stored, err)
			}
		}
		for i, n := range nodes {
			j := (i + 7) % 30
			if found, _ := n.providers(testKey(j)); !slices.Equal(found, []Contact{nodes[j].contact()}) {
				t.Errorf("%s: node %d found %v", ip, i, found)
			}
		}
	}
}

// One packet in ten is lost: everybody still finds every provider.
func TestLossyNetwork(t *testing.T) {
	long(t)
	s := newSim(t, testSeed(t))
	s.SetLoss(0.10)
	nodes := s.network(60, nil)
	for i := range 20 {
		if stored, err := nodes[i].provide(testKey(i)); stored < 10 || err != nil {
			t.Errorf("stored at %d, %v", stored, err)
		}
	}
	for i, n := range nodes {
		j := i % 20
		if found, r := n.providers(testKey(j)); i != j && !slices.Equal(found, []Contact{nodes[j].contact()}) {
			t.Errorf("node %d found %v: %+v", i, found, r.stats)
		}
	}
	s.RunFor(2 * time.Hour) // nobody is thrown out for bad luck, or comes back
	for i, n := range nodes {
		if n.table.len() < 45 {
			t.Errorf("node %d knows %d others after two hours", i, n.table.len())
		}
	}
}

// A record is there an hour and thirty hours later, because it is published
// again; it expires 48 hours after that when the provider is gone.
func TestLifeOfARecord(t *testing.T) {
	s := newSim(t, testSeed(t))
	nodes := s.network(14, func(cfg *Config) { cfg.K = 8 })
	key, p, asker := testKey(1), nodes[5], nodes[12]
	published := s.Now()
	p.provide(key)
	expect := func(age time.Duration, want bool) {
		t.Helper()
		s.RunFor(published.Add(age).Sub(s.Now()))
		if found, r := asker.providers(key); slices.Contains(found, p.contact()) != want {
			t.Errorf("after %v: found %v, %+v", age, found, r.stats)
		}
	}
	expect(time.Hour, true)
	expect(30*time.Hour, true)
	if got := p.stats.Published; got != 2 {
		t.Errorf("published %d times in 30 hours", got)
	}
	last := s.Now()
	for _, k := range p.publisher.list {
		last = k.next.Add(-p.cfg.RepublishInterval) // no earlier, and up to a twentieth later
	}
	s.remove(p)
	expect(last.Sub(published)+48*time.Hour, true)
	expect(last.Sub(published)+48*time.Hour+p.cfg.RepublishInterval/republishSpread+time.Minute, false)
	for i, n := range nodes {
		if n != p && n.records.total != 0 {
			t.Errorf("node %d still holds %d records", i, n.records.total)
		}
	}
}

// Without republishing a record would be gone after 48 hours to the second.
func TestRecordExpiresOnTime(t *testing.T) {
	s := newSim(t, testSeed(t))
	nodes := s.network(10, nil)
	key, p, asker := testKey(1), nodes[5], nodes[8]
	p.provide(key)
	stored := s.Now()
	s.remove(p)
	s.RunFor(48*time.Hour - 10*time.Second)
	if found, _ := asker.providers(key); len(found) != 1 {
		t.Errorf("just before 48 hours: %v", found)
	}
	s.RunFor(stored.Add(48 * time.Hour).Sub(s.Now()))
	if found, _ := asker.providers(key); len(found) != 0 {
		t.Errorf("after 48 hours: %v", found)
	}
}

func TestUnprovideWithdraws(t *testing.T) {
	s := newSim(t, testSeed(t))
	nodes := s.network(40, nil)
	p := nodes[7]
	var keys []stc.Hash
	for i := range 50 {
		keys = append(keys, testKey(i))
		p.provide(keys[i])
	}
	nodes[8].provide(keys[0])
	if got := p.unprovide(keys[0]); got < 20 || got > mostHolders {
		t.Errorf("withdrawn from %d nodes", got)
	}
	if found, _ := nodes[30].providers(keys[0]); !slices.Equal(found, []Contact{nodes[8].contact()}) {
		t.Errorf("after the withdrawal: %v", found)
	}
	if found, _ := nodes[30].providers(keys[1]); !slices.Equal(found, []Contact{p.contact()}) {
		t.Errorf("what was not withdrawn: %v", found)
	}
	// A stop takes all back, with many keys in a datagram.
	s.RunFor(time.Second)
	before := s.Sent()
	if got := p.unprovide(p.publisher.provided()...); got < 49*20 || got > 49*mostHolders {
		t.Errorf("withdrew %d of %d records or more", got, 49*20)
	}
	if sent := s.Sent() - before; sent > 2*3*39 {
		t.Errorf("a stop with 49 keys takes %d datagrams", sent)
	}
	for i, n := range nodes {
		if n.records.owned[p.id] != 0 {
			t.Errorf("node %d still holds %d records", i, n.records.owned[p.id])
		}
	}
	if len(p.publisher.queue)+len(p.publisher.list) != 0 || p.stats.Published != 50 {
		t.Errorf("%d keys are still to be published", len(p.publisher.queue))
	}
}

// Taken back while it is being published: nobody holds it afterwards.
func TestUnprovideDuringPublish(t *testing.T) {
	for _, wait := range []time.Duration{0, 50 * time.Millisecond, 150 * time.Millisecond, 250 * time.Millisecond, 350 * time.Millisecond, 450 * time.Millisecond} {
		s := newSimDelay(t, testSeed(t), 0) // in order: a datagram does not overtake its successor
		nodes := s.network(30, nil)
		p := nodes[7]
		var published error
		p.publisher.provide(s.Now(), testKey(1), func(_ int, err error) { published = err })
		p.settle()
		s.RunFor(wait)
		p.unprovide(testKey(1))
		if published != nil && !errors.Is(published, ErrUnprovided) {
			t.Errorf("after %v: publish ended with %v", wait, published)
		}
		s.RunFor(time.Minute)
		for i, n := range nodes {
			if n.records.total != 0 {
				t.Errorf("after %v: node %d holds a record", wait, i)
			}
		}
	}
}

// Nodes that all start at once know nobody but a bootstrap node that knows
// nobody either.
func TestAllJoinAnEmptyBootstrapNodeAtOnce(t *testing.T) {
	s := newSim(t, testSeed(t))
	boot := s.add(0, nil)
	nodes := []*simNode{boot}
	open := 0
	for i := range 60 {
		n := s.add(i+1, nil)
		nodes = append(nodes, n)
		if err := n.addContact(s.Now(), boot.contact()); err != nil {
			t.Fatal(err)
		}
		open++
		n.upkeep.bootstrap(s.Now(), func(err error) {
			if open--; err != nil {
				t.Errorf("bootstrap: %v", err)
			}
		})
		n.settle()
	}
	s.wait("bootstrap of all", func() bool { return open == 0 })
	s.RunFor(time.Minute)
	for i := range 10 {
		nodes[5*i].provide(testKey(i))
	}
	for i, n := range nodes {
		j := i % 10
		if found, r := n.providers(testKey(j)); n != nodes[5*j] && !slices.Equal(found, []Contact{nodes[5*j].contact()}) {
			t.Errorf("node %d found %v: %+v", i, found, r.stats)
		}
	}
}

// A client finds and provides, but nobody has it in its table or is told of it.
func TestClientsStayOutOfTables(t *testing.T) {
	s := newSim(t, testSeed(t))
	nodes := s.network(30, nil)
	var clients []*simNode
	for i := range 5 {
		c := s.add(100+i, func(cfg *Config) { cfg.ClientOnly = true })
		c.join(nodes[i])
		clients = append(clients, c)
		// As if a session with it had told of it.
		if err := nodes[10].addContact(s.Now(), c.contact()); err != nil {
			t.Fatal(err)
		}
		nodes[10].settle()
	}
	nodes[20].provide(testKey(1))
	if found, _ := clients[0].providers(testKey(1)); !slices.Equal(found, []Contact{nodes[20].contact()}) {
		t.Errorf("client found %v", found)
	}
	if stored, err := clients[1].provide(testKey(2)); stored < 20 || stored > mostHolders || err != nil {
		t.Errorf("client stored at %d, %v", stored, err)
	}
	if found, _ := nodes[25].providers(testKey(2)); !slices.Equal(found, []Contact{clients[1].contact()}) {
		t.Errorf("found %v", found)
	}
	s.RunFor(3 * time.Hour)
	for i, n := range nodes {
		for _, c := range clients {
			if n.table.get(c.id) != nil {
				t.Errorf("node %d has a client in its table", i)
			}
		}
	}
	for i := range 20 {
		if r := clients[2].closest(testKey(i)); !slices.Equal(r.closest, bruteForce(nodes, clients[2], testKey(i), 20)) {
			t.Errorf("lookup %d of a client is not the closest", i)
		}
	}
	for _, c := range clients {
		if c.records.total != 0 || c.stats.RPC[MethodFindNode].Served != 0 {
			t.Error("a client serves")
		}
	}
}

// The same seed gives the same run, datagram by datagram.
func TestSimulationRepeats(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector, which shorter tests serve as well")
	}
	seed := testSeed(t)
	run := func(seed uint64) (uint64, int) {
		s := newSim(t, seed)
		s.SetLoss(0.05)
		nodes := s.network(25, nil)
		for i := range 10 {
			nodes[i].provide(testKey(i))
			nodes[24-i].providers(testKey(i))
		}
		s.remove(nodes[20])
		nodes[3].unprovide(testKey(3))
		s.RunFor(time.Hour)
		return s.Hash(), s.Sent()
	}
	hash1, sent1 := run(seed)
	hash2, sent2 := run(seed)
	if hash1 != hash2 || sent1 != sent2 {
		t.Errorf("%016x after %d datagrams, then %016x after %d", hash1, sent1, hash2, sent2)
	}
	if hash3, _ := run(seed + 1); hash3 == hash1 {
		t.Error("another seed gives the same run")
	}
}

// What an idle node sends in an hour: the price of a table
// that is true.
func TestUpkeepIsATrickle(t *testing.T) {
	long(t)
	s := newSim(t, testSeed(t))
	nodes := s.network(60, nil)
	s.RunFor(time.Hour)
	before, bytes := s.Sent(), uint64(0)
	for _, n := range nodes {
		bytes -= n.stats.BytesOut
	}
	s.RunFor(time.Hour)
	for _, n := range nodes {
		bytes += n.stats.BytesOut
	}
	perNode := float64(s.Sent()-before) / 60 / 3600
	t.Logf("%.3f datagrams and %.0f bytes a second and node", perNode, float64(bytes)/60/3600)
	if perNode > 0.3 {
		t.Errorf("%.3f datagrams a second and node", perNode)
	}
}
