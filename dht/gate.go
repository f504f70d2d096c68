package dht

import (
	"net/netip"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"
)

// gate decides which datagrams are worth the work of opening them, before any
// cryptography. Who lacks the shared seed is turned away by one cheap check
// and costs nobody else anything. Who has it could make us compute an X25519
// for every datagram, by inventing senders; so what comes from addresses that
// have not proven themselves shares one budget, each proven address has its
// own, and so has each public /24 or /48. All of it is bounded memory: past
// the bound an address is a stranger again. Not safe for concurrent use.
type gate struct {
	strangers *rate.Limiter
	addrs     *simplelru.LRU[netip.AddrPort, *provenAddr]
	subnets   *simplelru.LRU[netip.Prefix, *rate.Limiter]
	cfg       gateConfig
}

// provenAddr is an address that somebody has proven to be at, or that we have
// sent something to.
type provenAddr struct {
	*rate.Limiter
	sent time.Time // when we last sent something there
}

// gateConfig gives the rates in datagrams a second; bursts are twice that.
type gateConfig struct {
	strangers, addr, subnet float64
	remember                int // addresses, and as many subnets
}

func newGate(cfg gateConfig) *gate {
	addrs, err := simplelru.NewLRU[netip.AddrPort, *provenAddr](cfg.remember, nil)
	if err != nil {
		panic("dht: gate: " + err.Error()) // only for a size that is not positive; Config is checked
	}
	subnets, err := simplelru.NewLRU[netip.Prefix, *rate.Limiter](cfg.remember, nil)
	if err != nil {
		panic("dht: gate: " + err.Error())
	}
	return &gate{strangers: limiter(cfg.strangers), addrs: addrs, subnets: subnets, cfg: cfg}
}

func limiter(perSecond float64) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(perSecond), max(1, int(2*perSecond)))
}

// ticket is the right to have one datagram opened.
type ticket struct{ addr, subnet *rate.Limiter }

// admit says whether a datagram from addr may be opened now. The budgets are
// charged by spend, once it is known that it came from a member.
func (g *gate) admit(now time.Time, addr netip.AddrPort) (t ticket, ok bool) {
	t.addr = g.strangers
	if p, known := g.addrs.Get(addr); known {
		t.addr = p.Limiter
	}
	if t.addr.TokensAt(now) < 1 {
		return ticket{}, false
	}
	if subnet, limited := subnetOf(addr); limited {
		if l, known := g.subnets.Get(subnet); known {
			if t.subnet = l; l.TokensAt(now) < 1 {
				return ticket{}, false
			}
		}
	}
	return t, true
}

// spend charges the budgets for a datagram that opened the outer layer.
func (g *gate) spend(now time.Time, addr netip.AddrPort, t ticket) {
	t.addr.AllowN(now, 1)
	subnet, limited := subnetOf(addr)
	if !limited {
		return
	}
	if t.subnet == nil {
		t.subnet = limiter(g.cfg.subnet)
		g.subnets.Add(subnet, t.subnet)
	}
	t.subnet.AllowN(now, 1)
}

// natMemory is longer than NATs and firewalls let in what comes from where
// something was sent.
const natMemory = 10 * time.Minute

// sentTo takes note that we send something to addr.
func (g *gate) sentTo(now time.Time, addr netip.AddrPort) {
	if p, known := g.addrs.Peek(addr); known {
		p.sent = now
	}
}

// letsIn reports whether what comes from addr may be let in because we have
// sent something there lately.
func (g *gate) letsIn(now time.Time, addr netip.AddrPort) bool {
	p, known := g.addrs.Peek(addr)
	return known && now.Sub(p.sent) < natMemory
}

// proven takes note that somebody receives at addr, or that we send there and
// expect an answer.
func (g *gate) proven(addr netip.AddrPort) {
	if !g.addrs.Contains(addr) {
		g.addrs.Add(addr, &provenAddr{Limiter: limiter(g.cfg.addr)})
	}
}
