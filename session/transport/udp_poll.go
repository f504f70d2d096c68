package transport

import (
	"runtime"
	"sync/atomic"
	"time"
)

// To put the thread that waits for a datagram to sleep and to wake it takes
// tens of microseconds, on a virtual processor a hundred: more than the rest
// of a round trip between neighbours. So Receive asks the socket over and over
// for a while before it sleeps, as KVM does before it halts a processor
// (halt_poll_ns, whose default is pollMost), where this pays: between peers
// that answer each other with small datagrams within pollMost.
//
// Whether they would does not show while both of them sleep and wake, so it is
// tried after pollAfter waits of up to pollTry; after a sign of a transfer,
// whose acknowledgements come as quickly, after pollLater. Going on or not is a
// matter of credit: a wait in vain costs as much as a success gives, since on
// a busy machine even a neighbour now and then is late, and one late answer is
// no reason to have the next ones late as well. Where all are, because the peer
// is farther away, the thirty-second part of the time is spent on trying.
const (
	pollMost   = 200 * time.Microsecond
	pollTry    = 500 * time.Microsecond
	pollSmall  = 4 << 10 // bytes in either direction between two waits: more is a transfer, whose delay nobody feels
	pollAfter  = 2       // waits of up to pollTry in a row
	pollLater  = 32
	pollTrials = 32
	maxCredit  = 8 * pollMost
)

// polling decides when to poll. Its methods are for Receive's caller.
type polling struct {
	able   bool // there is a core for others meanwhile
	short  int  // waits in a row of up to pollTry, for small datagrams
	credit time.Duration
	sent   atomic.Int64
	seen   int64 // of sent
}

func newPolling() polling {
	return polling{able: runtime.GOMAXPROCS(0) > 1, credit: pollMost}
}

// pays reports whether the next datagram is worth polling for.
func (p *polling) pays() bool { return p.able && p.short >= pollAfter && p.credit >= pollMost }

// waited takes note of how long n bytes have been waited for, by polling at
// first or not, as pays said.
func (p *polling) waited(d time.Duration, n int) {
	sent := p.sent.Load()
	transfer := n > pollSmall || sent-p.seen > pollSmall
	p.seen = sent
	switch {
	case p.pays() && d < pollMost:
		p.credit += pollMost
	case p.pays():
		p.credit -= pollMost
	case d < pollTry:
		p.credit += d / pollTrials
	}
	p.credit = min(p.credit, maxCredit)
	switch {
	case transfer:
		p.short = pollAfter - pollLater
	case d >= pollTry:
		p.short = min(p.short, 0)
	default:
		p.short = min(p.short+1, pollAfter)
	}
}

// await returns when something has arrived, or it is time to sleep.
func (u *UDP) await(begin time.Time) {
	if !u.polling.pays() {
		return
	}
	for !u.ready() && time.Since(begin) < pollMost {
		runtime.Gosched()
	}
}
