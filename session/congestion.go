package session

import "time"

// Congestion selects how a session decides how fast it may send.
type Congestion uint8

// The congestion controllers.
const (
	// CongestionDefault is CongestionBBR. Of an emulated link of 100 Mbit/s
	// and 50 ms it keeps 95.7 % without loss, 94 % at 1 % and 87 % at 5 %,
	// CUBIC 95.3 %, 3 % and 1 %; of 1 Gbit/s, 20 ms and 0.1 % loss more than
	// 63 % against 2 %. (cd integration/bench && go run . session -case
	// loss0,loss1,loss5,fat -subjects stt-cubic)
	CongestionDefault Congestion = iota
	// CongestionCUBIC is CUBIC, RFC 9438, with HyStart++, RFC 9406: the
	// same as most of TCP. A path that loses at random starves it.
	CongestionCUBIC
	// CongestionBBR is BBR, draft-ietf-ccwg-bbr: it measures the path's
	// rate and round trip and hardly minds losses that have other causes
	// than a full queue.
	CongestionBBR
	// CongestionBackground is LEDBAT++, draft-irtf-iccrg-ledbat-plus-plus: it
	// takes what nobody else wants and yields within seconds to who does, at
	// the price of up to a tenth of a path that it has for itself, and of
	// most of one that loses at random.
	CongestionBackground
)

// String returns the controller's name.
func (c Congestion) String() string {
	switch c {
	case CongestionCUBIC:
		return "CUBIC"
	case CongestionBBR, CongestionDefault:
		return "BBR"
	case CongestionBackground:
		return "LEDBAT++"
	}
	return "unknown"
}

// Constants of RFC 9002 section 7.2.
const (
	initialWindowPackets = 10
	minWindowPackets     = 2
)

func initialWindow(datagram int) int {
	return max(min(initialWindowPackets*datagram, 14720), 2*datagram)
}

// congestion decides how many bytes may be in flight and at which rate they
// leave. A controller is a pure state machine. The loop tells it what happens
// to packets that ask for an acknowledgement, in this order for each ACK:
// acked and spurious for the packets in it, lost for those that it shows to
// be lost, then update.
type congestion interface {
	// window is the most bytes in flight.
	window() int
	// pacing is the rate in bytes a second at which packets should leave.
	pacing(r *rtt) float64
	// sent reports that a packet of size bytes leaves while inFlight others
	// are on their way, and returns the stamp that it is to carry.
	sent(now time.Time, size, inFlight int) rateStamp
	// idle reports that there is nothing to send though the window has
	// room for it.
	idle(inFlight int)
	// acked reports a packet that has arrived.
	acked(now time.Time, p *sentPacket)
	// spurious reports a packet that has arrived though it counted as lost.
	spurious(now time.Time, p *sentPacket)
	// lost reports a packet as lost, at the earliest when that was noticed.
	lost(now time.Time, p *sentPacket)
	// update ends an ACK.
	update(u ackUpdate)
	// collapsed reports persistent congestion, RFC 9002 section 7.6.
	collapsed()
	// setDatagram tells the size of datagrams from now on.
	setDatagram(size int)
}

// ackUpdate is what an ACK, or the silence that shows losses, told as a whole.
type ackUpdate struct {
	now      time.Time
	bytes    int       // newly acknowledged; 0 if only losses were found
	latest   time.Time // departure of the latest newly acknowledged packet
	largest  uint64    // number of the latest packet ever acknowledged
	next     uint64    // number of the next packet to leave
	prior    int       // bytes in flight before
	inFlight int       // bytes in flight now
	rtt      *rtt
	sample   time.Duration // of the round trip; 0 if none
}

// newCongestion makes a controller; seed feeds its random choices.
func newCongestion(c Congestion, datagram int, seed uint64) congestion {
	switch c {
	case CongestionCUBIC:
		return newCubic(datagram)
	case CongestionBackground:
		return newBackground(datagram)
	}
	return newBBR(datagram, seed)
}
