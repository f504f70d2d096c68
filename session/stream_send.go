package session

import (
	"sync/atomic"

	"github.com/seigr/sttnode/frame"
)

// sendState is the state of a stream's sending half.
type sendState uint8

const (
	sendOpen  sendState = iota // bytes may be written
	sendEnded                  // FIN is behind the last byte written
	sendReset                  // given up; RESET tells the peer
	sendDone                   // the peer has everything, or knows of the reset
)

// sendHalf is the sending half of a stream: what was written, what of it has
// left, what has arrived. Pure; the stream's lock guards it.
//
// FIN occupies the offset behind the last byte, so base of the stream's next
// life is final+1.
type sendHalf struct {
	state     sendState
	base      uint64 // first offset of this life
	buf       buffer // bytes not yet acknowledged
	held      *atomic.Int64
	next      uint64   // first offset that has never been sent
	resend    rangeSet // sent, lost, and to be sent again
	acked     rangeSet // arrived, above buf.base
	limit     uint64   // offset that the peer lets us reach
	announced bool     // some frame of this life has been sent
	announce  bool     // send a frame even without bytes
	finSent   bool
	finAcked  bool
	code      uint64 // of RESET
	resetSent bool
	stopped   bool // the peer asked us to stop; writes fail
	stopCode  uint64
}

// init begins a life. held counts what is buffered, of all halves together.
func (h *sendHalf) init(base, window uint64, held *atomic.Int64) {
	h.base, h.next, h.limit, h.held = base, base, base+window, held
	h.buf.reset(base)
}

// drop empties the buffer and moves it to an offset.
func (h *sendHalf) drop(offset uint64) {
	h.held.Add(-int64(h.buffered()))
	h.buf.reset(offset)
}

// final returns the offset behind the last byte, valid once the half is no
// longer open.
func (h *sendHalf) final() uint64 { return h.buf.end }

// buffered returns how many bytes wait for acknowledgement.
func (h *sendHalf) buffered() int { return int(h.buf.end - h.buf.base) }

// write takes bytes over.
func (h *sendHalf) write(p []byte) {
	h.buf.writeAt(p, h.buf.end)
	h.held.Add(int64(len(p)))
}

// end puts FIN behind what has been written.
func (h *sendHalf) end() {
	if h.state == sendOpen {
		h.state = sendEnded
	}
}

// abort gives up what has not arrived.
func (h *sendHalf) abort(code uint64) {
	if h.state == sendOpen || h.state == sendEnded {
		h.state, h.code = sendReset, code
		h.resend, h.acked = nil, nil
		h.drop(h.next)
	}
}

// finish records that the peer is known to have everything.
func (h *sendHalf) finish() {
	h.state = sendDone
	h.drop(h.buf.end)
	h.resend, h.acked = nil, nil
}

// wantsReset reports whether a RESET has to be sent.
func (h *sendHalf) wantsReset() bool { return h.state == sendReset && !h.resetSent }

// wantsData reports whether pop would yield a frame, given the session's
// credit for bytes that were never sent.
func (h *sendHalf) wantsData(credit uint64) bool {
	switch h.state {
	case sendOpen:
		return len(h.resend) > 0 || h.next < h.buf.end && h.next < h.limit && credit > 0 || h.announce && !h.announced
	case sendEnded:
		if len(h.resend) > 0 || !h.finSent && h.next == h.buf.end {
			return true
		}
		return h.next < h.buf.end && h.next < h.limit && credit > 0
	}
	return false
}

// overdue reports whether pop would yield what must not wait for the stream's
// turn: lost bytes, or an end that takes no credit.
func (h *sendHalf) overdue() bool {
	return len(h.resend) > 0 || h.state == sendEnded && !h.finSent && h.next == h.buf.end
}

// pop chooses the bytes of the next frame: n bytes at offset, which the
// caller copies by buf.readAt, with FIN if fin. room(offset) says how many
// bytes fit. fresh is how much session credit it takes.
func (h *sendHalf) pop(credit uint64, room func(offset uint64) int) (offset uint64, n int, fin bool, fresh uint64) {
	if len(h.resend) > 0 {
		r := h.resend[0]
		offset = r.Start
		n = max(min(int(r.Len()), room(offset)), 0)
		h.resend.sub(offset, offset+uint64(n))
	} else {
		offset = h.next
		most := min(h.buf.end-h.next, credit)
		if h.limit > h.next {
			most = min(most, h.limit-h.next)
		} else {
			most = 0
		}
		n = int(min(most, uint64(max(room(offset), 0))))
		h.next += uint64(n)
		fresh = uint64(n)
	}
	h.announced, h.announce = true, false
	if h.state == sendEnded && offset+uint64(n) == h.buf.end && h.next == h.buf.end {
		h.finSent, fin = true, true
	}
	return offset, n, fin, fresh
}

// onAcked records that a frame arrived and returns how many bytes of buffer
// came free.
func (h *sendHalf) onAcked(offset uint64, n int, fin bool) (freed int) {
	if h.state != sendOpen && h.state != sendEnded {
		return 0
	}
	end := offset + uint64(n)
	h.resend.sub(offset, end)
	if offset <= h.buf.base {
		if end > h.buf.base {
			base := h.acked.endOf(end)
			h.acked.sub(0, base)
			freed = int(base - h.buf.base)
			h.buf.discard(base)
			h.held.Add(-int64(freed))
		}
	} else {
		h.acked.add(offset, end)
	}
	h.finAcked = h.finAcked || fin
	if h.finAcked && h.buf.base == h.buf.end {
		h.finish()
	}
	return freed
}

// onLost records that a frame did not arrive.
func (h *sendHalf) onLost(offset uint64, n int, fin bool) {
	if h.state != sendOpen && h.state != sendEnded {
		return
	}
	end := offset + uint64(n)
	if start := max(offset, h.buf.base); start < end {
		h.resend.add(start, end)
		for _, r := range h.acked {
			h.resend.sub(r.Start, r.End)
		}
	}
	if fin && !h.finAcked {
		h.finSent = false
	}
	if n == 0 && !fin && offset == h.base && h.next == h.base {
		h.announced, h.announce = false, true
	}
}

// onCredit takes a new limit and reports whether it is news.
func (h *sendHalf) onCredit(limit uint64) bool {
	if limit <= h.limit {
		return false
	}
	h.limit = min(limit, frame.MaxVarint)
	return true
}

// flushed reports whether nothing that was written waits for the peer.
func (h *sendHalf) flushed() bool {
	switch h.state {
	case sendOpen:
		return h.buf.base == h.buf.end
	case sendReset:
		return false
	}
	return h.state == sendDone
}
