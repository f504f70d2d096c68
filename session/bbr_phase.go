package session

import "time"

// The phases: draft-ietf-ccwg-bbr section 5.3.

func (b *bbr) enterStartup() {
	b.state, b.pacingGain, b.cwndGain = bbrStartup, bbrStartupPacingGain, bbrCwndGain
}

func (b *bbr) resetFullBW() { b.fullBW, b.fullBWRounds, b.fullBWNow = 0, 0, false }

// checkFullBW notices that three rounds brought no quarter more, section
// 5.3.1.2.
func (b *bbr) checkFullBW(rs rateSample) {
	if b.fullBWNow || !b.roundStart || rs.appLimited || rs.rate == 0 {
		return
	}
	if rs.rate >= 1.25*b.fullBW {
		b.resetFullBW()
		b.fullBW = rs.rate
		return
	}
	if b.fullBWRounds++; b.fullBWRounds >= 3 {
		b.fullBWNow, b.fullBWReached = true, true
	}
}

func (b *bbr) checkStartupDone(u ackUpdate) {
	if !b.fullBWReached && b.lossRoundStart && b.lossEvents >= bbrFullLossEvents && b.congested() {
		// Section 5.3.1.3: the queue is full, whatever the rate says.
		b.fullBWReached, b.lossExit = true, true
		b.inflightLong = max(b.bdp(b.maxRate(), 1), b.inflightLatest)
	}
	if b.state == bbrStartup && b.fullBWReached {
		b.state, b.pacingGain, b.cwndGain = bbrDrain, bbrDrainPacingGain, bbrCwndGain
	}
}

func (b *bbr) inProbeBW() bool { return b.state >= bbrDown && b.state <= bbrUp }

func (b *bbr) enterProbeBW(now time.Time) {
	b.cwndGain = bbrCwndGain
	b.startDown(now)
}

func (b *bbr) startDown(now time.Time) {
	b.lossInRound = false
	b.bwLatest, b.inflightLatest = 0, 0
	b.upCount = unbounded
	b.probeRounds = uint64(b.rng.IntN(2))
	b.lossExit = b.lossExit && b.cycleAt.IsZero() // no way back after a whole cycle
	b.probeWait = 2*time.Second + time.Duration(b.rng.Int64N(int64(time.Second)))
	b.cycleAt = now
	b.ackPhase = bbrAcksProbeStopping
	b.startRound()
	b.state, b.pacingGain, b.cwndGain = bbrDown, bbrDownPacingGain, bbrCwndGain
}

func (b *bbr) startCruise() { b.state, b.pacingGain, b.cwndGain = bbrCruise, 1, bbrCwndGain }

func (b *bbr) startRefill() {
	b.resetShort()
	b.upRounds, b.upAcks = 0, 0
	b.ackPhase = bbrAcksRefilling
	b.startRound()
	b.state, b.pacingGain, b.cwndGain = bbrRefill, 1, bbrCwndGain
}

func (b *bbr) startUp(now time.Time, rs rateSample) {
	b.ackPhase = bbrAcksProbeStarting
	b.startRound()
	b.resetFullBW()
	b.fullBW = rs.rate
	b.cycleAt = now
	b.state, b.pacingGain, b.cwndGain = bbrUp, bbrUpPacingGain, bbrUpCwndGain
	b.raiseSlope()
}

// updateProbeBW moves on in the cycle Down, Cruise, Refill, Up.
func (b *bbr) updateProbeBW(u ackUpdate, rs rateSample) {
	if !b.fullBWReached {
		return
	}
	b.adaptLong(u, rs)
	switch b.state {
	case bbrDown:
		if !b.timeToProbe(u.now) && u.inFlight <= b.withHeadroom() && u.inFlight <= b.inflight(b.maxRate(), 1) {
			b.startCruise()
		}
	case bbrCruise:
		b.timeToProbe(u.now)
	case bbrRefill:
		if b.roundStart {
			b.probeSamples = true
			b.startUp(u.now, rs)
		}
	case bbrUp:
		if b.windowLimited(u) && b.cwnd >= b.inflightLong {
			// The bound, not the path, kept the rate from growing.
			b.resetFullBW()
			b.fullBW = rs.rate
		} else if b.fullBWNow {
			b.startDown(u.now)
		}
	}
}

