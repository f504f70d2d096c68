package dht

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	crand "crypto/rand"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

// machine is a whole DHT node as one state machine: datagrams, commands and
// the time go in, datagrams and callbacks come out. It has no goroutine, timer
// or lock; DHT owns one and feeds it from one goroutine, and a simulation may
// own thousands in virtual time. With a seed it is deterministic: what it does
// is decided by the order and the times of what it is fed.
//
// The way of a datagram: receive (gate, sealer, codec) → serve if it is a
// request, calls.answered if it is an answer → whoever made the call: a
// search, the publisher or upkeep. After every input, advance lets everybody
// do what has become due, and deadline says when it must be called at the
// latest.
type machine struct {
	cfg    Config
	id     stc.Hash
	key    stc.PublicKey
	sealer Sealer
	rng    *rand.Rand
	stats  Stats

	cookies   *cookies
	gate      *gate
	table     *table
	peers     *peers
	records   *records
	signed    *signedStore
	calls     *calls
	publisher *publisher
	keeper    *keeper
	errands   *errands
	reach     *reach
	estimate  *estimate
	upkeep    upkeep
	searches  []*search // under way, in the order in which they began
	callers   int       // searches among them that a caller of DHT waits for

	verifying map[stc.Hash]struct{} // pinged because they asked us; see serve

	header            []byte   // of every frame that we send or take
	plain, sealed, in []byte   // scratch
	chosen            []*entry // scratch of nodesFor
}

func newMachine(cfg Config, now time.Time) (*machine, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	m := &machine{
		cfg:       cfg,
		id:        cfg.Identity.NodeID(),
		key:       cfg.Identity.PublicKey(),
		sealer:    cfg.Sealer,
		verifying: make(map[stc.Hash]struct{}),
		header:    frame.AppendHeader(nil, frame.Header{Type: frame.TypeDHT}),
	}
	if m.sealer == nil {
		m.sealer = stc.NewDatagramSealer(cfg.Identity, cfg.Keyring, 0)
	}
	var seed [32]byte
	crand.Read(seed[:]) // never fails
	if cfg.Seed != 0 {
		clear(seed[:])
		binary.BigEndian.PutUint64(seed[:], cfg.Seed)
		copy(seed[8:], m.id[:24])
	}
	m.rng = rand.New(rand.NewChaCha8(seed))

	var secret [32]byte
	for i := 0; i < len(secret); i += 8 {
		binary.BigEndian.PutUint64(secret[i:], m.rng.Uint64())
	}
	m.cookies = newCookies(secret, now, cfg.CookiePeriod)
	clock := newClock(now)
	m.gate = newGate(clock, gateConfig{
		strangers: cfg.RateStrangers, addr: cfg.RateAddress, subnet: cfg.RateSubnet,
		remember: max(4096, 2*cfg.RememberedPeers),
	})
	m.estimate = new(estimate)
	m.table = newTable(m.id, m.estimate, clock, tableConfig{
		k: cfg.K, maxPerSubnet: cfg.TablePerSubnet,
		questionable: cfg.QuestionableAfter, check: cfg.CheckInterval,
	})
	m.peers = newPeers(cfg.RememberedPeers, clock, cfg.CookiePeriod)
	perSubnet := max(1, cfg.MaxRecordsPerKey/8)
	if cfg.TablePerSubnet < 0 {
		perSubnet = -1
	}
	m.records = newRecords(m.id, recordCaps{
		total: cfg.MaxRecords, perKey: cfg.MaxRecordsPerKey, perProvider: cfg.MaxRecordsPerProvider,
		perSubnet: perSubnet, ttl: cfg.RecordTTL,
	})
	signedPerSubnet := max(1, cfg.MaxSignedRecords/4)
	if cfg.TablePerSubnet < 0 {
		signedPerSubnet = -1
	}
	m.signed = newSignedStore(m.id, signedCaps{
		total: cfg.MaxSignedRecords, perSender: max(1, cfg.MaxSignedRecords/16), perSubnet: signedPerSubnet, ttl: cfg.RecordTTL,
	})
	m.calls = &calls{
		send: m.send, grant: m.grantFor, peers: m.peers, rng: m.rng, stats: &m.stats,
		onAnswer: m.onAnswer, onFail: m.onFail,
		byTx: make(map[uint64]*call),
	}
	m.publisher = newPublisher(m)
	m.keeper = &keeper{m: m}
	m.errands = newErrands(m)
	m.reach = newReach(m)
	m.upkeep = newUpkeep(m, now)
	return m, nil
}

