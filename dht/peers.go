package dht

import (
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/seigr/sttnode/stc"
)

// peers remembers who was heard of lately, in the table or not: cookies that
// were granted to us, round-trip times, and addresses as a further source for
// lookups, which a table that is full of long-lived nodes lacks. It is bounded
// and forgets the peer not heard of for longest. Not safe for concurrent use.
type peers struct {
	lru    *simplelru.LRU[stc.Hash, *peer]
	proofs time.Duration // how long a cookie is worth showing
	rtt    rtt           // of everybody, for peers of which nothing is known
}

// peer is what is remembered of one.
type peer struct {
	Contact
	proof   cookie // shows this peer that we receive at our address
	proofAt time.Time
	rtt     rtt
	heard   time.Time // when it last proved that it is there
	routes  bool      // takes part in routing: answered, and is no client
}

func newPeers(size int, proofs time.Duration) *peers {
	lru, err := simplelru.NewLRU[stc.Hash, *peer](size, nil)
	if err != nil {
		panic("dht: peers: " + err.Error()) // only for a size that is not positive; Config is checked
	}
	return &peers{lru: lru, proofs: proofs}
}

// touch returns what is remembered of c, anew if it was nothing or belonged to
// another address, and makes it the latest.
func (p *peers) touch(c Contact) *peer {
	e, ok := p.lru.Get(c.ID)
	if !ok || e.Addr != c.Addr {
		e = &peer{Contact: c}
		p.lru.Add(c.ID, e)
	}
	return e
}

// granted remembers a cookie that c gave us.
func (p *peers) granted(now time.Time, c Contact, proof cookie) {
	if proof != (cookie{}) {
		e := p.touch(c)
		e.proof, e.proofAt = proof, now
	}
}

// proof returns the cookie to show to c; zero if there is none that c would
// still take.
func (p *peers) proof(now time.Time, c Contact) cookie {
	if e, ok := p.lru.Peek(c.ID); ok && e.Addr == c.Addr && now.Sub(e.proofAt) < p.proofs {
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
	if e, ok := p.lru.Peek(c.ID); ok && e.Addr == c.Addr && e.rtt.known() {
		return e.rtt.stall()
	}
	return p.rtt.stall()
}

// patience returns how long an answer of c may take before the request is
// repeated.
func (p *peers) patience(c Contact) time.Duration {
	if e, ok := p.lru.Peek(c.ID); ok && e.Addr == c.Addr && e.rtt.known() {
		return e.rtt.patience()
	}
	return p.rtt.patience()
}

// silent takes note that c did not answer: lookups begin elsewhere, until it
// does.
func (p *peers) silent(c Contact) {
	if e, ok := p.lru.Peek(c.ID); ok && e.Addr == c.Addr {
		e.routes = false
	}
}

// closest returns the n peers closest to target that take part in routing, the
// closest first.
func (p *peers) closest(target stc.Hash, n int) []Contact {
	return p.closestOf(target, n, func(e *peer) bool { return e.routes })
}

// closestOf returns the n peers closest to target that pass keep.
func (p *peers) closestOf(target stc.Hash, n int, keep func(*peer) bool) []Contact {
	var best []Contact
	for _, e := range p.nearestOf(target, n, keep) {
		best = append(best, e.Contact)
	}
	return best
}

// near returns the n peers closest to target that take part in routing.
func (p *peers) near(target stc.Hash, n int) []*peer {
	return p.nearestOf(target, n, func(e *peer) bool { return e.routes })
}

func (p *peers) nearestOf(target stc.Hash, n int, keep func(*peer) bool) []*peer {
	near := newNearest[*peer](target, n)
	for _, e := range p.lru.Values() {
		if near.mayTake(&e.ID) && keep(e) {
			near.take(&e.ID, e)
		}
	}
	best := make([]*peer, 0, len(near.list))
	for _, x := range near.list {
		best = append(best, x.value)
	}
	return best
}

// expected returns how long an answer of c is expected to take.
func (p *peers) expected(c Contact) time.Duration {
	if e, ok := p.lru.Peek(c.ID); ok && e.Addr == c.Addr && e.rtt.known() {
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
