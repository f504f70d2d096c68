package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/seigr/sttnode/frame"
)

// MaxUserFrame is the most bytes in a frame of the application.
const MaxUserFrame = frame.MaxSize - frame.MaxHeaderSize - frame.TagSize

// userWindow is how many bytes of the application's frames a peer may send
// ahead of the handlers, in a session; firstUserWindow of them before we have
// said that there is memory for the rest.
const (
	userWindow      = 256 << 10
	firstUserWindow = 16 << 10
)

// endSize is how many offsets the end of a frame occupies. They pay for what
// each frame costs beside its bytes, so that credit bounds empty ones as well: 4,096
// marks in a window, of 16 bytes each.
const endSize = 64

// UserFrame is a frame of the application, type 0x80 to 0xFF, as it arrived:
// opened, whole, and in the order in which the peer sent it in this session.
type UserFrame struct {
	Session *Session
	Type    frame.Type
	Stream  uint16 // whatever the sender put there; no stream has to be open
	Payload []byte // the handler's own
}

// Answer sends a frame of the same type and stream to who has sent this one. It
// is [Session.SendFrame].
func (f UserFrame) Answer(ctx context.Context, payload []byte) error {
	return f.Session.SendFrame(ctx, f.Type, f.Stream, payload)
}

// userChannel carries the application's frames of a session, both ways. They
// share one sequence of offsets, in which the end of each frame occupies
// endSize of them, so that loss recovery and credits are those of a stream. A frame
// longer than a datagram travels in pieces of the same type.
type userChannel struct {
	mu  sync.Mutex // guards what follows
	out userSend
	in  userRecv
	err error

	writable chan struct{} // capacity 1
	readable chan struct{} // capacity 1
	running  bool          // deliver has been started; owned by the loop
}

// userMark is the end of a frame: the offset behind its end.
type userMark struct {
	end    uint64
	typ    frame.Type
	stream uint16
}

// markAt returns the index of the first mark beyond offset.
func markAt(marks []userMark, offset uint64) int {
	return sort.Search(len(marks), func(i int) bool { return marks[i].end > offset })
}

// userSend is the sending half. The bytes at the offsets of a frame's end are in
// the buffer, but not on the wire.
type userSend struct {
	sendHalf
	marks []userMark
}

func (h *userSend) push(t frame.Type, stream uint16, p []byte) {
	h.write(p)
	h.write(zeroEnd[:])
	h.marks = append(h.marks, userMark{h.buf.end, t, stream})
}

// pop chooses the next piece: n bytes at offset of the frame that mark ends,
// with its end if end. The credit is the channel's own.
func (h *userSend) pop(room func(offset uint64) int) (mark userMark, offset uint64, n int, end bool) {
	offset, n, _, _ = h.sendHalf.pop(^uint64(0), func(offset uint64) int { return h.cut(offset, room(offset)) })
	mark = h.marks[markAt(h.marks, offset)]
	if end = n > 0 && offset+uint64(n) == mark.end; end {
		n -= endSize
	}
	return mark, offset, n, end
}

// cut returns how many offsets a piece from there on has, for which a packet has
// room for space bytes. The end of a frame is never cut.
func (h *userSend) cut(offset uint64, space int) int {
	left := h.marks[markAt(h.marks, offset)].end - offset
	data := left - endSize
	if data > uint64(max(space, 0)) {
		return space
	}
	if offset >= h.next && h.limit < offset+left { // the credit does not reach to the end
		return int(data)
	}
	return int(left)
}

// wantsData reports whether pop would yield a piece.
func (h *userSend) wantsData() bool {
	return h.sendHalf.wantsData(^uint64(0)) && (len(h.resend) > 0 || h.cut(h.next, 1) > 0)
}

// onAcked is sendHalf's, with the end of a frame as bytes.
func (h *userSend) onAcked(offset uint64, n int, end bool) (freed int) {
	freed = h.sendHalf.onAcked(offset, n+size(end), false)
	if i := markAt(h.marks, h.buf.base); i > 0 {
		h.marks = h.marks[:copy(h.marks, h.marks[i:])]
	}
	return freed
}

func (h *userSend) onLost(offset uint64, n int, end bool) {
	h.sendHalf.onLost(offset, n+size(end), false)
}

func size(end bool) int {
	if end {
		return endSize
	}
	return 0
}

var zeroEnd [endSize]byte

// userRecv is the receiving half.
type userRecv struct {
	recvHalf
	marks []userMark // ends that have arrived and have not been read
	part  []byte     // bytes of the frame that is being read

	memory *account // of what window and part go beyond the first window
	lent   int64    // by it
}

// afford borrows the memory for n bytes of a frame, beside the window. What
// the last frame needed comes back when the next one begins.
func (h *userRecv) afford(n int) bool {
	need := int64(h.window) - firstUserWindow + max(int64(n)-firstUserWindow, 0)
	if need > h.lent || n == 0 && need < h.lent {
		h.lent = h.memory.borrow(min(need, h.lent), need)
	}
	return need <= h.lent
}

// widen gives the peer the whole window once there is memory for it.
func (h *userRecv) widen() {
	h.window = userWindow
	if !h.afford(len(h.part)) {
		h.window = firstUserWindow
		return
	}
	h.limit = max(h.limit, h.buf.base+h.window)
}

