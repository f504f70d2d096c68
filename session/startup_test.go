package session

import (
	"io"
	"testing"
	"time"

	"github.com/seigr/sttnode/session/transport/memory"
)

// TestStartup asks for a long answer over a path that holds 2.5 MB, whose queue
// takes half of that, and looks when how much of it has come. Each number of
// bytes is four times the one before, so that its time is two round trips later
// while the rate doubles in each of them, whatever credit and buffers do
// meanwhile.
func TestStartup(t *testing.T) {
	const (
		trip = 200 * time.Millisecond
		rate = 100 * megabit
		size = 20 << 20
	)
	link := memory.Link{Delay: trip / 2, Rate: rate, Queue: rate / 10}
	inWorld(t, testSeed(t), link, nil, func(t *testing.T, w *world) {
		sa, sb := w.connect()
		asker := open(t, sb)
		begin := time.Now()
		if _, err := asker.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
		answerer := accept(t, sa)
		go func() {
			_, _ = answerer.Write(make([]byte, size))
			_ = answerer.CloseWrite()
		}()
		got := 0
		trips := func() float64 { return float64(time.Since(begin)) / float64(trip) }
		for _, due := range []struct {
			bytes int
			trips float64
		}{
			{24 << 10, 1.25}, {256 << 10, 4.5}, {1 << 20, 6.6}, {4 << 20, 8.8}, {size, 16.5},
		} {
			n, err := io.CopyN(io.Discard, asker, int64(due.bytes-got))
			if err != nil {
				t.Fatal(err)
			}
			got += int(n)
			t.Logf("%8d bytes after %.2f round trips", got, trips())
			if trips() > due.trips {
				t.Errorf("%d bytes after %.2f round trips, want %.2f", got, trips(), due.trips)
			}
		}
	})
}

// TestLossesOverLongFatPath sends over a path that holds 2.5 MB and loses one
// datagram in a thousand: there is always a gap that waits to be filled, and what
// arrives behind it must not use up the room of what is to follow.
func TestLossesOverLongFatPath(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector, which shorter tests serve as well")
	}
	const rate = 1000 * megabit
	link := memory.Link{Delay: 10 * time.Millisecond, Rate: rate, Queue: rate / 10, Loss: 0.001}
	inWorld(t, testSeed(t), link, nil, func(t *testing.T, w *world) {
		share := goodput(t, w, rate, 500*time.Millisecond, 1500*time.Millisecond, nil)
		t.Logf("%.1f %% of the link", share*100)
		if share < 0.8 {
			t.Errorf("%.1f %% of the link", share*100)
		}
	})
}

// TestBBRInitialPacing has the first flight leave spread over a round trip, and
// an application that had little to say at first not slow it down.
func TestBBRInitialPacing(t *testing.T) {
	const trip = 100 * time.Millisecond
	b := newBBR(1200, 1)
	r := steadyRTT(trip)
	want := bbrStartupPacingGain * bbrInitialPackets * 1200 / trip.Seconds()
	if got := b.pacing(r); got < 0.99*want || got > 1.01*want {
		t.Errorf("%.0f bytes a second at first, want %.0f", got, want)
	}
	p := packetAt(0)
	p.rate = b.sent(at(0), p.size, 0)
	b.acked(at(trip), p)
	b.update(ackUpdate{now: at(trip), bytes: p.size, prior: p.size, rtt: r})
	if got := b.pacing(r); got < 0.99*want {
		t.Errorf("%.0f bytes a second after a round trip with one packet, want %.0f", got, want)
	}
}

// TestFirstCredit lends a session room for a first flight once it has asked for
// something, and not before.
func TestFirstCredit(t *testing.T) {
	inWorld(t, testSeed(t), memory.Link{Delay: 10 * time.Millisecond}, nil, func(t *testing.T, w *world) {
		sa, sb := w.connect()
		time.Sleep(time.Second)
		if lent := w.a.budget.inUse() + w.b.budget.inUse(); lent != 0 {
			t.Errorf("%d bytes lent to sessions that nobody uses", lent)
		}
		st := open(t, sa)
		if _, err := st.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
		accept(t, sb)
		time.Sleep(time.Second)
		if lent := w.a.budget.inUse(); lent != firstFlight-guaranteedWindow {
			t.Errorf("%d bytes lent to who has been asked", lent)
		}
		if lent := w.b.budget.inUse(); lent != 0 {
			t.Errorf("%d bytes lent to who has asked", lent)
		}
	})
}
