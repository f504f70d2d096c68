package dht

import (
	"crypto/subtle"
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/seigr/sttnode/stc"
)

// cookies makes and checks address cookies without keeping anything about who
// got one. A cookie is the SHA3-256, cut to 16 bytes, of a secret of ours, the
// number of the period in which it was made, and the holder's key and address:
// presenting it shows that its holder receives at that address. SHA-3 with the
// key in front is a MAC as it is (Bertoni et al., Cryptographic sponge functions,
// 2011, section 5.11.2), at a quarter of the work of HMAC. A cookie is good in its
// period and the next, so for one to two periods.
type cookies struct {
	secret [32]byte // nobody else knows it
	start  time.Time
	period time.Duration
}

func newCookies(secret [32]byte, start time.Time, period time.Duration) *cookies {
	return &cookies{secret: secret, start: start, period: period}
}

// grant returns the cookie of the node that owns key at addr.
func (c *cookies) grant(now time.Time, key stc.PublicKey, addr netip.AddrPort) cookie {
	return c.make(c.number(now), key, addr)
}

// cookieValidity is what a shown cookie is worth.
type cookieValidity uint8

const (
	cookieInvalid cookieValidity = iota // none, expired, or somebody else's
	cookieOld                           // good in this period and not in the next
	cookieFresh
)

// check says what proof, shown by the node that owns key from addr, is worth.
func (c *cookies) check(now time.Time, proof cookie, key stc.PublicKey, addr netip.AddrPort) cookieValidity {
	if proof == (cookie{}) {
		return cookieInvalid
	}
	n := c.number(now)
	if want := c.make(n, key, addr); subtle.ConstantTimeCompare(want[:], proof[:]) == 1 {
		return cookieFresh
	}
	if want := c.make(n-1, key, addr); subtle.ConstantTimeCompare(want[:], proof[:]) == 1 {
		return cookieOld
	}
	return cookieInvalid
}

func (c *cookies) number(now time.Time) uint64 { return uint64(now.Sub(c.start)/c.period) + 1 }

func (c *cookies) make(number uint64, key stc.PublicKey, addr netip.AddrPort) cookie {
	b := make([]byte, 0, 32+8+stc.PublicKeySize+16+2)
	b = append(b, c.secret[:]...)
	b = binary.BigEndian.AppendUint64(b, number)
	b = append(b, key[:]...)
	ip := addr.Addr().As16()
	b = append(b, ip[:]...)
	b = binary.BigEndian.AppendUint16(b, addr.Port())
	sum := stc.Sum(b)
	return cookie(sum[:cookieSize])
}
