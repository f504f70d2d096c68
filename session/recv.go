package session

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

// receive opens the datagrams of a run in place, in the order they came.
func (l *loop) receive(r *run) {
	for b := r.data; len(b) > 0 && l.fault == nil; {
		n := min(r.size, len(b))
		l.datagram(r.at, b[:n], r.from)
		b = b[n:]
	}
	if err := l.takeHeld(); err != nil && l.fault == nil {
		l.fault = err
	}
}

// datagram takes in one frame.
func (l *loop) datagram(now time.Time, b []byte, from netip.AddrPort) {
	h, n, err := frame.ParseHeader(b)
	if err != nil || h.Session != l.s.id || len(b) < n+stc.TagSize {
		return
	}
	if l.s.State() == StateClosing {
		l.repeatClose(from)
		return
	}
	if l.recv.duplicate(h.Seq) {
		l.duplicates++
		return
	}
	epoch := l.open.epoch
	payload, err := l.open.open(now, h.Epoch, h.Seq, b[:n], b[n:], 3*l.pto())
	if err != nil {
		if l.open.failures >= maxForged {
			l.fault = violation(CodeProtocol, "too many forged frames")
		}
		return
	}
	if l.open.epoch != epoch {
		l.s.ep.counters.rotations.Add(1)
	}
	l.lastHeard, l.lastElicit = now, time.Time{}
	l.bytesRecv += uint64(len(b))
	l.framesRecv++
	if l.proof != nil {
		// Only one who has read AUTH_PROOF has these keys.
		l.proof = nil
		l.s.state.Store(int32(StateActive))
	}
	newest := len(l.recv.seen) == 0 || h.Seq > l.recv.largest
	l.pinged = false
	eliciting, err := l.payload(now, h, payload, from)
	if l.s.link.ordered != nil {
		eliciting = l.pinged
	}
	l.recv.add(now, h.Seq, eliciting)
	if err != nil {
		l.fault = err
		return
	}
	if newest && from != l.peer {
		var data [8]byte
		_, _ = rand.Read(data[:]) // never fails
		l.path.begin(now, from, data)
	}
}

// payload interprets an opened frame and reports whether the peer wants it
// acknowledged. An error ends the session.
func (l *loop) payload(now time.Time, h frame.Header, b []byte, from netip.AddrPort) (eliciting bool, err error) {
	if h.Type != frame.TypeData {
		if err := l.takeHeld(); err != nil {
			return true, err
		}
	}
	switch h.Type {
	case frame.TypeData:
		d, err := frame.ParseData(b)
		if err != nil {
			return true, violation(CodeProtocol, "%v", err)
		}
		if d.HasAck {
			if err := l.ack(now, d.Ack); err != nil {
				return true, err
			}
		}
		return true, l.data(h.Stream, d)
	case frame.TypeControl:
		return l.control(now, b, from)
	case frame.TypeStreamControl:
		return true, l.streamControl(h.Stream, b)
	case frame.TypeAuth:
		return true, l.finalMessage(b)
	}
	// HANDSHAKE and DHT frames never travel under session keys.
	if h.Type >= frame.TypeUser {
		return true, l.userPiece(now, h, b)
	}
	return true, violation(CodeProtocol, "frame of type %s inside a session", h.Type)
}

func (l *loop) control(now time.Time, b []byte, from netip.AddrPort) (eliciting bool, err error) {
	for len(b) > 0 {
		c, n, err := frame.ConsumeControl(b)
		if err != nil {
			return true, violation(CodeProtocol, "%v", err)
		}
		b = b[n:]
		switch c.Type {
		case frame.ControlPadding:
			continue
		case frame.ControlAck:
			if err := l.ack(now, c.Ack); err != nil {
				return true, err
			}
			continue
		case frame.ControlPing:
			l.pinged = true
		case frame.ControlMaxData:
			l.refill(c.Limit)
		case frame.ControlPathChallenge:
			data := c.Path
			l.response, l.respondTo = &data, from
		case frame.ControlPathResponse:
			if l.path.answered(c.Path) {
				l.migrate()
			}
		case frame.ControlClose:
			l.end(&CloseError{Code: c.Code, Reason: string(c.Reason), Remote: true})
			return false, nil
		}
		eliciting = true
	}
	return eliciting, nil
}

// migrate moves the session to the address that has just been proven. A new
// host means a new path: nothing of the old one's capacity holds.
func (l *loop) migrate() {
	old := l.peer
	l.peer = l.path.to
	l.path = pathCheck{}
	if old.Addr() != l.peer.Addr() {
		l.rtt = rtt{}
		l.mtu = newMTUSearch(l.mtu.largest)
		l.cc = l.newCongestion()
	}
}

