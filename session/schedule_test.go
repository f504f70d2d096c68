package session

import (
	"io"
	"sync"
	"testing"
	"time"

	"github.com/seigr/sttnode/session/transport/memory"
)

// slowLink is 1 Mbit/s with a round trip of 40 ms.
var slowLink = memory.Link{Delay: 20 * time.Millisecond, Rate: megabit, Queue: megabit / 10}

// bulk lets a stream flow for as long as the session lives, and returns a
// function that tells how many bytes have arrived.
func bulk(t *testing.T, from, to *Session, urgency int) (st *Stream, arrived func() int) {
	t.Helper()
	st = open(t, from)
	st.SetPriority(urgency)
	go func() {
		p := make([]byte, 16<<10)
		for {
			if _, err := st.Write(p); err != nil {
				return
			}
		}
	}()
	in := accept(t, to)
	var mu sync.Mutex
	var sum int
	go func() {
		p := make([]byte, 64<<10)
		for {
			n, err := in.Read(p)
			mu.Lock()
			sum += n
			mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return st, func() int {
		mu.Lock()
		defer mu.Unlock()
		return sum
	}
}

// TestUrgentStreamOvertakes sends 20 kB beside four bulk streams on a link that
// takes 160 ms for them.
func TestUrgentStreamOvertakes(t *testing.T) {
	inWorld(t, testSeed(t), slowLink, nil, func(t *testing.T, w *world) {
		sa, sb := w.connect()
		for range 4 {
			bulk(t, sa, sb, UrgencyDefault)
		}
		// Behind Startup, and before the first probe of ProbeBW: a packet that
		// it costs would take longer than what is measured.
		time.Sleep(1500 * time.Millisecond)
		took := func(urgency int) time.Duration {
			begin := time.Now()
			st := open(t, sa)
			st.SetPriority(urgency)
			_, _ = st.Write(make([]byte, 20_000))
			_ = st.CloseWrite()
			in := accept(t, sb)
			if n, err := io.Copy(io.Discard, in); n != 20_000 || err != nil {
				t.Fatal(n, err)
			}
			_ = in.Close()
			return time.Since(begin)
		}
		first, fair := took(UrgencyHighest), took(UrgencyDefault)
		t.Logf("urgent %v, else %v", first, fair)
		if first > 400*time.Millisecond || fair < 600*time.Millisecond {
			t.Errorf("20 kB took %v as urgent and %v as one of five", first, fair)
		}
	})
}

// TestUrgencies has strict order between urgencies and equal shares within one;
// a change counts at once.
func TestUrgencies(t *testing.T) {
	inWorld(t, testSeed(t), slowLink, nil, func(t *testing.T, w *world) {
		sa, sb := w.connect()
		low, lowCount := bulk(t, sa, sb, UrgencyLowest)
		var peers []*Stream
		var counts []func() int
		for range 4 {
			st, count := bulk(t, sa, sb, UrgencyDefault)
			peers, counts = append(peers, st), append(counts, count)
		}
		time.Sleep(time.Second)
		during := func(d time.Duration) (low int, others []int) {
			low = lowCount()
			for _, c := range counts {
				others = append(others, c())
			}
			time.Sleep(d)
			for i, c := range counts {
				others[i] = c() - others[i]
			}
			return lowCount() - low, others
		}
		n, others := during(10 * time.Second)
		t.Logf("low %d, others %v", n, others)
		if n > 10_000 {
			t.Errorf("the least urgent stream got %d bytes beside others", n)
		}
		for _, k := range others {
			if k < megabit*10/4*8/10 || k > megabit*10/4*11/10 {
				t.Errorf("shares of %v of %d bytes", others, megabit*10)
			}
		}
		low.SetPriority(UrgencyHighest)
		time.Sleep(time.Second)
		if n, others = during(4 * time.Second); n < megabit*4*8/10 {
			t.Errorf("%d bytes of the stream that has become urgent, %v of the others", n, others)
		}
		low.SetPriority(100)
		for _, st := range peers {
			st.Reset(0)
		}
		time.Sleep(time.Second)
		if n, _ = during(4 * time.Second); n < megabit*4*8/10 {
			t.Errorf("%d bytes of the stream that is alone", n)
		}
	})
}

// TestLostBytesDoNotWait loses all that a stream of no urgency has sent, and
// then keeps the link busy with an urgent one.
func TestLostBytesDoNotWait(t *testing.T) {
	inWorld(t, testSeed(t), slowLink, nil, func(t *testing.T, w *world) {
		sa, sb := w.connect()
		low := open(t, sa)
		low.SetPriority(UrgencyLowest)
		_, _ = low.Write([]byte("hello"))
		in := accept(t, sb)
		time.Sleep(time.Second)
		down := slowLink
		down.Down = true
		w.net.SetDefault(down)
		_, _ = low.Write(make([]byte, 8_000))
		time.Sleep(10 * time.Millisecond)
		w.net.SetDefault(slowLink)
		_, count := bulk(t, sa, sb, UrgencyHighest)
		begin := time.Now()
		_ = in.SetReadDeadline(begin.Add(30 * time.Second))
		if n, err := io.ReadFull(in, make([]byte, 8_005)); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if d := time.Since(begin); d > 2*time.Second {
			t.Errorf("lost bytes arrived after %v", d)
		}
		if count() == 0 {
			t.Error("the urgent stream did not flow")
		}
	})
}

// TestSchedule compares the rings with lists, step by step.
func TestSchedule(t *testing.T) {
	rng := newRNG(testSeed(t))
	var q schedule
	var lists [urgencies][]*Stream
	streams := make([]*Stream, 20)
	for i := range streams {
		streams[i] = &Stream{}
	}
	drop := func(st *Stream) {
		for u, l := range lists {
			for i := range l {
				if l[i] == st {
					lists[u] = append(l[:i:i], l[i+1:]...)
				}
			}
		}
	}
	for range 20_000 {
		st := streams[rng.IntN(len(streams))]
		switch rng.IntN(4) {
		case 0:
			u := rng.IntN(urgencies)
			in := st.place.ring == u+1
			st.urgency.Store(int32(u))
			q.join(st)
			if !in {
				drop(st)
				lists[u] = append(lists[u], st)
			}
		case 1:
			q.leave(st)
			drop(st)
		case 2:
			if st = q.current(); st != nil {
				u := st.place.ring - 1
				for range maxTurn - st.place.turn {
					q.sent(st, 1)
				}
				lists[u] = append(lists[u][1:], st)
			}
		case 3:
			q.point(st)
			q.point(st)
			if q.nextDue() == nil || rng.IntN(3) == 0 {
				q.looked()
			}
		}
		var want *Stream
		count := 0
		for _, l := range lists {
			if want == nil && len(l) > 0 {
				want = l[0]
			}
			count += len(l)
		}
		if q.current() != want || q.count != count {
			t.Fatalf("not the stream whose turn it is, or %d streams instead of %d", q.count, count)
		}
	}
	due := 0
	for _, st := range streams {
		if st.place.due {
			due++
		}
	}
	for ; q.nextDue() != nil; due-- {
		q.looked()
	}
	if due != 0 {
		t.Errorf("%d streams are due and not in the queue, or twice", due)
	}
}
