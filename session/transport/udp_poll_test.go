package transport

import (
	"slices"
	"testing"
	"time"
)

func TestPollingPays(t *testing.T) {
	type wait struct {
		d              time.Duration
		received, sent int
	}
	quick, slept, far, answer := 30*time.Microsecond, 300*time.Microsecond, 2*time.Millisecond, 100
	several := func(n int, w wait) []wait { return slices.Repeat([]wait{w}, n) }
	neighbour := slices.Clip(several(20, wait{quick, answer, answer}))
	for name, c := range map[string]struct {
		waits []wait
		want  bool
	}{
		"before anything":             {nil, false},
		"after one quick answer":      {several(1, wait{quick, answer, answer}), false},
		"between quick answers":       {several(2, wait{quick, answer, answer}), true},
		"while both sides sleep":      {several(2, wait{slept, answer, answer}), true},
		"when the try was in vain":    {several(3, wait{slept, answer, answer}), false},
		"and again after a while":     {several(3+20, wait{slept, answer, answer}), true}, // 22 × 300 µs / 32 > pollMost
		"but not for long":            {several(3+20+1, wait{slept, answer, answer}), false},
		"after a late answer":         {append(neighbour, wait{slept, answer, answer}), true},
		"after many late answers":     {append(neighbour, several(8, wait{slept, answer, answer})...), false},
		"after silence":               {append(neighbour, wait{far, answer, answer}), false},
		"after silence, again":        {append(neighbour, wait{far, answer, answer}, wait{slept, answer, answer}, wait{slept, answer, answer}), true},
		"over a path of 2 ms":         {several(100, wait{far, answer, answer}), false},
		"while much is received":      {several(2, wait{quick, 60_000, answer}), false},
		"while much is sent":          {several(2, wait{quick, answer, 60_000}), false},
		"between acknowledgements":    {append(several(1, wait{quick, answer, 60_000}), several(2, wait{quick, answer, answer})...), false},
		"when a neighbour transfers":  {append(neighbour, wait{quick, answer, 60_000}), false},
		"once the transfer is over":   {append(several(1, wait{quick, answer, 60_000}), several(pollLater, wait{quick, answer, answer})...), true},
		"and what was sent is new":    {several(2, wait{quick, answer, 3_000}), true},
		"when every other is in vain": {append(neighbour, slices.Repeat([]wait{{slept, answer, answer}, {quick, answer, answer}}, 100)...), true},
	} {
		p := newPolling()
		p.able = true
		for _, w := range c.waits {
			p.sent.Add(int64(w.sent))
			p.waited(w.d, w.received)
		}
		if got := p.pays(); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
		p.able = false
		if p.pays() {
			t.Errorf("%s: polls on a single core", name)
		}
	}
}
