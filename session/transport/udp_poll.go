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
// (halt_poll_ns, whose default is pollMost), where it has just seen that this
// pays: between peers that answer each other with small datagrams within
// pollMost. A wait in vain costs pollMost of a core, and pollAfter short waits
// have to follow before the next; after a sign of a transfer, whose
// acknowledgements come as quickly, pollLater.
const (
	pollMost  = 200 * time.Microsecond
	pollSmall = 4 << 10 // bytes in either direction between two waits: more is a transfer, whose delay nobody feels
	pollAfter = 2       // short waits in a row
	pollLater = 32
)

// polling decides when to poll. Its methods are for Receive's caller.
type polling struct {
	able  bool // there is a core for others meanwhile
	short int  // waits in a row that were short, of small datagrams
	sent  atomic.Int64
	seen  int64 // of sent
}

func newPolling() polling { return polling{able: runtime.GOMAXPROCS(0) > 1} }

// pays reports whether the next datagram is likely to come within pollMost.
func (p *polling) pays() bool { return p.able && p.short >= pollAfter }

// waited takes note of how long n bytes have been waited for.
func (p *polling) waited(d time.Duration, n int) {
	sent := p.sent.Load()
	switch {
	case n > pollSmall || sent-p.seen > pollSmall:
		p.short = pollAfter - pollLater
	case d >= pollMost:
		p.short = min(p.short, 0)
	default:
		p.short = min(p.short+1, pollAfter)
	}
	p.seen = sent
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
