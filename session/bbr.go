package session

import (
	"math"
	"math/rand/v2"
	"time"
)

// Constants of draft-ietf-ccwg-bbr section 2, in its names.
const (
	bbrStartupPacingGain = 2.77
	bbrDrainPacingGain   = 0.5
	bbrCwndGain          = 2.0
	bbrUpCwndGain        = 2.25
	bbrDownPacingGain    = 0.9
	bbrUpPacingGain      = 1.25
	bbrPacingMargin      = 0.998 // below the rate, so that queues drain; the draft says 0.99, which costs a hundredth of the link
	bbrLossThresh        = 0.02
	bbrBeta              = 0.7
	bbrHeadroom          = 0.85
	bbrMinPipePackets    = 4
	bbrMinRTTFilter      = 10 * time.Second // then ProbeRTT, section 5.3.4.2 (five in older revisions)
	bbrProbeRTTTime      = 200 * time.Millisecond
	bbrProbeRTTCwndGain  = 0.5
	bbrFullLossEvents    = 6
	bbrExtraAckedRounds  = 10

	// bbrInitialPackets is the initial window, in datagrams. RFC 6928 and RFC
	// 9002 allow ten, which were chosen for senders that do not pace; large
	// networks for content begin with thirty and more. Here ten leave at once,
	// the rest over the next part of a round trip (section 5.6.2 of the draft).
	// In virtual time 256 KiB over 100 Mbit/s come after 4.4 round trips, with 32
	// after 4.0, with ten after 5.7. But 32 keep a line of 1 Mbit/s with a deep
	// queue busy for so long that three nodes which begin a fetch on it do not
	// find each other within two seconds; of 24 nobody takes notice.
	bbrInitialPackets = 24

	// Where this differs from the draft: see queued, updateMinRTT, nearLeast,
	// and pacing: below bbrShortRTT, timers and the scheduler take longer than
	// the path, which counts as that long.
	bbrShortRTT        = time.Millisecond
	bbrQuietLossThresh = 0.10
	bbrWrongMin        = 8
	bbrUndoRTTs        = 4
	bbrUndoLeast       = 200 * time.Millisecond
	bbrNoiseDivisor    = 16 // of the least round trip
	bbrNoiseLeast      = 100 * time.Microsecond
	bbrQueueDivisor    = 4 // of the least round trip
	bbrQueueLeast      = 4 * time.Millisecond
)

// bbrState is the phase that a controller is in.
type bbrState uint8

const (
	bbrStartup  bbrState = iota // double every round until the rate stops growing
	bbrDrain                    // let the queue go that Startup has built
	bbrDown                     // ProbeBW: a little slower, until the queue is gone
	bbrCruise                   // ProbeBW: at the measured rate, with headroom for others
	bbrRefill                   // ProbeBW: one round at the full rate, before Up
	bbrUp                       // ProbeBW: faster, until losses or the rate say stop
	bbrProbeRTT                 // almost nothing in flight, to see the path without a queue
)

// bbrAckPhase says what the ACKs of the day tell of the last probe.
type bbrAckPhase uint8

const (
	bbrAcksInit bbrAckPhase = iota
	bbrAcksRefilling
	bbrAcksProbeStarting
	bbrAcksProbeFeedback
	bbrAcksProbeStopping
)

// unbounded stands for a bound that nothing has set yet, in bytes.
const unbounded = math.MaxInt64 / 4

