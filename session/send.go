package session

import (
	"errors"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/session/transport"
	"github.com/seigr/sttnode/stc"
)

const (
	// maxBatches is how many system calls send makes before it looks at
	// what has come in meanwhile.
	maxBatches = 4
	// maxAckBody leaves an acknowledgement room for some forty ranges.
	maxAckBody = 160
)

// batch is datagrams of equal size, the last perhaps shorter, that leave in
// one call.
type batch struct {
	buf   []byte
	size  int // of the first datagram
	count int
}

var batchBuffers = sync.Pool{New: func() any { return new([transport.MaxBatch]byte) }}

// send puts out what may leave at now and returns when there may be more,
// apart from what acknowledgements let go.
func (l *loop) send(now time.Time) time.Time {
	if l.proof != nil && !now.Before(l.proofAt) {
		l.sendProof(now)
	}
	if l.s.link.ordered != nil {
		l.seal.confirmed = true // the peer meets the epochs in order
	}
	if l.seal.due(now, l.cfg.Rotation) {
		if err := l.seal.rotate(now, l.loss.next()); err != nil {
			l.fault = err
			return time.Time{}
		}
		l.s.ep.counters.rotations.Add(1)
	}
	l.sendPath(now)
	l.updateCredit(now)

	memory := batchBuffers.Get().(*[transport.MaxBatch]byte)
	defer batchBuffers.Put(memory)
	out := batch{buf: memory[:0:max(transport.MaxSegmented, l.mtu.size)]}
	defer func() { l.flush(&out) }()

	l.pace.update(now, l.cc.pacing(&l.rtt), l.mtu.size)
	for flushed := 0; ; {
		if out.count > 0 && (out.size < l.mtu.size || out.count == transport.MaxSegments ||
			len(out.buf)+l.mtu.size > cap(out.buf) || len(out.buf)%out.size != 0) {
			l.flush(&out)
			if flushed++; flushed == maxBatches {
				return now
			}
		}
		if l.seal.exhausted() {
			l.fault = violation(CodeProtocol, "the peer does not follow a change of keys")
			return time.Time{}
		}
		if l.probes == 0 {
			if l.loss.inFlight+l.mtu.size > l.cc.window() {
				l.sendAck(now, &out)
				return time.Time{}
			}
			if l.s.link.ordered == nil && !l.pace.allows() {
				l.sendAck(now, &out)
				return l.pace.next(now, l.mtu.size)
			}
		}
		more := l.appendNext(now, &out)
		l.settle()
		if !more {
			break
		}
	}
	l.probes = 0
	l.cc.idle(l.loss.inFlight)
	l.sendAck(now, &out)
	l.probeMTU(now, &out)
	return time.Time{}
}

// flush hands a batch to the carrier. What it refuses counts as lost on the
// way.
func (l *loop) flush(b *batch) error {
	if b.count == 0 {
		return nil
	}
	err := l.transmit(b.buf, b.size, l.peer)
	b.buf, b.size, b.count = b.buf[:0], 0, 0
	return err
}

func (l *loop) transmit(buf []byte, size int, to netip.AddrPort) error {
	err := l.s.link.send(buf, size, to)
	if err != nil {
		l.s.ep.counters.sendErrors.Add(1)
	} else {
		l.bytesSent += uint64(len(buf))
	}
	return err
}

// begin appends a header to a batch and returns where frame and payload
// start.
func (l *loop) begin(b *batch, t frame.Type, stream uint16) (start, payload int) {
	start = len(b.buf)
	b.buf = l.appendHeader(b.buf, t, stream, l.loss.next())
	return start, len(b.buf)
}

func (l *loop) appendHeader(dst []byte, t frame.Type, stream uint16, seq uint64) []byte {
	return frame.AppendHeader(dst, frame.Header{
		Type: t, Epoch: uint8(l.seal.epoch), Session: l.s.id, Stream: stream, Seq: seq,
	})
}

// finishFrame seals what was appended since begin and records it as p.
func (l *loop) finishFrame(now time.Time, b *batch, start, payload int, p sentPacket) {
	end := len(b.buf)
	b.buf = append(b.buf, make([]byte, stc.TagSize)...)
	l.sealFrame(now, b, start, payload, end, p)
}

// sealFrame seals a frame in place, with its tag behind end, and records it
// as p.
func (l *loop) sealFrame(now time.Time, b *batch, start, payload, end int, p sentPacket) {
	l.seal.key.Seal(b.buf[:payload], b.buf[payload:end], b.buf[start:payload], l.loss.next())
	p.at, p.size = now, end+stc.TagSize-start
	l.seal.bytes += int64(p.size)
	l.seal.messages++
	l.framesSent++
	if b.count == 0 {
		b.size = p.size
	}
	b.count++
	if p.eliciting {
		l.lastElicit = now
		l.pace.sent(p.size)
		p.rate = l.cc.sent(now, p.size, l.loss.inFlight)
		if l.probes > 0 {
			l.probes--
		}
	}
	if l.s.link.ordered != nil && p.controls&ctlPing == 0 {
		p.eliciting = false
		l.settled = append(l.settled, p)
	}
	l.loss.sent(p)
}