// onPiece takes a piece of a frame.
func (h *userRecv) onPiece(t frame.Type, stream uint16, d frame.Data) error {
	if _, _, err := h.onData(d.Offset, d.Bytes, false); err != nil {
		return err
	}
	if !d.Fin {
		return nil
	}
	end := d.Offset + uint64(len(d.Bytes)) + endSize
	if _, _, err := h.onData(end-endSize, zeroEnd[:], false); err != nil {
		return err
	}
	i := markAt(h.marks, end-1)
	if end <= h.buf.base || h.discard || i < len(h.marks) && h.marks[i].end == end {
		return nil
	}
	if i > 0 && end-h.marks[i-1].end < endSize || i < len(h.marks) && h.marks[i].end-end < endSize {
		return violation(CodeProtocol, "frames of the application end within each other")
	}
	h.marks = slices.Insert(h.marks, i, userMark{end, t, stream})
	return nil
}

// next returns the next whole frame. It moves what has arrived of one out of
// the window, so that a frame may be longer than that.
func (h *userRecv) next() (f UserFrame, ok bool, err error) {
	n := h.readable()
	if len(h.marks) > 0 {
		n = min(n, int(h.marks[0].end-h.buf.base))
	}
	have := len(h.part)
	if have+n > MaxUserFrame+endSize {
		return f, false, violation(CodeProtocol, "frame of the application over %d bytes", MaxUserFrame)
	}
	if have == 0 {
		h.afford(0)
	}
	if !h.afford(have + n) {
		return f, false, violation(CodeResources, "no memory for a frame of the application")
	}
	h.part = append(h.part, make([]byte, n)...)
	h.read(h.part[have:])
	if len(h.marks) == 0 || h.buf.base != h.marks[0].end {
		return f, false, nil
	}
	size := len(h.part) - endSize
	if size < 0 {
		return f, false, violation(CodeProtocol, "frames of the application end within each other")
	}
	m := h.marks[0]
	h.marks = h.marks[:copy(h.marks, h.marks[1:])]
	f = UserFrame{Type: m.typ, Stream: m.stream, Payload: h.part[:size:size]}
	h.part = nil
	return f, true, nil
}

func (c *userChannel) init(discard bool, held *atomic.Int64) {
	c.out.init(0, firstUserWindow, held)
	c.in.init(0, firstUserWindow)
	c.in.discard = discard
	c.writable, c.readable = make(chan struct{}, 1), make(chan struct{}, 1)
}

// SendFrame sends a frame of the application, of a type from
// [frame.TypeUser] on, with at most [MaxUserFrame] bytes. The peer gets it
// whole, once, and in the order of the calls in this session. It waits while
// the peer's handlers are too far behind, and returns once the frame is
// buffered. stream is for the application to use. Errors: [ErrFrameType],
// [ErrMessageTooLong], ctx's cause, and why the session has ended.
func (s *Session) SendFrame(ctx context.Context, t frame.Type, stream uint16, payload []byte) error {
	if t < frame.TypeUser {
		return fmt.Errorf("%w: %s", ErrFrameType, t)
	}
	if len(payload) > MaxUserFrame {
		return fmt.Errorf("frame of %d bytes: %w", len(payload), ErrMessageTooLong)
	}
	c := &s.user
	for {
		c.mu.Lock()
		err, room := c.err, c.out.buffered() < userWindow
		if err == nil && room {
			c.out.push(t, stream, payload)
		}
		again := c.out.buffered() < userWindow
		c.mu.Unlock()
		if err != nil {
			return err
		}
		if room {
			if again {
				signal(c.writable) // for the next one who waits
			}
			s.strand.ask()
			return nil
		}
		select {
		case <-c.writable:
		case <-s.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// deliverFrames is the goroutine that hands a session's frames to their handlers,
// one at a time.
func (s *Session) deliverFrames() {
	c := &s.user
	over := false
	defer func() {
		if over {
			c.in.memory.keep(0)
		} else { // a handler has ended this goroutine, by runtime.Goexit: that costs its frame, as a panic does
			s.ep.wg.Go(s.deliverFrames)
		}
	}()
	for {
		c.mu.Lock()
		f, ok, err := c.in.next()
		credit := c.in.credit()
		c.mu.Unlock()
		if credit {
			s.strand.ask()
		}
		switch {
		case err != nil:
			code := CodeProtocol
			if v := (*protocolError)(nil); errors.As(err, &v) {
				code = v.code
			}
			s.requestClose(closeRequest{code: code, reason: err.Error()})
			over = true
			return
		case ok:
			s.handleFrame(f)
		default:
			select {
			case <-c.readable:
			case <-s.done:
				// What had arrived whole before the end is still handed out.
				c.mu.Lock()
				f, ok, err = c.in.next()
				c.mu.Unlock()
				if over = !ok || err != nil; over {
					return
				}
				s.handleFrame(f)
			}
		}
	}
}

func (s *Session) handleFrame(f UserFrame) {
	f.Session = s
	if !s.cfg.Frames.dispatch(s.ep.handling, f) {
		s.ep.counters.unhandled.Add(1)
	}
}
