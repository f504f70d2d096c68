package stc

import (
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/seigr/sttnode/stc/internal/gcm"
)

// StreamDecoderConfig are the settings of a StreamDecoder. The zero value takes the first stream that authenticates.
type StreamDecoderConfig struct {
	// Stream is the only stream to accept. Zero: that of the first segment that authenticates. Whoever could be sent an old stream in place of
	// the expected one should tell the ID, as from StreamEncoder.ID, beforehand.
	Stream StreamID
	// Window is how many segments, counted from the first that has not been read, are kept until their turn; 1,024 if 0.
	Window int
	// Buffer is how many bytes of segments are kept until their turn; 4 MiB if 0. Beyond both, ErrStreamWindow is returned.
	Buffer int
}

// StreamDecoder turns the segments of one stream, in whatever order they come, into its bytes, in order. It holds back what is ahead of a
// gap, within the bounds of its settings, and nothing that it returns is unverified. An error of Receive concerns the one
// segment and leaves the decoder as it was.
//
//	err := d.Receive(segment)    // as each comes
//	p, err := d.Next()           // until ErrStreamGap; io.EOF after the last byte
//	err := d.Finish()            // when no more will come: was that everything?
//
// [StreamDecoder.Decode] is the same as an iterator, [StreamReader] an io.Reader. Buffers are used again, so that a segment costs no
// allocation. A decoder serves one goroutine at a time.
type StreamDecoder struct {
	key   [keySize]byte
	cfg   StreamDecoderConfig
	nonce [packetNonceSize]byte

	// Set by the first segment that authenticates.
	aead cipher.AEAD
	id   StreamID
	form segmentHeader // suite and flags that all segments share, and the size

	next    uint64   // number of the first segment that has not been read
	top     uint64   // one more than the highest number received
	end     uint64   // one more than the last segment's number; 0 as long as that is unknown
	slots   [][]byte // what is held, by number modulo Window; nil: not here
	held    int      // capacity of what is held, in bytes
	free    [][]byte // buffers to use again, at most Buffer bytes
	spare   int      // their capacity
	current []byte   // what Next returned last
	stats   StreamStats
}

// StreamStats are the counters of a StreamDecoder.
type StreamStats struct {
	Segments uint64 // accepted
	Bytes    uint64 // returned by Next
	Lost     uint64 // segments given up by Skip
	Refused  uint64 // segments for which Receive returned an error
	Held     int    // bytes of memory of what waits for its turn
}

// NewStreamDecoder returns a decoder for the key that the encoder was given. Errors: ErrStreamConfig.
func NewStreamDecoder(key [32]byte, cfg StreamDecoderConfig) (*StreamDecoder, error) {
	if cfg.Window == 0 {
		cfg.Window = 1024
	}
	if cfg.Buffer == 0 {
		cfg.Buffer = 4 << 20
	}
	if cfg.Window < 1 || cfg.Window > 1<<20 || cfg.Buffer < 0 {
		return nil, fmt.Errorf("%w: a window of %d segments and %d bytes", ErrStreamConfig, cfg.Window, cfg.Buffer)
	}
	return &StreamDecoder{key: key, cfg: cfg, id: cfg.Stream, slots: make([][]byte, cfg.Window)}, nil
}

// Receive takes a segment, which may be used again afterwards. Errors: ErrBadSegment, ErrOtherStream, ErrForged, ErrDuplicate,
// ErrStreamWindow, ErrUnknownSuite.
func (d *StreamDecoder) Receive(segment []byte) error {
	err := d.receive(segment)
	if err != nil {
		d.stats.Refused++
	} else {
		d.stats.Segments++
	}
	return err
}

func (d *StreamDecoder) receive(segment []byte) error {
	h, err := parseSegmentHeader(segment)
	if err != nil {
		return err
	}
	if len(segment) != StreamOverhead+h.length {
		return ErrBadSegment
	}
	if h.id != d.id && d.id != (StreamID{}) {
		return ErrOtherStream
	}
	aead := d.aead
	if aead == nil || h.suite != d.form.suite {
		if aead, err = segmentAEAD(&d.key, h.suite, h.id); err != nil {
			return err
		}
	}
	if aead != d.aead {
		defer func() {
			if aead != d.aead {
				gcm.Wipe(aead)
			}
		}()
	}
	segmentNonce(&d.nonce, h.number, h.last())
	b := d.take(h.length)
	if _, err := aead.Open(b[:0], d.nonce[:], segment[streamHeader:], segment[:streamHeader]); err != nil {
		d.recycle(b)
		return ErrForged
	}
	if d.aead == nil {
		d.aead, d.id, d.form = aead, h.id, h
	}
	if err := d.place(&h, b); err != nil {
		d.recycle(b)
		return err
	}
	return nil
}

