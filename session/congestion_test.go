package session

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/seigr/sttnode/session/transport/memory"
)

// megabit is a rate of the memory network, in bytes a second.
const megabit = 1_000_000 / 8

// longLink is 100 Mbit/s with a round trip of 50 ms and a queue of 100 ms.
func longLink(loss float64) memory.Link {
	return memory.Link{Delay: 25 * time.Millisecond, Rate: 100 * megabit, Queue: 10 * megabit, Loss: loss}
}

// goodput lets a stream flow from A to B and returns which share of rate
// arrives between two times, both since the beginning.
func goodput(t *testing.T, w *world, rate float64, from, to time.Duration, during func(sa *Session)) float64 {
	sa, sb := w.connect()
	st := open(t, sa)
	go func() {
		p := make([]byte, 64<<10)
		for {
			if _, err := st.Write(p); err != nil {
				return
			}
		}
	}()
	in := accept(t, sb)
	got := make(chan int)
	begin := time.Now()
	go func() {
		p := make([]byte, 256<<10)
		n := 0
		for {
			k, err := in.Read(p)
			if at := time.Since(begin); at >= from && at < to {
				n += k
			}
			if time.Since(begin) >= to || err != nil {
				if err != nil && err != io.EOF {
					t.Log(err)
				}
				got <- n
				return
			}
		}
	}()
	if during != nil {
		go during(sa)
	}
	n := <-got
	s := sa.Stats()
	t.Logf("RTT %v (least %v), window %d, in flight %d, lost %d, spurious %d of %d, acks %d", s.RTT, s.MinRTT, s.CongestionWindow, s.InFlight,
		s.PacketsLost, s.PacketsSpurious, s.MessagesSent, sb.Stats().MessagesSent)
	st.Reset(0)
	return float64(n) / (to - from).Seconds() / rate
}

func TestGoodputOverLongLink(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector, which shorter tests serve as well")
	}
	seed := testSeed(t)
	for _, c := range []struct {
		cc    Congestion
		loss  float64
		least float64
	}{
		{CongestionBBR, 0, 0.92}, {CongestionBBR, 0.01, 0.85}, {CongestionBBR, 0.05, 0.70},
		{CongestionCUBIC, 0, 0.92},
	} {
		t.Run(fmt.Sprint(c.cc, " ", c.loss), func(t *testing.T) {
			inWorld(t, seed, longLink(c.loss), func(a, b *Config) { a.Congestion = c.cc }, func(t *testing.T, w *world) {
				share := goodput(t, w, 100*megabit, 2*time.Second, 6*time.Second, nil)
				t.Logf("%.1f %% of the link", share*100)
				if share < c.least {
					t.Errorf("%.1f %% of the link, want %.1f %%", share*100, c.least*100)
				}
			})
		})
	}
}

// TestBBRKeepsCoarseLinkFull sends over a link that delivers in bursts, as a
// machine with coarse timers does. Rates then look a few hundredths higher than
// they are, and Down leaves a little of the queue. That must cost next to nothing,
// above all no ProbeRTT. Headers and tags take 2.3 %.
func TestBBRKeepsCoarseLinkFull(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector, which shorter tests serve as well")
	}
	link := longLink(0)
	link.Burst = 2 * time.Millisecond
	inWorld(t, testSeed(t), link, nil, func(t *testing.T, w *world) {
		share := goodput(t, w, 100*megabit, 2*time.Second, 22*time.Second, nil)
		t.Logf("%.2f %% of the link", share*100)
		if share < 0.972 {
			t.Errorf("%.2f %% of the link", share*100)
		}
	})
}

// TestProbeRTTEmptiesPath lets the least round trip expire while a queue of
// twice its length stands: what ProbeRTT leaves in flight goes by the old one.
func TestProbeRTTEmptiesPath(t *testing.T) {
	const rate, least, now = 10e6, 50 * time.Millisecond, 11 * time.Second
	b := newBBR(1000, 1)
	b.started, b.minKnown, b.fullBWReached = true, true, true
	b.startDown(at(0))
	b.minRTT, b.minRTTAt, b.leastInRound = least, at(0), 3*least
	b.maxBW[0], b.bw, b.cwnd = rate, rate, 1_000_000
	b.low.next(at(now - time.Second))
	for range 10 {
		b.low.add(3 * least)
	}
	u := ackUpdate{now: at(now), bytes: 1000, prior: 1_000_000, inFlight: 999_000, rtt: steadyRTT(3 * least)}
	b.updateMinRTT(u)
	b.checkProbeRTT(u, rateSample{delivered: 1000})
	b.setCwnd(rateSample{acked: 1000})
	if want := int(rate * least.Seconds() / 2); b.state != bbrProbeRTT || b.window() != want {
		t.Errorf("in phase %d with a window of %d bytes, want ProbeRTT with %d", b.state, b.window(), want)
	}
}

