package session

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// StreamState is where a stream stands in its life, as the specification
// counts: Created → Open → Closing → Closed.
type StreamState uint8

// The states of a stream.
const (
	StreamCreated StreamState = iota // has an ID; the peer does not know of it
	StreamOpen                       // bytes flow both ways
	StreamClosing                    // one direction has ended, or its end is not yet acknowledged
	StreamClosed                     // both directions are done; the ID may be used again
)

// String returns the state's name.
func (s StreamState) String() string {
	return [...]string{"Created", "Open", "Closing", "Closed"}[s]
}

// Bytes that are copied with the stream locked: so few that the session's loop
// does not have to sleep for them, so many that a batch can be filled.
const (
	readPiece  = 16 << 10
	writePiece = 64 << 10
)

// guaranteedBuffer is what a stream may hold unacknowledged though
// Config.SendMemory is used up.
const guaranteedBuffer = 16 << 10

// MaxMessage is the longest message in bytes that SendMessage takes.
const MaxMessage = 64 << 20

// Stream is one of many independent, ordered byte streams in a session. It
// implements [net.Conn]. All methods may be called concurrently; several
// readers, or several writers, take turns call by call.
type Stream struct {
	id    uint16
	local bool // opened by this side
	s     *Session

	refused bool // nobody will have it; settled when the table takes it in

	readTurn, writeTurn chan struct{} // capacity 1: held by the reader, the writer
	readable, writable  chan struct{} // capacity 1: something changed
	readDeadline        deadline
	writeDeadline       deadline

	mu  sync.Mutex // guards what follows
	in  recvHalf
	out sendHalf
	err error // the session has ended

	tunedAt  time.Time // last growth check of in.window; owned by the loop
	place    place     // in the order in which streams send; owned by the loop
	starved  bool      // in the loop's list of those without session credit; owned by the loop
	notified atomic.Bool
	urgency  atomic.Int32
}

func newStream(s *Session, id uint16, local bool, b bases) *Stream {
	st := &Stream{
		id: id, local: local, s: s,
		readTurn: make(chan struct{}, 1), writeTurn: make(chan struct{}, 1),
		readable: make(chan struct{}, 1), writable: make(chan struct{}, 1),
	}
	st.urgency.Store(UrgencyDefault)
	st.in.init(b.recv, s.cfg.StreamWindow)
	st.in.told = b.told
	st.out.init(b.send, s.peerParams.streamWindow, &s.ep.sending)
	return st
}

// ID returns the stream's ID, 1 to 65535: odd if the session's initiator
// opened it. An ID is used again once both directions are done.
func (st *Stream) ID() uint16 { return st.id }

// Session returns the session that the stream belongs to.
func (st *Stream) Session() *Session { return st.s }

// LocalAddr implements [net.Conn]; the address may be unspecified.
func (st *Stream) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(st.s.ep.LocalAddr()) }

// RemoteAddr implements [net.Conn].
func (st *Stream) RemoteAddr() net.Addr { return net.UDPAddrFromAddrPort(st.s.RemoteAddr()) }

// State returns where the stream stands.
func (st *Stream) State() StreamState {
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case st.err != nil || st.finished():
		return StreamClosed
	case st.out.state != sendOpen || st.in.ended || st.in.discard:
		return StreamClosing
	case !st.out.announced && st.local:
		return StreamCreated
	}
	return StreamOpen
}

// finished reports whether the network is done with both directions; st.mu
// is held.
func (st *Stream) finished() bool { return st.out.state == sendDone && st.in.complete() }

// Read implements [net.Conn]. It returns io.EOF behind the last byte, a
// [*StreamError] after the peer's Reset or our CloseRead, and the session's
// error once that has ended and nothing is left to read.
func (st *Stream) Read(p []byte) (int, error) {
	if err := take(st.readTurn, &st.readDeadline); err != nil {
		return 0, err
	}
	defer func() { <-st.readTurn }()
	for {
		if st.readDeadline.passed() {
			return 0, os.ErrDeadlineExceeded
		}
		n, wait, err := st.tryRead(p)
		if !wait {
			return n, err
		}
		st.s.strand.help()
		select {
		case <-st.readable:
		case <-st.readDeadline.wait():
		}
	}
}

