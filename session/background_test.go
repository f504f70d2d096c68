package session

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/session/transport/memory"
	"github.com/seigr/sttnode/stc"
)

// flow is a sender of its own on a bottleneck that all share.
type flow struct {
	s       *Session
	st      *Stream
	arrived func() int
}

// dumbbell runs f with a function that starts flows over one bottleneck of rate
// bytes a second, 25 ms one way, and a queue of the given time.
func dumbbell(t *testing.T, rate int, queue time.Duration, f func(t *testing.T, start func(Congestion) flow)) {
	seed := testSeed(t)
	synctest.Test(t, func(t *testing.T) {
		link := memory.Link{
			Delay: 25 * time.Millisecond, Rate: int64(rate), Queue: int(queue.Seconds() * float64(rate)), Through: &memory.Bottleneck{},
		}
		w := newWorld(t, seed, memory.Link{Delay: 25 * time.Millisecond}, nil)
		defer w.close()
		var ends []*Endpoint
		defer func() {
			for _, e := range ends {
				e.Close()
			}
		}()
		f(t, func(cc Congestion) flow {
			cfg := w.cfgA
			cfg.Congestion, cfg.Linger = cc, time.Second
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 2, byte(len(ends))}), 4700)
			w.net.SetLink(addr, addrB, link)
			e, _ := w.endpoint(addr, cfg)
			ends = append(ends, e)
			s, err := e.Dial(t.Context(), addrB, stc.Hash{})
			if err != nil {
				t.Fatal(err)
			}
			sb, err := w.b.Accept(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			st, arrived := bulk(t, s, sb, UrgencyDefault)
			return flow{s, st, arrived}
		})
	})
}

// shares returns which part of rate each flow gets during a time.
func shares(d time.Duration, rate int, flows ...flow) []float64 {
	before := make([]int, len(flows))
	for i, f := range flows {
		before[i] = f.arrived()
	}
	time.Sleep(d)
	out := make([]float64, len(flows))
	for i, f := range flows {
		out[i] = float64(f.arrived()-before[i]) / d.Seconds() / float64(rate)
	}
	return out
}

// TestBackgroundAlone fills a link and keeps its queue short, whether that
// could be longer than the target or not.
func TestBackgroundAlone(t *testing.T) {
	const rate = 10 * megabit
	for queue, least := range map[time.Duration]float64{200 * time.Millisecond: 0.9, 20 * time.Millisecond: 0.85} {
		if testing.Short() && queue < 100*time.Millisecond {
			continue
		}
		dumbbell(t, rate, queue, func(t *testing.T, start func(Congestion) flow) {
			f := start(CongestionBackground)
			time.Sleep(5 * time.Second)
			var sum, longest time.Duration
			stop := make(chan struct{})
			go func() {
				for range 300 {
					time.Sleep(100 * time.Millisecond)
					rtt := f.s.Stats().RTT
					sum += rtt
					longest = max(longest, rtt)
				}
				close(stop)
			}()
			share := shares(30*time.Second, rate, f)[0]
			<-stop
			mean := sum / 300
			t.Logf("queue %v: %.3f of the link; RTT %v, at most %v", queue, share, mean, longest)
			if share < least {
				t.Errorf("queue %v: %.3f of the link, want %.2f", queue, share, least)
			}
			// The round trip without a queue is 50 ms, the target half of it.
			if mean > 80*time.Millisecond || longest > 110*time.Millisecond {
				t.Errorf("queue %v: round trip %v, at most %v", queue, mean, longest)
			}
		})
	}
}

// TestBackgroundYields starts another flow beside one in the background, which
// gives way within five seconds, and takes the link back when that ends.
func TestBackgroundYields(t *testing.T) {
	const rate = 10 * megabit
	for _, c := range []struct {
		other Congestion
		queue time.Duration
		back  float64 // share of the link five seconds after the other's end
	}{
		{CongestionCUBIC, 200 * time.Millisecond, 0.85},
		{CongestionCUBIC, 20 * time.Millisecond, 0.7},
		{CongestionBBR, 200 * time.Millisecond, 0.85},
	} {
		if testing.Short() && c.other != CongestionBBR {
			continue
		}
		dumbbell(t, rate, c.queue, func(t *testing.T, start func(Congestion) flow) {
			f := start(CongestionBackground)
			time.Sleep(5 * time.Second)
			other := start(c.other)
			time.Sleep(5 * time.Second)
			beside := shares(20*time.Second, rate, f, other)
			other.st.Reset(0)
			time.Sleep(5 * time.Second)
			after := shares(10*time.Second, rate, f)
			t.Logf("beside %v, queue %v: %.3f; after it %.3f", c.other, c.queue, beside, after)
			if beside[0] > 0.2 || beside[1] < 0.75 {
				t.Errorf("beside %v, queue %v: shares %.3f", c.other, c.queue, beside)
			}
			if after[0] < c.back {
				t.Errorf("after %v, queue %v: %.3f of the link", c.other, c.queue, after)
			}
		})
	}
}

