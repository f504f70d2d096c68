package dht

import (
	"math"
	"time"
)

// stamp is a time as the many entries of the table and of the peers keep it, in
// a third of the room: nanoseconds on the clock of their machine. The zero value
// stands for no time at all.
type stamp int64

// never comes after all times.
const never = stamp(math.MaxInt64)

// clock gives stamps. It follows the monotonic clock of the times it is given,
// as far as they have one.
type clock struct{ zero time.Time }

func newClock(now time.Time) clock { return clock{now.Add(-time.Nanosecond)} }

// at returns the stamp of t, which is zero for the zero time.
func (c clock) at(t time.Time) stamp {
	if t.IsZero() {
		return 0
	}
	if s := stamp(t.Sub(c.zero)); s != 0 {
		return s
	}
	return 1
}

// time returns the time of s.
func (c clock) time(s stamp) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return c.zero.Add(time.Duration(s))
}

func (s stamp) add(d time.Duration) stamp { return s + stamp(d) }
func (s stamp) sub(b stamp) time.Duration { return time.Duration(s - b) }
