package session

import (
	"math"
	"slices"
	"time"
)

// Constants of draft-irtf-iccrg-ledbat-plus-plus and of RFC 6817; the others
// are ours.
const (
	ledbatTarget = 60 * time.Millisecond // section 4.1: the most queueing delay
	ledbatGain   = 16                    // section 4.2: at least a sixteenth of Reno's growth
	ledbatRest   = 2                     // section 4.4: round trips
	ledbatFilter = 4                     // RFC 6817 section 4.2: samples

	ledbatLow     = 10 * time.Millisecond // target of short paths
	ledbatShallow = 3 * time.Millisecond  // least target where the queue is short
	ledbatDuty    = 19                    // times as long as a slowdown until the next
	ledbatCalm    = 16                    // round trips without a queue: nobody else is there
)

// background is LEDBAT++: a window that gives way to everybody else's. It
// keeps the delay that it adds near a small target, so whoever fills the queue
// further drives it out; a loss halves it, as Reno's.
//
// Where it differs from the draft, it is to yield more, or to waste less:
//   - The target is half of the least round trip, from 10 ms up to the draft's
//     60, since BBR, which queues up to one round trip, would else yield to
//     us. After a loss it is half of the delay found then: a queue that never
//     gets as long as the target would never say that somebody else is there.
//   - When there has been no queue for sixteen round trips, longer than a
//     slowdown of another background flow, the window grows by an eighth of
//     slow start. Else a fast path would be taken back in minutes.
//   - A slowdown takes a twentieth of the time, not a tenth, and its ramp is
//     paced.
//
// Pure; the loop owns it.
type background struct {
	datagram  int
	cwnd      float64   // bytes
	threshold float64   // ssthresh
	recovery  time.Time // packets that left before it belong to the last loss
	base      baseDelay
	samples   [ledbatFilter]time.Duration // of round trips, the last ones; 0: none yet
	sampled   int                         // so many
	shallow   time.Duration               // target that the last loss taught; 0: none

	roundEnd uint64        // the round ends with the acknowledgement of it
	worst    time.Duration // delay in this round
	calm     int           // rounds since there was more than hardly any

	phase slowdown
	began time.Time // the last slowdown
	until time.Time // end of the phase
}

// slowdown is the rhythm in which background flows let the queue drain, so
// that all of them learn the true least delay, latecomers too, section 4.4:
// Ramp → Steady → Rest → Ramp.
type slowdown uint8

const (
	slowdownRamp   slowdown = iota // slow start, until there is a queue or, after a rest, to the old window
	slowdownSteady                 // until the next rest is due
	slowdownRest                   // two packets in a round trip
)

func newBackground(datagram int) *background {
	return &background{datagram: datagram, cwnd: float64(minWindowPackets * datagram), threshold: math.Inf(1)}
}

func (c *background) sent(time.Time, int, int) rateStamp { return rateStamp{} }
func (c *background) idle(int)                           {}
func (c *background) acked(time.Time, *sentPacket)       {}
func (c *background) spurious(time.Time, *sentPacket)    {}
func (c *background) minimum() float64                   { return float64(minWindowPackets * c.datagram) }

func (c *background) setDatagram(size int) {
	c.datagram = size
	c.cwnd = max(c.cwnd, c.minimum())
}

func (c *background) window() int {
	if c.phase == slowdownRest {
		return int(c.minimum())
	}
	return int(c.cwnd)
}

// pacing spreads a window over its round trip, RFC 9002 section 7.7, in slow
// start too: its bursts would be a queue.
func (c *background) pacing(r *rtt) float64 {
	return 1.25 * float64(c.window()) / max(r.srtt(), 10*time.Microsecond).Seconds()
}

// gain is how much slower than Reno the window grows, section 4.2.
func (c *background) gain() float64 {
	return 1 / min(ledbatGain, math.Ceil(float64(2*c.target())/float64(max(c.base.least(), 1))))
}

// target is the delay that the window is steered to.
func (c *background) target() time.Duration {
	t := min(max(c.base.least()/2, ledbatLow), ledbatTarget)
	if c.shallow > 0 {
		t = min(t, c.shallow)
	}
	return t
}

// hardlyAny is a delay that is no queue: what pacing and the clocks make.
func (c *background) hardlyAny() time.Duration { return max(c.target()/4, 2*time.Millisecond) }

// delay is how long packets queue: the least of the last samples, so that late
// acknowledgements do not count. 0 without a sample.
func (c *background) delay() time.Duration {
	if c.sampled == 0 {
		return 0
	}
	return slices.Min(c.samples[:min(c.sampled, ledbatFilter)]) - c.base.least()
}

