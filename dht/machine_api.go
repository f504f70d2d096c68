package dht

import (
	"context"
	"net/netip"
	"time"

	"github.com/seigr/sttnode/stc"
)

// Machine is a DHT node without goroutine, timer and clock, for who brings
// those along: what [DHT] runs on a goroutine, a simulation runs by the thousand
// in virtual time. Callbacks are made from within its methods and must not
// call back. After every other call, Advance must be called, and again when
// the time of Deadline has come. Not safe for concurrent use.
type Machine struct{ m *machine }

// NewMachine returns a node that knows nobody. ErrBadConfig if cfg cannot work.
func NewMachine(cfg Config, now time.Time) (*Machine, error) {
	m, err := newMachine(cfg, now)
	if err != nil {
		return nil, err
	}
	return &Machine{m}, nil
}

// Receive takes a datagram, which it does not keep.
func (m *Machine) Receive(now time.Time, datagram []byte, from netip.AddrPort) {
	m.m.receive(now, datagram, from)
}

// Advance does everything that is due.
func (m *Machine) Advance(now time.Time) { m.m.advance(now) }

// Deadline returns when Advance must be called at the latest.
func (m *Machine) Deadline() time.Time { return m.m.deadline() }

// Acquaintance is a node that a Machine has talked to.
type Acquaintance struct {
	Machine *Machine
	Addr    netip.AddrPort
	RTT     time.Duration
	Heard   time.Time // when it last answered
}

// Resume gives a new node at self what one knows that has been in its network
// for long: others that have answered it and have granted it cookies, how densely
// nodes lie around it, and, if it is reachable, that it can be called. So a simulation begins with a network that is there, without the
// many datagrams by which that came about.
func (m *Machine) Resume(now time.Time, self netip.AddrPort, reachable bool, known []Acquaintance) {
	if reachable {
		m.m.reach.calledBy(now, self)
	}
	for _, a := range known {
		other := a.Machine.m
		c := Contact{ID: other.id, Key: other.key, Addr: a.Addr}
		m.m.peers.granted(now, c, other.cookies.grant(now, m.m.key, self))
		m.m.peers.measured(c, a.RTT)
		m.m.met(a.Heard, c, true)
	}
	m.m.table.lastAnswer = m.m.table.clock.at(now)
	if k := m.m.cfg.K; m.m.table.len() >= k {
		m.m.estimate.closest(m.m.id, m.m.table.closest(m.m.id, k, callable)[k-1].ID, k)
	}
	m.m.upkeep.resume(now)
}

// AddContact is [DHT.AddContact].
func (m *Machine) AddContact(now time.Time, c Contact) error { return m.m.addContact(now, c) }

// Bootstrap is [DHT.Bootstrap]; done learns how it ended.
func (m *Machine) Bootstrap(now time.Time, done func(error)) { m.m.upkeep.bootstrap(now, done) }

// Lookup is a lookup of a Machine.
type Lookup struct{ s *search }

// Stats says what the lookup did so far.
func (l Lookup) Stats(now time.Time) LookupStats { return l.s.stats(now) }

// Cancel ends the lookup, if it is not over; its done learns of
// context.Canceled.
func (l Lookup) Cancel(now time.Time) { l.s.cancel(now, context.Canceled) }

// FindProviders is [DHT.FindProviders]. found learns of each provider, done
// how the lookup ended.
func (m *Machine) FindProviders(now time.Time, key stc.Hash, found func(Contact), done func(LookupStats, error)) Lookup {
	return Lookup{m.m.startSearch(now, PurposeProviders, key, found, func(_ time.Time, r searchResult) { done(r.stats, r.err) })}
}

// FindNode is [DHT.FindNode].
func (m *Machine) FindNode(now time.Time, target stc.Hash, done func([]Contact, LookupStats, error)) Lookup {
	return Lookup{m.m.startSearch(now, PurposeNode, target, nil, func(_ time.Time, r searchResult) { done(r.closest, r.stats, r.err) })}
}

// Provide is [DHT.Provide].
func (m *Machine) Provide(now time.Time, key stc.Hash, done func(stored int, err error)) {
	m.m.publisher.provide(now, key, done)
}

// Holders returns how many nodes are known to hold our record of key.
func (m *Machine) Holders(key stc.Hash) int { return m.m.publisher.holders(key) }

// PutRecord is [DHT.PutRecord].
func (m *Machine) PutRecord(now time.Time, rec Record, done func(stored int, err error)) {
	m.m.keeper.once++
	m.m.keeper.put(now, rec, func(_ time.Time, r putResult) {
		m.m.keeper.once--
		done(len(r.holders), r.err)
	})
}

// GetRecord is [DHT.GetRecord]; the zero Record is none.
func (m *Machine) GetRecord(now time.Time, name stc.Name, done func(Record, LookupStats, error)) Lookup {
	return Lookup{m.m.startRecordSearch(now, PurposeRecord, name, 0, func(_ time.Time, r searchResult) { done(r.record, r.stats, r.err) })}
}

// Records returns the providers of key that we hold records of for others.
func (m *Machine) Records(now time.Time, key stc.Hash) []Contact {
	return m.m.records.get(m.m.rng, now, key, m.m.cfg.MaxRecordsPerKey, netip.AddrPort{})
}

// MarshalTable is [DHT.MarshalTable].
func (m *Machine) MarshalTable() []byte { return m.m.table.marshal(m.m.peers.rtt) }

// RestoreTable is [DHT.RestoreTable].
func (m *Machine) RestoreTable(now time.Time, saved []byte) (int, error) {
	return m.m.restoreTable(now, saved)
}

// Contacts is [DHT.Contacts].
func (m *Machine) Contacts() []Contact { return m.m.table.contacts(callable) }

// Stats is [DHT.Stats].
func (m *Machine) Stats(now time.Time) Stats { return m.m.snapshot(now) }