func (b *bbr) windowLimited(u ackUpdate) bool { return u.prior+2*b.datagram >= b.cwnd }

// timeToProbe begins the next probe after two to three seconds, or sooner
// where a Reno flow would have grown by as much, section 5.3.3.5.
func (b *bbr) timeToProbe(now time.Time) bool {
	reno := uint64(min(b.targetInflight()/b.datagram, 63))
	if now.Sub(b.cycleAt) <= b.probeWait && b.probeRounds < reno {
		return false
	}
	b.startRefill()
	return true
}

// adaptLong moves the bound that probing has found, section 5.5.10.1.
func (b *bbr) adaptLong(u ackUpdate, rs rateSample) {
	if b.roundStart {
		switch b.ackPhase {
		case bbrAcksProbeStarting:
			b.ackPhase = bbrAcksProbeFeedback
		case bbrAcksProbeStopping:
			b.ackPhase = bbrAcksInit
			b.probeSamples = false
			if b.inProbeBW() && !rs.appLimited {
				b.advanceMaxBW()
			}
		}
	}
	if b.tooHigh(rs.lost, rs.inFlight) {
		if b.probeSamples {
			b.handleTooHigh(rs.inFlight, rs.appLimited, u.now)
		}
		return
	}
	if b.inflightLong == unbounded {
		return
	}
	b.inflightLong = max(b.inflightLong, rs.inFlight)
	if b.state == bbrUp {
		b.probeUpward(u, rs)
	}
}

// probeUpward lets the bound grow, each round twice as fast.
func (b *bbr) probeUpward(u ackUpdate, rs rateSample) {
	if !b.windowLimited(u) || b.cwnd < b.inflightLong {
		return
	}
	b.upAcks += rs.acked
	if b.upCount > 0 && b.upAcks >= b.upCount {
		n := b.upAcks / b.upCount
		b.upAcks -= n * b.upCount
		b.inflightLong += n * b.datagram
	}
	if b.roundStart {
		b.raiseSlope()
	}
}

func (b *bbr) raiseSlope() {
	b.upCount = max(b.cwnd>>min(b.upRounds, 30), b.datagram)
	b.upRounds++
}

// checkProbeRTT empties the path for a moment when no round trip without a
// queue has been seen for ten seconds.
func (b *bbr) checkProbeRTT(u ackUpdate, rs rateSample) {
	if b.state != bbrProbeRTT && b.minExpired && !b.idleRestart {
		b.saveCwnd()
		b.state, b.pacingGain, b.cwndGain = bbrProbeRTT, 1, bbrProbeRTTCwndGain
		b.probeDone = time.Time{}
		b.ackPhase = bbrAcksProbeStopping
		b.startRound()
	}
	if b.state == bbrProbeRTT {
		// What this phase delivers says nothing about the path.
		b.rate.limit(u.inFlight)
		if b.probeDone.IsZero() {
			if u.inFlight <= b.probeRTTCwnd {
				b.probeDone, b.probeRoundDone = u.now.Add(bbrProbeRTTTime), false
				b.startRound()
			}
		} else {
			b.probeRoundDone = b.probeRoundDone || b.roundStart
			if b.probeRoundDone {
				b.checkProbeRTTDone(u.now)
			}
		}
	}
	if rs.delivered > 0 {
		b.idleRestart = false
	}
}

func (b *bbr) checkProbeRTTDone(now time.Time) {
	if b.probeDone.IsZero() || !now.After(b.probeDone) {
		return
	}
	b.minRTTAt = now
	b.cwnd = max(b.cwnd, b.priorCwnd)
	b.resetShort()
	if b.fullBWReached {
		b.startDown(now)
		b.startCruise()
	} else {
		b.enterStartup()
	}
}
