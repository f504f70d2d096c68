package swarm

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Rate is a limit in bytes of blobs per second.
type Rate int64

const (
	// NoLimit is the rate of what is not limited.
	NoLimit Rate = 0
	// MinRate is the lowest rate that can be parsed: lower ones are taken for
	// a unit that was forgotten.
	MinRate Rate = 1 << 10

	// unchanged is the rate of a period that says nothing of it.
	unchanged Rate = -1
)

// Rates are limits that hold together. The zero value limits nothing.
type Rates struct {
	Up   Rate // to all peers together
	Down Rate // from all peers together
	Peer Rate // to each single peer
}

// Limits are rates, and a timetable of others. The zero value limits nothing.
type Limits struct {
	Rates
	// Periods replace them at certain times, each the rates that it names. Of
	// several periods at the same time that name a rate, the last one holds.
	Periods []Period
}

// Period is a time of the week with rates of its own, as ParsePeriod reads it.
// The zero value is no period of the timetable.
type Period struct {
	days     uint8 // a bit for each weekday on which it begins, from Sunday up
	from, to int   // minutes of the day; to is not later than from if it ends on the next day
	rates    Rates // unchanged where the period says nothing
}

const dayMinutes = 24 * 60

// At returns the rates that hold at t. The clock on the wall decides, in the
// location of t: when the hour from two to three comes twice, so does a period
// in it, and when it is skipped, so is the period.
func (l Limits) At(t time.Time) Rates {
	r := l.Rates
	for _, p := range l.Periods {
		if !p.covers(t) {
			continue
		}
		for _, f := range []struct{ to, from *Rate }{{&r.Up, &p.rates.Up}, {&r.Down, &p.rates.Down}, {&r.Peer, &p.rates.Peer}} {
			if *f.from != unchanged {
				*f.to = *f.from
			}
		}
	}
	return r
}

// covers reports whether the period is under way at t.
func (p Period) covers(t time.Time) bool {
	day := t.Weekday()
	minute := t.Hour()*60 + t.Minute()
	begun := func(d time.Weekday) bool { return p.days&(1<<d) != 0 }
	if p.from < p.to {
		return begun(day) && p.from <= minute && minute < p.to
	}
	return begun(day) && p.from <= minute || begun((day+6)%7) && minute < p.to
}

// ParsePeriod reads a time of the week and the rates that hold in it:
//
//	[DAYS] [HH:MM-HH:MM] RATE                        up and down
//	[DAYS] [HH:MM-HH:MM] {up|down|peer RATE} ...     each by itself
//
// DAYS are days and ranges of them, as in Mo-Fr or Sa,Su,We; a range may go
// over the end of the week. Without days it is every day, without times the
// whole day. A time that ends before it begins ends on the next day: Fr
// 22:00-06:00 is the night to Saturday. RATE is what ParseRate reads.
func ParsePeriod(text string) (Period, error) {
	p := Period{days: 1<<7 - 1, to: dayMinutes, rates: Rates{unchanged, unchanged, unchanged}}
	words := strings.Fields(text)
	if len(words) > 0 && isLetter(words[0][0]) && p.rate(words[0]) == nil && !isNone(words[0]) {
		days, err := parseDays(words[0])
		if err != nil {
			return Period{}, fmt.Errorf("%q: %w", text, err)
		}
		p.days, words = days, words[1:]
	}
	if len(words) > 0 && strings.Contains(words[0], ":") {
		from, to, err := parseTimes(words[0])
		if err != nil {
			return Period{}, fmt.Errorf("%q: %w", text, err)
		}
		p.from, p.to, words = from, to, words[1:]
	}
	if err := p.parseRates(words); err != nil {
		return Period{}, fmt.Errorf("%q: %w", text, err)
	}
	return p, nil
}

// rate returns what a word names, or nil.
func (p *Period) rate(word string) *Rate {
	switch strings.ToLower(word) {
	case "up":
		return &p.rates.Up
	case "down":
		return &p.rates.Down
	case "peer":
		return &p.rates.Peer
	}
	return nil
}

func (p *Period) parseRates(words []string) error {
	if len(words) == 0 {
		return errors.New("a rate is missing at the end, such as 2M or none")
	}
	if len(words) == 1 && p.rate(words[0]) == nil {
		r, err := ParseRate(words[0])
		p.rates.Up, p.rates.Down = r, r
		return err
	}
	for ; len(words) > 0; words = words[2:] {
		to := p.rate(words[0])
		switch {
		case to == nil:
			return fmt.Errorf("%q is not expected here: the order is days, times, rate, as in Mo-Fr 08:00-18:00 up 2M", words[0])
		case *to != unchanged:
			return fmt.Errorf("%s is there twice", words[0])
		case len(words) == 1:
			return fmt.Errorf("a rate is missing behind %s, such as 2M or none", words[0])
		}
		r, err := ParseRate(words[1])
		if err != nil {
			return err
		}
		*to = r
	}
	return nil
}