// settle takes note of what an ordered link has taken. It is not done in
// finishFrame, since that runs under a stream's lock.
func (l *loop) settle() {
	for i := range l.settled {
		l.delivered(&l.settled[i])
	}
	l.settleDelivery()
	clear(l.settled)
	l.settled = l.settled[:0]
}

// appendNext appends the most urgent frame and reports whether there was one.
func (l *loop) appendNext(now time.Time, b *batch) bool {
	if l.final {
		l.appendFinal(now, b)
		return true
	}
	if l.pending != 0 {
		l.appendControl(now, b)
		return true
	}
	if l.appendUser(now, b) {
		return true
	}
	for st := l.queue.nextDue(); st != nil; st = l.queue.nextDue() {
		if l.appendStream(now, b, st, true) > 0 {
			return true
		}
		l.queue.looked()
	}
	for st := l.queue.current(); st != nil; st = l.queue.current() {
		if n := l.appendStream(now, b, st, false); n > 0 {
			l.queue.sent(st, n)
			return true
		}
		l.queue.leave(st)
		if l.dataSent >= l.peerLimit && !st.starved {
			st.starved = true
			l.starved = append(l.starved, st)
		}
	}
	return false
}

// refill takes a new limit of the session and gives the streams that ran dry
// another turn.
func (l *loop) refill(limit uint64) {
	if limit <= l.peerLimit {
		return
	}
	l.peerLimit = limit
	for i, st := range l.starved {
		st.starved = false
		l.enqueue(st)
		l.starved[i] = nil
	}
	l.starved = l.starved[:0]
}

// ackBody returns the body of an acknowledgement if one is waiting, and
// marks it as sent.
func (l *loop) ackBody(now time.Time) []byte {
	if l.recv.waiting == 0 {
		return nil
	}
	if l.ackScratch == nil {
		l.ackScratch = make([]byte, 0, maxAckBody)
	}
	body := l.recv.body(l.ackScratch, now, maxAckBody)
	l.recv.acknowledged()
	return body
}

func (l *loop) ackedTo(body []byte) uint64 {
	if len(body) == 0 {
		return 0
	}
	return l.recv.largest + 1
}

// sendAck sends an acknowledgement alone, if one is due that nothing else
// took along.
func (l *loop) sendAck(now time.Time, b *batch) {
	if !l.recv.wanted(now) {
		return
	}
	l.flush(b)
	body := l.ackBody(now)
	if len(body) == 0 {
		l.recv.acknowledged()
		return
	}
	start, payload := l.begin(b, frame.TypeControl, 0)
	b.buf = frame.AppendControlAck(b.buf, body)
	l.finishFrame(now, b, start, payload, sentPacket{ackedTo: l.ackedTo(body)})
	l.flush(b)
}

// appendControl appends the session's pending records.
func (l *loop) appendControl(now time.Time, b *batch) {
	body := l.ackBody(now)
	start, payload := l.begin(b, frame.TypeControl, 0)
	if len(body) > 0 {
		b.buf = frame.AppendControlAck(b.buf, body)
	}
	p := sentPacket{controls: l.pending, eliciting: true, ackedTo: l.ackedTo(body)}
	if l.pending&ctlMaxData != 0 {
		b.buf = frame.AppendMaxData(b.buf, l.dataLimit)
	}
	if l.pending&ctlPing != 0 {
		b.buf = frame.AppendPing(b.buf)
	}
	// A peer that has forgotten us answers only what is longer than its answer.
	if short := unknownSize + 1 - stc.TagSize - (len(b.buf) - start); short > 0 {
		b.buf = frame.AppendPadding(b.buf, short)
	}
	l.pending = 0
	l.finishFrame(now, b, start, payload, p)
}

// appendFinal appends FINAL, the handshake's last message.
func (l *loop) appendFinal(now time.Time, b *batch) {
	l.final = false
	start, payload := l.begin(b, frame.TypeAuth, 0)
	b.buf = appendFinal(b.buf, l.peer, l.s.ep.resets.token(l.s.id))
	l.finishFrame(now, b, start, payload, sentPacket{controls: ctlFinal, eliciting: true})
}