func (st *Stream) tryRead(p []byte) (n int, wait bool, err error) {
	st.mu.Lock()
	n = st.in.read(p[:min(len(p), readPiece)])
	for n > 0 && n < len(p) {
		// The session's loop must not wait for a long copy.
		st.mu.Unlock()
		st.mu.Lock()
		k := st.in.read(p[n:min(len(p), n+readPiece)])
		if k == 0 {
			break
		}
		n += k
	}
	var credit, announce bool
	switch {
	case n > 0:
		credit = st.in.credit()
	case st.in.discard:
		err = &StreamError{Code: st.in.stopCode}
	case st.in.reset:
		err = &StreamError{Code: st.in.code, Remote: true}
	case st.in.atEnd():
		err = io.EOF
	case st.err != nil:
		err = st.err
	case len(p) == 0:
	default:
		wait = true
		// Whoever waits for the peer to speak first has to say hello.
		if announce = !st.out.announced && !st.out.announce; announce {
			st.out.announce = true
		}
	}
	st.mu.Unlock()
	if n > 0 {
		st.s.consume(uint64(n))
	}
	if credit || announce {
		st.s.notify(st)
	}
	return n, wait, err
}

// Write implements [net.Conn]. It returns once all bytes are buffered, not
// once they have arrived. After the peer's CloseRead it fails with a
// [*StreamError].
func (st *Stream) Write(p []byte) (int, error) {
	if err := take(st.writeTurn, &st.writeDeadline); err != nil {
		return 0, err
	}
	defer func() { <-st.writeTurn }()
	written := 0
	for {
		if st.writeDeadline.passed() {
			return written, os.ErrDeadlineExceeded
		}
		n, err := st.tryWrite(p[written:min(len(p), written+writePiece)])
		written += n
		if err != nil || written == len(p) {
			return written, err
		}
		if n == writePiece {
			continue
		}
		st.s.strand.help()
		select {
		case <-st.writable:
		case <-st.writeDeadline.wait():
		}
	}
}

func (st *Stream) tryWrite(p []byte) (int, error) {
	st.mu.Lock()
	var err error
	n := 0
	switch {
	case st.out.stopped:
		err = &StreamError{Code: st.out.stopCode, Remote: true}
	case st.out.state == sendReset:
		err = &StreamError{Code: st.out.code}
	case st.out.state != sendOpen:
		err = ErrClosed
	case st.err != nil:
		err = st.err
	default:
		room, _ := st.room()
		n = min(len(p), max(room, 0))
		st.out.write(p[:n])
	}
	st.mu.Unlock()
	if n > 0 {
		st.s.notify(st)
	}
	return n, err
}

// room returns how many bytes may be written, of how many when the stream
// holds none; st.mu is held.
func (st *Stream) room() (room, of int) {
	buffered := st.out.buffered()
	// What has arrived behind a gap takes memory, but no part in what the path
	// holds.
	of = int(st.s.sendBuffer.Load())
	room = min(of+int(st.out.acked.total()), st.s.cfg.SendBuffer) - buffered
	if st.s.ep.sending.Load() >= st.s.cfg.SendMemory {
		of = min(of, guaranteedBuffer)
		room = min(room, guaranteedBuffer-buffered)
	}
	return room, of
}

// SendMessage writes p as one message: the peer's ReceiveMessage returns
// exactly these bytes. At most [MaxMessage] bytes, else [ErrMessageTooLong].
// A stream carries either messages or bytes in one direction, not both.
func (st *Stream) SendMessage(p []byte) error {
	if len(p) > MaxMessage {
		return fmt.Errorf("message of %d bytes: %w", len(p), ErrMessageTooLong)
	}
	b := binary.AppendUvarint(make([]byte, 0, binary.MaxVarintLen64+len(p)), uint64(len(p)))
	_, err := st.Write(append(b, p...))
	return err
}

