package stc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

func TestBoundedStreamKeepsItsWord(t *testing.T) {
	for _, have := range []int{99, 101} {
		for _, full := range []int{1000, 100, 50, 33} { // of which the last segment is not full, or just
			var last error
			d := testDecoder(t, StreamDecoderConfig{})
			cfg := StreamConfig{Mode: StreamBounded, Size: 100, SegmentSize: StreamOverhead + full}
			for segment, err := range testEncoder(t, cfg).Segments(bytes.NewReader(make([]byte, have))) {
				if last = err; err == nil {
					if err := d.Receive(segment); err != nil {
						t.Fatal(err)
					}
				}
			}
			if !errors.Is(last, ErrStreamSize) {
				t.Errorf("%d bytes instead of 100, in segments of %d: %v", have, full, last)
			}
			if err := d.Finish(); !errors.Is(err, ErrTruncated) {
				t.Errorf("%d bytes instead of 100, in segments of %d, are a whole stream: %v", have, full, err)
			}
		}
		var out bytes.Buffer
		w := NewStreamWriter(&out, testEncoder(t, StreamConfig{Mode: StreamBounded, Size: 100}))
		_, err := w.Write(make([]byte, have))
		if err == nil {
			err = w.Close()
		}
		if !errors.Is(err, ErrStreamSize) || out.Len() != 0 {
			t.Errorf("%d bytes instead of 100 written: %v, and %d bytes sent", have, err, out.Len())
		}
	}
}

// A loop over SegmentsFrom that is left goes on where it was, with what it had
// taken from the channel.
func TestSegmentsFromGoesOn(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 500)
	in := make(chan []byte, 1)
	in <- data
	close(in)
	e, d := testEncoder(t, StreamConfig{SegmentSize: StreamOverhead + 300}), testDecoder(t, StreamDecoderConfig{})
	var file bytes.Buffer
	for loops := 0; ; loops++ {
		if loops > 100 {
			t.Fatal("there is no end")
		}
		var last error
		for segment, err := range e.SegmentsFrom(t.Context(), in) {
			file.Write(segment)
			last = err
			break
		}
		if last != nil {
			t.Fatal(last)
		}
		if e.ended {
			break
		}
	}
	if got, err := io.ReadAll(NewStreamReader(&file, d)); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
	}
}

// A stream that has ended, or failed to, says so whoever asks, and again.
func TestEndIsRemembered(t *testing.T) {
	e := testEncoder(t, StreamConfig{})
	if _, err := e.End(nil); err != nil {
		t.Fatal(err)
	}
	var last error
	for _, err := range e.Segments(bytes.NewReader([]byte("more"))) {
		last = err
	}
	if last != ErrStreamEnded {
		t.Errorf("segments of a stream that has ended: %v", last)
	}
	w := NewStreamWriter(io.Discard, testEncoder(t, StreamConfig{Mode: StreamBounded, Size: 10}))
	for range 2 {
		if err := w.Close(); !errors.Is(err, ErrStreamSize) {
			t.Errorf("closed ten bytes early: %v", err)
		}
	}
}

// A live segment goes out with what a Read has returned, not when it is full.
func TestLiveSegmentsGoOutAtOnce(t *testing.T) {
	r, w := io.Pipe()
	next, stop := iter.Pull2(testEncoder(t, StreamConfig{}).Segments(r))
	defer stop()
	d := testDecoder(t, StreamDecoderConfig{})
	for _, word := range []string{"one", "two"} {
		go w.Write([]byte(word))
		segment, err, _ := next()
		if err != nil || d.Receive(segment) != nil {
			t.Fatal(err)
		}
		if p, _ := d.Next(); string(p) != word {
			t.Fatalf("got %q, want %q", p, word)
		}
	}
	w.CloseWithError(io.ErrNoProgress)
	if _, err, _ := next(); err != io.ErrNoProgress {
		t.Fatalf("the source's error came as %v", err)
	}
}

// A source that never pauses does not keep the end of the context from being seen.
func TestSegmentsFromEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	in := make(chan []byte, 100)
	for range cap(in) {
		in <- make([]byte, 5000)
	}
	n := 0
	for _, err := range testEncoder(t, StreamConfig{}).SegmentsFrom(ctx, in) {
		if err != nil {
			if !errors.Is(err, context.Canceled) || n > 10 {
				t.Errorf("%v after %d segments", err, n)
			}
			return
		}
		n++
		cancel()
	}
	t.Error("ended without an error")
}

func TestSegmentsFromKeepsToTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, begin := make(chan []byte), time.Now()
		go func() {
			in <- []byte("a")
			time.Sleep(30 * time.Millisecond)
			in <- []byte("b")
			time.Sleep(time.Second)
			in <- []byte("c")
			close(in)
		}()
		d := testDecoder(t, StreamDecoderConfig{})
		var got []string
		var at []time.Duration
		for segment, err := range testEncoder(t, StreamConfig{FlushAfter: 100 * time.Millisecond}).SegmentsFrom(t.Context(), in) {
			if err != nil || d.Receive(segment) != nil {
				t.Fatal(err)
			}
			p, _ := d.Next()
			got, at = append(got, string(p)), append(at, time.Since(begin))
		}
		if !slices.Equal(got, []string{"ab", "c"}) || at[0] != 100*time.Millisecond || at[1] != 1030*time.Millisecond {
			t.Fatalf("%q at %v", got, at)
		}
		if _, err := d.Next(); err != io.EOF || d.Finish() != nil {
			t.Fatalf("end: %v, %v", err, d.Finish())
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for _, err := range testEncoder(t, StreamConfig{}).SegmentsFrom(ctx, make(chan []byte)) {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
		}
	})
}

