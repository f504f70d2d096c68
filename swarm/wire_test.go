package swarm

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

func TestWireGolden(t *testing.T) {
	var h stc.Hash
	for i := range h {
		h[i] = byte(i)
	}
	const hashHex = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"open", appendOpen(nil, h), "01000020" + hashHex},
		{"want", appendWant(nil, 0xa1b2c3d4, h), "02000024a1b2c3d4" + hashHex},
		{"follow", appendFollow(nil, 9, h, followRequest{1 << 40, 320 << 10, 3}), "0400003100000009" + hashHex + "0000010000000000" + "00050000" + "03"},
		{"cancel", appendRequest(nil, msgCancel, 7), "0300000400000007"},
		{"have nothing", appendHave(nil, nil), "1100000100"},
		{"have complete", appendHaveComplete(nil), "1100000101"},
		{"have ranges", appendHave(nil, []span{{0, 1}, {2, 66}, {1000, 1001}}), "11000008" + "00" + "0000" + "003f" + "43a500"},
		{"blob header", appendBlobHeader(nil, 1, 256<<10), "1204000400000001"},
		{"longest blob header", appendBlobHeader(nil, 1, maxBlob), "1210000400000001"},
		{"missing", appendRequest(nil, msgMissing, 0xffffffff), "13000004ffffffff"},
		{"cancelled", appendRequest(nil, msgCancelled, 3), "1400000400000003"},
		{"close", appendClose(nil, closeGoingAway), "1500000104"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		typ, body, err := parseHeader(c.got)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if typ != msgBlob && body != len(c.got)-headerSize {
			t.Errorf("%s: header says %d bytes of body, there are %d", c.name, body, len(c.got)-headerSize)
		}
	}
	req, got := parseWant(appendWant(nil, 0xa1b2c3d4, h)[headerSize:])
	if req != 0xa1b2c3d4 || got != h {
		t.Errorf("WANT read back as %x %v", req, got)
	}
	behind := followRequest{1<<40 + 5, 320<<10 + 6, 7}
	if req, got, f := parseFollow(appendFollow(nil, 9, h, behind)[headerSize:]); req != 9 || got != h || f != behind {
		t.Errorf("FOLLOW read back as %x %v %+v", req, got, f)
	}
}

func TestWireHeaderRefused(t *testing.T) {
	for _, in := range []string{
		"",
		"010000",   // truncated
		"0000000a", // unknown type
		"04000024", // FOLLOW without what follows
		"05000004", // unknown type
		"10000001", // unknown type
		"01000021", // OPEN too long
		"0100001f", // OPEN too short
		"02000020", // WANT without a request
		"03000005", // CANCEL too long
		"11000000", // HAVE without a kind
		"11ffffff", // HAVE too long
		"12000003", // BLOB without a request
		"12100005", // BLOB longer than 1 MiB
		"12ffffff",
		"13000000",
		"15000000",
		"15000002",
	} {
		b, _ := hex.DecodeString(in)
		if _, _, err := parseHeader(b); !errors.Is(err, ErrProtocol) {
			t.Errorf("%q: %v, want ErrProtocol", in, err)
		}
	}
}

func TestWireHaveRefused(t *testing.T) {
	many := []byte{haveRanges}
	for range maxHaveRanges + 1 {
		many = append(many, 0, 0)
	}
	for name, body := range map[string]string{
		"no kind":               "",
		"unknown kind":          "02",
		"complete with ranges":  "010000",
		"gap alone":             "0000",
		"length cut":            "000040",
		"gap not shortest":      "00400100",
		"length not shortest":   "000080000001",
		"first behind the end":  "00ffffffffffffffff00",
		"length behind the end": "0001ffffffffffffffff",
		"too many":              hex.EncodeToString(many),
	} {
		b, err := hex.DecodeString(body)
		if err != nil {
			t.Fatal(err)
		}
		if spans, _, err := parseHave(nil, b); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v, %v, want ErrProtocol", name, spans, err)
		}
	}
}

// A set with more ranges than one message holds comes over in several.
func TestWireHaveSplit(t *testing.T) {
	var in []span
	for i := range uint64(3*maxHaveRanges + 5) {
		in = append(in, span{i * 3, i*3 + 2})
	}
	var set rangeSet
	b := appendHave(nil, in)
	messages := 0
	for len(b) > 0 {
		typ, n, err := parseHeader(b)
		if err != nil || typ != msgHave {
			t.Fatal(typ, err)
		}
		spans, _, err := parseHave(nil, b[headerSize:headerSize+n])
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range spans {
			set.add(s)
		}
		b = b[headerSize+n:]
		messages++
	}
	if messages != 4 || !slices.Equal(set.spans, in) {
		t.Fatalf("%d messages with %d ranges, want 4 with %d", messages, len(set.spans), len(in))
	}
}

func FuzzParseMessage(f *testing.F) {
	for _, s := range []string{"01000020" + strings.Repeat("ab", 32), "04000031" + strings.Repeat("cd", 49), "1100000800000000" + "3f43a500", "1100000101", "1100000100", "1204000400000001", "1500000104"} {
		b, _ := hex.DecodeString(s)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		typ, n, err := parseHeader(in)
		if err != nil {
			if !errors.Is(err, ErrProtocol) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		if n > requestLen+maxBlob {
			t.Fatalf("accepted a body of %d bytes", n)
		}
		if len(in) < headerSize+n {
			return
		}
		in = in[:headerSize+n]
		body := in[headerSize:]
		var again []byte
		switch typ {
		case msgOpen:
			again = appendOpen(nil, stc.Hash(body))
		case msgWant:
			again = appendWant(nil, parseRequest(body), stc.Hash(body[requestLen:]))
		case msgFollow:
			id, h, behind := parseFollow(body)
			again = appendFollow(nil, id, h, behind)
		case msgCancel, msgMissing, msgCancelled:
			again = appendRequest(nil, typ, parseRequest(body))
		case msgBlob:
			again = append(appendBlobHeader(nil, parseRequest(body), n-requestLen), body[requestLen:]...)
		case msgClose:
			again = appendClose(nil, closeReason(body[0]))
		case msgHave:
			spans, complete, err := parseHave(nil, body)
			if err != nil {
				if !errors.Is(err, ErrProtocol) {
					t.Fatalf("error of another kind: %v", err)
				}
				return
			}
			last := uint64(0)
			for i, s := range spans {
				if s.lo >= s.hi || i > 0 && s.lo <= last || s.hi > frame.MaxVarint {
					t.Fatalf("spans %v", spans)
				}
				last = s.hi
			}
			if complete {
				again = appendHaveComplete(nil)
			} else {
				again = appendHave(nil, spans)
			}
		}
		if !bytes.Equal(again, in) {
			t.Fatalf("%x was accepted and is written as %x", in, again)
		}
	})
}
