package session

import (
	"time"

	"github.com/seigr/sttnode/frame"
)

// packetThreshold is kPacketThreshold of RFC 9002 section 6.1.1.
const packetThreshold = 3

// persistentPTOs is kPersistentCongestionThreshold of RFC 9002 section 7.6.1.
const persistentPTOs = 3

// controls are the session's records that a CONTROL frame carried, and those
// about one stream that a STREAM_CONTROL frame carried. What was lost is sent
// again with the value of the day.
type controls uint8

const (
	ctlPing controls = 1 << iota
	ctlMaxData
	ctlFinal // the AUTH frame FINAL
	ctlStreamMaxData
	ctlStreamReset
	ctlStreamStop
)

type packetState uint8

const (
	packetOutstanding packetState = iota
	packetAcked
	packetLost
)

// sentPacket is one frame on its way: what it carried, so that content, not
// packets, is sent again.
type sentPacket struct {
	at        time.Time
	stream    *Stream // of the data or the stream's records; nil if neither
	offset    uint64
	length    int
	ackedTo   uint64 // 1 + largest number of the ACK inside; 0 if none
	size      int
	rate      rateStamp // of the congestion controller
	state     packetState
	controls  controls
	data      bool // carries bytes of stream
	user      bool // carries bytes of the application's frames
	fin       bool
	eliciting bool
	probe     bool // of the MTU search: its loss tells nothing of congestion
}

// lossDetector is the sender's half of RFC 9002: it knows what is in flight,
// decides what is lost, and when to probe. Pure; the loop owns it.
//
// packets holds the frames from number first on, without gaps, so a number
// is an index. The oldest is always outstanding.
type lossDetector struct {
	first    uint64
	packets  []sentPacket // ring
	head     int          // index of first
	count    int
	scan     uint64 // everything below is settled
	inFlight int    // bytes of outstanding packets that ask for an ACK

	largestAcked uint64
	anyAcked     bool
	lossTime     time.Time // when the next packet is late; zero if none is suspect
	lastSent     time.Time // last packet that asks for an ACK
	outstanding  int       // packets that ask for an ACK
	ptoCount     int

	firstSample time.Time // of rtt: losses before it do not count as persistent congestion
	lostPackets uint64
	spurious    uint64 // declared lost, acknowledged later
	order       reordering
}

// reordering adapts the detector to a path that overtakes, as RACK does, RFC
// 8985 sections 6.2 and 7.1: once a packet that was declared lost arrives,
// the number of packets behind it proves nothing any more, and the time grows
// by which it was late. Both last until sixteen round trips with losses have
// passed without another such packet.
type reordering struct {
	seen   bool
	extra  time.Duration // beyond the time threshold
	losses int           // round trips with losses since the last spurious one
	lastAt time.Time     // when the last of them was counted
}

// reorderingRounds is the memory of reordering, in round trips with losses.
const reorderingRounds = 16

// late takes a packet that arrived so long after it left though it counted as
// lost.
func (o *reordering) late(after time.Duration, r *rtt) {
	o.seen, o.losses = true, 0
	o.extra = min(max(o.extra, after-r.lossDelay()), r.srtt())
}

// lost takes note that packets were declared lost.
func (o *reordering) lost(now time.Time, r *rtt) {
	if !o.seen || now.Sub(o.lastAt) < r.srtt() {
		return
	}
	o.lastAt = now
	if o.losses++; o.losses > reorderingRounds {
		*o = reordering{}
	}
}

// next returns the number of the next packet.
func (d *lossDetector) next() uint64 { return d.first + uint64(d.count) }

func (d *lossDetector) at(seq uint64) *sentPacket {
	return &d.packets[(d.head+int(seq-d.first))&(len(d.packets)-1)]
}

// sent records the packet with number next.
func (d *lossDetector) sent(p sentPacket) {
	if d.count == len(d.packets) {
		grown := make([]sentPacket, max(16, 2*len(d.packets)))
		for i := range d.count {
			grown[i] = d.packets[(d.head+i)&(len(d.packets)-1)]
		}
		d.packets, d.head = grown, 0
	}
	d.packets[(d.head+d.count)&(len(d.packets)-1)] = p
	d.count++
	if p.eliciting {
		d.inFlight += p.size
		d.outstanding++
		d.lastSent = p.at
	} else {
		// Nobody answers it, so nothing can be concluded from silence.
		d.at(d.next() - 1).state = packetAcked
		d.trim()
	}
}

// withdraw takes the latest packet, which has not left after all, out of
// flight. Its number is never used again.
func (d *lossDetector) withdraw() {
	d.settle(d.at(d.next()-1), packetAcked)
	d.trim()
}

// settle takes an outstanding packet out of flight.
func (d *lossDetector) settle(p *sentPacket, state packetState) {
	p.state = state
	d.inFlight -= p.size
	d.outstanding--
}

// trim drops what is settled at the old end.
func (d *lossDetector) trim() {
	for d.count > 0 && d.packets[d.head].state == packetAcked {
		d.drop()
	}
}

func (d *lossDetector) drop() {
	d.packets[d.head] = sentPacket{}
	d.head = (d.head + 1) & (len(d.packets) - 1)
	d.first++
	d.count--
}

// ringAfter is how long the ring outlives the last packet: an idle session
// holds no memory that a busy one needs.
const ringAfter = time.Second

// tidyAt returns when the ring is to be given up; zero if it is in use.
func (d *lossDetector) tidyAt() time.Time {
	if d.count > 0 || d.packets == nil {
		return time.Time{}
	}
	return d.lastSent.Add(ringAfter)
}