// chunkLog notes the writes and when they came.
type chunkLog struct {
	writes [][]byte
	at     []time.Time
	err    error
}

func (c *chunkLog) Write(p []byte) (int, error) {
	c.writes, c.at = append(c.writes, bytes.Clone(p)), append(c.at, time.Now())
	return len(p), c.err
}

func TestStreamWriterFlushesBySizeTimeAndRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, log := time.Now(), &chunkLog{}
		w := NewStreamWriter(log, testEncoder(t, StreamConfig{SegmentSize: StreamOverhead + 10, FlushAfter: 50 * time.Millisecond}))
		write := func(s string) {
			if n, err := w.Write([]byte(s)); n != len(s) || err != nil {
				t.Fatal(n, err)
			}
		}
		write("0123456789abc") // ten at once
		time.Sleep(20 * time.Millisecond)
		write("d") // goes with abc, when that has waited
		time.Sleep(80 * time.Millisecond)
		write("now")
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		write("end")
		if err := errors.Join(w.Close(), w.Close()); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("x")); err != ErrStreamEnded {
			t.Fatalf("write after Close: %v", err)
		}
		time.Sleep(time.Second) // no timer is left that sends
		d := testDecoder(t, StreamDecoderConfig{})
		want, ms := []string{"0123456789", "abcd", "now", "end"}, []int{0, 50, 100, 100}
		for i, segment := range log.writes {
			if err := d.Receive(segment); err != nil {
				t.Fatal(err)
			}
			if p, _ := d.Next(); i >= len(want) || string(p) != want[i] || log.at[i].Sub(begin) != time.Duration(ms[i])*time.Millisecond {
				t.Fatalf("segment %d: %q at %v", i, p, log.at[i].Sub(begin))
			}
		}
		if _, err := d.Next(); err != io.EOF {
			t.Fatal(err)
		}
	})
}

func TestStreamWriterKeepsTheErrorBelow(t *testing.T) {
	log := &chunkLog{err: io.ErrClosedPipe}
	w := NewStreamWriter(log, testEncoder(t, StreamConfig{}))
	if _, err := w.Write([]byte("a")); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{w.Flush(), w.Flush(), w.Close()} {
		if !errors.Is(err, io.ErrClosedPipe) {
			t.Fatal(err)
		}
	}
	if len(log.writes) != 1 {
		t.Fatalf("%d writes after an error", len(log.writes))
	}
}

func TestStreamReader(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 3000)
	var file bytes.Buffer
	w := NewStreamWriter(&file, testEncoder(t, StreamConfig{SegmentSize: 9000}))
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	whole := file.Bytes()
	read := func(b []byte) ([]byte, error) {
		return io.ReadAll(NewStreamReader(iotest.HalfReader(bytes.NewReader(b)), testDecoder(t, StreamDecoderConfig{})))
	}
	if got, err := read(whole); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d of %d bytes, %v", len(got), len(data), err)
	}
	for cut := 0; cut < len(whole); cut += 1 + cut%97 {
		got, err := read(whole[:cut])
		if !errors.Is(err, ErrTruncated) || !bytes.HasPrefix(data, got) {
			t.Fatalf("cut to %d bytes: %d bytes, %v", cut, len(got), err)
		}
	}
	d := testDecoder(t, StreamDecoderConfig{})
	twice := append(bytes.Clone(whole[:9000]), whole...)
	if got, err := io.ReadAll(NewStreamReader(bytes.NewReader(twice), d)); err != nil || !bytes.Equal(got, data) || d.Stats().Refused != 1 {
		t.Fatalf("a segment twice: %d bytes, %v, %d refused", len(got), err, d.Stats().Refused)
	}
	if _, err := read(whole[9000:]); !errors.Is(err, ErrSegmentLost) {
		t.Fatalf("the first segment cut out: %v", err)
	}
	rest := bytes.NewReader(append(bytes.Clone(whole), "more"...))
	if _, err := io.Copy(io.Discard, NewStreamReader(rest, testDecoder(t, StreamDecoderConfig{}))); err != nil || rest.Len() != 4 {
		t.Fatalf("what follows the stream: %d bytes left, %v", rest.Len(), err)
	}
	if err := iotest.TestReader(NewStreamReader(bytes.NewReader(whole), testDecoder(t, StreamDecoderConfig{})), data); err != nil {
		t.Fatal(err)
	}
}

// Decode goes on behind a segment that was refused, if its caller does.
func TestDecodeGoesOn(t *testing.T) {
	segments := segmentsOf(t, StreamConfig{SegmentSize: StreamOverhead + 3}, []byte("abcdefghi"))
	order := [][]byte{segments[1], segments[1], segments[0], []byte("?"), segments[3], segments[2]}
	var got []byte
	var errs []error
	source := func(yield func([]byte, error) bool) {
		for _, s := range order {
			if !yield(s, nil) {
				return
			}
		}
	}
	for p, err := range testDecoder(t, StreamDecoderConfig{}).Decode(source) {
		if got = append(got, p...); err != nil {
			errs = append(errs, err)
		}
	}
	if string(got) != "abcdefghi" || !slices.Equal(errs, []error{ErrDuplicate, ErrBadSegment}) {
		t.Fatalf("%q, %v", got, errs)
	}
}
