package stc

import (
	"errors"
	"fmt"
	"io"
	"iter"
)

// segmentScanner cuts what a reader has into segments, by the lengths in their headers.
type segmentScanner struct {
	r   io.Reader
	buf []byte
}

// firstRead is how many bytes of a segment are read before there is memory for more: its length is not authenticated yet, so memory grows
// with what really comes.
const firstRead = 4 << 10

// next returns a segment, valid until the next call. io.EOF is between two segments, ErrTruncated within one.
func (s *segmentScanner) next() ([]byte, error) {
	if s.buf == nil {
		s.buf = make([]byte, firstRead)
	}
	if _, err := io.ReadFull(s.r, s.buf[:streamHeader]); err == io.ErrUnexpectedEOF {
		return nil, fmt.Errorf("%w: within a segment", ErrTruncated)
	} else if err != nil {
		return nil, err
	}
	h, err := parseSegmentHeader(s.buf[:streamHeader])
	if err != nil {
		return nil, err
	}
	have, want := streamHeader, StreamOverhead+h.length
	for have < want {
		if have == len(s.buf) {
			s.buf = append(s.buf, make([]byte, min(want, 2*have)-have)...)
		}
		n, err := io.ReadFull(s.r, s.buf[have:min(want, len(s.buf))])
		have += n
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil, fmt.Errorf("%w: within a segment", ErrTruncated)
		} else if err != nil {
			return nil, err
		}
	}
	return s.buf[:want], nil
}

// ReadSegments yields the segments that stand one behind the other in r, as a [StreamWriter] writes them, each valid until the next step. It reads
// not a byte beyond the segment that it yields. It ends with r, or with an error: that of r, ErrBadSegment where no segment begins,
// ErrTruncated within one.
func ReadSegments(r io.Reader) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for s := (segmentScanner{r: r}); ; {
			segment, err := s.next()
			if err == io.EOF {
				return
			}
			if !yield(segment, err) || err != nil {
				return
			}
		}
	}
}

// StreamReader reads the stream whose segments stand one behind the other in a reader, in whatever order, as an io.Reader. A segment that
// comes again changes nothing, and is counted by the decoder as refused. It serves one goroutine at a time.
type StreamReader struct {
	s    segmentScanner
	d    *StreamDecoder
	rest []byte // of what d returned last
	err  error
}

// NewStreamReader returns a reader of the stream in r. The decoder is the reader's from then on.
func NewStreamReader(r io.Reader, d *StreamDecoder) *StreamReader {
	return &StreamReader{s: segmentScanner{r: r}, d: d}
}

// Read reads bytes of the stream, all of them verified. It returns io.EOF only when the whole stream has been read, and takes nothing from the reader
// below that follows its last segment. The other errors are those of StreamDecoder.Receive but ErrDuplicate, for any segment that is
// refused, and of StreamDecoder.Finish, when the reader below ends too early; after one of them all reads return it.
func (r *StreamReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 && r.err == nil && len(p) > 0 {
		if r.rest, r.err = r.d.Next(); r.err != ErrStreamGap {
			continue
		}
		if r.err = r.fill(); errors.Is(r.err, ErrDuplicate) {
			r.err = nil
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	if n == 0 && len(p) > 0 {
		return 0, r.err
	}
	return n, nil
}

func (r *StreamReader) fill() error {
	segment, err := r.s.next()
	if err == io.EOF {
		return r.d.Finish() // not nil: Next has found a gap
	} else if err != nil {
		return err
	}
	return r.d.Receive(segment)
}
