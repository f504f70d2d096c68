package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/stc"
)

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]uint64{
		"0": 0, "7": 7, "7B": 7, "1k": 1 << 10, "256KiB": 256 << 10, "256 kib": 256 << 10, "1M": 1 << 20, "3 TiB": 3 << 40, "15EiB": 15 << 60,
	} {
		if got, err := parseBytes(text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "KiB", "-1", "1.5M", "1KB", "1 x", "16EiB", "1i", "1KiBi"} {
		if got, err := parseBytes(text); err == nil {
			t.Errorf("%q: %d", text, got)
		}
	}
}

// TestInputEndsWithContext interrupts somebody who waits for input that never
// comes.
func TestInputEndsWithContext(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close() // ends the goroutine
	ctx, cancel := context.WithCancel(t.Context())
	in := untilDone(ctx, r)
	go func() {
		_, _ = w.Write([]byte("x"))
		cancel()
	}()
	if b, err := io.ReadAll(in); len(b) > 1 || !errors.Is(err, context.Canceled) {
		t.Errorf("read %q, %v", b, err)
	}
}

func TestMeter(t *testing.T) {
	var m meter
	now := time.Unix(0, 0)
	if _, ok := m.left(100); ok || m.rate() != 0 {
		t.Error("a rate from nothing")
	}
	for i := range 101 { // ten seconds at 1,000 bytes a second
		m.add(now.Add(time.Duration(i)*100*time.Millisecond), int64(i)*100)
	}
	if r := m.rate(); r < 999 || r > 1001 {
		t.Errorf("rate %v", r)
	}
	if d, ok := m.left(15_000); !ok || d.Round(10*time.Millisecond) != 5*time.Second {
		t.Errorf("left %v, %v", d, ok)
	}
	// What was fast long ago does not count.
	for i := range 100 {
		m.add(now.Add(10*time.Second+time.Duration(i)*100*time.Millisecond), 10_000)
	}
	if _, ok := m.left(15_000); ok || m.rate() != 0 {
		t.Errorf("rate of a standstill %v", m.rate())
	}
	if n := len(m.samples); n > 60 {
		t.Errorf("%d samples are kept", n)
	}
}

func TestHumanTexts(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 100 << 10: "100 KiB", 1<<20 - 1: "1.0 MiB",
		64 << 20: "64.0 MiB", 5 << 40: "5.0 TiB", 1<<64 - 1: "16.0 EiB",
	} {
		if got := humanBytes(n); got != want {
			t.Errorf("%d bytes: %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0 ms", 999 * time.Millisecond: "999 ms", 1500 * time.Millisecond: "1.5 s", 42 * time.Second: "42 s",
		61 * time.Second: "1 min 01 s", 3 * time.Hour: "3 h 00 min",
	} {
		if got := humanDuration(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

func TestSeedBytes(t *testing.T) {
	binary := strings.Repeat("\x00\xff", 16)
	for in, want := range map[string]string{
		"a passphrase of some length\n":         "a passphrase of some length",
		"a passphrase\r\n\n":                    "a passphrase",
		"00ff10\n":                              "\x00\xff\x10",
		"00FF10":                                "\x00\xff\x10",
		"00ff1":                                 "00ff1", // not a whole number of bytes: a text
		" 00ff10":                               " 00ff10",
		binary:                                  binary,
		"\x01 binary with a break at the end\n": "\x01 binary with a break at the end\n",
		"":                                      "",
	} {
		if got := string(seedBytes([]byte(in))); got != want {
			t.Errorf("%q is the seed %q, want %q", in, got, want)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for _, tt := range []struct {
		err  error
		code int
	}{
		{nil, 0},
		{errors.New("x"), 1},
		{usagef("x"), 2},
		{errPartly, 3},
		{&node.NoProviderError{}, 4},
		{node.ErrStalled, 5},
		{node.ErrUnreachable, 5},
		{errTimedOut, 5},
		{node.ErrVerification, 6},
		{content.ErrCorrupt, 6},
		{content.ErrDiskFull, 9},
		{errNotInitialised, 10},
		{content.ErrLocked, 11},
		{node.ErrWrongSeed, 12},
		{errInterrupted, 130},
		{node.ErrExists, 1},
		{stc.ErrSeedTooShort, 1},
	} {
		err := tt.err
		if err != nil {
			err = fmt.Errorf("what was being done: %w", err)
		}
		if got := exitCode(err); got != tt.code {
			t.Errorf("%v: exit code %d, want %d", err, got, tt.code)
		}
	}
	// Every code that is documented comes once.
	seen := make(map[int]bool)
	for _, e := range exitCodeTexts {
		if seen[e.code] {
			t.Errorf("exit code %d is explained twice", e.code)
		}
		seen[e.code] = true
	}
}

func TestErrorText(t *testing.T) {
	err := fmt.Errorf("open store: %w", errors.Join(content.ErrLocked, node.ErrStalled))
	if got, want := errorText(err), "open store: store is in use by another process; the fetch has stalled"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