// TestBackgroundPair lets two flows in the background share a link, the second
// of which finds a queue when it comes.
func TestBackgroundPair(t *testing.T) {
	if testing.Short() {
		t.Skip("80 s of traffic")
	}
	const rate = 10 * megabit
	dumbbell(t, rate, 200*time.Millisecond, func(t *testing.T, start func(Congestion) flow) {
		a := start(CongestionBackground)
		time.Sleep(10 * time.Second)
		b := start(CongestionBackground)
		time.Sleep(30 * time.Second)
		s := shares(40*time.Second, rate, a, b)
		t.Logf("shares %.3f", s)
		if s[0] > 2*s[1] || s[1] > 2*s[0] || s[0]+s[1] < 0.85 {
			t.Errorf("shares %.3f", s)
		}
		if base := b.s.Stats().MinRTT; base > 55*time.Millisecond {
			t.Errorf("the latecomer takes the first one's queue for part of the path: %v", base)
		}
	})
}

// TestBackgroundTakesOver grows as Reno until the queue has been empty for long.
func TestBackgroundTakesOver(t *testing.T) {
	c := newBackground(1000)
	c.phase, c.cwnd, c.until = slowdownSteady, 100_000, at(time.Hour)
	r := steadyRTT(50 * time.Millisecond)
	for i := range ledbatCalm + 10 {
		before := c.window()
		now := at(time.Duration(i) * 50 * time.Millisecond)
		c.update(ackUpdate{
			now: now, latest: now.Add(-time.Millisecond), bytes: before, prior: before,
			largest: uint64(100 * i), next: uint64(100*i + 100), rtt: r, sample: 50 * time.Millisecond,
		})
		switch grown := c.window() - before; {
		case i < ledbatCalm-1 && grown > 1000:
			t.Fatalf("round trip %d: grown by %d", i, grown)
		case i > ledbatCalm && (grown < before/10 || grown > before/4):
			t.Fatalf("round trip %d: grown from %d by %d", i, before, grown)
		}
	}
}

// TestBackgroundNoFasterThanReno compares the steps with those of RFC 5681.
func TestBackgroundNoFasterThanReno(t *testing.T) {
	c := newBackground(1000)
	r := steadyRTT(50 * time.Millisecond)
	now, seq := time.Duration(0), uint64(0)
	round := func(rtt time.Duration) (grown int) {
		before := c.window()
		now += rtt
		seq += 100
		c.update(ackUpdate{now: at(now), latest: at(now - rtt/2), bytes: before, prior: before, largest: seq, next: seq + 100, rtt: r, sample: rtt})
		return c.window() - before
	}
	if c.window() != 2000 {
		t.Errorf("initial window %d", c.window())
	}
	for range 5 {
		if before, grown := c.window(), round(50*time.Millisecond); grown > before {
			t.Fatalf("slow start from %d by %d", before, grown)
		}
	}
	c.cwnd = 100_000
	for range ledbatFilter {
		round(70 * time.Millisecond) // ends slow start
	}
	c.until = at(time.Hour)
	if grown := round(70 * time.Millisecond); grown <= 0 || grown > 1000 {
		t.Errorf("below the target it grew by %d in a round trip, Reno by 1000", grown)
	}
	for range ledbatFilter {
		round(90 * time.Millisecond)
	}
	if before, grown := c.window(), round(90*time.Millisecond); grown > -before/3 || grown < -before/2 {
		t.Errorf("15 of 25 ms above the target it went from %d by %d", before, grown)
	}
	c.cwnd = 100_000
	for range 3 {
		c.lost(at(now+time.Millisecond), packetAt(now))
	}
	if c.window() != 50_000 {
		t.Errorf("after the losses of one flight %d, want half", c.window())
	}
	if c.target() > 20*time.Millisecond {
		t.Errorf("the target is %v after a loss at 40 ms of delay", c.target())
	}
}

// TestBaseDelay forgets the path of eleven minutes ago.
func TestBaseDelay(t *testing.T) {
	var b baseDelay
	b.add(at(0), 50*time.Millisecond)
	for m := time.Minute; m < 9*time.Minute; m += 10 * time.Second {
		b.add(at(m), 80*time.Millisecond)
	}
	if b.least() != 50*time.Millisecond {
		t.Errorf("after nine minutes %v", b.least())
	}
	b.add(at(10*time.Minute+time.Second), 90*time.Millisecond)
	if b.least() != 80*time.Millisecond {
		t.Errorf("after ten minutes %v", b.least())
	}
	b.add(at(time.Hour), 100*time.Millisecond)
	if b.least() != 100*time.Millisecond {
		t.Errorf("after an hour %v", b.least())
	}
}
