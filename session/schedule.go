package session

import (
	"math"
	"math/bits"
)

// Urgencies of streams, as RFC 9218 section 4.1.
const (
	// UrgencyHighest comes before everything else.
	UrgencyHighest = 0
	// UrgencyDefault is what a stream begins with.
	UrgencyDefault = 3
	// UrgencyLowest is for what can wait as long as there is anything else.
	UrgencyLowest = 7

	urgencies = UrgencyLowest + 1
)

// maxTurn is how many frames of one stream go before those of the next.
const maxTurn = 16

// SetPriority says how urgent what we send on the stream is: from
// [UrgencyHighest] to [UrgencyLowest]; values beyond count as these. While the
// path does not take everything, streams of one urgency have their turns
// round robin, and a less urgent one waits until they have nothing to send or
// no credit left. What was lost, resets and credits for the peer do not wait.
// The peer is not told; it decides for its own direction. What is in flight,
// or takes up the session's credit, is not called back.
func (st *Stream) SetPriority(urgency int) {
	st.urgency.Store(int32(min(max(urgency, UrgencyHighest), UrgencyLowest)))
	st.s.notify(st)
}

// schedule is the order in which streams send. The loop owns it. Every step
// takes constant time.
//
// A stream to which something has happened is due: it is looked at before any
// stream's data, sends what cannot wait (its records, and what was lost), and
// then takes its place in the ring of its urgency, until its turn finds
// nothing to send. A stream can be due and in a ring.
type schedule struct {
	due   []*Stream // from first on
	first int
	rings [urgencies]*Stream // whose turn it is
	ready uint8              // bit u: rings[u] is not nil
	count int                // of streams in rings
}

// place is where a stream stands in the schedule; the loop owns it.
type place struct {
	due        bool
	ring       int // 1 + urgency; 0: in none
	next, prev *Stream
	turn       int // frames sent in this turn
}

// empty reports whether no stream is due or in a ring.
func (q *schedule) empty() bool { return q.ready == 0 && q.first == len(q.due) }

// point makes a stream due.
func (q *schedule) point(st *Stream) {
	if !st.place.due {
		st.place.due = true
		q.due = append(q.due, st)
	}
}

// nextDue returns the stream to be looked at next, or nil.
func (q *schedule) nextDue() *Stream {
	if q.first == len(q.due) {
		return nil
	}
	return q.due[q.first]
}

// looked ends the look at nextDue.
func (q *schedule) looked() {
	q.due[q.first].place.due = false
	q.due[q.first] = nil
	if q.first++; q.first == len(q.due) {
		q.due, q.first = q.due[:0], 0
	} else if q.first >= 64 && 2*q.first >= len(q.due) {
		n := copy(q.due, q.due[q.first:])
		clear(q.due[n:])
		q.due, q.first = q.due[:n], 0
	}
}

// join puts a stream at the end of its urgency's ring, unless it is in it.
func (q *schedule) join(st *Stream) {
	u := int(st.urgency.Load())
	if st.place.ring == u+1 {
		return
	}
	q.leave(st)
	if head := q.rings[u]; head == nil {
		st.place.next, st.place.prev = st, st
		q.rings[u] = st
		q.ready |= 1 << u
	} else {
		st.place.next, st.place.prev = head, head.place.prev
		head.place.prev.place.next = st
		head.place.prev = st
	}
	st.place.ring, st.place.turn = u+1, 0
	q.count++
}

// leave takes a stream out of its ring, if it is in one.
func (q *schedule) leave(st *Stream) {
	if st.place.ring == 0 {
		return
	}
	u := st.place.ring - 1
	if next := st.place.next; next == st {
		q.rings[u] = nil
		q.ready &^= 1 << u
	} else {
		st.place.prev.place.next, next.place.prev = next, st.place.prev
		if q.rings[u] == st {
			q.rings[u] = next
		}
	}
	st.place.ring, st.place.next, st.place.prev = 0, nil, nil
	q.count--
}

// current returns whose turn it is, or nil.
func (q *schedule) current() *Stream {
	if q.ready == 0 {
		return nil
	}
	return q.rings[bits.TrailingZeros8(q.ready)]
}

// turn returns how many frames a stream may send before somebody else's turn
// comes.
func (q *schedule) turn(st *Stream) int {
	if st.place.next == st {
		return math.MaxInt // alone
	}
	return maxTurn - st.place.turn
}

// sent records that a stream has sent n frames in its turn.
func (q *schedule) sent(st *Stream, n int) {
	if st.place.turn += n; st.place.turn >= maxTurn && st.place.ring != 0 {
		st.place.turn = 0
		q.rings[st.place.ring-1] = st.place.next
	}
}
