package node

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// racer is one side of a race: it succeeds or fails after a while, unless it is
// cancelled. One that is late to hear of it has succeeded all the same.
type racer struct {
	name  string
	takes time.Duration
	err   error
	late  bool

	began     time.Duration // since the race began; −1: not at all
	cancelled bool
}

func (r *racer) run(start time.Time) func(context.Context) (string, error) {
	r.began = -1
	return func(ctx context.Context) (string, error) {
		r.began = time.Since(start)
		select {
		case <-time.After(r.takes):
			return r.name, r.err
		case <-ctx.Done():
			r.cancelled = true
			if r.late {
				return r.name, nil
			}
			return "", ctx.Err()
		}
	}
}

func TestRace(t *testing.T) {
	const ms = time.Millisecond
	failed := errors.New("failed")
	for _, test := range []struct {
		name        string
		first       racer
		second      racer
		headStart   time.Duration
		want        string
		at          time.Duration // when the race was over
		secondBegan time.Duration
		discarded   string
	}{
		{"the first in time", racer{takes: 100 * ms}, racer{}, 250 * ms, "first", 100 * ms, -1, ""},
		{"the first late, but sooner", racer{takes: 300 * ms}, racer{takes: 100 * ms}, 250 * ms, "first", 300 * ms, 250 * ms, ""},
		{"the first never", racer{takes: time.Hour}, racer{takes: 100 * ms}, 250 * ms, "second", 350 * ms, 250 * ms, ""},
		{"the first fails", racer{takes: 50 * ms, err: failed}, racer{takes: 100 * ms}, 250 * ms, "second", 150 * ms, 50 * ms, ""},
		{"the first fails late", racer{takes: 300 * ms, err: failed}, racer{takes: 100 * ms}, 250 * ms, "second", 350 * ms, 250 * ms, ""},
		{"the second fails", racer{takes: 500 * ms}, racer{takes: 100 * ms, err: failed}, 250 * ms, "first", 500 * ms, 250 * ms, ""},
		{"both fail", racer{takes: 500 * ms, err: failed}, racer{takes: 100 * ms, err: failed}, 250 * ms, "", 500 * ms, 250 * ms, ""},
		{"no head start", racer{takes: time.Hour}, racer{takes: 100 * ms}, 0, "second", 100 * ms, 0, ""},
		{"both, the second sooner", racer{takes: time.Hour, late: true}, racer{takes: 100 * ms}, 250 * ms, "first", 350 * ms, 250 * ms, "second"},
		{"both, the first sooner", racer{takes: 300 * ms}, racer{takes: time.Hour, late: true}, 250 * ms, "first", 300 * ms, 250 * ms, "second"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				test.first.name, test.second.name = "first", "second"
				discarded := ""
				got, err := race(t.Context(), test.headStart, test.first.run(start), test.second.run(start), func(s string) { discarded += s })
				if took := time.Since(start); took != test.at || test.second.began != test.secondBegan {
					t.Errorf("over after %v, the second began after %v", took, test.second.began)
				}
				if got != test.want || discarded != test.discarded || (err == nil) != (test.want != "") {
					t.Errorf("%q, %v, discarded %q", got, err, discarded)
				}
				if err != nil && !errors.Is(err, failed) {
					t.Errorf("error %v", err)
				}
				synctest.Wait() // nobody is left behind: the bubble would not end
			})
		})
	}
}

func TestRouteCovers(t *testing.T) {
	udp, other := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:1")
	const plain, secure = "ws://192.0.2.1:2/stt", "wss://192.0.2.1:2/stt"
	for _, test := range []struct {
		known, told route
		want        bool
	}{
		{route{udp, plain, false}, route{udp, plain, false}, true},
		{route{udp, plain, false}, route{udp: udp}, true},
		{route{udp, secure, false}, route{udp, plain, true}, true}, // dialled meanwhile
		{route{udp, plain, true}, route{udp, secure, false}, true},
		{route{udp, plain, false}, route{udp, secure, false}, false},
		{route{udp: udp}, route{udp, plain, true}, false},
		{route{udp, plain, true}, route{other, plain, true}, false},
		{route{udp, plain, true}, route{udp, "ws://192.0.2.1:3/stt", true}, false},
	} {
		if got := test.known.covers(test.told); got != test.want {
			t.Errorf("%+v covers %+v: %v", test.known, test.told, got)
		}
	}
}

func TestRaceCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		first, second := &racer{takes: time.Hour}, &racer{takes: time.Hour}
		_, err := race(ctx, 250*time.Millisecond, first.run(time.Now()), second.run(time.Now()), func(string) {})
		if !errors.Is(err, context.DeadlineExceeded) || !first.cancelled || !second.cancelled {
			t.Errorf("%v, %+v, %+v", err, first, second)
		}
	})
}

// UDP counts as blocked only while nothing at all comes over it, and is tried
// again.
func TestUDPHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u udpHealth
		blocked := func(want bool, when string) {
			t.Helper()
			if u.blocked(time.Now()) != want {
				t.Errorf("%s: blocked is %v", when, !want)
			}
		}
		send := func(n int) {
			for range n {
				u.sending(time.Now())
			}
		}
		blocked(false, "at first")
		send(100)
		blocked(false, "behind a burst that had no time to be answered")
		time.Sleep(udpSilence)
		blocked(true, "when nothing of it was answered")
		u.heard()
		blocked(false, "when something comes")
		send(udpUnanswered - 1)
		time.Sleep(time.Hour)
		blocked(false, "when a few were lost")
		u.heard()

		began := time.Now()
		time.Sleep(time.Second)
		u.heard()
		u.lost(began, time.Now())
		blocked(false, "when something came during the race that was lost")
		time.Sleep(time.Second)
		u.lost(time.Now(), time.Now())
		blocked(true, "when a race was lost")
		time.Sleep(udpRetry - time.Nanosecond)
		blocked(true, "for a while")
		time.Sleep(time.Nanosecond)
		blocked(false, "and no longer")
		send(udpUnanswered)
		time.Sleep(udpSilence)
		blocked(true, "when it still gets nowhere")
	})
}
