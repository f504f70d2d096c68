package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sort"
	"time"

	"github.com/seigr/sttnode/dht"
	"github.com/seigr/sttnode/dht/simnet"
	"github.com/seigr/sttnode/stc"
)

const (
	rtt         = 100 * time.Millisecond // the median round trip, the unit of all times that are printed
	rttSigma    = 0.4
	loss        = 0.01
	hiddenShare = 0.10 // of the nodes are behind a NAT
	closestK    = 20
)

// world is one simulated network.
type world struct {
	*simnet.Network
	seed    uint64
	rng     *rand.Rand
	members []*member
	number  int                               // of the next member
	session time.Duration                     // median of the time that a member stays; 0: for ever
	epoch   int                               // of the churn; members of an earlier one have drawn another time to stay
	ended   struct{ datagrams, bytes uint64 } // sent by members that are no longer there
	joinErr int
}

// member is one node of the network.
type member struct {
	*dht.Machine
	host    *simnet.Host
	id      *stc.Identity
	contact dht.Contact
	since   time.Time
	pinned  bool // stays, whatever the churn
	joined  bool // is in the network: others may join by it
	liar    bool
	late    bool // its session is over
	place   int  // in world.members
}

func (m *member) hidden() bool { return m.host.Hidden() }

// newWorld returns a network of n nodes that is there already: each knows as
// many of the others as its table has room for.
func newWorld(seed uint64, n int) *world {
	delay := simnet.Lognormal(seed, rtt, rttSigma)
	w := &world{
		seed: seed, rng: rand.New(rand.NewPCG(seed, 2)),
		Network: simnet.New(simnet.Config{
			Seed: seed, Start: time.Unix(1_700_000_000, 0), Loss: loss, Delay: delay,
		}),
	}
	for range n {
		w.add()
	}
	known := w.dialable()
	for _, m := range w.members {
		var all []dht.Acquaintance
		for _, x := range m.plausibleTable(w.rng, known) {
			all = append(all, dht.Acquaintance{
				Machine: x.Machine, Addr: x.contact.Addr, RTT: 2 * delay(w.rng, m.contact.Addr, x.contact.Addr),
				Heard: w.Now().Add(-m.silence(x)),
			})
		}
		m.joined = true
		m.Resume(w.Now(), m.contact.Addr, !m.hidden(), all)
		m.host.Settle()
	}
	return w
}

// dialable returns the members that can be in tables, by ID.
func (w *world) dialable() []*member {
	var all []*member
	for _, m := range w.members {
		if !m.hidden() {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b *member) int { return a.contact.ID.Compare(b.contact.ID) })
	return all
}

// silence returns for how long two members have not heard of each other when
// the world begins: less than after which one asks whether the other is there.
func (m *member) silence(x *member) time.Duration {
	const longest = 45 * time.Minute
	pair := binary.BigEndian.Uint64(m.contact.ID[8:]) ^ binary.BigEndian.Uint64(x.contact.ID[8:])
	return time.Duration(pair % uint64(longest))
}

// plausibleTable returns what the table of m might hold: of each bucket as
// many as it has room for, at random.
func (m *member) plausibleTable(rng *rand.Rand, sorted []*member) []*member {
	var table []*member
	lo, hi := 0, len(sorted) // who shares the first bits with us
	for bit := 0; hi-lo > 1; bit++ {
		mid := lo + sort.Search(hi-lo, func(i int) bool { return bitOf(sorted[lo+i].contact.ID, bit) == 1 })
		others := sorted[mid:hi]
		if bitOf(m.contact.ID, bit) == 1 {
			others, lo = sorted[lo:mid], mid
		} else {
			hi = mid
		}
		width := closestK * max(1, 16>>bit)
		for _, i := range rng.Perm(len(others))[:min(width, len(others))] {
			table = append(table, others[i])
		}
	}
	return table
}

func bitOf(h stc.Hash, i int) byte { return h[i/8] >> (7 - i%8) & 1 }

// add starts a member that knows nobody, a tenth of them behind a NAT.
func (w *world) add() *member {
	m := w.addDialable()
	if w.rng.Float64() < hiddenShare {
		m.host.Hide()
	}
	return m
}

// addDialable starts a member that everybody can reach and that knows nobody.
func (w *world) addDialable() *member {
	addr := memberAddr(w.number)
	m := w.start(w.newIdentity(), addr, nil)
	w.planEnd(m)
	return m
}

func (w *world) newIdentity() *stc.Identity {
	w.number++
	var nodeSeed [stc.MinSeedSize]byte
	binary.BigEndian.PutUint64(nodeSeed[:], w.seed)
	binary.BigEndian.PutUint64(nodeSeed[8:], uint64(w.number))
	id, err := stc.NewIdentity(nodeSeed[:])
	check(err)
	return id
}

