package session

import (
	"time"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

// What the loop does for the application's frames. Their channel needs no
// session credit: it has a window of its own, told as that of stream 0.

// userPiece takes a piece of a frame of the application.
func (l *loop) userPiece(now time.Time, h frame.Header, b []byte) error {
	d, err := frame.ParseData(b)
	if err != nil {
		return violation(CodeProtocol, "%v", err)
	}
	if d.HasAck {
		if err := l.ack(now, d.Ack); err != nil {
			return err
		}
	}
	c := &l.s.user
	c.mu.Lock()
	err = c.in.onPiece(h.Type, h.Stream, d)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if l.cfg.Frames == nil {
		if d.Fin {
			l.s.ep.counters.unhandled.Add(1)
		}
		return nil
	}
	if !c.running {
		c.running = true
		l.s.ep.wg.Go(l.s.deliverFrames)
	}
	signal(c.readable)
	return nil
}

// userControl takes the records about stream 0.
func (l *loop) userControl(b []byte) error {
	for len(b) > 0 {
		r, n, err := frame.ConsumeStreamControl(b)
		if err != nil {
			return violation(CodeProtocol, "%v", err)
		}
		if r.Type != frame.StreamMaxData {
			return violation(CodeStream, "stream 0 is the session's own")
		}
		b = b[n:]
		l.s.user.mu.Lock()
		l.s.user.out.onCredit(r.Offset)
		l.s.user.mu.Unlock()
	}
	return nil
}

// appendUser appends a frame of the application's channel and reports whether
// there was one.
func (l *loop) appendUser(now time.Time, b *batch) bool {
	c := &l.s.user
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.in.credit() {
		if c.in.window < userWindow && !c.in.discard {
			c.in.widen()
		}
		start, payload := l.begin(b, frame.TypeStreamControl, 0)
		b.buf = frame.AppendStreamMaxData(b.buf, c.in.limit)
		c.in.wantTell = false
		l.finishFrame(now, b, start, payload, sentPacket{user: true, controls: ctlStreamMaxData, eliciting: true})
		return true
	}
	if !c.out.wantsData() {
		return false
	}
	body := l.ackBody(now)
	// The header's length depends on the frame's stream; assume the longest.
	space := l.mtu.size - frame.MaxHeaderSize - stc.TagSize
	mark, offset, n, end := c.out.pop(func(offset uint64) int {
		return space - frame.DataHeaderSize(len(body), offset)
	})
	start, payload := l.begin(b, mark.typ, mark.stream)
	b.buf = frame.AppendDataHeader(b.buf, end, body, offset)
	at := len(b.buf)
	b.buf = b.buf[:at+n]
	c.out.buf.readAt(b.buf[at:], offset)
	l.finishFrame(now, b, start, payload, sentPacket{
		user: true, data: true, offset: offset, length: n, fin: end,
		eliciting: true, ackedTo: l.ackedTo(body),
	})
	return true
}

// delivered takes note that a packet with a piece, or with credit, arrived.
func (c *userChannel) delivered(p *sentPacket) {
	if !p.data {
		return
	}
	c.mu.Lock()
	freed := c.out.onAcked(p.offset, p.length, p.fin)
	c.mu.Unlock()
	if freed > 0 {
		signal(c.writable)
	}
}

// lost queues what a lost packet carried to be sent again.
func (c *userChannel) lost(p *sentPacket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.data {
		c.out.onLost(p.offset, p.length, p.fin)
	} else {
		c.in.wantTell = true
	}
}

// fail ends the channel with its session.
func (c *userChannel) fail(err error) {
	c.mu.Lock()
	c.err = err
	c.mu.Unlock()
	signal(c.readable)
	signal(c.writable)
}
