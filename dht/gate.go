package dht

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"time"
)

// gate decides which datagrams are worth the work of opening them, before any
// cryptography. Who lacks the shared seed is turned away by one cheap check
// and costs nobody else anything. Who has it could make us compute an X25519
// for every datagram, by inventing senders; so what comes from addresses that
// have not proven themselves shares one budget, each proven address has its
// own, and so has each public /24 or /48. All of it is bounded memory: past
// the bound an address is a stranger again. Not safe for concurrent use.
type gate struct {
	strangers allowance
	addrs     lru[netip.AddrPort, provenAddr]
	subnets   lru[subnet, allowance]
	clock     clock
	cfg       gateConfig
}

// provenAddr is an address that somebody has proven to be at, or that we have
// sent something to.
type provenAddr struct {
	allowance
	sent   stamp // when we last sent something there
	nudged stamp // when we last did on nothing but somebody's word
}

// gateConfig gives the rates in datagrams a second; bursts are twice that.
type gateConfig struct {
	strangers, addr, subnet float64
	remember                int // addresses, and as many subnets
}

func newGate(clock clock, cfg gateConfig) *gate {
	return &gate{
		addrs:   newLRU[netip.AddrPort, provenAddr](cfg.remember, hashAddr),
		subnets: newLRU[subnet, allowance](cfg.remember, maphash.Comparable[subnet]),
		clock:   clock, cfg: cfg,
	}
}

// hashAddr hashes an address, without its zone. (maphash.Comparable would
// allocate, as zones are pointers.)
func hashAddr(seed maphash.Seed, a netip.AddrPort) uint64 {
	ip := a.Addr().As16()
	var b [18]byte
	binary.BigEndian.PutUint16(b[copy(b[:], ip[:]):], a.Port())
	return maphash.Bytes(seed, b[:])
}

// allowance is a token bucket of two seconds' worth. The zero value is full.
type allowance struct {
	used float64 // tokens that are missing
	at   stamp   // as of when
}

// left returns how many tokens there are.
func (a *allowance) left(now stamp, perSecond float64) float64 {
	a.used = max(0, a.used-perSecond*now.sub(a.at).Seconds())
	a.at = now
	return max(1, 2*perSecond) - a.used
}

// admit says whether a datagram from addr may be opened now. The budgets are
// charged by spend, once it is known that it came from a member.
func (g *gate) admit(now time.Time, addr netip.AddrPort) bool {
	at := g.clock.at(now)
	if a, perSecond := g.budget(addr); a.left(at, perSecond) < 1 {
		return false
	}
	if net, limited := subnetOf(addr); limited {
		if a := g.subnets.peek(net); a != nil && a.left(at, g.cfg.subnet) < 1 {
			return false
		}
	}
	return true
}

// budget returns what datagrams from addr are charged to.
func (g *gate) budget(addr netip.AddrPort) (a *allowance, perSecond float64) {
	if p := g.addrs.get(addr); p != nil {
		return &p.allowance, g.cfg.addr
	}
	return &g.strangers, g.cfg.strangers
}

// spend charges the budgets for a datagram that opened the outer layer.
func (g *gate) spend(addr netip.AddrPort) {
	a, _ := g.budget(addr)
	a.used++
	if net, limited := subnetOf(addr); limited {
		a, _ := g.subnets.put(net)
		a.used++
	}
}

// natMemory is longer than NATs and firewalls let in what comes from where
// something was sent.
const natMemory = 10 * time.Minute

// sentTo takes note that we send something to addr.
func (g *gate) sentTo(now time.Time, addr netip.AddrPort) {
	if p := g.addrs.peek(addr); p != nil {
		p.sent = g.clock.at(now)
	}
}

// letsIn reports whether what comes from addr may be let in because we have
// sent something there lately.
func (g *gate) letsIn(now time.Time, addr netip.AddrPort) bool {
	p := g.addrs.peek(addr)
	return p != nil && p.sent != 0 && g.clock.at(now).sub(p.sent) < natMemory
}

// proven takes note that somebody receives at addr, or that we send there and
// expect an answer.
func (g *gate) proven(addr netip.AddrPort) {
	if g.addrs.peek(addr) == nil {
		g.addrs.put(addr)
	}
}

// nudge reports whether addr may be sent something on nothing but somebody's
// word, as it was not in the last interval, and takes note that it is.
func (g *gate) nudge(now time.Time, addr netip.AddrPort, interval time.Duration) bool {
	if !g.mayNudge(now, addr, interval) {
		return false
	}
	p, _ := g.addrs.put(addr)
	p.nudged = g.clock.at(now)
	return true
}

// mayNudge is nudge without taking note.
func (g *gate) mayNudge(now time.Time, addr netip.AddrPort, interval time.Duration) bool {
	p := g.addrs.peek(addr)
	return p == nil || p.nudged == 0 || g.clock.at(now).sub(p.nudged) >= interval
}