// start runs a member at an address; change, if not nil, adjusts its Config.
func (w *world) start(id *stc.Identity, addr netip.AddrPort, change func(*dht.Config)) *member {
	m := &member{id: id, contact: dht.NewContact(id.PublicKey(), addr), since: w.Now(), place: len(w.members)}
	cfg := dht.Config{
		Identity: id, Sealer: simnet.NewSealer(id.PublicKey()), Seed: w.rng.Uint64() | 1,
		Send: func(b []byte, to netip.AddrPort) error { w.Send(b, addr, to); return nil },
	}
	if change != nil {
		change(&cfg)
	}
	machine, err := dht.NewMachine(cfg, w.Now())
	check(err)
	m.Machine = machine
	m.host = w.Attach(addr, machine)
	w.members = append(w.members, m)
	return m
}

// memberAddr returns an address of its own for each number, with few in one
// /24: 32.0.0.0/6, in an order that looks random.
func memberAddr(n int) netip.AddrPort {
	x := uint32(n) * 2654435761 >> 6
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{32 + byte(x>>24), byte(x >> 16), byte(x >> 8), byte(x)}), uint16(4700+n>>26))
}

// churn makes members come and go from now on: sessions have an exponential
// distribution with this median, and whoever goes is replaced by a new one that
// joins by a single member.
func (w *world) churn(median time.Duration) {
	w.session = median
	w.epoch++
	for _, m := range w.members {
		m.late = false
	}
	for _, m := range slices.Clone(w.members) {
		w.planEnd(m)
	}
}

func (w *world) planEnd(m *member) {
	if w.session == 0 {
		return
	}
	stay := time.Duration(w.rng.ExpFloat64() * float64(w.session) / math.Ln2)
	epoch := w.epoch
	w.After(stay, func() {
		if w.epoch == epoch && !m.host.Gone() {
			m.late = true
			w.mayEnd(m)
		}
	})
}

// mayEnd ends a member whose session is over, as soon as it is not needed.
func (w *world) mayEnd(m *member) {
	if m.late && !m.pinned && w.session != 0 {
		w.crash(m)
		w.join(w.add(), nil)
	}
}

// joinAgain is how long who could not join waits before it tries another member.
const joinAgain = 5 * time.Second

// join has m join by a random member that has done so itself; done, if not nil, learns when it has.
func (w *world) join(m *member, done func(error)) {
	by := w.any(func(x *member) bool { return x.joined && !x.hidden() && !x.liar })
	check(m.AddContact(w.Now(), by.contact))
	m.Bootstrap(w.Now(), func(err error) {
		if m.joined = err == nil; err != nil {
			w.joinErr++
			w.After(joinAgain, func() {
				if !m.host.Gone() {
					w.join(m, nil)
				}
			})
		}
		if done != nil {
			done(err)
		}
	})
	m.host.Settle()
}

// crash ends a member without a word.
func (w *world) crash(m *member) {
	w.Detach(m.host)
	sent := m.Stats(w.Now())
	w.ended.datagrams, w.ended.bytes = w.ended.datagrams+sent.DatagramsOut, w.ended.bytes+sent.BytesOut
	last := w.members[len(w.members)-1]
	w.members[m.place], last.place = last, m.place
	w.members = w.members[:len(w.members)-1]
}

// crashShare ends a share of the members at once.
func (w *world) crashShare(share float64) {
	for _, i := range w.rng.Perm(len(w.members))[:int(share*float64(len(w.members)))] {
		w.members[i].liar = true // marked, as the order changes below
	}
	for _, m := range slices.Clone(w.members) {
		if m.liar && !m.pinned {
			w.crash(m)
		}
		m.liar = false
	}
}

// any returns a random member that ok agrees to.
func (w *world) any(ok func(*member) bool) *member {
	for range 1_000_000 {
		if m := w.members[w.rng.IntN(len(w.members))]; ok(m) {
			return m
		}
	}
	panic("dhtsim: no member is left that would do")
}

// settled returns a random member that has joined, has been there for a while,
// and is none of the liars.
func (w *world) settled(age time.Duration) *member {
	return w.any(func(m *member) bool { return m.joined && !m.liar && !m.pinned && w.Now().Sub(m.since) >= age })
}

// closest returns the n members closest to a key that can hold its record.
func (w *world) closest(key stc.Hash, n int, not *member) []*member {
	var best []*member
	for _, m := range w.members {
		if m == not || m.hidden() || m.liar {
			continue
		}
		i, _ := slices.BinarySearchFunc(best, m, func(a, b *member) int { return compareDistance(key, a.contact.ID, b.contact.ID) })
		if i < n {
			best = slices.Insert(best, i, m)
			best = best[:min(n, len(best))]
		}
	}
	return best
}

func compareDistance(target, a, b stc.Hash) int {
	for i := range target {
		if x, y := a[i]^target[i], b[i]^target[i]; x != y {
			return int(x) - int(y)
		}
	}
	return 0
}

// holders counts those of the members that hold a record of key.
func (w *world) holders(key stc.Hash, of []*member) (n int) {
	for _, m := range of {
		if len(m.Records(w.Now(), key)) > 0 {
			n++
		}
	}
	return n
}

func (w *world) newKey(name string, n int) stc.Hash {
	return stc.Sum(fmt.Appendf(nil, "%s %d of seed %d", name, n, w.seed))
}

func check(err error) {
	if err != nil {
		panic("dhtsim: " + err.Error())
	}
}
