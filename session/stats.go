package session

import "sync/atomic"

// counters count what concerns the endpoint as a whole.
type counters struct {
	handshakes, failed, refused, retries  atomic.Uint64
	received, dropped, stray, halfDropped atomic.Uint64
	sendErrors, rotations, unhandled      atomic.Uint64
	refusedStreams                        atomic.Uint64
}

// Totals are sums over all sessions that an endpoint has had.
type Totals struct {
	BytesSent, BytesReceived       uint64
	MessagesSent, MessagesReceived uint64
	PacketsLost, PacketsSpurious   uint64
	Duplicates, Forged             uint64
	ProbeTimeouts                  uint64
}

func (t *Totals) add(s Stats) {
	t.BytesSent += s.BytesSent
	t.BytesReceived += s.BytesReceived
	t.MessagesSent += s.MessagesSent
	t.MessagesReceived += s.MessagesReceived
	t.PacketsLost += s.PacketsLost
	t.PacketsSpurious += s.PacketsSpurious
	t.Duplicates += s.DuplicatesReceived
	t.Forged += s.ForgedReceived
	t.ProbeTimeouts += s.ProbeTimeouts
}

// EndpointStats is a snapshot of an endpoint's counters. All but the gauges
// only grow.
type EndpointStats struct {
	Totals
	Sessions, HalfOpen, Streams int    // gauges
	PeerStreams                 int    // gauge: those of Streams that peers have opened
	Memory                      int64  // gauge: bytes lent of Config.Memory, guarantees apart
	Handshakes                  uint64 // completed, both directions
	HandshakesFailed            uint64 // ours that failed, others' that did not open or finish
	HandshakesRefused           uint64 // for a limit
	HandshakeRetries            uint64 // address proofs asked for
	ReceiveCalls                uint64 // reads of the carrier
	Dropped                     uint64 // runs of datagrams for a session that was too far behind
	Stray                       uint64 // runs of datagrams of no session
	SendErrors                  uint64 // batches that the carrier refused
	SendMemory                  int64  // gauge: bytes written that have not arrived, in all sessions
	StreamsRefused              uint64 // for Config.MaxTotalStreams
	KeyRotations                uint64 // both directions
	Unhandled                   uint64 // frames of the application of a type that has no handler
}

// Stats returns the endpoint's counters.
func (e *Endpoint) Stats() EndpointStats {
	sessions := e.Sessions()
	e.mu.RLock()
	out := EndpointStats{
		Totals: e.past, Sessions: len(e.sessions), HalfOpen: len(e.half),
		PeerStreams:       int(e.peerStreams.Load()),
		Memory:            e.budget.inUse(),
		SendMemory:        e.sending.Load(),
		Handshakes:        e.counters.handshakes.Load(),
		HandshakesFailed:  e.counters.failed.Load(),
		HandshakesRefused: e.counters.refused.Load() + e.counters.halfDropped.Load(),
		HandshakeRetries:  e.counters.retries.Load(),
		ReceiveCalls:      e.counters.received.Load(),
		Dropped:           e.counters.dropped.Load(),
		Stray:             e.counters.stray.Load(),
		SendErrors:        e.counters.sendErrors.Load(),
		StreamsRefused:    e.counters.refusedStreams.Load(),
		KeyRotations:      e.counters.rotations.Load(),
		Unhandled:         e.counters.unhandled.Load(),
	}
	e.mu.RUnlock()
	for _, s := range sessions {
		st := s.Stats()
		out.Totals.add(st)
		out.Streams += st.Streams
	}
	return out
}
