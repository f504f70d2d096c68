package dht

import "time"

// pacer spreads events in time: one every interval on average, burst at once.
// It is the virtual scheduling form of the leaky bucket (GCRA, ITU-T I.371
// annex A). The zero time of tat means that all of the burst is there.
type pacer struct {
	interval time.Duration
	burst    int
	tat      time.Time // the theoretical arrival time of the next event
}

// allow reports whether an event may happen now, and counts it if so.
func (p *pacer) allow(now time.Time) bool {
	if p.next().After(now) {
		return false
	}
	if p.tat.Before(now) {
		p.tat = now
	}
	p.tat = p.tat.Add(p.interval)
	return true
}

// next returns the time from which on an event may happen; long ago if it may
// now.
func (p *pacer) next() time.Time {
	return p.tat.Add(-time.Duration(p.burst-1) * p.interval)
}
