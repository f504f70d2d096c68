package session

// recvHalf is the receiving half of a stream: what has arrived, what has
// been read, what the peer may still send. Pure; the stream's lock guards it.
type recvHalf struct {
	base     uint64 // first offset of this life
	buf      buffer // bytes not yet read
	got      rangeSet
	high     uint64 // offset behind the highest byte received
	final    uint64 // valid if ended
	ended    bool   // FIN or RESET has arrived
	reset    bool   // RESET has arrived
	code     uint64 // of RESET
	discard  bool   // the reader wants no more
	stopCode uint64
	stopSent bool

	window   uint64 // how far limit goes beyond what has been read
	limit    uint64 // what the peer has been told in this life
	told     uint64 // what it was told in former ones, which may come late
	wantTell bool   // limit is news for the peer
}

func (h *recvHalf) init(base, window uint64) {
	h.base, h.high, h.window, h.limit = base, base, window, base+window
	h.buf.reset(base)
}

// most is the highest offset that the peer may believe it can reach.
func (h *recvHalf) most() uint64 { return max(h.limit, h.told) }

// onData takes a DATA frame. grown is by how many bytes the highest offset
// rose, which counts against the session's credit; dropped is how many bytes
// nobody will read.
func (h *recvHalf) onData(offset uint64, p []byte, fin bool) (grown, dropped uint64, err error) {
	end := offset + uint64(len(p))
	if err := h.checkEnd(end, fin); err != nil {
		return 0, 0, err
	}
	if end > h.most() {
		return 0, 0, violation(CodeFlowControl, "stream data to offset %d over the limit %d", end, h.most())
	}
	if h.reset {
		return 0, 0, nil
	}
	if fin {
		h.ended, h.final = true, end
	}
	if end > h.high {
		grown = end - h.high
		h.high = end
	}
	h.got.add(max(offset, h.buf.base), end)
	if h.discard {
		// Arrived counts as read: the peer's credits must come back.
		return grown, grown, nil
	}
	h.buf.writeAt(p, offset)
	return grown, 0, nil
}

// onReset takes a RESET record; what has not been read is lost.
func (h *recvHalf) onReset(code, final uint64) (grown, dropped uint64, err error) {
	if err := h.checkEnd(final, true); err != nil {
		return 0, 0, err
	}
	if final > h.most() {
		return 0, 0, violation(CodeFlowControl, "stream reset at offset %d over the limit %d", final, h.most())
	}
	if h.reset || h.ended && h.complete() {
		// Everything is here: the bytes win.
		h.ended, h.final = true, final
		return 0, 0, nil
	}
	grown = final - h.high
	unread := h.high - h.buf.base
	if h.discard {
		unread = 0
	}
	h.high, h.final = final, final
	h.ended, h.reset, h.code = true, true, code
	h.got = nil
	h.buf.reset(final)
	return grown, grown + unread, nil
}

func (h *recvHalf) checkEnd(end uint64, fin bool) error {
	if h.ended && (end > h.final || fin && end != h.final) || fin && end < h.high {
		return violation(CodeFinalSize, "stream ends at two offsets")
	}
	return nil
}

// readable returns how many bytes can be read now.
func (h *recvHalf) readable() int {
	if h.discard || len(h.got) == 0 || h.got[0].Start > h.buf.base {
		return 0
	}
	return int(h.got[0].End - h.buf.base)
}

// read copies bytes out and returns how many.
func (h *recvHalf) read(p []byte) int {
	n := min(len(p), h.readable())
	if n == 0 {
		return 0
	}
	base := h.buf.base
	h.buf.readAt(p[:n], base)
	h.buf.discard(base + uint64(n))
	h.got.sub(0, base+uint64(n))
	return n
}

// stop discards what is there and all that comes, and returns how many
// unread bytes it gave up.
func (h *recvHalf) stop(code uint64) (dropped uint64) {
	if h.discard || h.reset {
		return 0
	}
	h.discard, h.stopCode = true, code
	dropped = h.high - h.buf.base
	// Keep got, for complete, but no bytes.
	h.buf.reset(h.buf.base)
	return dropped
}

// complete reports whether all bytes up to the end have arrived.
func (h *recvHalf) complete() bool {
	return h.ended && (h.reset || h.final == h.buf.base || h.got.covers(h.buf.base, h.final))
}

// atEnd reports whether the reader has read everything.
func (h *recvHalf) atEnd() bool { return h.ended && !h.reset && h.buf.base == h.final }

// wantsStop reports whether STOP_SENDING has to be sent.
func (h *recvHalf) wantsStop() bool { return h.discard && !h.stopSent && !h.complete() }

// credit moves the limit on when a share of the window has been used up, and
// reports whether the peer should hear of it. Nobody who has announced the
// end needs credit.
func (h *recvHalf) credit() bool {
	if h.ended {
		h.wantTell = false
		return false
	}
	read := h.buf.base
	if h.discard {
		read = h.high
	}
	if h.limit <= read+h.window-h.window/creditShare { // read may lie beyond limit, by what was told before
		h.limit = read + h.window
		h.wantTell = true
	}
	return h.wantTell
}
