package dht

import (
	"container/heap"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/seigr/sttnode/stc"
)

// testSeed returns the seed of a randomised test and prints it; with
// STT_TEST_SEED set, that one.
func testSeed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("STT_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("STT_TEST_SEED: %v", err)
		}
	}
	t.Logf("STT_TEST_SEED=%d", seed)
	return max(seed, 1)
}

// testIdentity returns the identity number n of a seed.
func testIdentity(t testing.TB, seed uint64, n int) *stc.Identity {
	t.Helper()
	var nodeSeed [stc.MinSeedSize]byte
	binary.BigEndian.PutUint64(nodeSeed[:], seed)
	binary.BigEndian.PutUint64(nodeSeed[8:], uint64(n)+1)
	id, err := stc.NewIdentity(nodeSeed[:])
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func testKeyring(t testing.TB, name byte) *stc.Keyring {
	t.Helper()
	seed := slices.Repeat([]byte{name}, stc.MinSeedSize)
	kr, err := stc.NewKeyring(seed)
	if err != nil {
		t.Fatal(err)
	}
	return kr
}

// testAddr returns a private address with number n.
func testAddr(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 4700)
}

func testContact(id *stc.Identity, addr netip.AddrPort) Contact {
	return NewContact(id.PublicKey(), addr)
}

// clearSealer seals nothing: it is as long as the real one, names the sender
// and the recipient, and costs next to nothing.
type clearSealer struct{ key stc.PublicKey }

func (s clearSealer) Seal(dst []byte, to stc.PublicKey, _, message []byte) ([]byte, error) {
	dst = append(append(dst, s.key[:]...), to[:]...)
	dst = append(dst, make([]byte, stc.DatagramOverhead-2*stc.PublicKeySize)...)
	return append(dst, message...), nil
}

func (s clearSealer) Open(dst []byte, _, sealed []byte) ([]byte, stc.PublicKey, error) {
	if len(sealed) < stc.DatagramOverhead || stc.PublicKey(sealed[32:]) != s.key {
		return nil, stc.PublicKey{}, stc.ErrForged
	}
	return append(dst, sealed[stc.DatagramOverhead:]...), stc.PublicKey(sealed), nil
}

// sim is a network of machines in virtual time: the code that runs in
// production, with network, clock and chance replaced. It repeats itself
// exactly from its seed.
type sim struct {
	t      testing.TB
	seed   uint64
	rng    *rand.Rand
	now    time.Time
	events simEvents
	order  uint64
	nodes  map[netip.AddrPort]*simNode
	hash   uint64 // of everything that was sent, in order

	delay, jitter time.Duration
	loss          float64
	sent          int
}

type simNode struct {
	*machine
	sim  *sim
	addr netip.AddrPort
	wake time.Time // of the latest event that will call advance
	in   int       // datagrams received
}

type simEvent struct {
	at    time.Time
	order uint64
	run   func()
}

// long marks a test that simulates much and has one goroutine: it is left out
// of short runs.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("long simulation")
	}
}

func newSim(t testing.TB, seed uint64) *sim {
	return &sim{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1_700_000_000, 0),
		nodes: make(map[netip.AddrPort]*simNode), delay: 45 * time.Millisecond, jitter: 10 * time.Millisecond,
	}
}

// add starts node number n at its own address; change may adjust its Config.
func (s *sim) add(n int, change func(*Config)) *simNode {
	return s.addAt(n, testAddr(n+1), change)
}

func (s *sim) addAt(n int, addr netip.AddrPort, change func(*Config)) *simNode {
	id := testIdentity(s.t, 7, n)
	node := &simNode{sim: s, addr: addr}
	cfg := Config{Identity: id, Sealer: clearSealer{id.PublicKey()}, Seed: s.seed + uint64(n) + 1,
		Send: func(b []byte, to netip.AddrPort) error { s.send(b, addr, to); return nil }}
	if change != nil {
		change(&cfg)
	}
	m, err := newMachine(cfg, s.now)
	if err != nil {
		s.t.Fatal(err)
	}
	node.machine = m
	s.nodes[addr] = node
	node.settle()
	return node
}

func (n *simNode) contact() Contact { return NewContact(n.key, n.addr) }

// remove stops a node without a word.
func (s *sim) remove(n *simNode) { delete(s.nodes, n.addr) }

func (s *sim) send(b []byte, from, to netip.AddrPort) {
	s.sent++
	for _, x := range []uint64{uint64(s.now.UnixNano()), uint64(len(b)), uint64(from.Port()), uint64(binary.BigEndian.Uint32(to.Addr().AsSlice()))} {
		s.hash = (s.hash ^ x) * 0x100000001b3
	}
	if s.rng.Float64() < s.loss {
		return
	}
	b = slices.Clone(b)
	s.after(s.delay+time.Duration(s.rng.Int64N(int64(s.jitter)+1)), func() {
		if n := s.nodes[to]; n != nil {
			n.in++
			n.receive(s.now, b, from)
			n.settle()
		}
	})
}

