package frame

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestHeaderGolden(t *testing.T) {
	id := SessionID{1, 2, 3, 4, 5, 6, 7, 8}
	for _, test := range []struct {
		name string
		h    Header
		want string
	}{
		{"smallest", Header{Type: TypeControl, Session: id}, "03 00 0102030405060708 00 00"},
		{"data", Header{Type: TypeData, Epoch: 255, Session: id, Stream: 5, Seq: 1000}, "02 ff 0102030405060708 05 43e8"},
		{"last stream", Header{Type: TypeStreamControl, Session: id, Stream: 65535, Seq: 63}, "04 00 0102030405060708 8000ffff 3f"},
		{"last sequence number", Header{Type: 0xff, Epoch: 1, Session: id, Stream: 1, Seq: MaxVarint}, "ff 01 0102030405060708 01 ffffffffffffffff"},
		{"DHT", Header{Type: TypeDHT}, "06 00 0000000000000000 00 00"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := AppendHeader(nil, test.h)
			if want := unhex(t, test.want); !bytes.Equal(got, want) {
				t.Fatalf("AppendHeader = %x, want %x", got, want)
			}
			if HeaderSize(test.h) != len(got) {
				t.Errorf("HeaderSize = %d, want %d", HeaderSize(test.h), len(got))
			}
			h, n, err := ParseHeader(append(got, 0xaa))
			if err != nil || n != len(got) || h != test.h {
				t.Errorf("ParseHeader = %+v, %d, %v; want %+v, %d", h, n, err, test.h, len(got))
			}
		})
	}
}

func TestHeaderRefused(t *testing.T) {
	for _, test := range []struct {
		name, in string
		want     error
	}{
		{"empty", "", ErrTruncated},
		{"one byte short", "03 00 0102030405060708 00", ErrTruncated},
		{"cut sequence number", "03 00 0102030405060708 00 40", ErrTruncated},
		{"type zero", "00 00 0102030405060708 00 00", ErrMalformed},
		{"reserved type", "07 00 0102030405060708 00 00", ErrMalformed},
		{"stream over 65535", "02 00 0102030405060708 80010000 00", ErrMalformed},
		{"long varint", "02 00 0102030405060708 4001 00", ErrMalformed},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, _, err := ParseHeader(unhex(t, test.in)); !errors.Is(err, test.want) {
				t.Errorf("ParseHeader: %v, want %v", err, test.want)
			}
		})
	}
}

// TestVarint uses the samples of RFC 9000 appendix A.1.
func TestVarint(t *testing.T) {
	for _, test := range []struct {
		in   string
		want uint64
	}{
		{"c2197c5eff14e88c", 151288809941952652},
		{"9d7f3e7d", 494878333},
		{"7bbd", 15293},
		{"25", 37},
	} {
		b := unhex(t, test.in)
		v, n, err := ConsumeVarint(b)
		if v != test.want || n != len(b) || err != nil {
			t.Errorf("ConsumeVarint(%s) = %d, %d, %v; want %d", test.in, v, n, err, test.want)
		}
		if got := AppendVarint(nil, test.want); !bytes.Equal(got, b) {
			t.Errorf("AppendVarint(%d) = %x, want %s", test.want, got, test.in)
		}
	}
	// The RFC's fifth sample, 37 in two bytes, is not the shortest form.
	if _, _, err := ConsumeVarint([]byte{0x40, 0x25}); !errors.Is(err, ErrMalformed) {
		t.Errorf("long form accepted: %v", err)
	}
}

