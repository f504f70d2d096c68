package dht

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seigr/sttnode/stc"
)

// DHT is a node of the distributed hash table. All methods may be called
// concurrently.
//
// One goroutine, run, owns the machine: it takes datagrams and commands from
// channels and sleeps until the machine's deadline. Close stops it and waits.
type DHT struct {
	maxProviders int

	inbox    chan *packet
	free     chan *packet // for reuse
	commands chan func(m *machine, now time.Time)
	closing  chan struct{} // closed by Close
	closed   chan struct{} // closed when run has returned
	once     sync.Once

	overflow  atomic.Uint64 // datagrams that found the inbox full
	oversized atomic.Uint64 // datagrams longer than MaxDatagram

	last Stats // when run returned; may be read once closed is closed
}

// packet is a datagram that waits to be handled.
type packet struct {
	buf  [MaxDatagram]byte
	n    int
	from netip.AddrPort
}

// New starts a DHT node. It sends nothing until it knows somebody: call
// AddContact or RestoreTable, then Bootstrap. ErrBadConfig if cfg cannot work.
func New(cfg Config) (*DHT, error) {
	m, err := newMachine(cfg, time.Now())
	if err != nil {
		return nil, err
	}
	d := &DHT{
		maxProviders: m.cfg.MaxProviders,

		inbox:    make(chan *packet, m.cfg.QueueLength),
		free:     make(chan *packet, m.cfg.QueueLength),
		commands: make(chan func(*machine, time.Time)),
		closing:  make(chan struct{}),
		closed:   make(chan struct{}),
	}
	go d.run(m)
	return d, nil
}

// run is the goroutine that owns m.
func (d *DHT) run(m *machine) {
	defer close(d.closed)
	timer := time.NewTimer(time.Until(m.deadline()))
	defer timer.Stop()
	for {
		select {
		case p := <-d.inbox:
			m.receive(time.Now(), p.buf[:p.n], p.from)
			d.recycle(p)
		case command := <-d.commands:
			command(m, time.Now())
		case <-timer.C:
		case <-d.closing:
			m.close(time.Now())
			d.last = m.snapshot(time.Now())
			return
		}
		m.advance(time.Now())
		timer.Reset(time.Until(m.deadline()))
	}
}

func (d *DHT) recycle(p *packet) {
	select {
	case d.free <- p:
	default:
	}
}

// HandleDatagram takes a datagram that arrived as a frame of type DHT. It
// copies b and never blocks: if too many wait already, it drops this one.
func (d *DHT) HandleDatagram(b []byte, from netip.AddrPort) {
	if len(b) > MaxDatagram {
		d.oversized.Add(1)
		return
	}
	var p *packet
	select {
	case p = <-d.free:
	default:
		p = new(packet)
	}
	p.n, p.from = copy(p.buf[:], b), from
	select {
	case d.inbox <- p:
	default:
		d.overflow.Add(1)
		d.recycle(p)
	}
}

// do has the owner run a command; the command runs whenever do returns nil.
func (d *DHT) do(ctx context.Context, command func(m *machine, now time.Time)) error {
	select {
	case d.commands <- command:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-d.closing:
		return ErrClosed
	}
}

// ask has the owner run a query and waits for its result; the zero value if
// the DHT is closed.
func ask[T any](d *DHT, query func(m *machine, now time.Time) T) (result T, err error) {
	reply := make(chan T, 1)
	if err := d.do(context.Background(), func(m *machine, now time.Time) { reply <- query(m, now) }); err != nil {
		return result, err
	}
	return <-reply, nil
}

// AddContact makes known a node whose key and address an authenticated session
// has proven. It is asked whether it takes part in routing before others are
// told about it. Errors: ErrBadContact, ErrClosed.
func (d *DHT) AddContact(c Contact) error {
	bad, err := ask(d, func(m *machine, now time.Time) error { return m.addContact(now, c) })
	if err != nil {
		return err
	}
	return bad
}

// Contacts returns the nodes in the routing table, without those that have left
// two calls in a row unanswered, and those that are farthest from us first. If
// there are none, we are alone or cut off. None when the DHT is closed.
func (d *DHT) Contacts() []Contact {
	contacts, _ := ask(d, func(m *machine, _ time.Time) []Contact { return m.table.contacts(callable) })
	return contacts
}

// Provided returns the keys that we provide, in no order. None when the DHT is
// closed.
func (d *DHT) Provided() []stc.Hash {
	keys, _ := ask(d, func(m *machine, _ time.Time) []stc.Hash { return m.publisher.provided() })
	return keys
}

// Stats returns a snapshot of counters and sizes; once the DHT is closed, the
// last one.
func (d *DHT) Stats() Stats {
	s, err := ask(d, func(m *machine, now time.Time) Stats { return m.snapshot(now) })
	if err != nil {
		<-d.closed
		s = d.last
	}
	s.Dropped[DropQueue] += d.overflow.Load()
	s.Dropped[DropMalformed] += d.oversized.Load()
	return s
}

// MarshalTable returns the routing table for RestoreTable, about 60 bytes a
// node. It holds the keys and addresses of other nodes: not secret, but the
// network's own business. ErrClosed when the DHT is closed.
func (d *DHT) MarshalTable() ([]byte, error) {
	return ask(d, func(m *machine, _ time.Time) []byte { return m.table.marshal(m.peers.rtt) })
}

// RestoreTable takes the nodes of a saved table into this one and returns how
// many found a place. They are asked whether they are still there, and serve
// lookups at once. Errors: ErrBadTable, which leaves the table as it was, and
// ErrClosed.
func (d *DHT) RestoreTable(saved []byte) (int, error) {
	type result struct {
		restored int
		err      error
	}
	r, err := ask(d, func(m *machine, now time.Time) result {
		n, err := m.restoreTable(now, saved)
		return result{n, err}
	})
	if err != nil {
		return 0, err
	}
	return r.restored, r.err
}

// Close ends everything that is under way with ErrClosed and stops the DHT. It
// withdraws nothing: call UnprovideAll before, if that is wanted. Idempotent;
// always nil.
func (d *DHT) Close() error {
	d.once.Do(func() { close(d.closing) })
	<-d.closed
	return nil
}
