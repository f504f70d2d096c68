package stc

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"io"
	"iter"
	"time"
)

// StreamEncoder turns one stream of bytes into sealed segments, which a [StreamDecoder] with the same key turns into the bytes again. It
// gives the bytes no meaning, and the borders of segments have none.
//
// There are three ways to use it: [StreamEncoder.Segments] and [StreamEncoder.SegmentsFrom] are iterators, [StreamWriter] is an io.Writer, and
// Fill, Due and Seal are what they are made of, which know no clock and no I/O:
//
//	n, err := e.Fill(now, p)          // take bytes
//	if e.Due(now) { seg, err = e.Seal(buf[:0]) }
//	seg, err = e.End(buf[:0])         // the last segment
//
// Sealing does not allocate when dst has room. An encoder serves one goroutine at a time.
type StreamEncoder struct {
	aead   cipher.AEAD
	head   segmentHeader // of the next segment
	header [streamHeader]byte
	nonce  [packetNonceSize]byte

	buf        []byte // taken, not sealed
	room       int    // bytes of the stream in a full segment
	taken      uint64 // bytes so far
	oldest     time.Time
	flushAfter time.Duration
	ended      bool
	out        []byte // what the iterators yield
	rest       []byte // of what SegmentsFrom had taken from its channel when its loop was left
}

// NewStreamEncoder returns the encoder of a new stream under a key of 32 secret random bytes, as from Keyring.StreamKey or
// Identity.DeriveKey. Errors: ErrStreamConfig, ErrUnknownSuite.
func NewStreamEncoder(key [32]byte, cfg StreamConfig) (*StreamEncoder, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	e := &StreamEncoder{room: cfg.SegmentSize - StreamOverhead, flushAfter: cfg.FlushAfter}
	e.head.suite = cfg.Suite
	rand.Read(e.head.id[:]) // never fails since Go 1.24: it ends the program instead
	if cfg.Mode == StreamBounded {
		e.head.flags, e.head.size = flagBounded, cfg.Size
	}
	var err error
	if e.aead, err = segmentAEAD(&key, cfg.Suite, e.head.id); err != nil {
		return nil, err
	}
	e.buf = make([]byte, 0, e.room)
	return e, nil
}

// ID returns the stream's ID, which is not secret. A decoder that is told it beforehand accepts no other stream.
func (e *StreamEncoder) ID() StreamID { return e.head.id }

// SegmentSize returns the most bytes in a segment.
func (e *StreamEncoder) SegmentSize() int { return e.room + StreamOverhead }

// SetSegmentSize changes the most bytes in a segment, from the one that begins next, when the path has turned out to be another.
func (e *StreamEncoder) SetSegmentSize(n int) error {
	if err := checkSegmentSize(n); err != nil {
		return err
	}
	e.room = n - StreamOverhead
	return nil
}

// Fill takes bytes of p into the segment that is being filled, and returns how many: fewer than len(p) when it is full, whereupon Due says
// so. now is when they came. Errors: ErrStreamEnded; ErrStreamSize when a bounded stream has no room for p, of which nothing is taken.
func (e *StreamEncoder) Fill(now time.Time, p []byte) (int, error) {
	switch {
	case e.ended && len(p) > 0 && !e.head.bounded():
		return 0, ErrStreamEnded
	case e.head.bounded() && uint64(len(p)) > e.head.size-e.taken:
		return 0, fmt.Errorf("%w: more than the announced %d bytes", ErrStreamSize, e.head.size)
	}
	n := min(len(p), max(e.room-len(e.buf), 0))
	if n > 0 && len(e.buf) == 0 {
		e.oldest = now
	}
	e.buf = append(e.buf, p[:n]...)
	e.taken += uint64(n)
	return n, nil
}

// Due reports whether Seal should be called: the segment is full, or complete, or has waited for as long as FlushAfter.
func (e *StreamEncoder) Due(now time.Time) bool {
	switch {
	case e.ended:
		return false
	case len(e.buf) >= e.room, e.head.bounded() && e.taken == e.head.size:
		return true
	}
	deadline := e.Deadline()
	return !deadline.IsZero() && !now.Before(deadline)
}

// Deadline returns when the bytes that wait have waited for FlushAfter; zero if nothing waits, or without FlushAfter.
func (e *StreamEncoder) Deadline() time.Time {
	if len(e.buf) == 0 || e.flushAfter == 0 {
		return time.Time{}
	}
	return e.oldest.Add(e.flushAfter)
}

// Seal appends a segment of the bytes that wait to dst, however few. With the final byte of a bounded stream the segment is the last. When
// nothing waits it appends nothing, but for the only segment of a bounded stream of no bytes.
func (e *StreamEncoder) Seal(dst []byte) ([]byte, error) {
	last := e.head.bounded() && e.taken == e.head.size
	if e.ended || len(e.buf) == 0 && !last {
		return dst, nil
	}
	return e.seal(dst, last), nil
}

// End appends the last segment of the stream to dst, with what waits, which may be nothing. It appends nothing if the last segment of a
// bounded stream has been sealed by Seal. Errors: ErrStreamSize when bytes of a bounded stream are missing; ErrStreamEnded for a second End of a live stream.
func (e *StreamEncoder) End(dst []byte) ([]byte, error) {
	switch {
	case e.head.bounded() && e.taken < e.head.size:
		return dst, fmt.Errorf("%w: %d of the announced %d bytes", ErrStreamSize, e.taken, e.head.size)
	case e.ended && e.head.bounded():
		return dst, nil
	case e.ended:
		return dst, ErrStreamEnded
	}
	e.head.size = e.taken
	return e.seal(dst, true), nil
}

