package stc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"iter"
	"slices"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

var streamKey = [32]byte{1, 2, 3}

func testEncoder(t testing.TB, cfg StreamConfig) *StreamEncoder {
	t.Helper()
	e, err := NewStreamEncoder(streamKey, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func testDecoder(t testing.TB, cfg StreamDecoderConfig) *StreamDecoder {
	t.Helper()
	d, err := NewStreamDecoder(streamKey, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// segmentsOf encodes data and returns copies of its segments.
func segmentsOf(t testing.TB, cfg StreamConfig, data []byte) [][]byte {
	t.Helper()
	var all [][]byte
	for segment, err := range testEncoder(t, cfg).Segments(bytes.NewReader(data)) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, bytes.Clone(segment))
	}
	return all
}

// drain returns what d has in order, and the error behind it.
func drain(d *StreamDecoder) (out []byte, err error) {
	for {
		p, err := d.Next()
		if err != nil {
			return out, err
		}
		out = append(out, p...)
	}
}

func TestStreamRoundTripInAnyOrder(t *testing.T) {
	random := testRand(t)
	for range 200 {
		data := randomBytes(random, random.IntN(5000))
		cfg := StreamConfig{SegmentSize: MinSegmentSize + random.IntN(400)}
		if random.IntN(2) == 0 {
			cfg.Mode, cfg.Size = StreamBounded, uint64(len(data))
		}
		if random.IntN(2) == 0 {
			cfg.Suite = SuiteChaCha20Poly1305
		}
		segments := segmentsOf(t, cfg, data)
		if most := (len(data)+cfg.SegmentSize-StreamOverhead-1)/(cfg.SegmentSize-StreamOverhead) + 1; len(segments) > most {
			t.Fatalf("%d segments for %d bytes in segments of %d", len(segments), len(data), cfg.SegmentSize)
		}
		random.Shuffle(len(segments), func(i, j int) { segments[i], segments[j] = segments[j], segments[i] })
		d := testDecoder(t, StreamDecoderConfig{Window: 5000})
		var got []byte
		for i, segment := range segments {
			if len(segment) > cfg.SegmentSize {
				t.Fatalf("segment of %d bytes, at most %d", len(segment), cfg.SegmentSize)
			}
			if err := d.Receive(segment); err != nil {
				t.Fatalf("segment %d: %v", i, err)
			}
			clear(segment) // the decoder must not need it
			p, err := drain(d)
			if got = append(got, p...); i < len(segments)-1 && err != ErrStreamGap || i == len(segments)-1 && err != io.EOF {
				t.Fatalf("after %d of %d segments: %v", i+1, len(segments), err)
			}
		}
		if !bytes.Equal(got, data) || d.Finish() != nil {
			t.Fatalf("%d bytes became %d, %v", len(data), len(got), d.Finish())
		}
		if size, known := d.Size(); !known || size != uint64(len(data)) {
			t.Fatalf("size %d, %v of %d", size, known, len(data))
		}
	}
}

// Whatever bit of a segment is flipped, and wherever it is cut, it is refused, and the true one is accepted afterwards.
func TestStreamTampering(t *testing.T) {
	segments := segmentsOf(t, StreamConfig{Mode: StreamBounded, Size: 50, SegmentSize: StreamOverhead + 20}, make([]byte, 50))
	d := testDecoder(t, StreamDecoderConfig{})
	for n, segment := range segments {
		for bit := range 8 * len(segment) {
			bad := bytes.Clone(segment)
			bad[bit/8] ^= 1 << (bit % 8)
			err := d.Receive(bad)
			if !errors.Is(err, ErrForged) && !errors.Is(err, ErrBadSegment) && !errors.Is(err, ErrOtherStream) && !errors.Is(err, ErrUnknownSuite) {
				t.Fatalf("segment %d with bit %d flipped: %v", n, bit, err)
			}
			if bit >= 8*streamHeader && err != ErrForged {
				t.Fatalf("segment %d with a bit of its sealed bytes flipped: %v, want ErrForged", n, err)
			}
		}
		for cut := range segment {
			if err := d.Receive(segment[:cut]); err != ErrBadSegment {
				t.Fatalf("segment %d cut to %d bytes: %v", n, cut, err)
			}
		}
		if err := d.Receive(append(bytes.Clone(segment), 0)); err != ErrBadSegment {
			t.Fatalf("segment %d with a byte more: %v", n, err)
		}
		if err := d.Receive(segment); err != nil {
			t.Fatalf("segment %d itself: %v", n, err)
		}
	}
	if p, err := drain(d); len(p) != 50 || err != io.EOF {
		t.Fatalf("%d bytes, %v", len(p), err)
	}
}

func TestStreamRefusals(t *testing.T) {
	cfg := StreamConfig{SegmentSize: StreamOverhead + 10, Mode: StreamBounded, Size: 50}
	data := []byte("0123456789abcdefghijABCDEFGHIJ----------==========")
	segments, other := segmentsOf(t, cfg, data), segmentsOf(t, cfg, data)
	d := testDecoder(t, StreamDecoderConfig{Window: 3})
	steps := []struct {
		name    string
		segment []byte
		want    error
	}{
		{"first", segments[0], nil},
		{"again", segments[0], ErrDuplicate},
		{"ahead", segments[2], nil},
		{"ahead again", segments[2], ErrDuplicate},
		{"too far ahead", segments[3], ErrStreamWindow},
		{"of another stream", other[1], ErrOtherStream},
		{"no segment", []byte("hello"), ErrBadSegment},
		{"the gap", segments[1], nil},
	}
	for _, s := range steps {
		if err := d.Receive(s.segment); !errors.Is(err, s.want) {
			t.Errorf("%s: %v, want %v", s.name, err, s.want)
		}
	}
	if got, err := drain(d); string(got) != string(data[:30]) || err != ErrStreamGap {
		t.Errorf("got %q, %v", got, err)
	}
	if err := d.Receive(segments[1]); err != ErrDuplicate {
		t.Errorf("replayed after it was read: %v", err)
	}
	if err := d.Finish(); !errors.Is(err, ErrTruncated) || errors.Is(err, ErrSegmentLost) {
		t.Errorf("cut off at a border: %v", err)
	}
	if err := d.Receive(segments[4]); err != nil {
		t.Error(err)
	}
	if err := d.Finish(); errors.Is(err, ErrTruncated) || !errors.Is(err, ErrSegmentLost) {
		t.Errorf("one in the middle lost: %v", err)
	}
	if got := slices.Collect(d.Missing()); !slices.Equal(got, []uint64{3}) {
		t.Errorf("missing %v", got)
	}
	if n := d.Skip(); n != 1 {
		t.Errorf("skipped %d", n)
	}
	if got, err := drain(d); string(got) != "==========" || err != io.EOF {
		t.Errorf("behind the gap %q, %v", got, err)
	}
	if err := d.Finish(); !errors.Is(err, ErrSegmentLost) {
		t.Errorf("after Skip: %v", err)
	}

	wrong, err := NewStreamDecoder([32]byte{9}, StreamDecoderConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if err := wrong.Receive(segments[0]); err != ErrForged || wrong.Stream() != (StreamID{}) {
		t.Errorf("with another key: %v", err)
	}
	told := testDecoder(t, StreamDecoderConfig{Stream: StreamID(other[0][24:40])})
	if err := told.Receive(segments[0]); err != ErrOtherStream {
		t.Errorf("a stream that is not the one told: %v", err)
	}
	if err := told.Receive(other[0]); err != nil {
		t.Error(err)
	}
}

// What waits for its turn is bounded in bytes, and the segment that everything waits for is taken all the same.
func TestStreamDecoderMemory(t *testing.T) {
	segments := segmentsOf(t, StreamConfig{SegmentSize: 1000 + StreamOverhead}, make([]byte, 100_000))
	d := testDecoder(t, StreamDecoderConfig{Buffer: 10_000})
	refused := 0
	for _, s := range segments[1:] {
		if err := d.Receive(s); err == ErrStreamWindow {
			refused++
		} else if err != nil {
			t.Fatal(err)
		}
		if held := d.Stats().Held; held > 10_000 {
			t.Fatalf("%d bytes are held", held)
		}
	}
	if err := d.Receive(segments[0]); err != nil {
		t.Fatal(err)
	}
	if p, err := drain(d); len(p) != 11_000 || err != ErrStreamGap || refused != len(segments)-11 {
		t.Fatalf("%d bytes, %v, %d refused", len(p), err, refused)
	}
}

// A key's holder whose segments contradict each other is found out.
func TestStreamContradictions(t *testing.T) {
	seal := func(h segmentHeader, p string) []byte {
		aead, err := segmentAEAD(&streamKey, SuiteAES256GCM, StreamID{7})
		if err != nil {
			t.Fatal(err)
		}
		h.suite, h.id, h.length = SuiteAES256GCM, StreamID{7}, len(p)
		var b [streamHeader]byte
		var nonce [packetNonceSize]byte
		h.put(&b)
		segmentNonce(&nonce, h.number, h.last())
		return aead.Seal(b[:], nonce[:], []byte(p), b[:])
	}
	for name, c := range map[string]struct {
		segments [][]byte
		want     error
	}{
		"two ends":         {[][]byte{seal(segmentHeader{number: 1, flags: flagLast, size: 2}, "b"), seal(segmentHeader{number: 2, flags: flagLast, size: 3}, "c")}, ErrBadSegment},
		"behind the end":   {[][]byte{seal(segmentHeader{number: 1, flags: flagLast, size: 2}, "b"), seal(segmentHeader{number: 3}, "c")}, ErrBadSegment},
		"end before more":  {[][]byte{seal(segmentHeader{number: 3}, "c"), seal(segmentHeader{number: 1, flags: flagLast, size: 2}, "b")}, ErrBadSegment},
		"another mode":     {[][]byte{seal(segmentHeader{number: 0}, "a"), seal(segmentHeader{number: 1, flags: flagBounded, size: 9}, "b")}, ErrBadSegment},
		"another size":     {[][]byte{seal(segmentHeader{number: 0, flags: flagBounded, size: 8}, "a"), seal(segmentHeader{number: 1, flags: flagBounded, size: 9}, "b")}, ErrBadSegment},
		"fewer bytes":      {[][]byte{seal(segmentHeader{number: 0}, "a"), seal(segmentHeader{number: 1, flags: flagLast, size: 9}, "b")}, ErrStreamSize},
		"no bytes, no end": {[][]byte{seal(segmentHeader{number: 0}, "")}, ErrBadSegment},
		"size of a live":   {[][]byte{seal(segmentHeader{number: 0, size: 4}, "a")}, ErrBadSegment},
		"number too high":  {[][]byte{seal(segmentHeader{number: ^uint64(0)}, "a")}, ErrBadSegment},
	} {
		d, err := testDecoder(t, StreamDecoderConfig{}), error(nil)
		for _, s := range c.segments {
			err = d.Receive(s)
		}
		if err == nil {
			_, err = drain(d)
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestStreamConfigRefused(t *testing.T) {
	for name, cfg := range map[string]StreamConfig{
		"mode":           {Mode: 2},
		"live with size": {Size: 1},
		"tiny segments":  {SegmentSize: StreamOverhead},
		"huge segments":  {SegmentSize: MaxSegmentSize + 1},
		"negative flush": {FlushAfter: -1},
	} {
		if _, err := NewStreamEncoder(streamKey, cfg); !errors.Is(err, ErrStreamConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewStreamEncoder(streamKey, StreamConfig{Suite: 9}); !errors.Is(err, ErrUnknownSuite) {
		t.Errorf("suite 9: %v", err)
	}
	for _, cfg := range []StreamDecoderConfig{{Window: -1}, {Window: 1<<20 + 1}, {Buffer: -1}} {
		if _, err := NewStreamDecoder(streamKey, cfg); !errors.Is(err, ErrStreamConfig) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

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

func TestSetSegmentSize(t *testing.T) {
	e, now := testEncoder(t, StreamConfig{SegmentSize: StreamOverhead + 100}), time.Now()
	n, _ := e.Fill(now, make([]byte, 60))
	if err := e.SetSegmentSize(StreamOverhead + 40); n != 60 || err != nil || !e.Due(now) {
		t.Fatal(n, err)
	}
	first, _ := e.Seal(nil)
	n, _ = e.Fill(now, make([]byte, 60))
	second, _ := e.Seal(nil)
	if len(first) != StreamOverhead+60 || n != 40 || len(second) != e.SegmentSize() {
		t.Fatal(len(first), n, len(second))
	}
	if err := e.SetSegmentSize(1); !errors.Is(err, ErrStreamConfig) {
		t.Fatal(err)
	}
}

func TestStreamKeysDiffer(t *testing.T) {
	a, b := testKeyring(t, 1), testKeyring(t, 2)
	if a.StreamKey("x") != testKeyring(t, 1).StreamKey("x") || a.StreamKey("x") == a.StreamKey("y") || a.StreamKey("x") == b.StreamKey("x") {
		t.Fatal("a key must follow from the seed and the label, and from nothing else")
	}
}

func TestStreamAllocations(t *testing.T) {
	e, d, data, now := testEncoder(t, StreamConfig{}), testDecoder(t, StreamDecoderConfig{}), make([]byte, DefaultSegmentSize-StreamOverhead), time.Now()
	buf := make([]byte, 0, DefaultSegmentSize)
	step := func() {
		_, _ = e.Fill(now, data)
		segment, _ := e.Seal(buf)
		if d.Receive(segment) != nil {
			t.Fatal("refused")
		}
		if p, err := d.Next(); len(p) != len(data) || err != nil {
			t.Fatal(err)
		}
	}
	step()
	if n := testing.AllocsPerRun(100, step); n != 0 && !raceEnabled {
		t.Fatalf("%v allocations a segment", n)
	}
}

// FuzzStreamDecoder feeds segments, whole and mangled, and checks that what comes out is the beginning of what went in.
func FuzzStreamDecoder(f *testing.F) {
	data := []byte("The decoder gives only what was sealed, in order, once.")
	segments := segmentsOf(f, StreamConfig{SegmentSize: StreamOverhead + 7, Mode: StreamBounded, Size: uint64(len(data))}, data)
	f.Add([]byte{0, 0, 1, 0, 2, 0}, []byte{})
	f.Add([]byte{7, 0, 6, 0, 0, 9, 0, 0}, segments[1])
	f.Fuzz(func(t *testing.T, script, raw []byte) {
		d := testDecoder(t, StreamDecoderConfig{Window: 4})
		_ = d.Receive(raw)
		var got []byte
		for ; len(script) >= 2; script = script[2:] {
			s := bytes.Clone(segments[int(script[0])%len(segments)])
			s[int(script[1])%len(s)] ^= script[1]
			_ = d.Receive(s)
			p, _ := drain(d)
			got = append(got, p...)
		}
		if !bytes.HasPrefix(data, got) {
			t.Fatalf("got %q", got)
		}
		if d.Finish() == nil && len(got) != len(data) {
			t.Fatalf("%d bytes, and all is well", len(got))
		}
	})
}

// FuzzReadSegments reads arbitrary bytes; a hostile length must not make it allocate.
func FuzzReadSegments(f *testing.F) {
	f.Add(segmentsOf(f, StreamConfig{}, []byte("hello"))[0])
	huge := make([]byte, streamHeader)
	huge[0] = streamVersion
	binary.BigEndian.PutUint32(huge[4:], MaxSegmentSize-StreamOverhead)
	f.Add(huge)
	f.Fuzz(func(t *testing.T, b []byte) {
		s := segmentScanner{r: bytes.NewReader(b)}
		read := 0
		for {
			segment, err := s.next()
			if read += len(segment); cap(s.buf) > 4*len(b)+2*firstRead {
				t.Fatalf("%d bytes of memory for %d", cap(s.buf), len(b))
			}
			if err != nil {
				break
			}
		}
		if read > len(b) {
			t.Fatal("more segments than bytes")
		}
	})
}

func BenchmarkStream(b *testing.B) {
	for name, size := range map[string]int{"path": DefaultSegmentSize, "64KiB": 64 << 10} {
		data, now := make([]byte, size-StreamOverhead), time.Now()
		b.Run("encode/"+name, func(b *testing.B) {
			e, buf := testEncoder(b, StreamConfig{SegmentSize: size}), make([]byte, 0, size)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				_, _ = e.Fill(now, data)
				_, _ = e.Seal(buf)
			}
		})
		b.Run("decode/"+name, func(b *testing.B) {
			segments := segmentsOf(b, StreamConfig{SegmentSize: size}, make([]byte, 64*len(data)))[:64]
			d := testDecoder(b, StreamDecoderConfig{})
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%64 == 0 { // the same stream again
					d.next, d.top = 0, 0
				}
				if err := d.Receive(segments[i%64]); err != nil {
					b.Fatal(err)
				}
				if _, err := d.Next(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