func isLetter(b byte) bool { return b|0x20 >= 'a' && b|0x20 <= 'z' }

func isNone(word string) bool { return strings.EqualFold(word, "none") }

// ParseRate reads a rate: a number, with or without a fraction, and a binary
// unit of bytes per second, k, M, G or T, with or without iB, B or /s behind
// it; or none, which is NoLimit. 2M and 2MiB/s are 2,097,152 bytes per second.
func ParseRate(text string) (Rate, error) {
	if isNone(text) {
		return NoLimit, nil
	}
	word := strings.TrimSuffix(strings.ToLower(text), "/s")
	digits := strings.TrimRight(word, "kmgtib")
	shift, ok := map[string]int{
		"": 0, "b": 0, "k": 10, "kb": 10, "kib": 10, "m": 20, "mb": 20, "mib": 20, "g": 30, "gb": 30, "gib": 30, "t": 40, "tb": 40, "tib": 40,
	}[word[len(digits):]]
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || !ok || strings.Trim(digits, "0123456789.") != "" {
		return 0, fmt.Errorf("%q is not a rate such as 500k, 2M or none", text)
	}
	n *= float64(uint64(1) << shift)
	switch {
	case n == 0:
		return 0, fmt.Errorf("%q would stop everything; a rate is 1k at least, and none is no limit", text)
	case n < float64(MinRate):
		return 0, fmt.Errorf("%q is less than 1k, a kilobyte per second; is a unit missing, as in %sM?", text, digits)
	case n > math.MaxInt64/2:
		return 0, fmt.Errorf("%q is too large for a rate", text)
	}
	return Rate(n), nil
}

// String returns the rate as ParseRate reads it.
func (r Rate) String() string {
	if r <= NoLimit {
		return "none"
	}
	v, unit := float64(r), 0
	for v >= 1024 && unit < 4 {
		v, unit = v/1024, unit+1
	}
	return strconv.FormatFloat(v, 'f', -1, 64) + []string{"", "k", "M", "G", "T"}[unit]
}

// parseDays reads days and ranges of them, separated by commas.
func parseDays(text string) (days uint8, err error) {
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		from, err := parseDay(first)
		if err != nil {
			return 0, err
		}
		to := from
		if isRange {
			if to, err = parseDay(last); err != nil {
				return 0, err
			}
		}
		for d := from; ; d = (d + 1) % 7 {
			days |= 1 << d
			if d == to {
				break
			}
		}
	}
	return days, nil
}

// parseDay reads the English name of a day, or two of its letters at least.
func parseDay(text string) (time.Weekday, error) {
	if len(text) >= 2 {
		for d := time.Sunday; d <= time.Saturday; d++ {
			if name := d.String(); len(text) <= len(name) && strings.EqualFold(text, name[:len(text)]) {
				return d, nil
			}
		}
	}
	return 0, fmt.Errorf("%q is not a day: the days are Mo Tu We Th Fr Sa Su", text)
}

// parseTimes reads HH:MM-HH:MM.
func parseTimes(text string) (from, to int, err error) {
	first, last, ok := strings.Cut(text, "-")
	if !ok {
		return 0, 0, fmt.Errorf("%q is not a time from-to, such as 08:00-18:00", text)
	}
	if from, err = parseTime(first); err != nil {
		return 0, 0, err
	}
	if to, err = parseTime(last); err != nil {
		return 0, 0, err
	}
	if from == to || from == dayMinutes {
		return 0, 0, fmt.Errorf("%s is no time at all; leave it out for the whole day", text)
	}
	return from, to, nil
}

// parseTime reads HH:MM, up to 24:00.
func parseTime(text string) (minutes int, err error) {
	hour, minute, ok := strings.Cut(text, ":")
	h, errHour := strconv.ParseUint(hour, 10, 8)
	m, errMinute := strconv.ParseUint(minute, 10, 8)
	minutes = int(h)*60 + int(m)
	if !ok || errHour != nil || errMinute != nil || len(minute) != 2 || m > 59 || minutes > dayMinutes {
		return 0, fmt.Errorf("%q is not a time from 00:00 to 24:00", text)
	}
	return minutes, nil
}