// ReceiveMessage returns the next whole message. One longer than limit bytes, or
// than [MaxMessage], gives [ErrMessageTooLong] and cannot be skipped. At
// the end it returns io.EOF, inside a message io.ErrUnexpectedEOF. Several
// callers at a time must take turns themselves.
func (st *Stream) ReceiveMessage(limit int) ([]byte, error) {
	size, err := binary.ReadUvarint(oneByte{st})
	if err != nil {
		return nil, err
	}
	if size > uint64(max(min(limit, MaxMessage), 0)) {
		return nil, fmt.Errorf("message of %d bytes: %w", size, ErrMessageTooLong)
	}
	// Grow with what arrives, not with what is announced.
	var p []byte
	for uint64(len(p)) < size {
		n := len(p)
		p = append(p, make([]byte, min(size-uint64(n), max(64<<10, uint64(n))))...)
		if _, err := io.ReadFull(st, p[n:]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return p, nil
}

type oneByte struct{ io.Reader }

func (r oneByte) ReadByte() (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(r.Reader, b[:])
	return b[0], err
}

// CloseWrite ends our direction behind what has been written; the peer reads
// io.EOF there. Reading goes on.
func (st *Stream) CloseWrite() error {
	st.endWrite()
	st.s.strand.help()
	return nil
}

func (st *Stream) endWrite() {
	st.mu.Lock()
	st.out.end()
	st.mu.Unlock()
	st.wakeWriter()
	st.s.notify(st)
}

// CloseRead tells the peer to stop sending, with an application's code, and
// drops what is unread.
func (st *Stream) CloseRead(code uint64) {
	st.mu.Lock()
	dropped := st.in.stop(code)
	st.mu.Unlock()
	st.wakeReader()
	st.s.consume(dropped)
	st.s.notify(st)
}

// Close ends both directions: what has been written is still delivered, what
// is unread is dropped. It does not wait.
func (st *Stream) Close() error {
	st.endWrite()
	st.CloseRead(0)
	st.s.strand.help()
	return nil
}

// Reset gives up both directions with an application's code: what has not
// arrived never will.
func (st *Stream) Reset(code uint64) {
	st.mu.Lock()
	st.out.abort(code)
	st.mu.Unlock()
	st.CloseRead(code)
	st.wakeWriter()
}

// SetDeadline implements [net.Conn].
func (st *Stream) SetDeadline(t time.Time) error {
	st.readDeadline.set(t)
	st.writeDeadline.set(t)
	return nil
}

// SetReadDeadline implements [net.Conn].
func (st *Stream) SetReadDeadline(t time.Time) error {
	st.readDeadline.set(t)
	return nil
}

// SetWriteDeadline implements [net.Conn].
func (st *Stream) SetWriteDeadline(t time.Time) error {
	st.writeDeadline.set(t)
	return nil
}

// fail ends the stream with its session.
func (st *Stream) fail(err error) {
	st.mu.Lock()
	if st.err == nil {
		st.err = err
	}
	st.mu.Unlock()
	st.wakeReader()
	st.wakeWriter()
}

func (st *Stream) wakeReader() { signal(st.readable) }
func (st *Stream) wakeWriter() { signal(st.writable) }

// signal wakes the one who waits on c, now or the next time.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// take waits for its turn until the deadline.
func take(turn chan struct{}, d *deadline) error {
	select {
	case turn <- struct{}{}:
		return nil
	default:
	}
	for {
		select {
		case turn <- struct{}{}:
			return nil
		case <-d.wait():
			if d.passed() {
				return os.ErrDeadlineExceeded
			}
		}
	}
}
