package stc

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// StreamWriter writes a stream as segments, one behind the other, with one Write a segment. What has been written waits until a segment is
// full, FlushAfter is over, or Flush or Close is called. It is safe for concurrent use. With FlushAfter it writes from a timer's
// goroutine as well, until Close: the writer below is the StreamWriter's until then.
type StreamWriter struct {
	mu    sync.Mutex // guards what follows
	w     io.Writer
	e     *StreamEncoder
	out   []byte
	timer *time.Timer // runs when bytes wait and FlushAfter is set
	err   error       // the first of w, or ErrStreamEnded
}

// NewStreamWriter returns a writer of e's segments to w. The encoder is the writer's from then on.
func NewStreamWriter(w io.Writer, e *StreamEncoder) *StreamWriter {
	return &StreamWriter{w: w, e: e, out: make([]byte, 0, e.SegmentSize())}
}

// Write takes bytes of the stream. Errors: those of the writer below, which all later calls return too; ErrStreamSize for more
// bytes than announced, of which none is taken; ErrStreamEnded after Close.
func (w *StreamWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return 0, w.err
	}
	done := 0
	for {
		now := time.Now()
		n, err := w.e.Fill(now, p[done:])
		if err != nil {
			return done, err
		}
		if done += n; w.e.Due(now) {
			if err := w.send(); err != nil {
				return done, err
			}
		}
		if done == len(p) {
			break
		}
	}
	w.arm()
	return done, nil
}

// Flush sends what waits.
func (w *StreamWriter) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	return w.send()
}

// Close sends the stream's last segment. It does not close the writer below. After an error of Write, or when bytes of a bounded stream are
// missing (ErrStreamSize), it sends nothing, so that the other side sees a stream that was cut off. Called again, it returns the same.
func (w *StreamWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop() // one that runs already waits for mu, and finds nothing to do
	}
	if w.err == ErrStreamEnded {
		return nil
	} else if w.err != nil {
		return w.err
	}
	out, err := w.e.End(w.out[:0])
	if err == nil {
		err = w.put(out)
	}
	if w.err = err; err == nil {
		w.err = ErrStreamEnded
	}
	return err
}

// arm starts the timer for the bytes that wait. Called with mu held.
func (w *StreamWriter) arm() {
	deadline := w.e.Deadline()
	if deadline.IsZero() {
		return
	}
	if wait := time.Until(deadline); w.timer == nil {
		w.timer = time.AfterFunc(wait, w.expire)
	} else {
		w.timer.Reset(wait)
	}
}

func (w *StreamWriter) expire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return
	}
	if w.e.Due(time.Now()) {
		_ = w.send() // kept in err, for the next call
	} else {
		w.arm()
	}
}

func (w *StreamWriter) send() error {
	out, err := w.e.Seal(w.out[:0])
	if err != nil {
		return err
	}
	return w.put(out)
}

func (w *StreamWriter) put(segment []byte) error {
	w.out = segment[:0]
	if len(segment) == 0 {
		return nil
	}
	n, err := w.w.Write(segment)
	if err == nil && n < len(segment) {
		err = io.ErrShortWrite
	}
	if err != nil {
		w.err = fmt.Errorf("write a segment: %w", err)
	}
	return w.err
}
