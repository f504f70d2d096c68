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
	quick, answer := 30*time.Microsecond, 100
	for name, c := range map[string]struct {
		waits []wait
		want  bool
	}{
		"before anything":            {nil, false},
		"after one quick answer":     {[]wait{{quick, answer, answer}}, false},
		"between quick answers":      {[]wait{{quick, answer, answer}, {quick, answer, answer}}, true},
		"after a slow one":           {[]wait{{quick, answer, answer}, {quick, answer, answer}, {pollMost, answer, answer}}, false},
		"over a path of 2 ms":        {[]wait{{2 * time.Millisecond, answer, answer}, {2 * time.Millisecond, answer, answer}}, false},
		"while much is received":     {[]wait{{quick, 60_000, answer}, {quick, 60_000, answer}}, false},
		"while much is sent":         {[]wait{{quick, answer, 60_000}, {quick, answer, 60_000}}, false},
		"between acknowledgements":   {[]wait{{quick, answer, 60_000}, {quick, answer, answer}, {quick, answer, answer}}, false},
		"once the transfer is over":  {append([]wait{{quick, answer, 60_000}}, slices.Repeat([]wait{{quick, answer, answer}}, pollLater)...), true},
		"and what was sent is new":   {[]wait{{quick, answer, 3_000}, {quick, answer, 3_000}}, true},
		"when the misses are behind": {[]wait{{pollMost, answer, 0}, {quick, answer, answer}, {quick, answer, answer}}, true},
	} {
		p := polling{able: true}
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