// newCongestion makes the controller that the configuration asks for.
func (l *loop) newCongestion() congestion {
	return newCongestion(l.cfg.Congestion, l.mtu.size, binary.BigEndian.Uint64(l.s.id[:]))
}

// ack takes an acknowledgement.
func (l *loop) ack(now time.Time, a frame.Ack) error {
	prior := l.loss.inFlight
	r, err := l.loss.onAck(now, a, &l.rtt, func(p *sentPacket) {
		switch {
		case p.state == packetLost:
			l.cc.spurious(now, p)
		case p.eliciting:
			l.cc.acked(now, p)
		}
		l.delivered(p)
	})
	l.settleDelivery()
	if err != nil {
		return err
	}
	l.seal.acked(a.Largest)
	u := ackUpdate{
		now: now, bytes: r.bytes, latest: r.latest, largest: l.loss.largestAcked, next: l.loss.next(),
		prior: prior, rtt: &l.rtt,
	}
	if r.sampled {
		delay := a.Delay
		if !r.newest {
			delay = 0
		}
		l.rtt.update(r.sample, delay)
		u.sample = l.rtt.latest
		l.recv.rtt = l.rtt.smoothed
		if l.loss.firstSample.IsZero() {
			l.loss.firstSample = now
		}
	}
	l.detectLosses(now)
	if r.bytes > 0 {
		u.inFlight = l.loss.inFlight
		l.cc.update(u)
		l.sizeSendBuffers()
	}
	return nil
}

// sizeSendBuffers lets streams hold two windows' worth, so that the
// congestion window, not the buffer, limits a writer that keeps up. A window
// that shrinks for a moment does not stop the writers.
func (l *loop) sizeSendBuffers() {
	share := int64(2 * l.cc.window() / max(1, l.queue.count))
	share = min(max(share, 64<<10), int64(l.cfg.SendBuffer))
	if have := l.s.sendBuffer.Load(); share < have {
		share = have - (have-share)/64
	}
	l.s.sendBuffer.Store(share)
}

func (l *loop) detectLosses(now time.Time) {
	r := l.loss.detect(now, &l.rtt, l.pto(), func(p *sentPacket) {
		if !p.probe {
			l.cc.lost(now, p)
		}
		l.lost(now, p)
	})
	if r.persistent {
		l.cc.collapsed()
	}
}

// delivered takes note that a packet of ours has arrived; what it means for
// its stream, settleDelivery tells later.
func (l *loop) delivered(p *sentPacket) {
	if p.ackedTo > 0 {
		// The peer knows of these; RFC 9000 section 13.2.4.
		l.recv.forget(p.ackedTo - 1)
	}
	if !p.probe {
		l.mtu.arrived(p.size)
	} else if l.mtu.acked(p.size) {
		l.cc.setDatagram(l.mtu.size)
	}
	if p.user {
		l.s.user.delivered(p)
	}
	if p.stream != nil && !l.arrived.add(p) {
		l.settleDelivery()
		l.arrived.add(p)
	}
}

// lost queues what a lost packet carried to be sent again.
func (l *loop) lost(now time.Time, p *sentPacket) {
	if p.probe {
		l.mtu.probeLost(now, p.size)
		return
	}
	if l.mtu.vanished(now, p.at, p.size, l.pto()) {
		l.cc.setDatagram(l.mtu.size)
	}
	l.repeat(p)
}

// repeat queues what a packet carried to be sent again, the packet itself
// being lost or not.
func (l *loop) repeat(p *sentPacket) {
	l.pending |= p.controls & (ctlMaxData | ctlFinal)
	if p.controls&ctlFinal != 0 {
		l.final = true
	}
	if p.user {
		l.s.user.lost(p)
	}
	st := p.stream
	if st == nil {
		return
	}
	st.mu.Lock()
	if p.data {
		st.out.onLost(p.offset, p.length, p.fin)
	}
	if p.controls&ctlStreamReset != 0 && st.out.state == sendReset {
		st.out.resetSent = false
	}
	if p.controls&ctlStreamStop != 0 {
		st.in.stopSent = false
	}
	if p.controls&ctlStreamMaxData != 0 && !st.in.ended {
		st.in.wantTell = true
	}
	st.mu.Unlock()
	l.enqueue(st)
}

