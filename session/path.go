package session

import (
	"net/netip"
	"time"
)

// pathTimeout is how long a new address has to answer a challenge.
const pathTimeout = 3 * time.Second

// pathCheck proves a peer's new address before anything but the challenge is
// sent there, RFC 9000 section 8.2. One candidate at a time. Pure.
type pathCheck struct {
	to     netip.AddrPort // candidate; invalid if none
	data   [8]byte
	until  time.Time
	unsent bool
}

// begin starts to check an address. A check under way is finished first.
func (p *pathCheck) begin(now time.Time, to netip.AddrPort, data [8]byte) {
	if !p.to.IsValid() {
		*p = pathCheck{to: to, data: data, until: now.Add(pathTimeout), unsent: true}
	}
}

// answered takes a PATH_RESPONSE and reports whether it proves the candidate.
func (p *pathCheck) answered(data [8]byte) bool { return p.to.IsValid() && data == p.data }

// expire gives up on a candidate that does not answer.
func (p *pathCheck) expire(now time.Time) {
	if p.to.IsValid() && !now.Before(p.until) {
		*p = pathCheck{}
	}
}

func (p *pathCheck) deadline() time.Time {
	if !p.to.IsValid() {
		return time.Time{}
	}
	return p.until
}
