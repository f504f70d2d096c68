package session

import (
	"math"
	"time"
)

// The model of the path: draft-ietf-ccwg-bbr section 5.5.

func (b *bbr) maxRate() float64 { return max(b.maxBW[0], b.maxBW[1]) }

// updateLatest notes the strongest signals of the round.
func (b *bbr) updateLatest(rs rateSample) {
	b.lossRoundStart = false
	b.bwLatest = max(b.bwLatest, rs.rate)
	b.inflightLatest = max(b.inflightLatest, rs.delivered)
	if rs.priorDelivered >= b.lossRoundEnd {
		b.lossRoundEnd = b.rate.delivered
		b.lossRoundStart = true
	}
	b.roundStart = rs.priorDelivered >= b.roundEnd
	if b.roundStart {
		b.startRound()
		b.round++
		b.probeRounds++
	}
	if rs.rate > 0 && (rs.rate >= b.maxRate() || !rs.appLimited) {
		b.maxBW[0] = max(b.maxBW[0], rs.rate)
	}
}

func (b *bbr) startRound() { b.roundEnd = b.rate.delivered }

// advanceMaxBW forgets rates older than two cycles.
func (b *bbr) advanceMaxBW() {
	if b.maxBW[0] > 0 {
		b.maxBW[1], b.maxBW[0] = b.maxBW[0], 0
	}
}

// updateCongestion adapts the short-term bounds once a round.
func (b *bbr) updateCongestion(rs rateSample) {
	b.ackedInRound += rs.acked
	if !b.lossRoundStart {
		return
	}
	// Down sends less on purpose, to drain what Up has queued: what it
	// delivers is no bound of the path.
	if b.lossInRound && !b.probing() && b.state != bbrDown && b.congested() {
		if math.IsInf(b.bwShort, 1) {
			b.bwShort = b.maxRate()
		}
		if b.inflightShort == unbounded {
			b.inflightShort = b.cwnd
		}
		b.bwShort = max(b.bwLatest, bbrBeta*b.bwShort)
		b.inflightShort = max(b.inflightLatest, int(bbrBeta*float64(b.inflightShort)))
	}
	b.lossInRound = false
}

// queued reports whether the round trips of this round, or of the last while
// this one is young, were all longer than the path's own, by more than jitter:
// then there is a queue, and losses are likely its
// overflow. Losses without a queue have other causes, up to a share beyond
// which a buffer too small to show must be behind them. The draft makes no
// such difference, and on a path that loses 5 % at random it ends at a
// fraction of the rate.
func (b *bbr) queued() bool {
	return b.leastInRound > b.minRTT+max(b.minRTT/bbrQueueDivisor, bbrQueueLeast)
}

// allowed returns how many bytes of a flight may be lost. Without a queue the
// share is one of many packets: of a few, chance alone takes twice as many,
// so three standard deviations come on top.
func (b *bbr) allowed(flight int) float64 {
	if b.queued() {
		return bbrLossThresh * float64(flight)
	}
	mean := bbrQuietLossThresh * float64(flight)
	return mean + 3*math.Sqrt(mean*float64(b.datagram))
}

// congested reports whether the losses of the round tell of congestion.
func (b *bbr) congested() bool {
	return b.queued() || float64(b.lostInRound) > b.allowed(b.lostInRound+b.ackedInRound)
}

// resetShort forgets the short-term bounds.
func (b *bbr) resetShort() {
	b.bwShort = math.Inf(1)
	b.inflightShort = unbounded
}

// probing reports whether the phase itself looks for the limit.
func (b *bbr) probing() bool {
	return b.state == bbrStartup || b.state == bbrRefill || b.state == bbrUp
}

// lost is BBRHandleLostPacket.
func (b *bbr) lost(now time.Time, p *sentPacket) {
	b.rate.lost += uint64(p.size)
	if !b.lossInRound {
		b.lossRoundEnd = b.rate.delivered
		b.lossInRound = true
	}
	if now.Sub(b.undo.at) > max(bbrUndoRTTs*b.minRTT, bbrUndoLeast) {
		// Proof that a loss was none takes a while: what held before the
		// first of many is what has to come back.
		b.undo = bbrBounds{now, b.bwShort, b.inflightShort, b.inflightLong}
	}
	b.lossEvents++
	b.lostInRound += p.size
	if !b.probeSamples {
		return
	}
	lost := int(b.rate.lost - p.rate.lost)
	if !b.tooHigh(lost, p.rate.inFlight) {
		return
	}
	// Where in the flight the share was exceeded, section 5.5.10.2.
	prev := p.rate.inFlight - p.size
	share := b.allowed(prev) / float64(max(prev, 1))
	at := float64(prev) + max(share*float64(prev)-float64(lost-p.size), 0)/max(1-share, 0.5)
	b.handleTooHigh(int(at), p.rate.appLimited, now)
}

// tooHigh reports whether so much was lost of a flight that it was too large.
func (b *bbr) tooHigh(lost, inFlight int) bool {
	return float64(lost) > b.allowed(inFlight)
}

// handleTooHigh bounds what may be in flight and ends a probe.
func (b *bbr) handleTooHigh(inFlight int, appLimited bool, now time.Time) {
	b.probeSamples = false
	if !appLimited {
		b.inflightLong = max(inFlight, int(bbrBeta*float64(b.targetInflight())))
	}
	if b.state == bbrUp {
		b.startDown(now)
	}
}

