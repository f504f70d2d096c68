package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// meterWindow is how far back a meter looks.
const meterWindow = 5 * time.Second

// meter measures a rate over the last seconds. It has no clock of its own.
type meter struct {
	samples []sample // the oldest first, all but the first within meterWindow
}

type sample struct {
	at    time.Time
	bytes int64
}

// add notes how many bytes are done at a time.
func (m *meter) add(now time.Time, bytes int64) {
	m.samples = append(m.samples, sample{now, bytes})
	for len(m.samples) > 2 && now.Sub(m.samples[1].at) >= meterWindow {
		m.samples = m.samples[1:]
	}
}

// rate returns bytes a second, 0 while it is not known.
func (m *meter) rate() float64 {
	if len(m.samples) < 2 {
		return 0
	}
	first, last := m.samples[0], m.samples[len(m.samples)-1]
	elapsed := last.at.Sub(first.at).Seconds()
	if elapsed <= 0 {
		return 0
	}
	return float64(last.bytes-first.bytes) / elapsed
}

// left returns how long the rest takes at the present rate; ok is false while
// nobody can tell.
func (m *meter) left(total int64) (d time.Duration, ok bool) {
	rate := m.rate()
	if rate <= 0 || len(m.samples) == 0 {
		return 0, false
	}
	seconds := float64(max(0, total-m.samples[len(m.samples)-1].bytes)) / rate
	if seconds > 1e6 {
		return 0, false
	}
	return time.Duration(seconds * float64(time.Second)), true
}

// byteUnits are each 1,024 times the one before.
var byteUnits = []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}

// humanBytes writes a size with a binary unit and three digits or so.
func humanBytes[N int | int64 | uint64 | float64](n N) string {
	v, i := float64(n), 0
	for v >= 1023.95 && i < len(byteUnits)-1 {
		v, i = v/1024, i+1
	}
	switch {
	case i == 0:
		return fmt.Sprintf("%.0f B", v)
	case v < 99.95:
		return fmt.Sprintf("%.1f %s", v, byteUnits[i])
	default:
		return fmt.Sprintf("%.0f %s", v, byteUnits[i])
	}
}

// parseBytes reads a size: a whole number and a binary unit as humanBytes
// writes it, or its first letter: 256 KiB, 256KiB, 256k.
func parseBytes(text string) (uint64, error) {
	digits := strings.TrimRightFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	n, err := strconv.ParseUint(digits, 10, 64)
	unit := strings.ToUpper(strings.TrimSpace(text[len(digits):]))
	i := slices.IndexFunc(byteUnits, func(u string) bool { return strings.EqualFold(u, unit) || unit == u[:1] })
	if unit == "" {
		i = 0
	}
	if err != nil || i < 0 || n > math.MaxUint64>>(10*i) {
		return 0, fmt.Errorf("%q is not a size such as 256KiB", text)
	}
	return n << (10 * i), nil
}

// humanDuration writes a time as a person says it.
func humanDuration(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()+0.5))
	case d < time.Hour:
		return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
	default:
		return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
	}
}
