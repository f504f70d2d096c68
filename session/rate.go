package session

import "time"

// rateStamp is what a packet remembers of the moment it left, for the
// delivery rate. Times are since the sampler's epoch.
type rateStamp struct {
	delivered   uint64        // bytes delivered by then
	lost        uint64        // bytes lost by then
	deliveredAt time.Duration // when delivered was reached
	firstSent   time.Duration // departure of the packet that the interval begins with
	inFlight    int           // bytes in flight, the packet included
	appLimited  bool
}

// rateSample is one measurement of how fast the path delivers.
type rateSample struct {
	valid          bool
	rate           float64 // bytes a second; 0 if the interval was too short to tell
	delivered      int     // bytes during the interval
	priorDelivered uint64  // delivered when the newest acknowledged packet left
	lost           int     // bytes lost since then
	inFlight       int     // bytes in flight when it left, itself included
	appLimited     bool
	acked          int // bytes that this ACK told of
}

// rateSampler measures the delivery rate, draft-ietf-ccwg-bbr section 4.1.
// Pure.
type rateSampler struct {
	epoch       time.Time
	delivered   uint64 // bytes acknowledged so far
	lost        uint64 // bytes declared lost so far
	deliveredAt time.Duration
	firstSent   time.Duration
	limitedTo   uint64 // delivered from which on samples are no longer limited by the application; 0 if they are not

	// The ACK being taken in.
	sample    rateSample
	newest    time.Time // departure of the newest packet in it
	sendTime  time.Duration
	priorTime time.Duration
}

func (s *rateSampler) since(t time.Time) time.Duration {
	if s.epoch.IsZero() {
		s.epoch = t
	}
	return t.Sub(s.epoch)
}

// sent stamps a packet of size bytes that leaves now beside inFlight others.
func (s *rateSampler) sent(now time.Time, size, inFlight int) rateStamp {
	if inFlight == 0 {
		s.firstSent = s.since(now)
		s.deliveredAt = s.firstSent
	}
	return rateStamp{
		delivered: s.delivered, lost: s.lost, deliveredAt: s.deliveredAt, firstSent: s.firstSent,
		inFlight: inFlight + size, appLimited: s.limitedTo != 0,
	}
}

// acked takes one of the packets that an ACK acknowledges.
func (s *rateSampler) acked(now time.Time, p *sentPacket) {
	s.delivered += uint64(p.size)
	s.deliveredAt = s.since(now)
	s.sample.acked += p.size
	if s.sample.valid && !p.at.After(s.newest) {
		return
	}
	s.newest = p.at
	at := s.since(p.at)
	s.sample.valid = true
	s.sample.priorDelivered = p.rate.delivered
	s.sample.appLimited = p.rate.appLimited
	s.sample.inFlight = p.rate.inFlight
	s.sample.lost = int(p.rate.lost) // of then, until finish
	s.sendTime = at - p.rate.firstSent
	s.priorTime = p.rate.deliveredAt
	s.firstSent = at
}

// finish returns the sample of the ACK whose packets have been taken in.
// Samples over less than the least round trip are no measure of a rate.
func (s *rateSampler) finish(leastRTT time.Duration) rateSample {
	r := s.sample
	s.sample = rateSample{}
	if s.limitedTo != 0 && s.delivered > s.limitedTo {
		s.limitedTo = 0
	}
	if !r.valid {
		return r
	}
	r.delivered = int(s.delivered - r.priorDelivered)
	r.lost = int(s.lost) - r.lost
	interval := max(s.sendTime, s.deliveredAt-s.priorTime)
	if interval > 0 && interval >= leastRTT {
		r.rate = float64(r.delivered) / interval.Seconds()
	}
	return r
}

// limit records that the application, or the peer's credit, leaves the path
// idle: what is in flight now measures them, not the path.
func (s *rateSampler) limit(inFlight int) { s.limitedTo = max(s.delivered+uint64(inFlight), 1) }
