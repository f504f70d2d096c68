package session

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/seigr/sttnode/session/transport/memory"
)

// plan is one random world: its network, its two nodes, what they send each
// other and what befalls them. All of it follows from the seed.
type plan struct {
	seed    uint64
	links   [2]memory.Link // of what A sends, of what B sends
	change  func(a, b *Config)
	scripts [2][]script // streams that A opens, that B opens
	frames  [2][]int    // lengths of the application's frames
	events  []event
	mortal  bool // the session may end before its work is done
}

// script is what happens on one stream.
type script struct {
	act    act
	number byte // the first byte on the stream, which tells the acceptor
	begin  time.Duration
	seed   uint64
	size   int // bytes of the opener
	answer int // bytes of the acceptor
	piece  int // bytes a Write, or a message
	cut    int // bytes after which Reset or CloseRead comes
	pause  time.Duration
}

type act int

const (
	actSend     act = iota // the opener sends, the acceptor reads
	actAsk                 // half-close: the acceptor answers the question's end
	actMessages            // whole messages
	actReset               // the opener gives up midway
	actStop                // the acceptor wants no more midway
	actDuplex              // both send at the same time
	acts
)

// event is something that befalls the world.
type event struct {
	at   time.Duration
	what befall
	side int // 0: A or what A sends; 1: B or what B sends; 2: both
	link func(*memory.Link)
	text string
	stay time.Duration // after which the link is as it was; 0: for ever
}

type befall int

const (
	befallLink befall = iota
	befallRebind
	befallEndpointClose
	befallSessionClose
)

func (p *plan) String() string {
	s := fmt.Sprintf("links %+v %+v", p.links[0], p.links[1])
	for _, e := range p.events {
		s += fmt.Sprintf("\n  %v: %s, side %d, for %v", e.at, e.text, e.side, e.stay)
	}
	for side, scripts := range p.scripts {
		for _, sc := range scripts {
			s += fmt.Sprintf("\n  side %d: %+v", side, sc)
		}
	}
	return s
}

func upTo(r *rand.Rand, d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d))) }

// newPlan draws a world.
func newPlan(seed uint64) *plan {
	r := newRNG(seed)
	p := &plan{seed: seed}
	p.links[0] = randomLink(r)
	p.links[1] = p.links[0]
	if r.IntN(3) == 0 {
		p.links[1] = randomLink(r)
	}
	p.change = randomConfig(r, p)
	number := byte(0)
	for side := range p.scripts {
		for range r.IntN(5) {
			p.scripts[side] = append(p.scripts[side], randomScript(r, number))
			number++
		}
		if r.IntN(3) == 0 {
			for range 1 + r.IntN(20) {
				p.frames[side] = append(p.frames[side], r.IntN(1<<r.IntN(15)))
			}
		}
	}
	for range r.IntN(5) {
		p.events = append(p.events, randomEvent(r, p))
	}
	moved := [2]bool{}
	for _, e := range p.events {
		if e.what == befallRebind {
			moved[0], moved[1] = moved[0] || e.side != 1, moved[1] || e.side != 0
		}
	}
	// Two ends that both move may lose each other for good.
	p.mortal = p.mortal || moved[0] && moved[1]
	return p
}

func randomLink(r *rand.Rand) memory.Link {
	l := memory.Link{Delay: upTo(r, 150*time.Millisecond), Jitter: upTo(r, 30*time.Millisecond)}
	// Each draw happens whatever the others gave.
	loss, reorder, duplicate, corrupt := r.Float64(), r.Float64(), r.Float64(), r.Float64()
	kinds := r.IntN(16)
	if kinds&1 != 0 {
		l.Loss = 0.3 * loss * loss
	}
	if kinds&2 != 0 {
		l.Reorder = 0.2 * reorder
	}
	if kinds&4 != 0 {
		l.Duplicate = 0.2 * duplicate
	}
	if kinds&8 != 0 {
		l.Corrupt = 0.05 * corrupt
	}
	if r.IntN(8) == 0 {
		l.Loss = 0.3
	}
	if r.IntN(2) == 0 {
		l.Rate, l.Queue = 50_000+r.Int64N(10<<20), 10_000+r.IntN(200_000)
	}
	if r.IntN(3) == 0 {
		l.MTU = minDatagram + r.IntN(300)
	}
	return l
}

