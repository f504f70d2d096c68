// Package memory is a network in memory: datagrams with seeded loss, delay,
// jitter, bursts, reordering, duplication, corruption, a rate and a datagram
// limit.
//
// All time comes from the time package, so inside a testing/synctest bubble
// hours of traffic take milliseconds. Every random decision is drawn from a
// generator of the link (the ordered pair of addresses) that it concerns,
// seeded from Config.Seed: as long as each sender's datagrams keep their
// order, a run repeats itself, whatever the order in which senders run.
package memory

import (
	"container/heap"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/seigr/sttnode/session/transport"
)

// Link is what happens to the datagrams from one address to another. The
// zero value delivers everything at once.
type Link struct {
	Delay     time.Duration // one way
	Jitter    time.Duration // uniform, added to Delay; reorders
	Loss      float64       // share that never arrives
	Duplicate float64       // share that arrives twice
	Reorder   float64       // share that skips Delay, Jitter, Burst and the queue
	Corrupt   float64       // share that arrives with one bit flipped
	Rate      int64         // bytes a second, 0 = no limit
	Queue     int           // bytes that may wait for the rate; 0 = 256 KiB
	MTU       int           // longer datagrams vanish on the way; 0: none that the interface takes
	Interface int           // longer datagrams are refused by Send; 0 = 1,472, an Ethernet's
	Down      bool          // nothing arrives

	// Burst is how long a datagram that is due may have to wait, uniform.
	// What comes due meanwhile arrives with it, in order: so do coarse timers,
	// busy machines and radios.
	Burst time.Duration

	// Through makes links that have the same one share Rate and Queue.
	Through *Bottleneck
}

// Bottleneck is a queue that several links go through. They should all set the
// same Rate and Queue. It belongs to one Network.
type Bottleneck struct {
	freeAt time.Time // when the last byte queued has left; owned by Network.mu
}

// Config configures a Network.
type Config struct {
	Seed uint64
	Link Link // of every pair of addresses, unless SetLink says otherwise
}

// receiveQueue is the most datagrams that wait in one receiver, on their way
// included; more are dropped, as a socket buffer does.
const receiveQueue = 1 << 16

// Network connects its Conns. Its methods may be called concurrently.
type Network struct {
	mu    sync.Mutex
	seed  uint64
	link  Link
	links map[pair]*linkState
	conns map[netip.AddrPort]*Conn
	stats Stats
}

// Stats counts datagrams.
type Stats struct {
	Sent, Delivered, Lost, Duplicated, Corrupted int
	BytesSent                                    int64
}

type pair struct{ from, to netip.AddrPort }

type linkState struct {
	Link
	own     bool // set by SetLink
	rng     *rand.Rand
	self    Bottleneck // of this link alone
	burstAt time.Time  // when the last burst arrives
}

// New returns an empty network.
func New(cfg Config) *Network {
	return &Network{
		seed:  cfg.Seed,
		link:  cfg.Link,
		links: make(map[pair]*linkState),
		conns: make(map[netip.AddrPort]*Conn),
	}
}

// SetDefault replaces the link of every pair that SetLink has not set.
func (n *Network) SetDefault(l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.link = l
	for _, s := range n.links {
		if !s.own {
			s.Link = l
		}
	}
}

// SetLink sets what happens from one address to another, in that direction.
func (n *Network) SetLink(from, to netip.AddrPort, l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.state(from, to)
	s.Link, s.own = l, true
}

// Stats returns the counters so far.
func (n *Network) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stats
}

// Listen opens an address, which must have a valid IP. Port 0 picks a port.
func (n *Network) Listen(addr netip.AddrPort) (*Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !addr.Addr().IsValid() {
		return nil, fmt.Errorf("memory: invalid address %v", addr)
	}
	if addr.Port() == 0 {
		for p := uint16(1024); ; p++ {
			if p == 0 {
				return nil, errors.New("memory: no free port")
			}
			if try := netip.AddrPortFrom(addr.Addr(), p); n.conns[try] == nil {
				addr = try
				break
			}
		}
	}
	if n.conns[addr] != nil {
		return nil, fmt.Errorf("memory: address %v in use", addr)
	}
	c := &Conn{net: n, addr: addr, wake: make(chan struct{}, 1)}
	n.conns[addr] = c
	return c, nil
}

// state returns the link between two addresses; n.mu is held.
func (n *Network) state(from, to netip.AddrPort) *linkState {
	p := pair{from, to}
	s := n.links[p]
	if s == nil {
		h := fnv.New64a()
		fmt.Fprint(h, from, to)
		s = &linkState{Link: n.link, rng: rand.New(rand.NewPCG(n.seed, h.Sum64()))}
		n.links[p] = s
	}
	return s
}

