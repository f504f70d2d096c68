package dht

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/seigr/sttnode/dht/simnet"
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

// sim is a network of machines in virtual time: the code that runs in
// production, with network, clock and chance replaced. It repeats itself
// exactly from its seed.
type sim struct {
	*simnet.Network
	t    testing.TB
	seed uint64
}

type simNode struct {
	*machine
	sim  *sim
	addr netip.AddrPort
	host *simnet.Host
}

// long marks a test that simulates much and has one goroutine: it is left out
// of short runs.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("long simulation")
	}
}

func newSim(t testing.TB, seed uint64) *sim { return newSimDelay(t, seed, 10*time.Millisecond) }

// newSimDelay returns a network whose delays vary by jitter. Without any,
// datagrams do not overtake each other.
func newSimDelay(t testing.TB, seed uint64, jitter time.Duration) *sim {
	return &sim{t: t, seed: seed, Network: simnet.New(simnet.Config{
		Seed: seed, Start: time.Unix(1_700_000_000, 0), Delay: simnet.Constant(45*time.Millisecond, jitter),
	})}
}

// add starts node number n at its own address; change may adjust its Config.
func (s *sim) add(n int, change func(*Config)) *simNode {
	return s.addAt(n, testAddr(n+1), change)
}

func (s *sim) addAt(n int, addr netip.AddrPort, change func(*Config)) *simNode {
	id := testIdentity(s.t, 7, n)
	node := &simNode{sim: s, addr: addr}
	cfg := Config{Identity: id, Sealer: simnet.NewSealer(id.PublicKey()), Seed: s.seed + uint64(n) + 1,
		Send: func(b []byte, to netip.AddrPort) error { s.Send(b, addr, to); return nil }}
	if change != nil {
		change(&cfg)
	}
	m, err := newMachine(cfg, s.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	node.machine = m
	node.host = s.Attach(addr, &Machine{m})
	return node
}

func (n *simNode) contact() Contact { return NewContact(n.key, n.addr) }

// settle lets a node do what is due after an input.
func (n *simNode) settle() { n.host.Settle() }

// remove stops a node without a word.
func (s *sim) remove(n *simNode) { s.Detach(n.host) }

// wait runs until done, for a minute at most.
func (s *sim) wait(what string, done func() bool) {
	s.t.Helper()
	if !s.RunUntil(done, s.Now().Add(time.Minute)) {
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
	if err := n.addContact(n.sim.Now(), by.contact()); err != nil {
		n.sim.t.Fatal(err)
	}
	over := false
	n.upkeep.bootstrap(n.sim.Now(), func(err error) {
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
	n.startSearch(n.sim.Now(), PurposeProviders, key, func(c Contact) { found = append(found, c) },
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
	n.startSearch(n.sim.Now(), PurposeNode, target, nil, func(_ time.Time, r searchResult) { result, over = r, true })
	n.settle()
	n.sim.wait("search", func() bool { return over })
	return result
}

// provide publishes a key and returns how that ended.
func (n *simNode) provide(key stc.Hash) (stored int, err error) {
	n.sim.t.Helper()
	over := false
	n.publisher.provide(n.sim.Now(), key, func(s int, e error) { stored, err, over = s, e, true })
	n.settle()
	n.sim.wait("publish", func() bool { return over })
	return stored, err
}

// unprovide withdraws keys.
func (n *simNode) unprovide(keys ...stc.Hash) (withdrawn int) {
	n.sim.t.Helper()
	over := false
	n.publisher.unprovide(n.sim.Now(), keys, func(w int) { withdrawn, over = w, true })
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
