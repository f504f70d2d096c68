package dht

import (
	"hash/maphash"
	"net/netip"
	"time"

	"github.com/seigr/sttnode/stc"
)

// peers remembers who was heard of lately, in the table or not: cookies that
// were granted to us, round-trip times, and addresses as a further source for
// lookups, which a table that is full of long-lived nodes lacks. It is bounded
// and forgets the peer not heard of for longest. Not safe for concurrent use.
type peers struct {
	lru    lru[stc.Hash, peer]
	clock  clock
	proofs time.Duration // how long a cookie is worth showing
	rtt    rtt           // of everybody, for peers of which nothing is known
}

// peer is what is remembered of one, under its ID.
type peer struct {
	key     stc.PublicKey
	addr    netip.AddrPort
	proof   cookie // shows this peer that we receive at our address
	proofAt stamp
	rtt     rtt
	heard   stamp // when it last proved that it is there
	routes  bool  // takes part in routing: answered, and is no client
}

func newPeers(size int, clock clock, proofs time.Duration) *peers {
	return &peers{lru: newLRU[stc.Hash, peer](size, maphash.Comparable[stc.Hash]), clock: clock, proofs: proofs}
}

// touch returns what is remembered of c, anew if it was nothing or belonged to
// another address, and makes it the latest. It is valid until the next call.
func (p *peers) touch(c Contact) *peer {
	e, added := p.lru.put(c.ID)
	if added || e.addr != c.Addr {
		*e = peer{key: c.Key, addr: c.Addr}
	}
	return e
}

// at returns what is remembered of c at its address, or nil.
func (p *peers) at(c Contact) *peer {
	if e := p.lru.peek(c.ID); e != nil && e.addr == c.Addr {
		return e
	}
	return nil
}

// granted remembers a cookie that c gave us.
func (p *peers) granted(now time.Time, c Contact, proof cookie) {
	if proof != (cookie{}) {
		e := p.touch(c)
		e.proof, e.proofAt = proof, p.clock.at(now)
	}
}

// proof returns the cookie to show to c; zero if there is none that c would
// still take.
func (p *peers) proof(now time.Time, c Contact) cookie {
	if e := p.at(c); e != nil && p.clock.at(now).sub(e.proofAt) < p.proofs {
		return e.proof
	}
	return cookie{}
}

// measured takes a round trip of a call to c into account.
func (p *peers) measured(c Contact, sample time.Duration) {
	p.touch(c).rtt.add(sample)
	p.rtt.add(sample)
}

// stall returns how long an answer of c may take before others are asked in its
// place.
func (p *peers) stall(c Contact) time.Duration {
	if e := p.at(c); e != nil && e.rtt.known() {
		return e.rtt.stall()
	}
	return p.rtt.stall()
}

// patience returns how long an answer of c may take before the request is
// repeated.
func (p *peers) patience(c Contact) time.Duration {
	if e := p.at(c); e != nil && e.rtt.known() {
		return e.rtt.patience()
	}
	return p.rtt.patience()
}

// silent takes note that c did not answer: lookups begin elsewhere, until it
// does.
func (p *peers) silent(c Contact) {
	if e := p.at(c); e != nil {
		e.routes = false
	}
}

// nearPeer is one that was found, and when it was last heard of.
type nearPeer struct {
	Contact
	heard time.Time
}

// near returns the n peers closest to target that take part in routing, the
// closest first.
func (p *peers) near(target stc.Hash, n int) []nearPeer {
	return p.nearestOf(target, n, func(e *peer) bool { return e.routes })
}

// nearest returns the n peers closest to target, clients included.
func (p *peers) nearest(target stc.Hash, n int) []nearPeer {
	return p.nearestOf(target, n, func(*peer) bool { return true })
}

func (p *peers) nearestOf(target stc.Hash, n int, keep func(*peer) bool) []nearPeer {
	near := newNearest[*peer](target, n)
	for id, e := range p.lru.all() {
		if near.mayTake(idPrefix(id)) && keep(e) {
			near.take(id, e)
		}
	}
	best := make([]nearPeer, 0, len(near.list))
	for _, x := range near.list {
		best = append(best, nearPeer{Contact{ID: *x.id, Key: x.value.key, Addr: x.value.addr}, p.clock.time(x.value.heard)})
	}
	return best
}

// expected returns how long an answer of c is expected to take.
func (p *peers) expected(c Contact) time.Duration {
	if e := p.at(c); e != nil && e.rtt.known() {
		return e.rtt.smoothed
	}
	return p.rtt.smoothed
}

// rtt estimates a round-trip time as RFC 6298 section 2 does. The zero value
// has no sample.
type rtt struct {
	smoothed, variation time.Duration
}

// Bounds of patience, and patience where nothing is known.
const (
	minPatience     = 100 * time.Millisecond
	maxPatience     = 2 * time.Second
	defaultPatience = 600 * time.Millisecond
)

func (r *rtt) known() bool { return r.smoothed > 0 }

func (r *rtt) add(sample time.Duration) {
	sample = max(sample, time.Microsecond)
	if !r.known() {
		r.smoothed, r.variation = sample, sample/4
		return
	}
	r.variation += ((r.smoothed - sample).Abs() - r.variation) / 4
	r.smoothed += (sample - r.smoothed) / 8
}

// stall is how long an answer usually takes at most.
func (r *rtt) stall() time.Duration {
	if !r.known() {
		return defaultPatience
	}
	return min(max(r.smoothed+max(2*r.variation, r.smoothed/3), minPatience), maxPatience)
}

// patience is how long an answer is waited for before the request is repeated.
func (r *rtt) patience() time.Duration {
	if !r.known() {
		return defaultPatience
	}
	return min(max(r.smoothed+max(4*r.variation, r.smoothed/2), minPatience), maxPatience)
}
