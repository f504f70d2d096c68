package session

import "time"

// Constants of RFC 9406 section 4.3.
const (
	hystartMinRTTThresh = 4 * time.Millisecond
	hystartMaxRTTThresh = 16 * time.Millisecond
	hystartRTTDivisor   = 8
	hystartSamples      = 8 // N_RTT_SAMPLE
	hystartCSSDivisor   = 4 // of the growth in conservative slow start
	hystartCSSRounds    = 5
)

// hystart ends slow start when round trips grow, before packets are lost:
// HyStart++, RFC 9406. The zero value begins slow start.
type hystart struct {
	end      uint64        // the round ends with the acknowledgement of it
	last     time.Duration // least round trip of the round before; 0 if unknown
	current  time.Duration // least of this round; 0 while none
	samples  int
	css      bool // conservative slow start
	baseline time.Duration
	rounds   int  // of conservative slow start
	done     bool // congestion avoidance is next
}

// growth takes an ACK in slow start and returns by how much the window grows.
func (h *hystart) growth(u ackUpdate) float64 {
	if u.largest >= h.end {
		h.end = u.next
		h.last, h.current, h.samples = h.current, 0, 0
		if h.css {
			if h.rounds++; h.rounds >= hystartCSSRounds {
				h.done = true
			}
		}
	}
	if u.sample > 0 {
		h.samples++
		if h.current == 0 || u.sample < h.current {
			h.current = u.sample
		}
	}
	if h.samples >= hystartSamples && h.current > 0 && h.last > 0 {
		if !h.css {
			thresh := max(hystartMinRTTThresh, min(h.last/hystartRTTDivisor, hystartMaxRTTThresh))
			if h.current >= h.last+thresh {
				h.css, h.baseline, h.rounds = true, h.current, 0
			}
		} else if h.current < h.baseline {
			h.css = false // the delay was somebody else's burst
		}
	}
	if h.css {
		return float64(u.bytes) / hystartCSSDivisor
	}
	return float64(u.bytes)
}
