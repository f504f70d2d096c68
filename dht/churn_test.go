package dht

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// Half of the nodes leave without a word and others take their place, over an
// hour. A node that came an hour ago finds what was provided before it came.
func TestChurn(t *testing.T) {
	long(t)
	s := newSim(t, testSeed(t))
	nodes := s.network(80, nil)
	var providers []*simNode
	for i := range 10 {
		nodes[i].provide(testKey(i))
		providers = append(providers, nodes[i])
	}
	newcomer := s.add(500, nil)
	newcomer.join(nodes[3])
	for i := range 40 {
		s.RunFor(90 * time.Second)
		s.remove(nodes[40+i])
		fresh := s.add(1000+i, nil)
		fresh.join(nodes[i])
		nodes[40+i] = fresh
	}
	for i, p := range providers {
		for _, asker := range []*simNode{newcomer, nodes[79], nodes[30]} {
			if found, r := asker.providers(testKey(i)); !slices.Equal(found, []Contact{p.contact()}) {
				t.Errorf("provider %d: found %v, %+v", i, found, r.stats)
			}
		}
	}
	all := append(slices.Clone(nodes), newcomer)
	s.RunFor(2 * time.Hour)
	for i := range 20 {
		r := newcomer.closest(testKey(i))
		if want := bruteForce(all, newcomer, testKey(i), 20); countCommon(r.closest, want) < 20 {
			t.Errorf("lookup %d: %d of the 20 closest after churn", i, countCommon(r.closest, want))
		}
	}
	for i, n := range all {
		for _, c := range n.table.contacts(anyEntry) {
			if s.Host(c.Addr) == nil {
				t.Errorf("node %d has a node in its table that left hours ago", i)
			}
		}
	}
}

// A record that was published among three nodes follows the growth of the
// network: with sixty, those closest to it hold it.
func TestRecordsFollowGrowth(t *testing.T) {
	long(t)
	s := newSim(t, testSeed(t))
	nodes := s.network(3, nil)
	for i := range 5 {
		nodes[1].provide(testKey(i))
	}
	for i := 3; i < 60; i++ {
		n := s.add(i, nil)
		n.join(nodes[i-1])
		nodes = append(nodes, n)
		s.RunFor(10 * time.Second)
	}
	s.RunFor(time.Hour)
	s.remove(nodes[1])
	for i := range 5 {
		holders := 0
		for _, c := range bruteForce(nodes, nodes[1], testKey(i), 20) {
			if len(recordsOf(s.Host(c.Addr).Node.(*Machine).m.records, s.Now(), testKey(i))) > 0 {
				holders++
			}
		}
		if holders < 15 {
			t.Errorf("key %d: %d of the 20 closest hold the record", i, holders)
		}
	}
}

// When everybody we know is dead, the search says so, with numbers, in
// seconds; and when they come back they are found.
func TestEverybodyDead(t *testing.T) {
	long(t)
	s := newSim(t, testSeed(t))
	nodes := s.network(40, nil)
	alone := nodes[9]
	nodes[11].provide(testKey(1))
	for _, n := range nodes {
		if n != alone {
			s.remove(n)
		}
	}
	began := s.Now()
	found, r := alone.providers(testKey(2))
	if took := s.Now().Sub(began); took > 10*time.Second || len(found) != 0 || r.stats.Asked < 20 || r.stats.Answered != 0 || !errors.Is(r.err, ErrNoAnswer) || r.stats.Complete {
		t.Errorf("took %v: %v, %+v", took, found, r)
	}
	if stored, err := alone.provide(testKey(3)); stored != 0 || !errors.Is(err, ErrNoAnswer) {
		t.Errorf("stored at %d, %v", stored, err)
	}
	s.RunFor(26 * time.Hour)
	if alone.table.len() < 10 {
		t.Errorf("a day's outage has emptied the table: %d entries", alone.table.len())
	}
	if got := alone.table.contacts(callable); len(got) != 0 {
		t.Errorf("%d nodes count as there although nobody answers", len(got))
	}
	for _, n := range nodes {
		if n != alone {
			s.Reattach(n.host)
		}
	}
	s.RunFor(15 * time.Minute)
	if found, r := alone.providers(testKey(1)); !slices.Equal(found, []Contact{nodes[11].contact()}) {
		t.Errorf("after the outage: %v, %+v", found, r.stats)
	}
	s.RunFor(time.Hour)
	if found, r := nodes[30].providers(testKey(3)); !slices.Equal(found, []Contact{alone.contact()}) {
		t.Errorf("what could not be published was not published later: %v, %+v", found, r.stats)
	}
}

