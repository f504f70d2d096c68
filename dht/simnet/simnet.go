// Package simnet is a datagram network in virtual time, for simulations of
// state machines: thousands of nodes, one goroutine, no socket and no clock.
// What happens is decided by the seed and by the order of the calls, so a run
// repeats itself exactly; Hash tells two runs apart. It knows nothing about
// what the nodes say to each other.
//
// Not safe for concurrent use: whoever made a Network drives it.
package simnet

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

// Node is a state machine on the network. Everything due is done by Advance,
// which is called after every datagram and at Deadline at the latest.
type Node interface {
	// Receive takes a datagram, which it must not keep.
	Receive(now time.Time, datagram []byte, from netip.AddrPort)
	Advance(now time.Time)
	Deadline() time.Time
}

// Config configures a network.
type Config struct {
	// Seed decides everything that is left to chance.
	Seed uint64
	// Start is the time at which the network begins.
	Start time.Time
	// Delay returns how long a datagram takes from one address to another.
	Delay func(rng *rand.Rand, from, to netip.AddrPort) time.Duration
	// Loss is the share of datagrams that is lost, 0 to 1.
	Loss float64
}

// Network carries datagrams between hosts.
type Network struct {
	cfg   Config
	rng   *rand.Rand
	now   time.Time
	queue queue
	free  []*event
	hosts map[netip.AddrPort]*Host
	hash  uint64
	sent  int
}

// Host is a node at an address.
type Host struct {
	Node
	// Received counts the datagrams that reached the node.
	Received int

	net  *Network
	addr netip.AddrPort
	gone bool
	nat  *nat      // nil: everybody reaches it
	due  time.Time // when Advance is to be called
	wake time.Time // of the event that sees to it, at or before that
}

// New returns a network without hosts.
func New(cfg Config) *Network {
	return &Network{
		cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 1)), now: cfg.Start,
		hosts: make(map[netip.AddrPort]*Host), hash: 0xcbf29ce484222325,
	}
}

// Now returns the virtual time.
func (n *Network) Now() time.Time { return n.now }

// Rand returns the generator that the network draws from, for what else is to
// be decided by its seed.
func (n *Network) Rand() *rand.Rand { return n.rng }

// Sent returns how many datagrams were sent, lost ones included.
func (n *Network) Sent() int { return n.sent }

// Hash returns a hash of everything that was sent so far: when, from where,
// where to and how long, in order. Equal runs have equal hashes.
func (n *Network) Hash() uint64 { return n.hash }

// SetLoss changes the share of datagrams that is lost.
func (n *Network) SetLoss(loss float64) { n.cfg.Loss = loss }

// Attach puts a node at an address; one that was there is cut off.
func (n *Network) Attach(addr netip.AddrPort, node Node) *Host {
	if old := n.hosts[addr]; old != nil {
		n.Detach(old)
	}
	h := &Host{Node: node, net: n, addr: addr}
	n.hosts[addr] = h
	h.Settle()
	return h
}

// Detach cuts a host off without a word; it does nothing any more.
func (n *Network) Detach(h *Host) {
	if n.hosts[h.addr] == h {
		delete(n.hosts, h.addr)
	}
	h.gone = true
}

// Reattach brings a detached host back as it was.
func (n *Network) Reattach(h *Host) {
	h.gone, h.wake = false, time.Time{}
	n.hosts[h.addr] = h
	h.Settle()
}

// Host returns the host at an address, or nil.
func (n *Network) Host(addr netip.AddrPort) *Host { return n.hosts[addr] }

// Addr returns the host's address.
func (h *Host) Addr() netip.AddrPort { return h.addr }

// Gone reports whether the host was detached.
func (h *Host) Gone() bool { return h.gone }

// Send carries a datagram. The bytes may be reused at once.
func (n *Network) Send(datagram []byte, from, to netip.AddrPort) {
	n.sent++
	n.mix(uint64(n.now.UnixNano()))
	n.mix(uint64(len(datagram)))
	n.mixAddr(from)
	n.mixAddr(to)
	if h := n.hosts[from]; h != nil && h.nat != nil {
		h.nat.opened(n.now, to)
	}
	if n.cfg.Loss > 0 && n.rng.Float64() < n.cfg.Loss {
		return
	}
	delay := n.cfg.Delay(n.rng, from, to)
	if n.hosts[to] == nil {
		return
	}
	e := n.event()
	e.from, e.to = from, to
	e.datagram = append(e.datagram[:0], datagram...)
	n.queue.push(n.now.Add(delay).UnixNano(), e)
}

func (n *Network) mix(x uint64) { n.hash = (n.hash ^ x) * 0x100000001b3 }

func (n *Network) mixAddr(a netip.AddrPort) {
	ip := a.Addr().As16()
	for i := 12; i < 16; i++ {
		n.mix(uint64(ip[i]))
	}
	n.mix(uint64(a.Port()))
}

// never is longer than any run, and short enough to be added to a time.
const never = 100 * 365 * 24 * time.Hour

// Settle lets the host do what is due after something was done to its node
// from outside, and sees to it that it wakes up at its deadline.
func (h *Host) Settle() {
	now := h.net.now
	h.Advance(now)
	h.due = now.Add(min(max(h.Deadline().Sub(now), time.Nanosecond), never))
	if !h.wake.After(now) || h.due.Before(h.wake) {
		h.wakeUp()
	}
}

// wakeUp has an event come when the host is due.
func (h *Host) wakeUp() {
	h.wake = h.due
	e := h.net.event()
	e.wakes = h
	h.net.queue.push(h.wake.UnixNano(), e)
}

// After runs f when d has passed.
func (n *Network) After(d time.Duration, f func()) {
	e := n.event()
	e.run = f
	n.queue.push(n.now.Add(d).UnixNano(), e)
}

// RunFor lets time pass.
func (n *Network) RunFor(d time.Duration) {
	end := n.now.Add(d)
	n.RunUntil(func() bool { return false }, end)
	n.now = end
}

// RunUntil lets time pass until done, which is asked between any two events,
// at most to end. It reports whether done was.
func (n *Network) RunUntil(done func() bool, end time.Time) bool {
	for !done() {
		at, e, ok := n.queue.popUntil(end.UnixNano())
		if !ok {
			return false
		}
		n.now = n.now.Add(time.Duration(at - n.now.UnixNano()))
		n.handle(at, e)
		*e = event{datagram: e.datagram[:0]}
		n.free = append(n.free, e)
	}
	return true
}

func (n *Network) handle(at int64, e *event) {
	switch {
	case e.run != nil:
		e.run()
	case e.wakes != nil:
		switch h := e.wakes; {
		case h.gone || h.wake.UnixNano() != at:
		case h.due.After(n.now): // what it was to wake up for has not come to that
			h.wakeUp()
		default:
			h.Settle()
		}
	default:
		h := n.hosts[e.to]
		if h == nil || h.nat != nil && !h.nat.admits(n.now, e.from) {
			return
		}
		h.Received++
		h.Receive(n.now, e.datagram, e.from)
		h.Settle()
	}
}

func (n *Network) event() *event {
	if last := len(n.free) - 1; last >= 0 {
		e := n.free[last]
		n.free = n.free[:last]
		return e
	}
	return new(event)
}