// place holds a segment that has authenticated until its turn.
func (d *StreamDecoder) place(h *segmentHeader, b []byte) error {
	switch {
	case h.suite != d.form.suite, h.bounded() != d.form.bounded(), h.bounded() && h.size != d.form.size:
		return ErrBadSegment
	case h.last() && d.end != 0 && h.number+1 != d.end, !h.last() && h.number+1 == d.end:
		return ErrBadSegment // two ends
	case h.last() && h.number+1 < d.top, d.end != 0 && h.number >= d.end, h.number+1 == 0:
		return ErrBadSegment // behind the end
	case h.number < d.next, h.number-d.next < uint64(len(d.slots)) && *d.slot(h.number) != nil:
		return ErrDuplicate
	case h.number-d.next >= uint64(len(d.slots)):
		return ErrStreamWindow
	case h.number > d.next && d.held+cap(b) > d.cfg.Buffer: // the next in order always has room, else nothing would ever move
		return ErrStreamWindow
	}
	if h.last() {
		d.end, d.form.size = h.number+1, h.size
	}
	d.top = max(d.top, h.number+1)
	*d.slot(h.number) = b
	d.held += cap(b)
	return nil
}

func (d *StreamDecoder) slot(number uint64) *[]byte { return &d.slots[number%uint64(len(d.slots))] }

// Next returns the bytes of the next segment in order, valid until the next call of a method. Errors: ErrStreamGap when it is not here
// yet; io.EOF behind the last; ErrStreamSize when the stream has not as many bytes as it says.
func (d *StreamDecoder) Next() ([]byte, error) {
	if d.current != nil {
		d.recycle(d.current)
		d.current = nil
	}
	for {
		if d.end != 0 && d.next == d.end {
			if d.stats.Lost == 0 && d.stats.Bytes != d.form.size {
				return nil, fmt.Errorf("%w: %d bytes instead of %d", ErrStreamSize, d.stats.Bytes, d.form.size)
			}
			return nil, io.EOF
		}
		slot := d.slot(d.next)
		if *slot == nil {
			return nil, ErrStreamGap
		}
		b := *slot
		*slot = nil
		d.held -= cap(b)
		d.next++
		if len(b) == 0 {
			d.recycle(b)
			continue
		}
		d.current = b
		d.stats.Bytes += uint64(len(b))
		return b, nil
	}
}

// Missing yields the numbers of the segments that are not here though later ones are, for who can ask for them again.
func (d *StreamDecoder) Missing() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for n := d.next; n < d.top; n++ {
			if *d.slot(n) == nil && !yield(n) {
				return
			}
		}
	}
}

// Skip gives up the missing segments in front of the next one that is here, for who would rather go on than wait, and returns how many. Finish
// reports the loss.
func (d *StreamDecoder) Skip() (lost uint64) {
	for d.next+lost < d.top && *d.slot(d.next + lost) == nil {
		lost++
	}
	d.next += lost
	d.stats.Lost += lost
	return lost
}

// Finish reports whether the whole stream has been received, once no more segments will come: nil, or ErrSegmentLost, ErrTruncated or both.
func (d *StreamDecoder) Finish() error {
	var errs []error
	lost := d.stats.Lost
	for range d.Missing() {
		lost++
	}
	if lost > 0 {
		errs = append(errs, fmt.Errorf("%w: %d", ErrSegmentLost, lost))
	}
	if d.end == 0 {
		errs = append(errs, fmt.Errorf("%w: cut off after segment %d", ErrTruncated, d.top))
	}
	return errors.Join(errs...)
}

// Stream returns the ID of the stream; zero before it is known.
func (d *StreamDecoder) Stream() StreamID { return d.id }

// Size returns the length of the stream in bytes, which is known after any segment of a bounded stream and the last of a live one.
func (d *StreamDecoder) Size() (size uint64, known bool) {
	return d.form.size, d.aead != nil && (d.form.bounded() || d.end != 0)
}

// Stats returns the counters.
func (d *StreamDecoder) Stats() StreamStats {
	st := d.stats
	st.Held = d.held
	return st
}

// Decode yields the bytes of the stream that segments carries, in order, each piece valid until the next step. A segment that is refused, and
// an error of segments, is yielded as an error; who goes on gets what follows. A segment that never comes holds up all behind it, until the window is
// full and ErrStreamWindow is yielded: on a transport that loses, call Skip in the loop then. The final error, if any, is that of Finish.
func (d *StreamDecoder) Decode(segments iter.Seq2[[]byte, error]) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for segment, err := range segments {
			if err == nil {
				err = d.Receive(segment)
			}
			if err != nil && !yield(nil, err) {
				return
			}
			for {
				p, err := d.Next()
				if err == ErrStreamGap {
					break
				} else if err == io.EOF {
					return
				}
				if !yield(p, err) || err != nil {
					return
				}
			}
		}
		if err := d.Finish(); err != nil {
			yield(nil, err)
		}
	}
}

// take returns a buffer of n bytes; never nil.
func (d *StreamDecoder) take(n int) []byte {
	if last := len(d.free) - 1; last >= 0 {
		b := d.free[last]
		d.free = d.free[:last]
		d.spare -= cap(b)
		if cap(b) >= n {
			return b[:n]
		}
	}
	return make([]byte, n, max(n, 64))
}

func (d *StreamDecoder) recycle(b []byte) {
	if cap(b) > 0 && d.spare+cap(b) <= d.cfg.Buffer {
		d.free = append(d.free, b[:0])
		d.spare += cap(b)
	}
}
