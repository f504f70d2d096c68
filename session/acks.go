package session

import (
	"time"

	"github.com/seigr/sttnode/frame"
)

const (
	// maxAckDelay is how long we wait, at most, before we acknowledge.
	maxAckDelay = 25 * time.Millisecond
	// ackEvery is how many packets that ask for it are acknowledged at
	// once, at the least. Packets that arrive together count as read together.
	ackEvery = 2
	// acksPerRTT is how often in a round trip we acknowledge when so many
	// packets come that every second one would be a waste, and ackMost how
	// many then wait for each other at most.
	acksPerRTT = 8
	ackMost    = 32
)

// received remembers which sequence numbers have arrived, refuses them a
// second time, and decides when to acknowledge them. Pure.
type received struct {
	seen      rangeSet
	floor     uint64 // everything below counts as seen
	largest   uint64 // valid once seen is not empty or floor > 0
	largestAt time.Time
	waiting   int       // packets that ask for an acknowledgement
	deadline  time.Time // of the acknowledgement; zero while none is due
	due       bool      // acknowledge with the next chance

	rtt     time.Duration // of the path, 0 while unknown; set by the owner
	every   int           // packets an ACK, at least ackEvery
	arrived int           // packets since begin
	begin   time.Time
}

// tune adapts the number of packets an ACK to how many come in a round trip.
// A pause brings it back to the least.
func (r *received) tune(now time.Time) {
	r.arrived++
	if r.rtt == 0 || now.Sub(r.begin) < r.rtt {
		return
	}
	r.every = ackEvery
	if now.Sub(r.begin) < 2*r.rtt {
		r.every = min(max(r.arrived/acksPerRTT, ackEvery), ackMost)
	}
	r.arrived, r.begin = 0, now
}

// delay is how long an ACK may wait for more packets.
func (r *received) delay() time.Duration {
	if r.every <= ackEvery {
		return maxAckDelay
	}
	return min(max(r.rtt/acksPerRTT, time.Millisecond), maxAckDelay)
}

// duplicate reports whether seq has been received before, or is so old that
// nobody remembers.
func (r *received) duplicate(seq uint64) bool {
	return seq < r.floor || r.seen.contains(seq)
}

// add records an authenticated packet.
func (r *received) add(now time.Time, seq uint64, eliciting bool) {
	outOfOrder := len(r.seen) > 0 && (seq < r.largest || seq > r.largest+1)
	r.seen.add(seq, seq+1)
	if seq >= r.largest {
		r.largest, r.largestAt = seq, now
	}
	if n := len(r.seen) - frame.MaxAckRanges; n > 0 {
		r.forget(r.seen[n].Start)
	}
	if !eliciting {
		return
	}
	r.waiting++
	r.tune(now)
	// RFC 9000 section 13.2.1: a gap, or what fills it, is news.
	if r.waiting >= max(r.every, ackEvery) || outOfOrder {
		r.due = true
	} else if r.deadline.IsZero() {
		r.deadline = now.Add(r.delay())
	}
}

// forget stops reporting sequence numbers below floor.
func (r *received) forget(floor uint64) {
	if floor > r.floor {
		r.floor = floor
		r.seen.sub(0, floor)
	}
}

// wanted reports whether an acknowledgement should leave now.
func (r *received) wanted(now time.Time) bool {
	return r.due || !r.deadline.IsZero() && !now.Before(r.deadline)
}

// body appends the body of an ACK of at most limit bytes; nothing if there
// is nothing to acknowledge.
func (r *received) body(dst []byte, now time.Time, limit int) []byte {
	return frame.AppendAck(dst, r.seen, now.Sub(r.largestAt), limit)
}

// acknowledged records that an ACK of everything has been sent.
func (r *received) acknowledged() {
	r.waiting, r.due, r.deadline = 0, false, time.Time{}
}