// TestReorderingIsNoCongestion lets packets overtake each other by half a round
// trip, more than the packet threshold takes for loss. A controller that takes
// that for congestion stays at one or two percent.
func TestReorderingIsNoCongestion(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector, which shorter tests serve as well")
	}
	link := longLink(0)
	link.Jitter, link.Reorder = 10*time.Millisecond, 0.01
	inWorld(t, testSeed(t), link, nil, func(t *testing.T, w *world) {
		if share := goodput(t, w, 100*megabit, 2*time.Second, 5*time.Second, nil); share < 0.1 {
			t.Errorf("%.1f %% of the link", share*100)
		}
	})
}

// TestResumesAfterDarkness cuts the link for three seconds.
func TestResumesAfterDarkness(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector, which shorter tests serve as well")
	}
	for _, cc := range []Congestion{CongestionBBR, CongestionCUBIC} {
		t.Run(cc.String(), func(t *testing.T) {
			inWorld(t, testSeed(t), longLink(0), func(a, b *Config) { a.Congestion = cc }, func(t *testing.T, w *world) {
				const dark, light = 2 * time.Second, 5 * time.Second
				share := goodput(t, w, 100*megabit, light, light+time.Second, func(*Session) {
					down := longLink(0)
					down.Down = true
					time.Sleep(dark)
					w.net.SetDefault(down)
					time.Sleep(light - dark)
					w.net.SetDefault(longLink(0))
				})
				if share < 0.05 {
					t.Errorf("%.1f %% of the link in the first second after the darkness", share*100)
				}
			})
		})
	}
}

// TestBBRNeverStops gives BBR the rate that a long darkness has left.
func TestBBRNeverStops(t *testing.T) {
	b := newBBR(1200, 1)
	var r rtt
	r.update(50*time.Millisecond, 0)
	b.started, b.minRTT, b.paced = true, 50*time.Millisecond, 27
	if got := b.pacing(&r); got < 4*1200/0.05 {
		t.Errorf("paced at %.0f bytes a second, less than four datagrams a round trip", got)
	}
}

func at(d time.Duration) time.Time {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(d)
}

func packetAt(d time.Duration) *sentPacket {
	return &sentPacket{at: at(d), size: 1000, eliciting: true}
}

// steadyRTT is an estimate that has seen nothing but d.
func steadyRTT(d time.Duration) *rtt {
	r := &rtt{}
	for range 20 {
		r.update(d, 0)
	}
	return r
}

func TestCubicSlowStartAndEpisodes(t *testing.T) {
	c := newCubic(1000)
	r := steadyRTT(100 * time.Millisecond)
	if c.window() != 10_000 {
		t.Fatalf("initial window %d", c.window())
	}
	c.update(ackUpdate{now: at(100 * time.Millisecond), latest: at(0), bytes: 10_000, prior: 10_000, rtt: r, sample: r.latest})
	if c.window() != 20_000 {
		t.Errorf("after a round of slow start %d, want twice as much", c.window())
	}
	c.update(ackUpdate{now: at(200 * time.Millisecond), latest: at(100 * time.Millisecond), bytes: 5_000, prior: 5_000, rtt: r})
	if c.window() != 20_000 {
		t.Errorf("a window that is not used grew to %d", c.window())
	}
	// Any number of losses of one flight is one episode.
	for i := range 5 {
		c.lost(at(300*time.Millisecond), packetAt(time.Duration(200+i)*time.Millisecond))
	}
	if c.window() != 14_000 {
		t.Errorf("after one episode %d, want 0.7 of 20,000", c.window())
	}
	// The next one begins with a packet that left later.
	c.lost(at(500*time.Millisecond), packetAt(400*time.Millisecond))
	if c.window() != 9_800 || c.now.wMax != 14_000*1.7/2 {
		t.Errorf("after the second %d, target %v: who shrinks twice in a row makes room", c.window(), c.now.wMax)
	}
	c.collapsed()
	if c.window() != 2000 || !c.slowStart() {
		t.Errorf("after persistent congestion %d", c.window())
	}
}