// took does the session's part after a stream has taken something in.
func (l *loop) took(st *Stream, grown, dropped uint64, ready, done bool, err error) error {
	if err != nil {
		return err
	}
	if l.dataReceived += grown; l.dataReceived > l.dataLimit {
		return violation(CodeFlowControl, "session data to %d over the limit %d", l.dataReceived, l.dataLimit)
	}
	if dropped > 0 {
		l.s.consume(dropped)
		l.enqueue(st) // its credit has to come back, too
	}
	if ready {
		st.wakeReader()
	}
	if done {
		l.release(st)
	}
	return nil
}

// stream returns the stream that a frame about offset belongs to. It is nil
// if the frame comes late, from a former life of the ID. opens says that the
// frame may begin a life.
func (l *loop) stream(id uint16, offset uint64, opens bool) (*Stream, error) {
	t := &l.s.streams
	if id == 0 {
		return nil, violation(CodeStream, "stream 0 is the session's own")
	}
	own := t.own(id)
	if st := t.get(id); st != nil {
		st.mu.Lock()
		base, next := st.in.base, st.in.complete() && offset > st.in.final
		st.mu.Unlock()
		if offset < base {
			return nil, nil
		}
		if !next || own {
			return st, nil
		}
		// The peer uses the ID again, so it has seen our direction's end.
		st.mu.Lock()
		ended := st.out.state != sendOpen
		if ended {
			st.out.finish()
		}
		st.mu.Unlock()
		if !ended {
			return nil, violation(CodeStream, "stream %d used again while open", id)
		}
		l.release(st)
	}
	if offset < t.base(id).recv {
		return nil, nil
	}
	if own {
		return nil, violation(CodeStream, "stream %d is not the peer's to open", id)
	}
	if int(id) > t.maxPeer {
		return nil, violation(CodeStream, "stream %d over the limit %d", id, t.maxPeer)
	}
	if !opens {
		return nil, nil
	}
	st := t.openPeer(l.s, id)
	if st.refused {
		if t.flooded() {
			return nil, violation(CodeResources, "refused streams are left open")
		}
		l.enqueue(st) // there is something to say
	}
	return st, nil
}

// streamControl takes the records about one stream; stream 0 stands for the
// application's frames.
func (l *loop) streamControl(id uint16, b []byte) error {
	if id == 0 {
		return l.userControl(b)
	}
	for len(b) > 0 {
		c, n, err := frame.ConsumeStreamControl(b)
		if err != nil {
			return violation(CodeProtocol, "%v", err)
		}
		b = b[n:]
		switch c.Type {
		case frame.StreamMaxData:
			st := l.s.streams.get(id)
			if st == nil {
				continue // of a former life
			}
			st.mu.Lock()
			news := st.out.onCredit(c.Offset)
			st.mu.Unlock()
			if news {
				l.enqueue(st)
			}
		case frame.StreamReset:
			st, err := l.stream(id, c.Offset, true)
			if err != nil {
				return err
			}
			if st == nil {
				continue
			}
			st.mu.Lock()
			grown, dropped, err := st.in.onReset(c.Code, c.Offset)
			done := st.finished()
			st.mu.Unlock()
			if err := l.took(st, grown, dropped, true, done, err); err != nil {
				return err
			}
		case frame.StreamStopSending:
			if err := l.stopSending(id, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// stopSending gives our direction of a stream up, as the peer asks. base
// tells which life of the ID it means.
func (l *loop) stopSending(id uint16, c frame.StreamControl) error {
	st := l.s.streams.get(id)
	if st == nil {
		// Perhaps the first frame of a stream that the peer has opened.
		b := l.s.streams.base(id)
		if l.s.streams.own(id) || c.Offset != b.send {
			return nil
		}
		var err error
		if st, err = l.stream(id, b.recv, true); st == nil || err != nil {
			return err
		}
	}
	st.mu.Lock()
	if c.Offset == st.out.base && !st.out.stopped && st.out.state != sendDone {
		st.out.stopped, st.out.stopCode = true, c.Code
		st.out.abort(c.Code)
	}
	st.mu.Unlock()
	st.wakeWriter()
	l.enqueue(st)
	return nil
}

// finalMessage takes FINAL, which tells our address as the peer sees it, and
// how the peer would prove that it has forgotten the session.
func (l *loop) finalMessage(b []byte) error {
	addr, token, err := parseFinal(b)
	if err != nil || !l.s.initiator {
		return violation(CodeProtocol, "unexpected AUTH frame")
	}
	l.s.mu.Lock()
	l.s.observed, l.s.reset = addr, token
	l.s.mu.Unlock()
	return nil
}