// tidy gives up the ring of a session that has fallen silent, and reports
// whether it has just done so.
func (d *lossDetector) tidy(now time.Time) bool {
	at := d.tidyAt()
	if at.IsZero() || now.Before(at) {
		return false
	}
	d.packets, d.head = nil, 0
	return true
}

// ackResult is what an ACK told.
type ackResult struct {
	bytes     int // newly acknowledged
	eliciting bool
	latest    time.Time     // when the latest of the newly acknowledged left
	sample    time.Duration // of the round trip, if sampled
	sampled   bool
	newest    bool // the sample is of the ACK's largest, to which its delay refers
}

// onAck takes an ACK. acked is called for each packet that is news, with its
// state still that of before. An ACK of what was never sent is an error.
func (d *lossDetector) onAck(now time.Time, ack frame.Ack, path *rtt, acked func(*sentPacket)) (ackResult, error) {
	var r ackResult
	if ack.Largest >= d.next() {
		return r, violation(CodeProtocol, "acknowledgement of frame %d, which was never sent", ack.Largest)
	}
	if !d.anyAcked || ack.Largest > d.largestAcked {
		d.largestAcked, d.anyAcked = ack.Largest, true
	}
	for rng := range ack.Ranges() {
		if rng.End <= d.first {
			break
		}
		for seq := rng.End; seq > max(rng.Start, d.first); seq-- {
			p := d.at(seq - 1)
			switch p.state {
			case packetLost:
				d.spurious++
				d.order.late(now.Sub(p.at), path)
				acked(p)
				p.state = packetAcked
			case packetOutstanding:
				// RFC 9002 section 5.1 samples the largest only. Where packets
				// overtake, that is always a fast one, and every ACK tells
				// of one that is not.
				if seq-1 == ack.Largest || d.order.seen && !r.sampled {
					r.sample, r.sampled, r.newest = now.Sub(p.at), true, seq-1 == ack.Largest
				}
				if p.at.After(r.latest) {
					r.latest = p.at
				}
				r.bytes += p.size
				r.eliciting = true
				acked(p)
				d.settle(p, packetAcked)
			}
		}
	}
	d.trim()
	if r.eliciting {
		d.ptoCount = 0
	}
	return r, nil
}

// lossResult is what detect found.
type lossResult struct {
	any        bool // a packet was lost by congestion, as far as we know
	persistent bool
}

// detect declares late packets lost, RFC 9002 section 6.1, and calls lost
// for each.
func (d *lossDetector) detect(now time.Time, r *rtt, pto time.Duration, lost func(*sentPacket)) lossResult {
	var out lossResult
	d.lossTime = time.Time{}
	if !d.anyAcked {
		return out
	}
	delay := r.lossDelay() + d.order.extra
	var runStart time.Time // first of a run of losses with nothing acknowledged between
	d.scan = max(d.scan, d.first)
	for seq := d.scan; seq < d.next() && seq <= d.largestAcked; seq++ {
		p := d.at(seq)
		if p.state != packetOutstanding {
			if p.state == packetAcked && p.eliciting {
				runStart = time.Time{}
			}
			if seq == d.scan {
				d.scan++
			}
			continue
		}
		late := p.at.Add(delay)
		if (d.order.seen || d.largestAcked < seq+packetThreshold) && now.Before(late) {
			// Those behind it left later still.
			d.lossTime = late
			break
		}
		d.settle(p, packetLost)
		d.lostPackets++
		if !p.probe {
			out.any = true
			if runStart.IsZero() {
				if !d.firstSample.IsZero() && p.at.After(d.firstSample) {
					runStart = p.at
				}
			} else if p.at.Sub(runStart) > persistentPTOs*pto {
				out.persistent = true
			}
		}
		lost(p)
	}
	if out.any {
		d.order.lost(now, r)
	}
	d.forget(now, pto)
	return out
}

// forget drops lost packets at the old end once no acknowledgement of them
// is to be expected.
func (d *lossDetector) forget(now time.Time, pto time.Duration) {
	for d.count > 0 {
		p := &d.packets[d.head]
		if p.state == packetOutstanding || p.state == packetLost && now.Sub(p.at) < 3*pto {
			return
		}
		d.drop()
	}
}

// Bounds of the probe timeout's back-off: an exponent, and a time, so that a
// path that comes back from the dead is found within about half a second.
const (
	maxBackoff    = 6
	maxProbeAfter = time.Second / 2
)

// backoff returns the n-th consecutive probe timeout.
func backoff(pto time.Duration, n int) time.Duration {
	return max(pto, min(pto<<min(n, maxBackoff), maxProbeAfter))
}

// deadline returns when onTimeout is due; zero if nothing is in flight.
func (d *lossDetector) deadline(pto time.Duration) time.Time {
	if !d.lossTime.IsZero() {
		return d.lossTime
	}
	if d.outstanding == 0 {
		return time.Time{}
	}
	return d.lastSent.Add(backoff(pto, d.ptoCount))
}

// probeTimeout records that the probe timeout has passed and calls again for
// up to n of the oldest packets in flight, whose content should be repeated.
func (d *lossDetector) probeTimeout(n int, again func(*sentPacket)) {
	d.ptoCount++
	for seq := d.first; seq < d.next() && n > 0; seq++ {
		if p := d.at(seq); p.state == packetOutstanding && p.eliciting && !p.probe {
			again(p)
			n--
		}
	}
}