// The only node we know, a dead one, is no reason to wait long.
func TestOneDeadNode(t *testing.T) {
	s := newSim(t, testSeed(t))
	n, ghost := s.add(1, nil), s.add(2, nil)
	s.remove(ghost)
	if err := n.addContact(s.Now(), ghost.contact()); err != nil {
		t.Fatal(err)
	}
	began := s.Now()
	_, r := n.providers(testKey(1))
	if took := s.Now().Sub(began); took > 5*time.Second || r.stats.Asked != 1 || r.stats.Answered != 0 || !errors.Is(r.err, ErrNoAnswer) {
		t.Errorf("took %v: %+v", took, r)
	}
}

// A node that starts again on another port, with the same ID, is found there,
// and what it provides as well; a record of its old port may be left over.
func TestRestartOnAnotherPort(t *testing.T) {
	s := newSim(t, testSeed(t))
	nodes := s.network(40, nil)
	old := nodes[7]
	old.provide(testKey(1))
	s.remove(old)
	s.RunFor(time.Second)
	again := s.addAt(7, netip.AddrPortFrom(old.addr.Addr(), 4799), nil)
	again.join(nodes[1])
	if stored, err := again.provide(testKey(1)); stored < 20 || stored > mostHolders || err != nil {
		t.Errorf("stored at %d, %v", stored, err)
	}
	if found, r := nodes[30].providers(testKey(1)); !slices.Contains(found, again.contact()) {
		t.Errorf("found %v, %+v", found, r.stats)
	}
	s.RunFor(80 * time.Minute) // everybody is asked once an hour
	for i, n := range nodes {
		if e := n.table.get(old.id); n != old && e != nil && e.Addr != again.addr {
			t.Errorf("node %d believes it at %v", i, e.Addr)
		}
	}
	// It is asked for records again: nodes near a key offer it theirs.
	if r := nodes[20].closest(old.id); len(r.closest) == 0 || r.closest[0] != again.contact() {
		t.Error("a lookup of its ID does not find it at its new address")
	}
}

// A node that was saved and starts again finds what it looks for without the
// bootstrap node, although half of what it knew is gone.
func TestWarmRestart(t *testing.T) {
	s := newSim(t, testSeed(t))
	nodes := s.network(60, nil)
	nodes[50].provide(testKey(1))
	s.RunFor(10 * time.Minute)
	old := nodes[30]
	saved := old.table.marshal(old.peers.rtt)
	s.remove(old)
	for i := range 25 {
		s.remove(nodes[i])
	}
	s.RunFor(time.Hour)
	again := s.addAt(30, old.addr, nil)
	restored, err := again.restoreTable(s.Now(), saved)
	if restored != old.table.len() || err != nil {
		t.Errorf("restored %d of %d, %v", restored, old.table.len(), err)
	}
	again.settle()
	if got := again.table.closest(again.id, 20, shareable); len(got) != 0 {
		t.Errorf("others are told of %d nodes that have not answered since the restart", len(got))
	}
	began := s.Now()
	if found, r := again.providers(testKey(1)); !slices.Equal(found, []Contact{nodes[50].contact()}) {
		t.Errorf("found %v, %+v", found, r.stats)
	}
	t.Logf("first lookup took %v", s.Now().Sub(began))
	s.RunFor(time.Hour)
	for _, c := range again.table.contacts(anyEntry) {
		if s.Host(c.Addr) == nil {
			t.Errorf("%v was dead an hour ago and is in the table", c.Addr)
		}
	}
}