// TestCubicCurve compares the growth with the figures that RFC 9438 section
// 4.2 leads to: back at the old window after K seconds, above it later.
func TestCubicCurve(t *testing.T) {
	c := newCubic(1000)
	c.now.cwnd, c.now.threshold = 1_000_000, 1
	c.lost(at(0), packetAt(-time.Millisecond))
	r := steadyRTT(100 * time.Millisecond)
	var reached, now time.Duration
	for now = 100 * time.Millisecond; now < 20*time.Second; now += 100 * time.Millisecond {
		w := c.window()
		c.update(ackUpdate{now: at(now), latest: at(now - 50*time.Millisecond), bytes: w, prior: w, rtt: r})
		if c.window() >= 990_000 && reached == 0 {
			reached = now
		}
		if c.window() < w {
			t.Fatalf("the window shrinks without a loss at %v", now)
		}
	}
	// K = cbrt(300/0.4) = 9.09 s; within 10 packets of the plateau at K - 2.9 s.
	if reached < 5500*time.Millisecond || reached > 7*time.Second {
		t.Errorf("back near the old window after %v, want about 6.2 s", reached)
	}
	if c.window() < 1_300_000 {
		t.Errorf("window after 20 s %d: the curve does not probe", c.window())
	}
}

func TestCubicTakesSpuriousLossBack(t *testing.T) {
	c := newCubic(1000)
	c.now.cwnd, c.now.threshold = 100_000, 50_000
	a, b := packetAt(10*time.Millisecond), packetAt(11*time.Millisecond)
	c.lost(at(100*time.Millisecond), a)
	c.lost(at(100*time.Millisecond), b)
	c.spurious(at(110*time.Millisecond), a)
	if c.window() != 70_000 {
		t.Errorf("half of an episode undone: window %d", c.window())
	}
	c.spurious(at(110*time.Millisecond), b)
	if c.window() != 100_000 {
		t.Errorf("the whole episode was spurious: window %d, want 100,000", c.window())
	}
}

// TestHyStart lets round trips grow in slow start: the growth slows, and after
// five rounds slow start is over.
func TestHyStart(t *testing.T) {
	var h hystart
	seq := uint64(0)
	round := func(rtt time.Duration) (grown float64) {
		end := seq + 20
		for ; seq < end; seq++ {
			grown += h.growth(ackUpdate{bytes: 1000, largest: seq, next: end, sample: rtt})
		}
		return grown
	}
	if g := round(50*time.Millisecond) + round(51*time.Millisecond); g != 40_000 || h.css {
		t.Errorf("grown by %v without a queue", g)
	}
	round(60 * time.Millisecond)
	if !h.css {
		t.Fatal("10 ms more in a round are no sign of a queue")
	}
	if g := round(60 * time.Millisecond); g != 5_000 {
		t.Errorf("conservative slow start grew by %v, want a quarter", g)
	}
	saved := h
	round(50 * time.Millisecond)
	if h.css {
		t.Error("the delay went away, yet slow start stays conservative")
	}
	h = saved
	for range 5 {
		round(60 * time.Millisecond)
	}
	if !h.done {
		t.Error("five rounds of delay do not end slow start")
	}
}

// TestDeliveryRate measures a path of 1 MB/s and ignores what the application
// held back.
func TestDeliveryRate(t *testing.T) {
	var s rateSampler
	var ring []*sentPacket
	for i := range 200 {
		p := packetAt(time.Duration(i) * time.Millisecond)
		p.rate = s.sent(p.at, p.size, min(i, 50)*1000)
		ring = append(ring, p)
		if i >= 50 {
			s.acked(p.at, ring[i-50])
			r := s.finish(10 * time.Millisecond)
			if i > 110 && (r.rate < 990_000 || r.rate > 1_010_000 || r.appLimited) {
				t.Fatalf("packet %d: %+v, want 1,000,000 bytes a second", i, r)
			}
		}
	}
	s.limit(50_000)
	p := packetAt(300 * time.Millisecond)
	if p.rate = s.sent(p.at, p.size, 0); !p.rate.appLimited {
		t.Error("a packet behind a pause of the application counts as the path's")
	}
	s.acked(at(310*time.Millisecond), p)
	if r := s.finish(20 * time.Millisecond); r.rate != 0 {
		t.Errorf("a sample over less than a round trip gave %v", r.rate)
	}
}