func TestDataGolden(t *testing.T) {
	ack := AppendAck(nil, []Range{{1, 3}, {7, 11}}, 25*time.Microsecond, 100)
	for _, test := range []struct {
		name string
		fin  bool
		ack  []byte
		off  uint64
		body string
		want string
	}{
		{"bytes", false, nil, 0, "hi", "00 00 6869"},
		{"end alone", true, nil, 16384, "", "01 80004000"},
		{"with ACK", true, ack, 1, "x", "03 0a 19 01 03 03 01 01 78"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := AppendDataHeader(nil, test.fin, test.ack, test.off)
			if DataHeaderSize(len(test.ack), test.off) != len(got) {
				t.Errorf("DataHeaderSize is not %d", len(got))
			}
			got = append(got, test.body...)
			if want := unhex(t, test.want); !bytes.Equal(got, want) {
				t.Fatalf("got %x, want %x", got, want)
			}
			d, err := ParseData(got)
			if err != nil || d.Fin != test.fin || d.Offset != test.off || string(d.Bytes) != test.body || d.HasAck != (test.ack != nil) {
				t.Errorf("ParseData = %+v, %v", d, err)
			}
		})
	}
	for _, bad := range []string{"", "04 00", "00", "00 ffffffffffffffff 61", "02 00"} {
		if _, err := ParseData(unhex(t, bad)); err == nil {
			t.Errorf("ParseData(%s) accepted", bad)
		}
	}
}

func collect(a Ack) []Range {
	var out []Range
	for r := range a.Ranges() {
		out = append([]Range{r}, out...)
	}
	return out
}

func TestAck(t *testing.T) {
	ranges := []Range{{0, 1}, {5, 9}, {100, 101}, {1 << 20, 1<<20 + 50}}
	body := AppendAck(nil, ranges, time.Millisecond, 1000)
	a, n, err := ConsumeAck(append(body, 1, 2, 3))
	if err != nil || n != len(body) {
		t.Fatalf("ConsumeAck: %d bytes of %d, %v", n, len(body), err)
	}
	if got := collect(a); len(got) != len(ranges) || a.Delay != time.Millisecond || a.Largest != 1<<20+49 {
		t.Fatalf("got %v, delay %v", got, a.Delay)
	}
	for i, r := range collect(a) {
		if r != ranges[i] {
			t.Errorf("range %d = %v, want %v", i, r, ranges[i])
		}
	}
	// With less room the lowest ranges go first, and the rest still parses.
	for limit := range len(body) {
		b := AppendAck(nil, ranges, time.Millisecond, limit)
		if len(b) > limit {
			t.Fatalf("limit %d: %d bytes", limit, len(b))
		}
		if len(b) == 0 {
			continue
		}
		a, _, err := ConsumeAck(b)
		if err != nil {
			t.Fatalf("limit %d: %v", limit, err)
		}
		got := collect(a)
		for i, r := range got {
			if r != ranges[len(ranges)-len(got)+i] {
				t.Errorf("limit %d: %v", limit, got)
			}
		}
	}
	many := make([]Range, 200)
	for i := range many {
		many[i] = Range{uint64(3 * i), uint64(3*i + 1)}
	}
	a, _, err = ConsumeAck(AppendAck(nil, many, 0, 5000))
	if got := collect(a); err != nil || len(got) != MaxAckRanges || got[0] != many[200-MaxAckRanges] {
		t.Errorf("200 ranges: %d left, %v", len(got), err)
	}
	for _, bad := range []string{"05 00 00 06", "05 00 01 00 05 00", "05 00 01 00 02 02", "05 00 40 40 00", "05 00 01"} {
		if _, _, err := ConsumeAck(unhex(t, bad)); err == nil {
			t.Errorf("ConsumeAck(%s) accepted", bad)
		}
	}
}

func TestControlGolden(t *testing.T) {
	path := [8]byte{9, 8, 7, 6, 5, 4, 3, 2}
	b := AppendPing(nil)
	b = AppendControlAck(b, AppendAck(nil, []Range{{0, 3}}, 0, 100))
	b = AppendMaxData(b, 1<<20)
	b = AppendPathChallenge(b, path)
	b = AppendPathResponse(b, path)
	b = AppendClose(b, 7, "bye")
	b = AppendPadding(b, 2)
	want := unhex(t, "01 02 02000002 03 80100000 04 0908070605040302 05 0908070605040302 06 07 03 627965 00 00")
	if !bytes.Equal(b, want) {
		t.Fatalf("got  %x\nwant %x", b, want)
	}
	var types []ControlType
	for rest := b; len(rest) > 0; {
		c, n, err := ConsumeControl(rest)
		if err != nil {
			t.Fatal(err)
		}
		switch c.Type {
		case ControlMaxData:
			if c.Limit != 1<<20 {
				t.Errorf("limit %d", c.Limit)
			}
		case ControlPathChallenge, ControlPathResponse:
			if c.Path != path {
				t.Errorf("path %x", c.Path)
			}
		case ControlClose:
			if c.Code != 7 || string(c.Reason) != "bye" {
				t.Errorf("close %d %q", c.Code, c.Reason)
			}
		}
		types = append(types, c.Type)
		rest = rest[n:]
	}
	if len(types) != 8 {
		t.Errorf("records %v", types)
	}
	// A long reason is cut between characters.
	c, _, err := ConsumeControl(AppendClose(nil, 0, strings.Repeat("ä", MaxReason)))
	if err != nil || len(c.Reason) > MaxReason {
		t.Errorf("long reason: %d bytes, %v", len(c.Reason), err)
	}
	for _, bad := range []string{"07", "04 01", "06 00", "06 00 05 61", "06 00 4201", "06 00 01 ff", "03"} {
		if _, _, err := ConsumeControl(unhex(t, bad)); err == nil {
			t.Errorf("ConsumeControl(%s) accepted", bad)
		}
	}
}

