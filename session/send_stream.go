package session

import (
	"time"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/session/transport"
	"github.com/seigr/sttnode/stc"
)

// appendStream appends frames of a stream, its records first, and returns how
// many. A stream that is due only sends what cannot wait for
// its turn.
func (l *loop) appendStream(now time.Time, b *batch, st *Stream, due bool) int {
	st.mu.Lock()
	if st.out.wantsReset() || st.in.wantsStop() || st.in.credit() {
		l.appendStreamControl(now, b, st)
		st.mu.Unlock()
		return 1
	}
	if due && !st.out.overdue() {
		if st.out.wantsData(^uint64(0)) {
			l.queue.join(st)
		}
		st.mu.Unlock()
		return 0
	}
	credit := l.peerLimit - min(l.dataSent, l.peerLimit)
	if !st.out.wantsData(credit) {
		st.mu.Unlock()
		return 0
	}
	l.pieces = l.pieces[:0]
	for most := l.room(b, st); ; {
		p := l.appendPiece(now, b, st, credit)
		l.pieces = append(l.pieces, p)
		l.dataSent += p.fresh
		credit -= p.fresh
		if len(l.pieces) >= most || len(b.buf)-p.start != l.mtu.size || !st.out.wantsData(credit) || due && !st.out.overdue() {
			break
		}
	}
	st.mu.Unlock() // writers need not wait for the cipher
	for i := range l.pieces {
		p := &l.pieces[i]
		l.sealFrame(now, b, p.start, p.payload, p.end, sentPacket{
			stream: st, data: true, offset: p.offset, length: p.length, fin: p.fin,
			eliciting: true, ackedTo: p.ackedTo,
		})
	}
	return len(l.pieces)
}

// piece is a DATA frame in a batch, not sealed yet.
type piece struct {
	start, payload, end int // where in the batch
	offset              uint64
	length              int
	fin                 bool
	fresh               uint64 // session credit that it takes
	ackedTo             uint64
}

// appendPiece appends a DATA frame and room for its tag; st.mu is held.
func (l *loop) appendPiece(now time.Time, b *batch, st *Stream, credit uint64) piece {
	body := l.ackBody(now)
	p := piece{start: len(b.buf), ackedTo: l.ackedTo(body)}
	b.buf = l.appendHeader(b.buf, frame.TypeData, st.id, l.loss.next()+uint64(len(l.pieces)))
	p.payload = len(b.buf)
	space := l.mtu.size - (p.payload - p.start) - stc.TagSize
	p.offset, p.length, p.fin, p.fresh = st.out.pop(credit, func(offset uint64) int {
		return space - frame.DataHeaderSize(len(body), offset)
	})
	b.buf = frame.AppendDataHeader(b.buf, p.fin, body, p.offset)
	at := len(b.buf)
	p.end = at + p.length
	b.buf = b.buf[:p.end+stc.TagSize]
	st.out.buf.readAt(b.buf[at:p.end], p.offset)
	return p
}

// room returns how many frames of one stream may go into a batch before
// somebody else has to be asked, at least one.
func (l *loop) room(b *batch, st *Stream) int {
	n := min(transport.MaxSegments-b.count, (cap(b.buf)-len(b.buf))/l.mtu.size)
	if l.probes > 0 {
		n = min(n, l.probes)
	} else {
		n = min(n, (l.cc.window()-l.loss.inFlight)/l.mtu.size)
		if l.s.link.ordered == nil {
			n = min(n, l.pace.datagrams(l.mtu.size))
		}
	}
	return max(1, min(n, l.queue.turn(st), int(maxMessages-l.seal.messages)))
}

// appendStreamControl appends the records that a stream has pending; st.mu
// is held.
func (l *loop) appendStreamControl(now time.Time, b *batch, st *Stream) {
	start, payload := l.begin(b, frame.TypeStreamControl, st.id)
	p := sentPacket{stream: st, eliciting: true}
	if st.out.wantsReset() {
		b.buf = frame.AppendStreamReset(b.buf, st.out.code, st.out.final())
		st.out.resetSent, st.out.announced = true, true
		p.controls |= ctlStreamReset
	}
	if st.in.wantsStop() {
		b.buf = frame.AppendStreamStopSending(b.buf, st.in.stopCode, st.in.base)
		st.in.stopSent = true
		p.controls |= ctlStreamStop
	}
	if st.in.credit() {
		l.tuneStream(now, st)
		b.buf = frame.AppendStreamMaxData(b.buf, st.in.limit)
		st.in.wantTell = false
		p.controls |= ctlStreamMaxData
	}
	l.finishFrame(now, b, start, payload, p)
}