// lost halves the window, once for all packets of a flight.
func (c *background) lost(now time.Time, p *sentPacket) {
	if !p.at.After(c.recovery) {
		return
	}
	c.recovery = now
	c.shallow = max(c.delay()/2, ledbatShallow)
	c.cwnd = max(c.cwnd/2, c.minimum())
	c.threshold = c.cwnd
}

func (c *background) collapsed() { c.cwnd = c.minimum() }

func (c *background) update(u ackUpdate) {
	if u.sample > 0 {
		c.base.add(u.now, u.sample)
		c.samples[c.sampled%ledbatFilter] = u.sample
		c.sampled++
	}
	if u.bytes == 0 || c.sampled == 0 {
		return
	}
	delay := c.delay()
	c.worst = max(c.worst, delay)
	if u.largest >= c.roundEnd {
		c.roundEnd = u.next
		if c.calm++; c.worst > c.hardlyAny() {
			c.calm = 0
		}
		c.worst = delay
	}
	used := 2*float64(u.prior) >= c.cwnd
	c.turn(u, used, delay)
	if c.phase == slowdownRest || !u.latest.After(c.recovery) {
		return
	}
	// A window that is not used must not grow, RFC 9002 section 7.8.
	if step := c.step(delay); used || step < 0 {
		c.cwnd = max(c.cwnd+step*min(float64(u.bytes)/c.cwnd, 1), c.minimum())
	}
}

// step is by how much the window changes in a round trip, in bytes.
func (c *background) step(delay time.Duration) float64 {
	target := c.target()
	switch over := float64(delay)/float64(target) - 1; {
	case c.phase == slowdownRamp && !c.began.IsZero():
		return c.cwnd // back to what it was
	case c.phase == slowdownRamp:
		return c.gain() * c.cwnd
	case c.calm >= ledbatCalm && delay <= c.hardlyAny():
		return c.gain() * c.cwnd / 8
	case over > 0: // section 4.3
		return max(c.gain()*float64(c.datagram)-c.cwnd*over, -c.cwnd/2)
	}
	return c.gain() * float64(c.datagram)
}

// turn goes from one phase to the next.
func (c *background) turn(u ackUpdate, used bool, delay time.Duration) {
	switch c.phase {
	case slowdownRamp:
		if c.cwnd < c.threshold && (delay <= c.target()*3/4 || !c.began.IsZero()) {
			return
		}
		c.threshold, c.calm = c.cwnd, 0
		c.phase = slowdownSteady
		if c.began.IsZero() {
			// The first slow start has filled a queue: soon look below it.
			c.until = u.now.Add(ledbatRest * u.rtt.srtt())
		} else {
			// A ramp that the application holds up is not this long.
			c.until = u.now.Add(ledbatDuty * min(u.now.Sub(c.began), 32*u.rtt.srtt()))
		}
	case slowdownSteady:
		// Who does not use his window has no queue to drain.
		if used && !u.now.Before(c.until) {
			c.phase, c.began, c.threshold = slowdownRest, u.now, c.cwnd
			c.shallow += c.shallow / 8 // the queue may have become longer
			c.until = u.now.Add(ledbatRest * u.rtt.srtt())
		}
	case slowdownRest:
		if !u.now.Before(c.until) {
			c.phase, c.cwnd = slowdownRamp, c.minimum()
		}
	}
}

// baseDelay is the least round trip of the last ten minutes, RFC 6817 section
// 4.2; a path that has become longer is believed after that.
type baseDelay struct {
	minutes [10]time.Duration // 0: none
	at      int
	since   time.Time // of the present minute
}

func (b *baseDelay) add(now time.Time, sample time.Duration) {
	if b.since.IsZero() {
		b.since = now
	}
	for now.Sub(b.since) >= time.Minute {
		if now.Sub(b.since) > time.Duration(len(b.minutes))*time.Minute {
			*b = baseDelay{since: now}
			break
		}
		b.since = b.since.Add(time.Minute)
		b.at = (b.at + 1) % len(b.minutes)
		b.minutes[b.at] = 0
	}
	if m := &b.minutes[b.at]; *m == 0 || sample < *m {
		*m = sample
	}
}

// least returns the base delay, or 0 without any sample.
func (b *baseDelay) least() time.Duration {
	var least time.Duration
	for _, m := range b.minutes {
		if m > 0 && (least == 0 || m < least) {
			least = m
		}
	}
	return least
}
