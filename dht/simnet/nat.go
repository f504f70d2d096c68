package simnet

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"time"
)

// natMapping is how long a NAT lets answers of an address in after the last
// datagram that went there; RFC 4787 asks for two minutes at least.
const natMapping = 2 * time.Minute

// nat lets in only what comes from where something was sent lately: address-
// and port-dependent filtering, the strictest of RFC 4787, section 5.
type nat struct {
	sent    map[netip.AddrPort]time.Time
	cleared time.Time
}

// Hide puts the host behind a NAT: nobody reaches it who was not sent
// something in the last two minutes.
func (h *Host) Hide() { h.nat = &nat{sent: make(map[netip.AddrPort]time.Time), cleared: h.net.now} }

// Hidden reports whether the host is behind a NAT.
func (h *Host) Hidden() bool { return h.nat != nil }

func (n *nat) opened(now time.Time, to netip.AddrPort) {
	n.sent[to] = now
	if now.Sub(n.cleared) > natMapping {
		n.cleared = now
		for addr, at := range n.sent {
			if now.Sub(at) > natMapping {
				delete(n.sent, addr)
			}
		}
	}
}

func (n *nat) admits(now time.Time, from netip.AddrPort) bool {
	at, ok := n.sent[from]
	return ok && now.Sub(at) <= natMapping
}

// Constant returns delays between d and d + jitter, alike for all.
func Constant(d, jitter time.Duration) func(*rand.Rand, netip.AddrPort, netip.AddrPort) time.Duration {
	return func(rng *rand.Rand, _, _ netip.AddrPort) time.Duration {
		return d + time.Duration(rng.Int64N(int64(jitter)+1))
	}
}

// Lognormal returns delays of half a round trip. Round trips have a lognormal
// distribution over the pairs of addresses, with a median and the standard
// deviation of their logarithm; one pair's vary by a twentieth either way.
func Lognormal(seed uint64, median time.Duration, sigma float64) func(*rand.Rand, netip.AddrPort, netip.AddrPort) time.Duration {
	return func(rng *rand.Rand, from, to netip.AddrPort) time.Duration {
		a, b := addrNumber(from), addrNumber(to)
		if a > b {
			a, b = b, a
		}
		h := splitmix(splitmix(seed^a) ^ b)
		// Two uniform numbers make one that is normal (Box and Muller, 1958).
		u := (float64(h>>32) + 0.5) / (1 << 32)
		v := float64(uint32(h)) / (1 << 32)
		normal := math.Sqrt(-2*math.Log(u)) * math.Cos(2*math.Pi*v)
		jitter := 0.95 + 0.1*rng.Float64()
		return time.Duration(float64(median) / 2 * math.Exp(sigma*normal) * jitter)
	}
}

func addrNumber(a netip.AddrPort) uint64 {
	ip := a.Addr().As16()
	x := uint64(a.Port())
	for _, b := range ip {
		x = x*0x100000001b3 ^ uint64(b)
	}
	return x
}

// splitmix is the finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
func splitmix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