func TestStreamControlGolden(t *testing.T) {
	b := AppendStreamMaxData(nil, 100)
	b = AppendStreamReset(b, 3, 64)
	b = AppendStreamStopSending(b, 4, 0)
	if want := unhex(t, "01 4064 02 03 4040 03 04 00"); !bytes.Equal(b, want) {
		t.Fatalf("got %x, want %x", b, want)
	}
	want := []StreamControl{{StreamMaxData, 0, 100}, {StreamReset, 3, 64}, {StreamStopSending, 4, 0}}
	for _, w := range want {
		c, n, err := ConsumeStreamControl(b)
		if err != nil || c != w {
			t.Fatalf("got %+v, %v; want %+v", c, err, w)
		}
		b = b[n:]
	}
	for _, bad := range []string{"", "00", "04 00", "01", "02 01", "03"} {
		if _, _, err := ConsumeStreamControl(unhex(t, bad)); err == nil {
			t.Errorf("ConsumeStreamControl(%s) accepted", bad)
		}
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add(AppendHeader(nil, Header{Type: TypeData, Stream: 5, Seq: 1000}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := ParseHeader(b)
		if err == nil && !bytes.Equal(AppendHeader(nil, h), b[:n]) {
			t.Errorf("%x has two encodings", b[:n])
		}
	})
}

// FuzzPayloads feeds every payload parser and checks that what was accepted
// is canonical where it must be, and that ranges stay in order.
func FuzzPayloads(f *testing.F) {
	f.Add(AppendDataHeader(nil, true, AppendAck(nil, []Range{{1, 3}, {7, 11}}, 0, 99), 5))
	f.Add(AppendClose(AppendPing(nil), 3, "x"))
	f.Add(AppendStreamReset(AppendStreamMaxData(nil, 1), 2, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		checkAck := func(a Ack) {
			last := uint64(MaxVarint + 2)
			n := 0
			for r := range a.Ranges() {
				if n++; r.Start >= r.End || r.End >= last || n > MaxAckRanges {
					t.Fatalf("bad range %v below %d", r, last)
				}
				last = r.Start
			}
		}
		if d, err := ParseData(b); err == nil && d.HasAck {
			checkAck(d.Ack)
		}
		for rest := b; len(rest) > 0; {
			c, n, err := ConsumeControl(rest)
			if err != nil {
				break
			}
			if c.Type == ControlAck {
				checkAck(c.Ack)
			}
			rest = rest[n:]
		}
		for rest := b; len(rest) > 0; {
			_, n, err := ConsumeStreamControl(rest)
			if err != nil {
				break
			}
			rest = rest[n:]
		}
	})
}

func BenchmarkParse(b *testing.B) {
	buf := AppendHeader(nil, Header{Type: TypeData, Stream: 5, Seq: 100000})
	buf = AppendDataHeader(buf, false, AppendAck(nil, []Range{{1, 3}, {7, 11}}, 0, 99), 1<<20)
	b.ReportAllocs()
	for b.Loop() {
		_, n, err := ParseHeader(buf)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := ParseData(buf[n:]); err != nil {
			b.Fatal(err)
		}
	}
}
