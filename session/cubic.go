package session

import (
	"math"
	"time"
)

// Constants of RFC 9438 section 4.
const (
	cubicC    = 0.4 // packets a second³
	cubicBeta = 0.7
	// cubicAlpha makes the Reno-friendly window as fast as Reno, section 4.3.
	cubicAlpha = 3 * (1 - cubicBeta) / (1 + cubicBeta)
)

// cubic is the controller of RFC 9438, with HyStart++ to leave slow start.
type cubic struct {
	datagram int
	now      cubicState
	recovery time.Time // packets that left before it belong to the episode
	hystart  hystart
	pause    time.Time // since when the window has not been the limit

	// What to return to if the whole of the last episode proves spurious.
	undo        cubicState
	undoFrom    time.Time // recovery before it
	outstanding int       // packets of the episode that still count as lost
	undoable    bool
}

// cubicState is the part of a controller's state that losses change.
// Windows are in bytes.
type cubicState struct {
	cwnd      float64
	threshold float64 // ssthresh
	wMax      float64 // window before the last reduction
	k         float64 // seconds from the epoch's begin to wMax
	epoch     time.Time
	wEst      float64 // what Reno would have
	wPrior    float64 // window at the last reduction
}

func newCubic(datagram int) *cubic {
	return &cubic{
		datagram: datagram,
		now:      cubicState{cwnd: float64(initialWindow(datagram)), threshold: math.Inf(1)},
	}
}

func (c *cubic) window() int                        { return int(c.now.cwnd) }
func (c *cubic) slowStart() bool                    { return c.now.cwnd < c.now.threshold }
func (c *cubic) setDatagram(size int)               { c.datagram = size }
func (c *cubic) sent(time.Time, int, int) rateStamp { return rateStamp{} }
func (c *cubic) idle(int)                           {}
func (c *cubic) acked(now time.Time, p *sentPacket) {}
func (c *cubic) minimum() float64                   { return float64(minWindowPackets * c.datagram) }
func (c *cubic) inEpisode(p *sentPacket) bool       { return !p.at.After(c.recovery) }
func (c *cubic) packets(bytes float64) float64      { return bytes / float64(c.datagram) }
func (c *cubic) curve(t float64) float64 {
	return c.now.wMax + cubicC*math.Pow(t-c.now.k, 3)*float64(c.datagram)
}

// pacing spreads a window over its round trip, a little faster, so that
// pacing is never what limits, RFC 9002 section 7.7.
func (c *cubic) pacing(r *rtt) float64 {
	gain := 1.25
	if c.slowStart() {
		gain = 2
	}
	return gain * c.now.cwnd / max(r.srtt(), 10*time.Microsecond).Seconds()
}

// lost begins an episode with the first packet lost that left after the last
// one began.
func (c *cubic) lost(now time.Time, p *sentPacket) {
	if c.inEpisode(p) {
		if p.at.After(c.undoFrom) {
			c.outstanding++
		}
		return
	}
	c.undo, c.undoFrom, c.outstanding, c.undoable = c.now, c.recovery, 1, true
	c.recovery = now
	s := &c.now
	s.wPrior = s.cwnd
	// Fast convergence, section 4.7: who shrinks twice in a row makes room.
	if s.wMax = s.cwnd; s.cwnd < c.undo.wMax {
		s.wMax = s.cwnd * (1 + cubicBeta) / 2
	}
	s.cwnd = max(s.cwnd*cubicBeta, c.minimum())
	s.threshold = s.cwnd
	s.epoch = time.Time{}
	c.hystart = hystart{}
}

// spurious takes an episode back once every packet of it has arrived after
// all, RFC 9438 section 4.9.
func (c *cubic) spurious(_ time.Time, p *sentPacket) {
	if !c.undoable || !c.inEpisode(p) || !p.at.After(c.undoFrom) {
		return
	}
	if c.outstanding--; c.outstanding > 0 {
		return
	}
	if c.undo.cwnd > c.now.cwnd {
		c.now = c.undo
		c.now.epoch = time.Time{}
	}
	c.recovery, c.undoable = c.undoFrom, false
}

// collapsed returns to slow start, up to half of what there was.
func (c *cubic) collapsed() {
	c.now.cwnd = c.minimum()
	c.now.epoch = time.Time{}
	c.undoable = false
	c.hystart = hystart{}
}

// update grows the window.
func (c *cubic) update(u ackUpdate) {
	if u.bytes == 0 {
		return
	}
	// A window that is not used must not grow, RFC 9002 section 7.8; in slow
	// start half of it counts as used.
	used := float64(u.prior + 3*c.datagram)
	if c.slowStart() {
		used = float64(2 * u.prior)
	}
	if used < c.now.cwnd {
		if c.pause.IsZero() {
			c.pause = u.now
		}
		return
	}
	if !c.pause.IsZero() {
		// The curve goes on where it was left, RFC 9438 section 5.8.
		if !c.now.epoch.IsZero() {
			c.now.epoch = c.now.epoch.Add(u.now.Sub(c.pause))
		}
		c.pause = time.Time{}
	}
	if !u.latest.After(c.recovery) {
		return
	}
	if c.slowStart() {
		c.now.cwnd += c.hystart.growth(u)
		if c.hystart.done {
			c.now.threshold = c.now.cwnd
		}
		return
	}
	c.avoid(u)
}

// avoid is congestion avoidance, sections 4.2 to 4.5.
func (c *cubic) avoid(u ackUpdate) {
	s := &c.now
	if s.epoch.IsZero() {
		s.epoch = u.now
		s.wEst = s.cwnd
		if s.cwnd < s.wMax {
			s.k = math.Cbrt(c.packets(s.wMax-s.cwnd) / cubicC)
		} else {
			s.k, s.wMax = 0, s.cwnd
		}
	}
	acked := float64(u.bytes)
	alpha := cubicAlpha
	if s.wEst >= s.wPrior {
		alpha = 1
	}
	s.wEst += alpha * float64(c.datagram) * acked / s.cwnd
	t := u.now.Sub(s.epoch).Seconds()
	if c.curve(t) < s.wEst {
		s.cwnd = max(s.cwnd, s.wEst)
		return
	}
	target := min(max(c.curve(t+u.rtt.srtt().Seconds()), s.cwnd), 1.5*s.cwnd)
	s.cwnd += (target - s.cwnd) * min(acked/s.cwnd, 1)
}
