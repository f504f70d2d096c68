package swarm

import (
	"strings"
	"testing"
	"time"
)

func periods(t *testing.T, texts ...string) (list []Period) {
	t.Helper()
	for _, text := range texts {
		p, err := ParsePeriod(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

func TestParseRate(t *testing.T) {
	for text, want := range map[string]Rate{
		"none": NoLimit, "NONE": NoLimit, "1k": 1 << 10, "1024": 1 << 10, "2M": 2 << 20, "1.5m": 3 << 19, "2MiB/s": 2 << 20,
		"500kB/s": 500 << 10, "1G": 1 << 30, "0.5T": 1 << 39, "3mb": 3 << 20,
	} {
		if got, err := ParseRate(text); err != nil || got != want {
			t.Errorf("%q is %d: %v; want %d", text, got, err, want)
		}
	}
	for text, why := range map[string]string{
		"": "not a rate", "M": "not a rate", "-1M": "not a rate", "2X": "not a rate", "1e9": "not a rate", "2 M": "not a rate", "NaN": "not a rate",
		"2Mbit": "not a rate", "0x10k": "not a rate", "1.2.3M": "not a rate", "0": "none is no limit", "10": "10M?", "1023": "1023M?", "99999999T": "too large",
	} {
		if got, err := ParseRate(text); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q is %d: %v; want an error with %q", text, got, err, why)
		}
	}
	for _, r := range []Rate{NoLimit, 1 << 10, 1500, 3 << 19, 2 << 20, 5 << 30, 1 << 42} {
		if again, err := ParseRate(r.String()); err != nil || again != r {
			t.Errorf("%d is written as %v and read as %d: %v", r, r, again, err)
		}
	}
}

func TestParsePeriodErrors(t *testing.T) {
	for text, why := range map[string]string{
		"":                           "a rate is missing",
		"Mo-Fr 08:00-18:00":          "a rate is missing",
		"Mo":                         "a rate is missing",
		"Mx 2M":                      `"Mx" is not a day`,
		"M 2M":                       `"M" is not a day`,
		"Mo- 2M":                     `"" is not a day`,
		"Mo,,Tu 2M":                  `"" is not a day`,
		"Mondays 2M":                 `"Mondays" is not a day`,
		"Mo-Fr 2":                    "is a unit missing",
		"08:00 2M":                   "not a time from-to",
		"08:00-25:00 2M":             `"25:00" is not a time`,
		"08:60-10:00 2M":             `"08:60" is not a time`,
		"08:00-24:01 2M":             `"24:01" is not a time`,
		"8:5-10:00 2M":               `"8:5" is not a time`,
		"08:00-08:00 2M":             "no time at all",
		"24:00-08:00 2M":             "no time at all",
		"08:00-10:00 Mo 2M":          `"Mo" is not expected`,
		"Mo 2M 3M":                   `"2M" is not expected`,
		"Mo up 2M up 3M":             "up is there twice",
		"Mo up":                      "missing behind up",
		"up 2M down":                 "missing behind down",
		"Mo sideways 2M":             `"sideways" is not expected`,
		"Mo up much":                 `"much" is not a rate`,
		"Mo-Fr  08:00 - 18:00   2M ": "not a time from-to",
	} {
		_, err := ParsePeriod(text)
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v; want an error with %q", text, err, why)
		}
	}
}

// The rates of a week, looked at where they change.
func TestTimetable(t *testing.T) {
	limits := Limits{
		Rates: Rates{Up: 10 << 20, Peer: 5 << 20},
		Periods: periods(t,
			"Mo-Fr 08:00-18:00 2M",
			"mon-friday 12:00-13:00 up 4M", // says nothing of down
			"Fr,Sa 22:00-06:00 up none down 1M peer none",
			"Su-Mo 23:30-00:15 up 3M",
			"We peer 100k",
		),
	}
	// 2 March 2026 was a Monday.
	at := func(day, hour, minute int) time.Time { return time.Date(2026, 3, 1+day, hour, minute, 0, 0, time.UTC) }
	const mo, tu, we, th, fr, sa, su = 1, 2, 3, 4, 5, 6, 7
	std := Rates{Up: 10 << 20, Peer: 5 << 20}
	office := Rates{2 << 20, 2 << 20, 5 << 20}
	lunch := Rates{4 << 20, 2 << 20, 5 << 20}
	night := Rates{NoLimit, 1 << 20, NoLimit}
	change := Rates{3 << 20, NoLimit, 5 << 20}
	for _, c := range []struct {
		at   time.Time
		want Rates
	}{
		{at(mo, 7, 59), std},
		{at(mo, 8, 0), office},
		{at(mo, 11, 59), office},
		{at(mo, 12, 0), lunch},
		{at(mo, 13, 0), office},
		{at(mo, 17, 59).Add(59 * time.Second), office},
		{at(mo, 18, 0), std},
		{at(mo, 23, 29), std},
		{at(mo, 23, 30), change},
		{at(tu, 0, 14), change},
		{at(tu, 0, 15), std},
		{at(tu, 23, 45), std},
		{at(we, 0, 0), Rates{10 << 20, NoLimit, 100 << 10}},
		{at(we, 9, 0), Rates{2 << 20, 2 << 20, 100 << 10}},
		{at(th, 0, 0), std},
		{at(fr, 5, 0), std}, // the night begins on Friday evening
		{at(fr, 22, 0), night},
		{at(sa, 5, 59), night},
		{at(sa, 6, 0), std},
		{at(sa, 9, 0), std},
		{at(su, 0, 0), night},
		{at(su, 6, 0), std},
		{at(su, 22, 30), std},
		{at(su, 23, 30), change},
		{at(su+1, 0, 0), change}, // Monday
	} {
		if got := limits.At(c.at); got != c.want {
			t.Errorf("%v: %v, want %v", c.at.Format("Mon 15:04"), got, c.want)
		}
	}
}

// Summer time begins and ends: the clock on the wall decides.
func TestTimetableSummerTime(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("no time zones on this machine")
	}
	limits := Limits{Periods: periods(t, "02:00-03:00 1M", "Su 08:00-09:00 2M")}
	count := func(from time.Time, rate Rate) (minutes int) {
		for at := from; at.Before(from.Add(26 * time.Hour)); at = at.Add(time.Minute) {
			if at.In(berlin).Day() == from.Day() && limits.At(at.In(berlin)).Up == rate {
				minutes++
			}
		}
		return minutes
	}
	for _, c := range []struct {
		name        string
		day         time.Time
		hour2, day8 int
	}{
		{"an ordinary Sunday", time.Date(2026, 3, 22, 0, 0, 0, 0, berlin), 60, 60},
		{"the hour from two to three is skipped", time.Date(2026, 3, 29, 0, 0, 0, 0, berlin), 0, 60},
		{"the hour from two to three comes twice", time.Date(2026, 10, 25, 0, 0, 0, 0, berlin), 120, 60},
	} {
		if got := count(c.day, 1<<20); got != c.hour2 {
			t.Errorf("%s: the period from 2 to 3 lasts %d minutes, want %d", c.name, got, c.hour2)
		}
		if got := count(c.day, 2<<20); got != c.day8 {
			t.Errorf("%s: the period from 8 to 9 lasts %d minutes, want %d", c.name, got, c.day8)
		}
	}
}

func FuzzParsePeriod(f *testing.F) {
	f.Add("Mo-Fr 08:00-18:00 2M")
	f.Add("Fr,Sa 22:00-06:00 up none down 1M peer none")
	f.Add("none")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePeriod(text)
		if err != nil {
			return
		}
		r := p.rates
		if p.days == 0 || p.from < 0 || p.from >= dayMinutes || p.to < 0 || p.to > dayMinutes || p.from == p.to ||
			min(r.Up, r.Down, r.Peer) < unchanged || max(r.Up, r.Down, r.Peer) == unchanged {
			t.Fatalf("%q reads as %+v", text, p)
		}
	})
}