// send takes one datagram through its link; n.mu is held.
func (n *Network) send(data []byte, from, to netip.AddrPort) {
	n.stats.Sent++
	n.stats.BytesSent += int64(len(data))
	s := n.state(from, to)
	// Draw the same numbers whatever the link's settings, so that changing
	// one of them does not change the fate of every later datagram.
	loss, dup, reorder, corrupt := s.rng.Float64(), s.rng.Float64(), s.rng.Float64(), s.rng.Float64()
	jitter, bit := s.rng.Float64(), s.rng.Uint64()
	dst := n.conns[to]
	if dst == nil || s.Down || s.MTU > 0 && len(data) > s.MTU || loss < s.Loss {
		n.stats.Lost++
		return
	}
	now := time.Now()
	at := now
	if s.Rate > 0 {
		queue := s.Queue
		if queue == 0 {
			queue = 256 << 10
		}
		through := &s.self
		if s.Through != nil {
			through = s.Through
		}
		start := now
		if through.freeAt.After(start) {
			start = through.freeAt
		}
		if start.Sub(now).Seconds()*float64(s.Rate) > float64(queue) {
			n.stats.Lost++
			return
		}
		through.freeAt = start.Add(time.Duration(float64(len(data)) / float64(s.Rate) * float64(time.Second)))
		at = through.freeAt
	}
	at = at.Add(s.Delay + time.Duration(jitter*float64(s.Jitter)))
	if s.Burst > 0 {
		if at.After(s.burstAt) {
			s.burstAt = at.Add(time.Duration(jitter * float64(s.Burst)))
		}
		at = s.burstAt
	}
	if reorder < s.Reorder {
		at = now
	}
	data = append([]byte(nil), data...)
	if corrupt < s.Corrupt && len(data) > 0 {
		n.stats.Corrupted++
		data[bit/8%uint64(len(data))] ^= 1 << (bit % 8)
	}
	dst.push(packet{data: data, from: from, at: at})
	if dup < s.Duplicate {
		n.stats.Duplicated++
		// The copy comes later, as over a second path.
		dst.push(packet{data: append([]byte(nil), data...), from: from, at: at.Add(s.Delay/2 + s.Jitter)})
	}
}

// Conn is one address of a Network. It implements [transport.Conn].
type Conn struct {
	net  *Network
	wake chan struct{} // capacity 1: something changed for Receive

	// Owned by net.mu.
	addr   netip.AddrPort
	queue  packets
	order  uint64
	closed bool
}

var _ transport.Conn = (*Conn)(nil)

type packet struct {
	data  []byte
	from  netip.AddrPort
	at    time.Time
	order uint64 // breaks ties of at
}

func (c *Conn) push(p packet) {
	if len(c.queue) >= receiveQueue {
		c.net.stats.Lost++
		return
	}
	c.order++
	p.order = c.order
	heap.Push(&c.queue, p)
	if c.queue[0].order == p.order {
		c.signal()
	}
}

func (c *Conn) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// LocalAddr implements [transport.Conn].
func (c *Conn) LocalAddr() netip.AddrPort {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	return c.addr
}

// Send implements [transport.Conn].
func (c *Conn) Send(buf []byte, size int, to netip.AddrPort) error {
	if size <= 0 || len(buf) > transport.MaxBatch {
		return fmt.Errorf("memory: batch of %d bytes in datagrams of %d", len(buf), size)
	}
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	largest := c.net.state(c.addr, to).Interface
	if largest == 0 {
		largest = 1472
	}
	if min(size, len(buf)) > largest {
		return fmt.Errorf("memory: datagrams of %d bytes: %w", size, syscall.EMSGSIZE)
	}
	for len(buf) > 0 {
		k := min(size, len(buf))
		c.net.send(buf[:k], c.addr, to)
		buf = buf[k:]
	}
	return nil
}

// Receive implements [transport.Conn]. Datagrams that arrived together and
// fit together are returned in one call, as a kernel that joins them does.
func (c *Conn) Receive(buf []byte) (n, size int, from netip.AddrPort, err error) {
	for {
		c.net.mu.Lock()
		if c.closed {
			c.net.mu.Unlock()
			return 0, 0, netip.AddrPort{}, net.ErrClosed
		}
		now := time.Now()
		for len(c.queue) > 0 && !c.queue[0].at.After(now) {
			p := c.queue[0]
			if n > 0 && (p.from != from || len(p.data) > size || n%size != 0 || n+len(p.data) > len(buf)) {
				break
			}
			heap.Pop(&c.queue)
			c.net.stats.Delivered++
			if n == 0 {
				from, size = p.from, len(p.data)
			}
			n += copy(buf[n:], p.data)
		}
		if n > 0 {
			c.net.mu.Unlock()
			return n, size, from, nil
		}
		var due <-chan time.Time
		var timer *time.Timer
		if len(c.queue) > 0 {
			timer = time.NewTimer(c.queue[0].at.Sub(now))
			due = timer.C
		}
		c.net.mu.Unlock()
		select {
		case <-due:
		case <-c.wake:
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

// Rebind moves the Conn to another address, as a NAT does that forgets its
// mapping; what is on its way to the old one is lost.
func (c *Conn) Rebind(addr netip.AddrPort) error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.net.conns[addr] != nil {
		return fmt.Errorf("memory: address %v in use", addr)
	}
	delete(c.net.conns, c.addr)
	c.addr = addr
	c.net.conns[addr] = c
	c.queue = nil
	return nil
}

// Close implements [transport.Conn].
func (c *Conn) Close() error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if !c.closed {
		c.closed = true
		c.queue = nil
		delete(c.net.conns, c.addr)
		c.signal()
	}
	return nil
}

type packets []packet

func (p packets) Len() int { return len(p) }
func (p packets) Less(i, j int) bool {
	if !p[i].at.Equal(p[j].at) {
		return p[i].at.Before(p[j].at)
	}
	return p[i].order < p[j].order
}
func (p packets) Swap(i, j int) { p[i], p[j] = p[j], p[i] }
func (p *packets) Push(x any)   { *p = append(*p, x.(packet)) }
func (p *packets) Pop() any {
	old := *p
	x := old[len(old)-1]
	old[len(old)-1] = packet{}
	*p = old[:len(old)-1]
	return x
}