func (e *StreamEncoder) seal(dst []byte, last bool) []byte {
	if last {
		e.head.flags |= flagLast
		e.ended = true
	}
	e.head.length = len(e.buf)
	e.head.put(&e.header)
	segmentNonce(&e.nonce, e.head.number, last)
	dst = append(dst, e.header[:]...)
	dst = e.aead.Seal(dst, e.nonce[:], e.buf, e.header[:])
	e.head.number++ // 2⁶⁴ segments take longer than any program runs
	e.buf = e.buf[:0]
	return dst
}

// Segments yields the segments of all that r has, the last one included, each valid until the next step. A bounded stream's are full. A live
// stream's segment goes out with what one Read has returned, or, with FlushAfter, when it is full or a Read returns that late; for a source
// that pauses, SegmentsFrom keeps to the time. An error of r, or ErrStreamSize, ends the iteration and not the stream; of one that
// has ended there is only ErrStreamEnded.
func (e *StreamEncoder) Segments(r io.Reader) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if e.ended {
			yield(nil, ErrStreamEnded)
			return
		}
		in := make([]byte, e.room)
		for !e.ended {
			whole := e.head.bounded() && e.taken == e.head.size
			if !whole && len(e.buf) >= e.room && !e.yieldSegment(yield) {
				return
			}
			if whole {
				// There must be no more than was announced; only then the last segment goes out.
				if n, err := io.ReadFull(r, in[:1]); n > 0 {
					yield(nil, fmt.Errorf("%w: more than the announced %d bytes", ErrStreamSize, e.head.size))
					return
				} else if err != io.EOF {
					yield(nil, err)
					return
				}
				e.yieldEnd(yield)
				return
			}
			want := min(uint64(len(in)), uint64(e.room-len(e.buf)))
			if e.head.bounded() {
				want = min(want, e.head.size-e.taken)
			}
			n, err := r.Read(in[:want])
			now := time.Now()
			if _, bad := e.Fill(now, in[:n]); bad != nil {
				yield(nil, bad)
				return
			}
			whole = e.head.bounded() && e.taken == e.head.size
			atOnce := !e.head.bounded() && e.flushAfter == 0
			if !whole && err == nil && (atOnce || e.Due(now)) && !e.yieldSegment(yield) {
				return
			}
			if err == io.EOF && !whole {
				e.yieldEnd(yield)
				return
			} else if err != nil && err != io.EOF {
				yield(nil, err)
				return
			}
		}
	}
}

// SegmentsFrom yields the segments of the bytes that come from in, the last one when in is closed, each valid until the next step. A
// segment goes out when it is full, when FlushAfter is over, and without FlushAfter as soon as in has nothing more at the moment. It starts
// no goroutine: the time passes in the consumer's. The end of ctx ends the iteration with its cause, and not the stream. A loop that is left
// may be begun again, also on another channel, and goes on where it was.
func (e *StreamEncoder) SegmentsFrom(ctx context.Context, in <-chan []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		timer := time.NewTimer(time.Hour)
		defer timer.Stop()
		for {
			if ctx.Err() != nil {
				yield(nil, context.Cause(ctx))
				return
			}
			if len(e.rest) > 0 {
				if !e.takeRest(yield) {
					return
				}
				continue
			}
			var flush <-chan time.Time
			var idle <-chan struct{}
			if deadline := e.Deadline(); !deadline.IsZero() {
				timer.Reset(time.Until(deadline))
				flush = timer.C
			} else if len(e.buf) > 0 {
				idle = closedChannel
			}
			p, open, more := []byte(nil), false, false
			select {
			case p, open = <-in: // what is there goes before idle
				more = true
			default:
				select {
				case p, open = <-in:
					more = true
				case <-flush:
				case <-idle:
				case <-ctx.Done():
					yield(nil, context.Cause(ctx))
					return
				}
			}
			if more && !open {
				e.yieldEnd(yield)
				return
			}
			if e.rest = p; !e.takeRest(yield) {
				return
			}
			if !more && !e.yieldSegment(yield) {
				return
			}
		}
	}
}

// takeRest fills segments with what has been taken from a channel.
func (e *StreamEncoder) takeRest(yield func([]byte, error) bool) bool {
	for taken := time.Now(); len(e.rest) > 0; {
		n, err := e.Fill(taken, e.rest)
		if err != nil {
			yield(nil, err)
			return false
		}
		e.rest = e.rest[n:]
		if e.Due(taken) && !e.yieldSegment(yield) {
			return false
		}
	}
	return true
}

var closedChannel = func() <-chan struct{} { c := make(chan struct{}); close(c); return c }()

func (e *StreamEncoder) yieldSegment(yield func([]byte, error) bool) bool {
	before := e.head.number
	e.out, _ = e.Seal(e.out[:0])
	return e.head.number == before || yield(e.out, nil)
}

func (e *StreamEncoder) yieldEnd(yield func([]byte, error) bool) {
	out, err := e.End(e.out[:0])
	if e.out = out; err != nil {
		yield(nil, err)
	} else if len(out) > 0 {
		yield(out, nil)
	}
}