func randomConfig(r *rand.Rand, p *plan) func(a, b *Config) {
	var configs [2]Config
	for i := range configs {
		c := &configs[i]
		c.HandshakeTimeout, c.Linger = 30*time.Second, 2*time.Minute
		c.Congestion = []Congestion{CongestionBBR, CongestionCUBIC}[r.IntN(2)]
		switch r.IntN(4) {
		case 0:
			c.Rotation = Rotation{Messages: 1 + r.Int64N(5), Bytes: -1, Interval: -1}
		case 1:
			c.Rotation = Rotation{Bytes: 1 + r.Int64N(20_000), Messages: -1, Interval: -1}
		case 2:
			c.Rotation = Rotation{Interval: 1 + upTo(r, 500*time.Millisecond), Messages: -1, Bytes: -1}
		}
		if r.IntN(2) == 0 {
			c.StreamWindow = 1 + uint64(r.IntN(1<<(4+r.IntN(14))))
			c.SessionWindow = 1 + uint64(r.IntN(1<<(4+r.IntN(14))))
			if r.IntN(2) == 0 {
				c.MaxStreamWindow, c.MaxSessionWindow = max(c.StreamWindow, 4000), max(c.SessionWindow, 4000)
			}
		}
		if r.IntN(3) == 0 {
			c.SendBuffer = 1000 + r.IntN(30_000)
		}
		if r.IntN(2) == 0 {
			c.MaxStreams = 1 + r.IntN(3)
		}
		if r.IntN(3) == 0 {
			c.MaxDatagram = minDatagram + r.IntN(300)
		}
	}
	if r.IntN(10) == 0 {
		// So impatient that a dark spell may end the session.
		configs[r.IntN(2)].IdleTimeout = time.Second + upTo(r, 5*time.Second)
		p.mortal = true
	}
	return func(a, b *Config) {
		for i, to := range []*Config{a, b} {
			id, keys := to.Identity, to.Keyring
			*to = configs[i]
			to.Identity, to.Keyring = id, keys
		}
	}
}

func randomScript(r *rand.Rand, number byte) script {
	sc := script{
		act: act(r.IntN(int(acts))), number: number, seed: r.Uint64(), begin: upTo(r, 3*time.Second),
		size: r.IntN(1 << r.IntN(21)), answer: r.IntN(1 << r.IntN(20)), piece: 1 + r.IntN(1<<(4+r.IntN(13))),
	}
	sc.piece = max(sc.piece, sc.size/200)
	sc.cut = r.IntN(sc.size + 1)
	if r.IntN(4) == 0 {
		sc.pause = upTo(r, 50*time.Millisecond)
	}
	return sc
}

func randomEvent(r *rand.Rand, p *plan) event {
	e := event{at: upTo(r, 6*time.Second), side: r.IntN(3)}
	switch r.IntN(12) {
	case 0, 1, 2:
		e.text, e.stay = "dark", 1+upTo(r, 6*time.Second)
		e.link = func(l *memory.Link) { l.Down = true }
	case 3, 4:
		mtu := minDatagram + r.IntN(300)
		e.text = fmt.Sprintf("datagrams of %d", mtu)
		e.link = func(l *memory.Link) { l.MTU = mtu }
	case 5:
		e.text, e.stay = "loses 30 %", upTo(r, 3*time.Second)
		e.link = func(l *memory.Link) { l.Loss = 0.3 }
	case 6, 7, 8:
		e.text, e.what = "new address", befallRebind
		if r.IntN(2) == 0 {
			e.side = 0 // as behind a NAT that forgets
		}
	case 9:
		delay := upTo(r, 300*time.Millisecond)
		e.text = fmt.Sprintf("delay %v", delay)
		e.link = func(l *memory.Link) { l.Delay = delay }
	case 10:
		e.text, e.what, e.side, p.mortal = "endpoint closes", befallEndpointClose, r.IntN(2), true
	case 11:
		e.text, e.what, e.side, p.mortal = "session closes", befallSessionClose, r.IntN(2), true
	}
	return e
}

// address returns the n-th address that a side has in a world.
func address(side, n int) netip.AddrPort {
	if n == 0 {
		return []netip.AddrPort{addrA, addrB}[side]
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(1 + side), byte(1 + n/2)}), uint16(4700+n))
}