// tuneStream doubles a stream's window when a quarter of it was used up within
// a round trip: then the credit, not the path, limits the sender. So it
// does when much waits behind a gap though the reader has taken all it can:
// losses must not stop the bytes behind them.
func (l *loop) tuneStream(now time.Time, st *Stream) {
	soon := !st.tunedAt.IsZero() && now.Sub(st.tunedAt) < l.rtt.srtt()
	gap := st.in.readable() == 0 && st.in.high > st.in.buf.base+st.in.window/4
	if (soon || gap) && st.in.window < l.cfg.MaxStreamWindow {
		grow := min(st.in.window, l.cfg.MaxStreamWindow-st.in.window)
		st.in.window += grow
		l.widest = max(l.widest, st.in.window)
		st.in.limit += grow
	}
	st.tunedAt = now
}

// updateCredit gives the peer session credit when a quarter of it is used up, and
// grows the window as tuneStream does.
func (l *loop) updateCredit(now time.Time) {
	l.openWindow()
	read := l.s.consumed.Load()
	if l.dataLimit-read > l.dataWindow-l.dataWindow/creditShare {
		return
	}
	soon := !l.dataTunedAt.IsZero() && now.Sub(l.dataTunedAt) < l.rtt.srtt()
	// Streams decide whether what they hold back is worth more credit; the
	// session follows them.
	if soon || l.dataWindow < 2*l.widest {
		l.dataWindow = min(2*l.dataWindow, l.cfg.MaxSessionWindow)
	}
	l.dataTunedAt = now
	l.lend(read)
}

// probeMTU sends a padded PING of the size that the search wants to know
// about, once the handshake is over and the window has room.
func (l *loop) probeMTU(now time.Time, b *batch) {
	if l.s.State() != StateActive || !l.rtt.sampled {
		return
	}
	for size := l.mtu.next(now); size != 0 && l.loss.inFlight+size <= l.cc.window(); size = l.mtu.next(now) {
		l.flush(b)
		l.mtu.sent(size)
		start, payload := l.begin(b, frame.TypeControl, 0)
		b.buf = frame.AppendPing(b.buf)
		b.buf = frame.AppendPadding(b.buf, size-stc.TagSize-(len(b.buf)-start))
		l.finishFrame(now, b, start, payload, sentPacket{eliciting: true, probe: true})
		if !errors.Is(l.flush(b), syscall.EMSGSIZE) {
			return
		}
		l.loss.withdraw()
		l.pace.sent(-size)
		l.framesSent--
		l.mtu.refused(now, size)
	}
}

// sendPath answers a challenge where it came from, and challenges a new
// address of the peer. Both go alone, outside of batches.
func (l *loop) sendPath(now time.Time) {
	alone := func(to netip.AddrPort, record []byte) {
		var memory [128]byte
		b := batch{buf: memory[:0]}
		start, payload := l.begin(&b, frame.TypeControl, 0)
		b.buf = append(b.buf, record...)
		// Not counted as in flight: the candidate may be a dead end.
		l.finishFrame(now, &b, start, payload, sentPacket{})
		l.transmit(b.buf, b.size, to)
	}
	if l.response != nil {
		alone(l.respondTo, frame.AppendPathResponse(nil, *l.response))
		l.response = nil
	}
	if l.path.unsent {
		l.path.unsent = false
		alone(l.path.to, frame.AppendPathChallenge(nil, l.path.data))
	}
}

// sendProof sends AUTH_PROOF, again and again until the peer confirms it.
func (l *loop) sendProof(now time.Time) {
	l.transmit(l.proof, len(l.proof), l.peer)
	l.proofAt = now.Add(backoff(l.pto(), l.proofs))
	l.proofs++
}

// sendClose seals CLOSE and sends it. It is repeated for three probe
// timeouts to whoever still talks to us, RFC 9000 section 10.2.
func (l *loop) sendClose(now time.Time, code uint64, reason string) {
	if l.proof != nil && l.proofs == 0 {
		// Else the responder would hold a half-open handshake to its end.
		l.sendProof(now)
	}
	var b batch
	start, payload := l.begin(&b, frame.TypeControl, 0)
	b.buf = frame.AppendClose(b.buf, code, reason)
	l.finishFrame(now, &b, start, payload, sentPacket{})
	l.closeFrame = b.buf
	l.closeUntil = now.Add(3 * l.pto())
	if l.s.link.ordered != nil {
		l.closeUntil = now
	}
	l.transmit(l.closeFrame, len(l.closeFrame), l.peer)
}

// repeatClose answers a frame that came after CLOSE, ever more rarely.
func (l *loop) repeatClose(from netip.AddrPort) {
	l.closeEchoes++
	if from == l.peer && l.closeEchoes&(l.closeEchoes-1) == 0 {
		l.transmit(l.closeFrame, len(l.closeFrame), l.peer)
	}
}