// bbr is the controller of draft-ietf-ccwg-bbr: a model of the path, the rate
// that it delivers and its round trip, measured over and over, from which rate
// and window follow. Losses bound the model: what was in flight when more
// than a small share was lost is too much.
//
// Flow: update takes an ACK and goes through the model (bbr_model.go), the
// phases (bbr_phase.go) and the outputs, in the order of section 5.2.3.
type bbr struct {
	datagram int
	rng      *rand.Rand
	rate     rateSampler
	state    bbrState
	started  bool

	// Outputs.
	cwnd       int
	paced      float64 // bytes a second
	pacingGain float64
	cwndGain   float64
	priorCwnd  int

	// Rounds: what is delivered now was sent after the last round began.
	round          uint64
	roundEnd       uint64 // delivered
	lossRoundEnd   uint64
	roundStart     bool
	lossRoundStart bool

	// The model, section 5.5.
	maxBW         [2]float64 // of this cycle and the one before
	bw            float64    // bytes a second, what the outputs use
	bwShort       float64    // bound from losses of late; +Inf if none
	bwLatest      float64
	inflightLong  int // bound from probing
	inflightShort int // bound from losses of late
	inflightLatest,
	maxInflight int
	minRTT        time.Duration
	minRTTAt      time.Time
	extra         extraAcked
	minExpired    bool
	lossInRound   bool
	lossEvents    int
	lostInRound   int
	ackedInRound  int
	leastInRound  time.Duration // of the last round
	low           lowSamples
	undo          bbrBounds
	fullBW        float64
	fullBWRounds  int
	minKnown      bool
	fullBWNow     bool
	fullBWReached bool
	lossExit      bool // losses have ended Startup

	// ProbeBW, section 5.3.3.
	ackPhase     bbrAckPhase
	cycleAt      time.Time
	probeWait    time.Duration
	probeRounds  uint64 // rounds since the last probe
	probeSamples bool   // losses tell of the probe
	upRounds     int
	upAcks       int
	upCount      int

	// ProbeRTT, section 5.3.4.
	probeRTTCwnd   int // fixed when minRTT expires
	probeDone      time.Time
	probeRoundDone bool
	idleRestart    bool
}

// bbrBounds is what a spurious loss takes back.
type bbrBounds struct {
	at                          time.Time
	bwShort                     float64
	inflightShort, inflightLong int
}

func newBBR(datagram int, seed uint64) *bbr {
	b := &bbr{
		datagram: datagram,
		rng:      rand.New(rand.NewPCG(seed, 0xbb)),
		cwnd:     bbrInitialPackets * datagram,
		bwShort:  math.Inf(1), inflightLong: unbounded, inflightShort: unbounded,
	}
	b.enterStartup()
	return b
}

func (b *bbr) window() int          { return b.cwnd }
func (b *bbr) setDatagram(size int) { b.datagram = size }
func (b *bbr) idle(inFlight int)    { b.rate.limit(inFlight) }

// pacing begins with the initial window over the first round trip known,
// section 5.6.2, and in Startup falls no lower, however little the application
// has to say at first. On a path shorter than our timers are fine, the window
// alone limits; and it is never slower than the least window in a round trip,
// which is all that a long darkness leaves of a rate.
func (b *bbr) pacing(r *rtt) float64 {
	if b.started && b.minRTT < bbrShortRTT {
		return unbounded
	}
	if b.paced == 0 {
		return bbrStartupPacingGain * float64(b.cwnd) / max(r.srtt(), time.Millisecond).Seconds()
	}
	return max(b.paced, float64(b.minPipe())/max(r.srtt(), time.Millisecond).Seconds())
}

func (b *bbr) sent(now time.Time, size, inFlight int) rateStamp {
	if inFlight == 0 && b.rate.limitedTo != 0 {
		b.restart(now)
	}
	return b.rate.sent(now, size, inFlight)
}

// restart begins again after a pause, section 5.4.1: at the measured rate,
// without a burst.
func (b *bbr) restart(now time.Time) {
	b.idleRestart = true
	b.extra.begin(now)
	switch {
	case b.inProbeBW():
		b.paced = bbrPacingMargin * b.bw
	case b.state == bbrProbeRTT:
		b.checkProbeRTTDone(now)
	}
}

func (b *bbr) acked(now time.Time, p *sentPacket) {
	b.rate.acked(now, p)
	b.low.add(now.Sub(p.at))
}

// collapsed leaves the model alone: it holds once the path is back. Only the
// window begins anew.
func (b *bbr) collapsed() {
	b.saveCwnd()
	b.cwnd = b.minPipe()
}

