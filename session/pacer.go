package session

import (
	"math"
	"time"
)

// pacer spreads packets over time at the rate that the congestion controller
// asks for, RFC 9002 section 7.7. It is a bucket that holds one burst.
type pacer struct {
	tokens float64 // bytes
	last   time.Time
	due    time.Time // when next asked to be called
	rate   float64   // bytes a second
}

// A burst is what the initial window allows, or what two milliseconds of the
// rate bring: timers are no finer, and batches are what makes sending cheap.
const (
	burstPackets = 10
	burstTime    = 2 * time.Millisecond
	lateTime     = 10 * time.Millisecond
)

// update refills the bucket up to now and takes over the present rate. Who
// was to be called sooner, but the machine had other things to do, may catch
// up with some of it.
func (p *pacer) update(now time.Time, rate float64, datagram int) {
	p.rate = rate
	span := burstTime
	if !p.due.IsZero() {
		span = min(max(now.Sub(p.due), span), lateTime)
	}
	burst := max(float64(burstPackets*datagram), p.rate*span.Seconds())
	if p.last.IsZero() {
		p.tokens = burst
	} else if now.After(p.last) {
		p.tokens = min(p.tokens+p.rate*now.Sub(p.last).Seconds(), burst)
	}
	p.last, p.due = now, time.Time{}
}

// allows reports whether a datagram may be sent now.
func (p *pacer) allows() bool { return p.tokens > 0 }

// datagrams returns how many of a size may be sent now.
func (p *pacer) datagrams(size int) int { return int(math.Ceil(p.tokens / float64(size))) }

// sent takes bytes out of the bucket. It may go below zero by one datagram.
func (p *pacer) sent(bytes int) { p.tokens -= float64(bytes) }

// next returns when a batch worth waking up for may be sent: an eighth of a
// millisecond's worth, or one datagram if that is more.
func (p *pacer) next(now time.Time, datagram int) time.Time {
	want := max(float64(datagram), p.rate/8000) - p.tokens
	p.due = now.Add(time.Duration(want / p.rate * float64(time.Second)))
	return p.due
}
