package stc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"
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