// update is BBRUpdateOnACK.
func (b *bbr) update(u ackUpdate) {
	if u.bytes == 0 {
		return
	}
	if !b.started {
		b.started = true
		b.minRTT, b.minRTTAt = u.rtt.srtt(), u.now
		b.paced = b.pacing(u.rtt)
		b.low.since = u.now
		b.extra.begin(u.now)
	}
	rs := b.rate.finish(b.minRTT)
	if !rs.valid {
		return
	}
	b.updateLatest(rs)
	b.updateCongestion(rs)
	b.extra.update(u.now, b.bw, rs.acked, b.cwnd, b.round, b.fullBWReached)
	b.checkFullBW(rs)
	b.checkStartupDone(u)
	if b.state == bbrDrain && u.inFlight <= b.inflight(b.maxRate(), 1) {
		b.enterProbeBW(u.now)
	}
	b.updateProbeBW(u, rs)
	b.updateMinRTT(u)
	b.checkProbeRTT(u, rs)
	if b.lossRoundStart {
		b.bwLatest, b.inflightLatest = rs.rate, rs.delivered
		b.lostInRound, b.ackedInRound, b.lossEvents = 0, 0, 0
	}
	b.bw = min(b.maxRate(), b.bwShort)
	b.setPacing()
	b.setCwnd(rs)
}

// setPacing is section 5.6.2: in Startup the rate only rises.
func (b *bbr) setPacing() {
	r := b.pacingGain * b.bw * bbrPacingMargin
	if r > 0 && (b.fullBWReached || r > b.paced) {
		b.paced = r
	}
}

// setCwnd is section 5.6.4.
func (b *bbr) setCwnd(rs rateSample) {
	extra := b.extra.most()
	if b.minRTT < bbrShortRTT {
		extra = 0 // the time that the path counts as leaves room enough
	}
	b.maxInflight = b.quantum(b.bdp(b.bw, b.cwndGain) + extra)
	if b.fullBWReached {
		b.cwnd = min(b.cwnd+rs.acked, b.maxInflight)
	} else if b.cwnd < b.maxInflight || b.rate.delivered < uint64(initialWindow(b.datagram)) {
		b.cwnd += rs.acked
	}
	b.cwnd = max(b.cwnd, b.minPipe())
	if b.state == bbrProbeRTT {
		b.cwnd = min(b.cwnd, b.probeRTTCwnd)
	}
	limit := unbounded
	switch b.state {
	case bbrDown, bbrRefill, bbrUp:
		limit = b.inflightLong
	case bbrCruise, bbrProbeRTT:
		limit = b.withHeadroom()
	}
	limit = max(min(limit, b.inflightShort), b.minPipe())
	b.cwnd = min(b.cwnd, limit)
}

func (b *bbr) saveCwnd() {
	if b.state == bbrProbeRTT {
		b.priorCwnd = max(b.priorCwnd, b.cwnd)
	} else {
		b.priorCwnd = b.cwnd
	}
}

func (b *bbr) minPipe() int { return bbrMinPipePackets * b.datagram }

// bdp is gain times the bandwidth–delay product, or the initial window while
// that is unknown.
func (b *bbr) bdp(bw, gain float64) int {
	if b.minRTT == 0 || bw == 0 {
		return bbrInitialPackets * b.datagram
	}
	return int(gain * bw * max(b.minRTT, bbrShortRTT).Seconds())
}

// quantum adds room for what leaves and arrives in bursts: three batches, of
// which each is a millisecond's worth or what one call can carry.
func (b *bbr) quantum(inflight int) int {
	batch := max(2*b.datagram, min(int(b.pacingGain*b.bw/1000), 64<<10))
	inflight = max(inflight, 3*batch, b.minPipe())
	if b.state == bbrUp {
		inflight += 2 * b.datagram
	}
	return inflight
}

func (b *bbr) inflight(bw, gain float64) int { return b.quantum(b.bdp(bw, gain)) }

// targetInflight is what the path holds without a queue.
func (b *bbr) targetInflight() int { return min(b.bdp(b.bw, 1), b.cwnd) }

// withHeadroom leaves a part of what the path takes to flows that come.
func (b *bbr) withHeadroom() int {
	if b.inflightLong == unbounded {
		return unbounded
	}
	return max(min(int(bbrHeadroom*float64(b.inflightLong)), b.inflightLong-b.datagram), b.minPipe())
}
