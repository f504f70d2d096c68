package session

import "github.com/seigr/sttnode/frame"

// delivery joins what packets that were acknowledged together carried of one
// stream, so that the stream is locked once for many of them.
type delivery struct {
	stream     *Stream
	start, end uint64 // of the bytes; equal if there are none
	data       bool
	fin        bool
	reset      bool
}

// add takes in a packet that carried something of a stream, unless it does
// not continue what is there already.
func (d *delivery) add(p *sentPacket) bool {
	end := p.offset + uint64(p.length)
	switch {
	case d.stream == nil:
		d.stream, d.start, d.end = p.stream, p.offset, end
	case d.stream != p.stream || !d.data || !p.data:
		return false
	case end == d.start:
		d.start = p.offset
	case p.offset == d.end:
		d.end = end
	default:
		return false
	}
	d.data = d.data || p.data
	d.fin = d.fin || p.fin
	d.reset = d.reset || p.controls&ctlStreamReset != 0
	return true
}

// settleDelivery tells the stream what of it has arrived.
func (l *loop) settleDelivery() {
	d := l.arrived
	if d.stream == nil {
		return
	}
	l.arrived = delivery{}
	st := d.stream
	st.mu.Lock()
	freed := 0
	if d.data {
		freed = st.out.onAcked(d.start, int(d.end-d.start), d.fin)
	}
	if d.reset && st.out.state == sendReset {
		st.out.finish()
	}
	done := st.finished()
	room, of := st.room()
	st.mu.Unlock()
	// A writer is worth waking for a quarter of the buffer, not for each
	// acknowledgement.
	if freed > 0 && 4*room >= of {
		st.wakeWriter()
	}
	if done {
		l.release(st)
	}
}

// heldMost is how many DATA frames of one stream wait to be taken in
// together.
const heldMost = 64

// heldFrames is DATA frames of one stream that came one behind the other, in the
// memory of the run that they came in.
type heldFrames struct {
	stream *Stream
	frames []frame.Data
}

// data takes the bytes of one stream. Those of the stream that the frame
// before was of are held, to be taken in together.
func (l *loop) data(id uint16, d frame.Data) error {
	st := l.recent
	if st == nil || st.id != id {
		return l.dataAlone(id, d)
	}
	if l.held.stream != st || len(l.held.frames) == heldMost {
		if err := l.takeHeld(); err != nil {
			return err
		}
	}
	l.held.stream = st
	l.held.frames = append(l.held.frames, d)
	return nil
}

// takeHeld takes in what is held. It comes before everything else that a
// frame could do to the stream.
func (l *loop) takeHeld() error {
	st := l.held.stream
	if st == nil {
		return nil
	}
	frames := l.held.frames
	l.held.stream, l.held.frames = nil, frames[:0]
	var grown, dropped uint64
	var err error
	n := 0
	st.mu.Lock()
	// What is not plainly within this life of the stream takes the long way.
	for n < len(frames) && !st.in.ended && frames[n].Offset >= st.in.base && err == nil {
		var g, d uint64
		g, d, err = st.in.onData(frames[n].Offset, frames[n].Bytes, frames[n].Fin)
		grown, dropped = grown+g, dropped+d
		n++
	}
	ready := st.in.readable() > 0 || st.in.ended
	done := st.finished()
	st.mu.Unlock()
	if err := l.took(st, grown, dropped, ready, done, err); err != nil {
		return err
	}
	for _, d := range frames[n:] {
		if err := l.dataAlone(st.id, d); err != nil {
			return err
		}
	}
	return nil
}

// dataAlone takes in one frame's bytes.
func (l *loop) dataAlone(id uint16, d frame.Data) error {
	if err := l.takeHeld(); err != nil {
		return err
	}
	st, err := l.stream(id, d.Offset, true)
	if st == nil || err != nil {
		return err
	}
	l.recent = st
	st.mu.Lock()
	grown, dropped, err := st.in.onData(d.Offset, d.Bytes, d.Fin)
	ready := st.in.readable() > 0 || st.in.ended
	done := st.finished()
	st.mu.Unlock()
	return l.took(st, grown, dropped, ready, done, err)
}
