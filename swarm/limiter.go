package swarm

import (
	"context"
	"math"
	"slices"
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
// before it is written, a piece at a time, and the next piece is always that of
// the peer that was sent least. What is fetched is limited by asking for it
// later: each blob comes as fast as its peer sends, so that peers are still
// known by what they can do, and nothing that has arrived waits for the limit.
type Limiter struct {
	mu       sync.Mutex
	limits   Limits
	rates    Rates         // of the moment
	until    time.Time     // when to look at the timetable again
	changed  chan struct{} // closed when the rates change
	up, down *rate.Limiter // nil for no limit

	turns  turns
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
	return l.rates, limitState{l.up, l.down, l.changed}
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

// peerLimit is what the streams to one peer have in common. The limiter's mu
// guards rate and bucket, that of its turns what was sent.
type peerLimit struct {
	rate   Rate // of bucket
	bucket *rate.Limiter
	sent   int64
}

// waitUp waits until some of n bytes may be sent to a peer, and returns how
// many: all of them if there is no limit, or when ctx ends, since what is then
// under way has its own deadline. Peers get the same share, however many
// streams they have and however little they send at a time.
func (l *Limiter) waitUp(ctx context.Context, p *peerLimit, n int) int {
	start := time.Now()
	if rates, _ := l.look(start); rates.Up == NoLimit && rates.Peer == NoLimit {
		return n
	}
	defer func() { l.waited.Add(int64(time.Since(start))) }()
	for {
		rates, state := l.look(time.Now())
		k := min(n, rates.Up.quantum(), rates.Peer.quantum())
		own, result := draw(ctx, l.bucketOf(p), k, state.changed)
		if result == waitOver {
			result = l.drawInTurn(ctx, p, k, state)
		}
		switch result {
		case waitOver:
			return k
		case waitEnded:
			return n
		}
		if own != nil {
			own.Cancel()
		}
	}
}

// drawInTurn draws from the bucket of all.
func (l *Limiter) drawInTurn(ctx context.Context, p *peerLimit, n int, state limitState) waitResult {
	if state.up == nil {
		return waitOver
	}
	if !l.turns.wait(ctx, p) {
		return waitEnded
	}
	l.look(time.Now()) // nobody else may have looked at the timetable meanwhile
	_, result := draw(ctx, state.up, n, state.changed)
	if result != waitOver {
		n = 0
	}
	l.turns.pass(p, n)
	return result
}

// bucketOf returns the bucket of the rate to each peer.
func (l *Limiter) bucketOf(p *peerLimit) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.rate != l.rates.Peer {
		p.rate, p.bucket = l.rates.Peer, l.rates.Peer.limiter()
	}
	return p.bucket
}

type waitResult uint8

const (
	waitOver    waitResult = iota
	waitEnded              // the context did
	waitChanged            // the rates did
)

// draw waits until a bucket has n tokens, and takes them unless it is told to
// wait no more. A nil bucket has always enough.
func draw(ctx context.Context, bucket *rate.Limiter, n int, changed <-chan struct{}) (*rate.Reservation, waitResult) {
	if bucket == nil {
		return nil, waitOver
	}
	now := time.Now()
	place := bucket.ReserveN(now, n)
	delay := place.DelayFrom(now)
	if delay == 0 {
		return place, waitOver
	}
	timer := time.NewTimer(delay) // two seconds at most, for a quantum
	defer timer.Stop()
	select {
	case <-timer.C:
		return place, waitOver
	case <-changed:
		place.Cancel()
		return nil, waitChanged
	case <-ctx.Done():
		place.Cancel()
		return nil, waitEnded
	}
}

// turns lets one at a time draw from the bucket of all. The next is always the
// peer that was sent least, counted from when it last had nothing to send
// (start-time fair queueing).
type turns struct {
	mu      sync.Mutex
	taken   bool
	least   int64 // what whose turn it is, or was, had been sent
	waiting []turn
}

type turn struct {
	peer *peerLimit
	come chan struct{}
}

// wait waits for the peer's turn; pass must follow. It returns false when ctx
// ends.
func (t *turns) wait(ctx context.Context, p *peerLimit) bool {
	t.mu.Lock()
	p.sent = max(p.sent, t.least)
	if !t.taken {
		t.taken, t.least = true, p.sent
		t.mu.Unlock()
		return true
	}
	own := turn{p, make(chan struct{})}
	t.waiting = append(t.waiting, own)
	t.mu.Unlock()
	select {
	case <-own.come:
		return true
	case <-ctx.Done():
	}
	t.mu.Lock()
	i := slices.Index(t.waiting, own)
	if i >= 0 {
		t.waiting = slices.Delete(t.waiting, i, i+1)
	}
	t.mu.Unlock()
	if i < 0 {
		t.pass(p, 0) // it came in the same moment
	}
	return false
}

// pass ends the turn of a peer that may send n bytes.
func (t *turns) pass(p *peerLimit, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p.sent += int64(n)
	if len(t.waiting) == 0 {
		t.taken = false
		return
	}
	next := 0
	for i, w := range t.waiting {
		if w.peer.sent < t.waiting[next].peer.sent {
			next = i
		}
	}
	w := t.waiting[next]
	t.waiting = slices.Delete(t.waiting, next, next+1)
	t.least = w.peer.sent
	close(w.come)
}
