package swarm

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Limiter holds all servers and downloads that share it to limits, which may
// change at any time: by Set, and by their own timetable. What counts is the
// bytes of blobs; the protocols around them take a few percent more. A nil
// Limiter limits nothing. It is safe for concurrent use.
//
// The two directions are limited in different places. What is sent waits
// before it is written, a piece at a time, and those who wait take turns, one
// piece a peer. What is fetched is limited by asking for it later: each blob
// comes as fast as its peer sends, so that peers are still known by what they
// can do, and nothing that has arrived waits for the limit.
type Limiter struct {
	mu       sync.Mutex
	limits   Limits
	rates    Rates         // of the moment
	until    time.Time     // when to look at the timetable again
	changed  chan struct{} // closed when the rates change
	up, down *rate.Limiter // nil for no limit

	waited atomic.Int64 // nanoseconds that streams have waited to send
}

// NewLimiter returns a limiter.
func NewLimiter(limits Limits) *Limiter {
	l := &Limiter{changed: make(chan struct{})}
	l.Set(limits)
	return l
}

// Set replaces the limits. They hold at once, for what waits already, too.
func (l *Limiter) Set(limits Limits) {
	l.mu.Lock()
	defer l.mu.Unlock()
	limits.Periods = append([]Period(nil), limits.Periods...)
	l.limits = limits
	l.refresh(time.Now())
}

// Rates returns the rates that hold now.
func (l *Limiter) Rates() Rates {
	rates, _ := l.look(time.Now())
	return rates
}

// Waited returns how long streams have waited for the limits before they sent
// something, all together.
func (l *Limiter) Waited() time.Duration {
	if l == nil {
		return 0
	}
	return time.Duration(l.waited.Load())
}

// limitState is what holds at one moment, for who is about to take from it.
type limitState struct {
	up, down *rate.Limiter
	changed  <-chan struct{} // closed when this is no longer so
	until    time.Time       // when to look again
}

// look returns what holds at now.
func (l *Limiter) look(now time.Time) (Rates, limitState) {
	if l == nil {
		return Rates{}, limitState{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !now.Before(l.until) {
		l.refresh(now)
	}
	return l.rates, limitState{l.up, l.down, l.changed, l.until}
}

// refresh reads the timetable. The caller holds mu.
func (l *Limiter) refresh(now time.Time) {
	// Periods begin and end with a minute of the clock on the wall. It may be
	// set in between: then a change comes up to a minute late.
	l.until = now.Add(time.Minute - time.Duration(now.Second())*time.Second - time.Duration(now.Nanosecond()))
	rates := l.limits.At(now)
	if rates == l.rates {
		return
	}
	if rates.Up != l.rates.Up {
		l.up = rates.Up.limiter()
	}
	if rates.Down != l.rates.Down {
		l.down = rates.Down.limiter()
	}
	l.rates = rates
	close(l.changed)
	l.changed = make(chan struct{})
}

// limiter returns a token bucket for the rate, nil for none.
func (r Rate) limiter() *rate.Limiter {
	if r <= NoLimit {
		return nil
	}
	return rate.NewLimiter(rate.Limit(r), r.burst())
}

// burst is what may go out at once after a pause: an eighth of a second.
func (r Rate) burst() int { return int(min(max(r/8, 4<<10), 4<<20)) }

// quantum is how much is taken from the bucket at a time.
func (r Rate) quantum() int {
	if r <= NoLimit {
		return math.MaxInt
	}
	return r.burst() / 2
}

// peerLimit is what the streams to one peer have in common. Its zero value
// lacks a turn.
type peerLimit struct {
	turn    chan struct{} // holds one token: who has it waits for the limits
	rate    Rate          // of limiter; both belong to who has the turn
	limiter *rate.Limiter
}

func newPeerLimit() peerLimit {
	p := peerLimit{turn: make(chan struct{}, 1)}
	p.turn <- struct{}{}
	return p
}

// waitUp waits until some of n bytes may be sent to a peer, and returns how
// many: all of them if there is no limit, or when ctx ends, since what is then
// under way has its own deadline. Peers get the same share, however many
// streams they have: only one stream of each waits for the limit of all.
func (l *Limiter) waitUp(ctx context.Context, p *peerLimit, n int) int {
	start := time.Now()
	if rates, _ := l.look(start); rates.Up == NoLimit && rates.Peer == NoLimit {
		return n
	}
	defer func() { l.waited.Add(int64(time.Since(start))) }()
	select {
	case <-p.turn:
	case <-ctx.Done():
		return n
	}
	defer func() { p.turn <- struct{}{} }()
	for {
		now := time.Now()
		rates, state := l.look(now)
		if rates.Peer != p.rate {
			p.rate, p.limiter = rates.Peer, rates.Peer.limiter()
		}
		k := min(n, rates.Up.quantum(), rates.Peer.quantum())
		var places waits
		places.reserve(state.up, now, k)
		places.reserve(p.limiter, now, k)
		switch l.sleep(ctx, now, places.until, state) {
		case waitOver:
			return k
		case waitEnded:
			places.cancel()
			return n
		case waitChanged:
			places.cancel()
		}
	}
}

// waits are places in the queues of some limiters.
type waits struct {
	places []*rate.Reservation
	until  time.Time // when all of them have come
}

func (w *waits) reserve(l *rate.Limiter, now time.Time, n int) {
	if l == nil {
		return
	}
	r := l.ReserveN(now, n)
	w.places = append(w.places, r)
	if at := now.Add(r.DelayFrom(now)); at.After(w.until) {
		w.until = at
	}
}

func (w *waits) cancel() {
	for _, r := range w.places {
		r.Cancel()
	}
}

type waitResult uint8

const (
	waitOver waitResult = iota
	waitEnded
	waitChanged
)

// sleep waits until a time, unless ctx ends or the rates change before.
func (l *Limiter) sleep(ctx context.Context, now, until time.Time, state limitState) waitResult {
	for now.Before(until) {
		at := until
		if state.until.Before(at) {
			at = state.until // nobody else may be looking at the timetable
		}
		timer := time.NewTimer(at.Sub(now))
		select {
		case <-timer.C:
		case <-state.changed:
			timer.Stop()
			return waitChanged
		case <-ctx.Done():
			timer.Stop()
			return waitEnded
		}
		now = time.Now()
		_, later := l.look(now)
		state.until = later.until
	}
	return waitOver
}
