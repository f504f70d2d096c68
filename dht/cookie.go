package dht

import (
	"crypto/hmac"
	"encoding/binary"
	"hash"
	"net/netip"
	"time"

	"github.com/seigr/sttnode/stc"
)

// cookies makes and checks address cookies without keeping anything about who
// got one. A cookie is an HMAC-SHA3-256, cut to 16 bytes, over the holder's key
// and address and over the number of the period in which it was made:
// presenting it shows that its holder receives at that address. It is good in
// its period and the next, so for one to two periods. Not safe for concurrent
// use.
type cookies struct {
	mac    hash.Hash // keyed with a secret that nobody else knows
	start  time.Time
	period time.Duration
}

func newCookies(secret []byte, start time.Time, period time.Duration) *cookies {
	return &cookies{mac: hmac.New(stc.NewHash, secret), start: start, period: period}
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
	if want := c.make(n, key, addr); hmac.Equal(want[:], proof[:]) {
		return cookieFresh
	}
	if want := c.make(n-1, key, addr); hmac.Equal(want[:], proof[:]) {
		return cookieOld
	}
	return cookieInvalid
}

func (c *cookies) number(now time.Time) uint64 { return uint64(now.Sub(c.start)/c.period) + 1 }

func (c *cookies) make(number uint64, key stc.PublicKey, addr netip.AddrPort) cookie {
	b := make([]byte, 0, 8+stc.PublicKeySize+16+2)
	b = binary.BigEndian.AppendUint64(b, number)
	b = append(b, key[:]...)
	ip := addr.Addr().As16()
	b = append(b, ip[:]...)
	b = binary.BigEndian.AppendUint16(b, addr.Port())
	c.mac.Reset()
	c.mac.Write(b)
	sum := c.mac.Sum(b[:0])
	return cookie(sum[:cookieSize])
}
