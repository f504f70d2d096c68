package session

import (
	"crypto/subtle"
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/seigr/sttnode/stc"
)

// cookieLifetime is how long an address proof holds.
const cookieLifetime = 30 * time.Second

// cookies makes and checks proofs of address without keeping state: a time
// and a hash of it, the address and a secret. SHA3 is a safe MAC when the
// key comes first (FIPS 202, no length extension).
type cookies struct{ key [32]byte }

const cookieSize = 4 + 16

func (c *cookies) mac(seconds uint32, addr netip.AddrPort) [16]byte {
	var b [32 + 4 + 16 + 2]byte
	copy(b[:], c.key[:])
	binary.BigEndian.PutUint32(b[32:], seconds)
	ip := addr.Addr().As16()
	copy(b[36:], ip[:])
	binary.BigEndian.PutUint16(b[52:], addr.Port())
	h := stc.Sum(b[:])
	return [16]byte(h[:16])
}

// make returns a cookie for an address.
func (c *cookies) make(now time.Time, addr netip.AddrPort) []byte {
	seconds := uint32(now.Unix())
	m := c.mac(seconds, addr)
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, cookieSize), seconds), m[:]...)
}

// valid reports whether cookie was made for the address, not long ago.
func (c *cookies) valid(now time.Time, addr netip.AddrPort, cookie []byte) bool {
	if len(cookie) != cookieSize {
		return false
	}
	seconds := binary.BigEndian.Uint32(cookie)
	if age := uint32(now.Unix()) - seconds; age > uint32(cookieLifetime/time.Second) {
		return false
	}
	m := c.mac(seconds, addr)
	return subtle.ConstantTimeCompare(m[:], cookie[4:]) == 1
}