// deadline returns when advance must be called next at the latest.
func (m *machine) deadline() time.Time {
	at := m.upkeep.deadline()
	at = earlier(at, m.calls.deadline())
	at = earlier(at, m.publisher.deadline())
	at = earlier(at, m.keeper.deadline())
	at = earlier(at, m.reach.deadline())
	for _, s := range m.searches {
		at = earlier(at, s.deadline)
	}
	return at
}

// earlier returns the earlier of two times, of which b may be zero for never.
func earlier(a, b time.Time) time.Time {
	if b.IsZero() || !b.Before(a) {
		return a
	}
	return b
}

// earlierOf returns the earlier of two times, either of which may be zero for
// never.
func earlierOf(a, b time.Time) time.Time {
	if a.IsZero() {
		return b
	}
	return earlier(a, b)
}

// advance does everything that is due.
func (m *machine) advance(now time.Time) {
	m.calls.expire(now)
	for i := 0; i < len(m.searches); i++ {
		if s := m.searches[i]; !now.Before(s.deadline) {
			s.timeout(now)
			i-- // it has left the list
		}
	}
	m.publisher.advance(now)
	m.keeper.advance(now)
	m.reach.advance(now)
	m.upkeep.advance(now)
	m.calls.expire(now) // calls that could not be sent at all
}

// receive takes one datagram from the network.
func (m *machine) receive(now time.Time, datagram []byte, from netip.AddrPort) {
	m.stats.DatagramsIn++
	m.stats.BytesIn += uint64(len(datagram))
	from = normalAddr(from)
	if len(datagram) > MaxDatagram || len(datagram) < sealOverhead+minMessage || !usableAddr(from) ||
		string(datagram[:len(m.header)]) != string(m.header) {
		m.drop(DropMalformed)
		return
	}
	if linked(from) {
		m.gate.proven(from)
	}
	expected := m.gate.letsIn(now, from)
	if !m.gate.admit(now, from) {
		m.drop(DropRate)
		return
	}
	plain, sender, err := m.sealer.Open(m.in[:0], m.header, datagram[len(m.header):])
	if errors.Is(err, stc.ErrWrongSeed) {
		m.drop(DropStranger)
		return
	}
	m.gate.spend(from)
	if err != nil {
		m.drop(DropForged)
		return
	}
	m.in = plain
	msg, err := decodeMessage(plain)
	if err != nil {
		m.drop(DropMalformed)
		return
	}
	if !msg.kind.isAnswer() {
		if !expected {
			m.reach.calledBy(now, from)
		}
		m.serve(now, Contact{ID: sender.NodeID(), Key: sender, Addr: from}, &msg, len(datagram))
	} else if !m.calls.answered(now, sender, from, &msg) {
		m.drop(DropUnsolicited)
	}
}

func (m *machine) drop(d Drop) { m.stats.Dropped[d]++ }

// send seals a message and sends it.
func (m *machine) send(now time.Time, to Contact, msg *message) error {
	msg.client = m.reach.hidden(to.Addr)
	m.gate.sentTo(now, to.Addr)
	m.plain = msg.append(m.plain[:0])
	sealed, err := m.sealer.Seal(append(m.sealed[:0], m.header...), to.Key, m.header, m.plain)
	if err == nil {
		m.sealed = sealed
		err = m.cfg.Send(sealed, to.Addr)
	}
	if err != nil {
		m.stats.SendErrors++
		return err
	}
	m.stats.DatagramsOut++
	m.stats.BytesOut += uint64(len(sealed))
	return nil
}

// grantFor returns the cookie that a request of ours hands to c, so that c can
// ask us something later; a client is not asked.
func (m *machine) grantFor(now time.Time, c Contact) cookie {
	m.gate.proven(c.Addr) // we expect an answer from there
	if m.cfg.ClientOnly {
		return cookie{}
	}
	return m.cookies.grant(now, c.Key, c.Addr)
}

// addContact takes note of a node whose key and address a session has proven.
func (m *machine) addContact(now time.Time, c Contact) error {
	c.Addr = normalAddr(c.Addr)
	if err := c.check(); err != nil {
		return err
	}
	if c.ID == m.id {
		return fmt.Errorf("%w: it is ourselves", ErrBadContact)
	}
	m.met(now, c, false)
	return nil
}

