package swarm

import "time"

// peerID names a peer within one scheduler. A peer that comes back is a new
// one.
type peerID uint32

// request is one WANT.
type request struct {
	id        uint32
	peer      *schedPeer
	item      *item
	size      int // bytes counted as in flight
	sent      time.Time
	delivered int64 // what the peer had delivered when this was sent
	cancelled bool  // CANCEL was sent; some answer will come
	late      bool  // missed its deadline; no longer counted in the budget
	implied   bool  // by a FOLLOW; a CANCEL does not stop it
}

// schedPeer is what the scheduler knows of a peer.
type schedPeer struct {
	id        peerID
	complete  bool
	announced bool   // it said what it has
	key       uint64 // by which it draws lots, 0 for not at all
	have      rangeSet

	open      []*request          // neither answered nor cancelled, oldest first
	byID      map[uint32]*request // all that an answer is due for
	nextID    uint32
	following *following // a FOLLOW that is not over
	inFlight  int        // bytes of open, late ones included

	searched [queueCount]int // no item before this place of a queue is one that it can send
	run      run

	est       estimate
	heard     time.Time // last answer or real progress, or since when an answer is due
	owing     time.Time // since when something is open
	heardAt   int64     // bytes of the stream at that time
	snubbed   bool      // missed a deadline and has not answered since
	ceiling   int       // bytes in flight while recovering from that, 0 for no limit
	delivered int64     // bytes of all blobs
	blobs     int       // answered with BLOB
	missed    int       // answered with MISSING
	proven    bool      // a chunk of it was what its hash says
	unjudged  int       // chunks that were asked for, or are here and not verified
}

// estimate measures how fast and how soon a peer answers, as BBR does
// (draft-ietf-ccwg-bbr sections 4.1 and 5.3.4): the rate is the windowed
// maximum of what was delivered between a request and its answer, the latency
// the windowed minimum of what an answer takes. The queue of our own requests
// hides the latency, so whenever its window has passed the queue is left to
// drain for a moment.
type estimate struct {
	rate       [2]float64       // bytes per second: maximum in this and in the former interval
	latency    [2]time.Duration // minimum likewise
	rateAt     time.Time        // begin of this interval
	latencyAt  time.Time
	drainUntil time.Time
}

const (
	rateInterval    = time.Second
	latencyInterval = 10 * time.Second
	drainTime       = 50 * time.Millisecond

	// unknownLatency stands for the latency of a peer that has not answered.
	unknownLatency = 100 * time.Millisecond
)

// sample takes one answer: elapsed since its request, while the peer
// delivered that many bytes.
func (e *estimate) sample(now time.Time, elapsed time.Duration, delivered int64) {
	elapsed = max(elapsed, 10*time.Microsecond)
	if interval := max(rateInterval, 4*elapsed); e.rateAt.IsZero() || now.Sub(e.rateAt) > interval {
		e.rate[1], e.rate[0] = e.rate[0], 0
		e.rateAt = now
	}
	e.rate[0] = max(e.rate[0], float64(max(delivered, 1))/elapsed.Seconds())

	switch {
	case e.latencyAt.IsZero():
		e.latency = [2]time.Duration{elapsed, elapsed}
		e.latencyAt = now
	case now.Sub(e.latencyAt) > latencyInterval:
		e.latency[1], e.latency[0] = e.latency[0], elapsed
		e.latencyAt = now
		e.drainUntil = now.Add(max(drainTime, 3*e.latency[1]))
	}
	e.latency[0] = min(e.latency[0], elapsed)
}

// known reports whether the peer has answered at all.
func (e *estimate) known() bool { return !e.rateAt.IsZero() }

// bytesPerSecond returns the peer's rate, 0 while it is not known.
func (e *estimate) bytesPerSecond() float64 { return max(e.rate[0], e.rate[1]) }

// roundTrip returns what an answer takes when nothing is queued before it:
// the path's round trip and the service of one blob.
func (e *estimate) roundTrip() time.Duration {
	if !e.known() {
		return unknownLatency
	}
	return min(e.latency[0], e.latency[1])
}

// queueTime is how long the queue before a peer may be beyond its pipe, and
// queueBytes its limit. The limit is what makes equal peers get equal shares
// when we, not they, are the bottleneck: a share in proportion to the measured
// rate alone would keep any imbalance for ever.
const (
	queueTime  = 250 * time.Millisecond
	queueBytes = 2 << 20
)

// window returns how many bytes may be in flight: twice the peer's rate times
// round trip and service, and a short queue. first is for a peer that has not
// answered yet.
func (p *schedPeer) window(now time.Time, first int) int {
	if !p.est.known() {
		return first
	}
	rate := p.est.bytesPerSecond()
	w := rate * p.est.roundTrip().Seconds()
	if !now.Before(p.est.drainUntil) {
		w = 2*w + min(rate*queueTime.Seconds(), queueBytes)
	}
	if p.ceiling > 0 {
		w = min(w, float64(p.ceiling))
	}
	return int(min(w, 1<<30))
}

const (
	firstPatience = 3 * time.Second
	minPatience   = time.Second
	maxPatience   = 10 * time.Second
)

// silent returns for how long the peer has owed us something and sent nothing.
func (p *schedPeer) silent(now time.Time) time.Duration {
	return min(now.Sub(p.heard), now.Sub(p.owing))
}

// patience returns how long the peer may be silent while it owes something
// before what it owes is given to others.
func (p *schedPeer) patience() time.Duration {
	if !p.est.known() {
		return firstPatience
	}
	size := 0
	if len(p.open) > 0 {
		size = p.open[0].size
	}
	d := 4 * (p.est.roundTrip() + seconds(float64(size)/p.est.bytesPerSecond()))
	return min(max(d, minPatience), maxPatience)
}

// remaining estimates when the peer will have sent the first bytes of what it
// owes.
func (p *schedPeer) remaining(now time.Time, bytes int) time.Duration {
	if p.snubbed {
		return time.Hour
	}
	silent := p.silent(now)
	if !p.est.known() {
		// Nothing is known but how long it has been silent; as long again is
		// the best guess.
		return silent
	}
	rate := p.est.bytesPerSecond()
	left := p.est.roundTrip() + seconds(float64(bytes)/rate) - silent
	overdue := silent - p.est.roundTrip() - seconds(float64(p.open[0].size)/rate)
	return max(0, left) + max(0, overdue)
}

// arrival estimates how long the peer would take for size more bytes.
func (p *schedPeer) arrival(size int, guess float64) time.Duration {
	rate := p.est.bytesPerSecond()
	if !p.est.known() {
		rate = guess
	}
	return p.est.roundTrip() + seconds(float64(p.inFlight+size)/rate)
}

// seconds converts without overflowing on nonsense rates.
func seconds(s float64) time.Duration {
	return time.Duration(min(s, 3600) * float64(time.Second))
}
