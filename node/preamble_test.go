package node

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestPreambleBytes(t *testing.T) {
	got := appendPreamble(nil, protocolSwarm)
	if want := "0b" + hex.EncodeToString([]byte("stt/swarm/1")); hex.EncodeToString(got) != want {
		t.Fatalf("preamble is %x, want %s", got, want)
	}
	r := bytes.NewReader(append(got, "rest"...))
	if name, err := readPreamble(r); err != nil || name != protocolSwarm {
		t.Fatalf("read %q, %v", name, err)
	}
	if rest, _ := io.ReadAll(r); string(rest) != "rest" {
		t.Fatalf("%q is left for the protocol", rest)
	}
}

func TestPreambleRefusesOthers(t *testing.T) {
	for _, bad := range []string{"\x00", "\x40\x01a", "\xff", "\x03a b", "\x02a\n", "\x01\x80"} {
		if name, err := readPreamble(strings.NewReader(bad)); !errors.Is(err, ErrProtocol) {
			t.Errorf("%q: read %q, %v", bad, name, err)
		}
	}
	for _, short := range []string{"", "\x03ab"} {
		if name, err := readPreamble(strings.NewReader(short)); err == nil || errors.Is(err, ErrProtocol) {
			t.Errorf("%q: read %q, %v", short, name, err)
		}
	}
}

func FuzzReadPreamble(f *testing.F) {
	f.Add(appendPreamble(nil, protocolSwarm))
	f.Add([]byte{0x40, 0x0b})
	f.Fuzz(func(t *testing.T, b []byte) {
		name, err := readPreamble(bytes.NewReader(b))
		if err != nil {
			return
		}
		// One name has one encoding.
		if enc := appendPreamble(nil, name); !bytes.HasPrefix(b, enc) {
			t.Fatalf("%x reads as %q, which is written %x", b, name, enc)
		}
	})
}