// met takes note that c has proven its key and its address and takes part in
// routing.
func (m *machine) met(now time.Time, c Contact, answered bool) {
	m.gate.proven(c.Addr)
	p := m.peers.touch(c)
	p.routes, p.heard = true, m.peers.clock.at(now)
	placed, first := m.table.heard(now, c, answered)
	if placed == placedNew || placed == placedCandidate {
		m.upkeep.soon(now)
	}
	if first {
		m.publisher.nodeUp(now, c)
		m.keeper.nodeUp(now, c)
	}
}

// retired takes note that c says to take no part in routing.
func (m *machine) retired(c Contact) {
	m.table.evict(c.ID)
	m.peers.touch(c).routes = false
}

func (m *machine) onAnswer(now time.Time, from Contact, answer *message) {
	m.reach.answered(now, from)
	if answer.client {
		m.retired(from)
		return
	}
	if m.table.silence(now) > m.cfg.QuestionableAfter {
		m.upkeep.refreshSelf = now // perhaps we were cut off: see who else is back
	}
	m.met(now, from, true)
}

func (m *machine) onFail(now time.Time, to Contact, began time.Time) {
	m.peers.silent(to)
	if m.table.failed(now, to, began) {
		m.upkeep.soon(now)
		m.upkeep.hasten(now)
		m.publisher.hasten(now)
	}
	m.upkeep.recheck(now)
}

// believe returns those of the contacts that from told us of which we would
// call, and remembers them as candidates.
func (m *machine) believe(from Contact, told []Contact) []Contact {
	believed := make([]Contact, 0, len(told))
	for _, c := range told {
		if c.ID == m.id || !relayable(c.Addr, from.Addr) {
			continue
		}
		m.table.learned(c)
		believed = append(believed, c)
	}
	m.upkeep.filling = true
	return believed
}

// seeds returns where a lookup for target begins: the closest nodes of the
// table and of those heard of lately, and as long as we know few, of those that
// others told us of. Those of the table that the lookup knows are left out.
func (m *machine) seeds(target stc.Hash, known func(stc.Hash) bool) []Contact {
	n := 2 * m.cfg.K
	seeds := make([]Contact, 0, 2*n)
	seeds = contactsOf(seeds, m.table.closest(target, n, func(e *entry) bool { return callable(e) && !known(e.ID) }))
	for _, p := range m.peers.near(target, n) {
		seeds = append(seeds, p.Contact)
	}
	for _, c := range m.table.unproven(target) {
		seeds = append(seeds, c.Contact)
	}
	if len(seeds) == 0 { // everybody is believed dead: try them all the same
		seeds = contactsOf(seeds, m.table.closest(target, n, func(e *entry) bool { return !known(e.ID) }))
	}
	return seeds
}

// holdersWithin: within this part of the distance in which the K closest are
// expected, there is hardly anybody who is not one of them.
const holdersWithin = 0.8

// promising returns those of the nodes we know that are expected to hold the
// records of target, the best to ask first: who was heard of lately is there
// more likely, and who is near answers sooner.
func (m *machine) promising(now time.Time, target stc.Hash) []stc.Hash {
	radius, ok := m.estimate.radius(m.cfg.K)
	if !ok {
		return nil
	}
	type choice struct {
		id   stc.Hash
		cost time.Duration
	}
	var choices []choice
	lifetime := m.estimate.lifetime()
	consider := func(c Contact, heard time.Time) {
		if fraction(c.ID, target) < holdersWithin*radius {
			gone := 1 - math.Exp(-float64(now.Sub(heard))/float64(lifetime))
			cost := m.peers.expected(c) + time.Duration(gone*float64(m.peers.patience(c)))
			choices = append(choices, choice{c.ID, cost})
		}
	}
	for _, e := range m.table.closest(target, m.cfg.K, callable) {
		consider(e.Contact, m.table.clock.time(e.heard))
	}
	for _, e := range m.peers.near(target, m.cfg.K) {
		if m.table.get(e.ID) == nil {
			consider(e.Contact, e.heard)
		}
	}
	slices.SortStableFunc(choices, func(a, b choice) int { return cmp.Compare(a.cost, b.cost) })
	ids := make([]stc.Hash, 0, len(choices))
	for _, c := range choices {
		ids = append(ids, c.id)
	}
	return ids
}