// settle lets a node do what is due after an input, and sees to it that it
// wakes up at its deadline.
func (n *simNode) settle() {
	n.advance(n.sim.now)
	at := n.deadline()
	if !at.After(n.sim.now) {
		at = n.sim.now.Add(time.Nanosecond)
	}
	if !n.wake.After(n.sim.now) || at.Before(n.wake) {
		n.wake = at
		n.sim.at(at, func() {
			if n.sim.nodes[n.addr] == n && n.wake.Equal(at) {
				n.settle()
			}
		})
	}
}

func (s *sim) after(d time.Duration, run func()) { s.at(s.now.Add(d), run) }

func (s *sim) at(at time.Time, run func()) {
	s.order++
	heap.Push(&s.events, simEvent{at, s.order, run})
}

// runFor lets virtual time pass.
func (s *sim) runFor(d time.Duration) {
	end := s.now.Add(d)
	s.runUntil(func() bool { return false }, end)
	s.now = end
}

// runUntil runs until done, at most to end.
func (s *sim) runUntil(done func() bool, end time.Time) bool {
	for !done() {
		if len(s.events) == 0 || s.events[0].at.After(end) {
			return false
		}
		e := heap.Pop(&s.events).(simEvent)
		s.now = e.at
		e.run()
	}
	return true
}

// wait runs until done, for a minute at most.
func (s *sim) wait(what string, done func() bool) {
	s.t.Helper()
	if !s.runUntil(done, s.now.Add(time.Minute)) {
		s.t.Fatalf("%s: not within a minute of virtual time", what)
	}
}

// network adds n nodes that all join by the first one, in turn.
func (s *sim) network(n int, change func(*Config)) []*simNode {
	s.t.Helper()
	var all []*simNode
	for i := range n {
		node := s.add(i, change)
		all = append(all, node)
		if i > 0 {
			node.join(all[0])
		}
	}
	return all
}

// join makes n known to the network by one node of it.
func (n *simNode) join(by *simNode) {
	n.sim.t.Helper()
	if err := n.addContact(n.sim.now, by.contact()); err != nil {
		n.sim.t.Fatal(err)
	}
	over := false
	n.upkeep.bootstrap(n.sim.now, func(err error) {
		over = true
		if err != nil {
			n.sim.t.Errorf("bootstrap: %v", err)
		}
	})
	n.settle()
	n.sim.wait("bootstrap", func() bool { return over })
}

// providers looks for providers and returns them with what the search says.
func (n *simNode) providers(key stc.Hash) ([]Contact, searchResult) {
	n.sim.t.Helper()
	var found []Contact
	var result searchResult
	over := false
	n.startSearch(n.sim.now, PurposeProviders, key, func(c Contact) { found = append(found, c) },
		func(_ time.Time, r searchResult) { result, over = r, true })
	n.settle()
	n.sim.wait("search", func() bool { return over })
	return found, result
}

// closest looks for the nodes closest to target.
func (n *simNode) closest(target stc.Hash) searchResult {
	n.sim.t.Helper()
	var result searchResult
	over := false
	n.startSearch(n.sim.now, PurposeNode, target, nil, func(_ time.Time, r searchResult) { result, over = r, true })
	n.settle()
	n.sim.wait("search", func() bool { return over })
	return result
}

// provide publishes a key and returns how that ended.
func (n *simNode) provide(key stc.Hash) (stored int, err error) {
	n.sim.t.Helper()
	over := false
	n.publisher.provide(n.sim.now, key, func(s int, e error) { stored, err, over = s, e, true })
	n.settle()
	n.sim.wait("publish", func() bool { return over })
	return stored, err
}

// unprovide withdraws keys.
func (n *simNode) unprovide(keys ...stc.Hash) (withdrawn int) {
	n.sim.t.Helper()
	over := false
	n.publisher.unprovide(n.sim.now, keys, func(w int) { withdrawn, over = w, true })
	n.settle()
	n.sim.wait("withdrawal", func() bool { return over })
	return withdrawn
}

// bruteForce returns the k nodes closest to target of all but the asker.
func bruteForce(nodes []*simNode, asker *simNode, target stc.Hash, k int) []Contact {
	var all []Contact
	for _, n := range nodes {
		if n != asker && !n.cfg.ClientOnly {
			all = append(all, n.contact())
		}
	}
	sortByDistance(target, all)
	return all[:min(k, len(all))]
}

type simEvents []simEvent

func (e simEvents) Len() int { return len(e) }
func (e simEvents) Less(i, j int) bool {
	if !e[i].at.Equal(e[j].at) {
		return e[i].at.Before(e[j].at)
	}
	return e[i].order < e[j].order
}
func (e simEvents) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *simEvents) Push(x any)   { *e = append(*e, x.(simEvent)) }
func (e *simEvents) Pop() any {
	old := *e
	x := old[len(old)-1]
	old[len(old)-1] = simEvent{}
	*e = old[:len(old)-1]
	return x
}