// spurious takes back what losses have done that were none, section 5.5.11.
func (b *bbr) spurious(now time.Time, p *sentPacket) {
	b.rate.lost -= min(b.rate.lost, uint64(p.size))
	b.lossInRound = false
	b.resetFullBW()
	b.bwShort = max(b.bwShort, b.undo.bwShort)
	b.inflightShort = max(b.inflightShort, b.undo.inflightShort)
	b.inflightLong = max(b.inflightLong, b.undo.inflightLong)
	if b.lossExit {
		b.lossExit, b.fullBWReached, b.inflightLong = false, false, unbounded
		b.enterStartup()
	}
}

// lowSamples finds the least round trip of a stretch of time, but for the few
// that are too good: where packets overtake each other, some see a path that
// the others do not have. Of many samples one in sixteen may be wrong, of four
// one. It looks at about 256 samples of a stretch, however many there are.
type lowSamples struct {
	low    [20]time.Duration // ascending
	kept   int
	count  int // looked at
	seen   int
	stride int
	since  time.Time
}

func (l *lowSamples) add(d time.Duration) {
	if l.seen++; l.stride > 1 && l.seen%l.stride != 0 {
		return
	}
	l.count++
	i := l.kept
	if i == len(l.low) {
		if i--; d >= l.low[i] {
			return
		}
	} else {
		l.kept++
	}
	for ; i > 0 && l.low[i-1] > d; i-- {
		l.low[i] = l.low[i-1]
	}
	l.low[i] = d
}

// value returns the estimate, 0 without samples.
func (l *lowSamples) value() time.Duration {
	if l.count == 0 {
		return 0
	}
	return l.low[min((l.count+12)/16, l.kept-1)]
}

// next begins another stretch.
func (l *lowSamples) next(now time.Time) {
	*l = lowSamples{stride: 1 + l.seen/256, since: now}
}

// updateMinRTT keeps the least round trip of ten seconds, and says when it is
// time to look for it without a queue. Unlike
// the estimate of the loss detector it takes every packet for a sample, not
// the newest of an ACK: where packets overtake, those are the fast ones.
func (b *bbr) updateMinRTT(u ackUpdate) {
	sample := time.Duration(0)
	if age := u.now.Sub(b.low.since); b.low.count >= 8 && age >= u.rtt.srtt()+4*u.rtt.variation || age > time.Second && b.low.count > 0 {
		sample = b.low.value()
		if !b.minKnown {
			// The first estimate to trust takes the place of the guess.
			b.minKnown = true
			b.minRTT, b.minRTTAt = sample, u.now
		}
		if sample > bbrWrongMin*max(b.minRTT, bbrShortRTT) {
			// With twice the path's content in flight at most, no queue of
			// ours explains that: the least was a fluke.
			b.minRTT, b.minRTTAt = sample, u.now
		}
		b.leastInRound = sample
		b.low.next(u.now)
	} else if b.low.count >= len(b.low.low) {
		b.leastInRound = b.low.value()
	}
	b.minExpired = u.now.After(b.minRTTAt.Add(bbrMinRTTFilter))
	if b.minExpired && b.state != bbrProbeRTT {
		// By the least that expires, section 5.3.4: the next has a queue in
		// it, and half of that much in flight would not empty the path.
		b.probeRTTCwnd = max(b.bdp(b.bw, bbrProbeRTTCwndGain), b.minPipe())
	}
	if sample > 0 && (sample < b.minRTT || b.minExpired) {
		b.minRTT, b.minRTTAt = sample, u.now
	} else if b.nearLeast() {
		// As good as the least: there is no queue, and nothing to look for.
		// (The draft asks for less than the least, and pays 200 ms of every
		// ten seconds on a path that one flow has for itself.)
		b.minRTTAt = u.now
	}
}

// nearLeast reports whether the round trips of late were as short as the least,
// but for noise and what Down leaves of the queue: the estimated rate is the best
// of many samples, where timers are coarse too high by some hundredths, and Down
// ends when no more is in flight than that rate explains.
func (b *bbr) nearLeast() bool {
	return b.leastInRound <= b.minRTT+max(b.minRTT/bbrNoiseDivisor, bbrNoiseLeast)
}

// extraAcked measures how much more than the rate explains is acknowledged at
// once, section 5.5.9: links and receivers that answer in bursts need a
// larger window. It keeps the maximum of the last rounds, in two halves.
type extraAcked struct {
	since     time.Time
	delivered int
	recent    [2]int
	turn      uint64 // round in which recent[0] began
}

func (e *extraAcked) begin(now time.Time) { e.since, e.delivered = now, 0 }

func (e *extraAcked) update(now time.Time, bw float64, acked, cwnd int, round uint64, full bool) {
	expected := int(bw * now.Sub(e.since).Seconds())
	if e.delivered <= expected {
		e.begin(now)
		expected = 0
	}
	e.delivered += acked
	length := uint64(bbrExtraAckedRounds / 2)
	if !full {
		length = 1
	}
	if round >= e.turn+length {
		e.recent[1], e.recent[0] = e.recent[0], 0
		e.turn = round
	}
	e.recent[0] = max(e.recent[0], min(e.delivered-expected, cwnd))
}

func (e *extraAcked) most() int { return max(e.recent[0], e.recent[1]) }
