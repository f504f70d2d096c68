package dht

import (
	"slices"
	"testing"
	"time"
)

// A thousand keys take a search for each region of the network, not one each,
// when they are provided and when they are published again; each lies with the
// nodes closest to it.
func TestManyKeysArePublishedByRegion(t *testing.T) {
	long(t)
	s := newSim(t, testSeed(t))
	nodes := s.network(120, func(c *Config) { c.RepublishInterval = time.Hour })
	s.RunFor(time.Minute)
	p := nodes[7]
	const keys = 1000
	done := 0
	for i := range keys {
		p.publisher.provide(s.Now(), testKey(i), func(stored int, err error) {
			if done++; stored < 15 || err != nil {
				t.Errorf("stored at %d, %v", stored, err)
			}
		})
	}
	p.settle()
	searches := func() (n uint64) {
		return p.stats.Lookups[PurposePublish].Found
	}
	before := searches()
	s.RunFor(5 * time.Minute)
	if done != keys || p.stats.Published != keys {
		t.Fatalf("%d of %d published, %d counted, %d failed, %d searches", done, keys, p.stats.Published, p.stats.PublishFail, searches()-before)
	}
	if n := searches() - before; n > 14 {
		t.Errorf("%d searches for %d keys among 120 nodes", n, keys)
	}
	placed := 0
	for i := range 50 {
		for _, c := range bruteForce(nodes, p, testKey(i), 20) {
			if s.Host(c.Addr).Node.(*Machine).m.records.byKey[testKey(i)] != nil {
				placed++
			}
		}
	}
	if mean := float64(placed) / 50; mean < 19.5 {
		t.Errorf("%.2f of the 20 closest hold a record", mean)
	}

	before = searches()
	s.RunFor(61 * time.Minute)
	if n := searches() - before; n > 20 || p.stats.Published < 2*keys {
		t.Errorf("%d searches to publish again, %d published in all", n, p.stats.Published)
	}
	if found, r := nodes[90].providers(testKey(500)); !slices.Equal(found, []Contact{p.contact()}) {
		t.Errorf("found %v, %+v", found, r.stats)
	}
}

// Taken back in the middle of a sweep, keys are held by nobody, and the sweep
// ends all the same.
func TestUnprovideDuringSweep(t *testing.T) {
	s := newSimDelay(t, testSeed(t), 0)
	nodes := s.network(60, nil)
	s.RunFor(time.Minute)
	p := nodes[7]
	for i := range 200 {
		p.publisher.provide(s.Now(), testKey(i), func(int, error) {})
	}
	p.settle()
	s.RunFor(600 * time.Millisecond)
	p.unprovide(p.publisher.provided()...)
	s.RunFor(time.Minute)
	for i, n := range nodes {
		if n.records.total != 0 {
			t.Errorf("node %d holds %d records", i, n.records.total)
		}
	}
	if p.publisher.running != 0 || len(p.publisher.batches) != 0 {
		t.Errorf("%d publishes are under way, %d batches wait", p.publisher.running, len(p.publisher.batches))
	}
}
