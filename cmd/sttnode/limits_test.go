package main

import (
	"strings"
	"testing"
	"time"

	"github.com/seigr/sttnode/node"
)

func TestReadLimits(t *testing.T) {
	o := limitOptions{up: "10M", peer: "500k", periods: []string{"Mo-Fr 08:00-18:00 2M; Sa up none", "Su down 1M"}}
	limits, err := o.read()
	if err != nil {
		t.Fatal(err)
	}
	at := func(day int) node.Rates { return limits.At(time.Date(2026, 3, 1+day, 9, 0, 0, 0, time.UTC)) } // 0 is a Sunday
	for day, want := range map[int]node.Rates{
		0: {Up: 10 << 20, Down: 1 << 20, Peer: 500 << 10},
		1: {Up: 2 << 20, Down: 2 << 20, Peer: 500 << 10},
		6: {Peer: 500 << 10},
	} {
		if got := at(day); got != want {
			t.Errorf("day %d: %v, want %v", day, got, want)
		}
	}
	for want, o := range map[string]limitOptions{
		"--limit-up: ":   {up: "fast"},
		"--limit-down: ": {down: "0"},
		"--limit-peer: ": {peer: "10"},
		"--limit: ":      {periods: []string{"2M", "Mo-Fr 2M;"}},
	} {
		if _, err := o.read(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v, want an error that begins with %q", o, err, want)
		}
	}
}
