package session

import (
	"sync"
	"sync/atomic"
	"testing"
)

// TestStrandLosesNothing has many goroutines bring work in every way that
// there is: rounds never overlap, and all work is done without anybody coming
// back for it.
func TestStrandLosesNothing(t *testing.T) {
	const workers, each = 8, 1_000
	var s strand
	var left atomic.Int64
	done := make(chan struct{})
	inside, taken := 0, int64(0) // of the owner alone: the race detector would see two
	round := func() bool {
		inside++
		if inside != 1 {
			t.Error("two rounds at a time")
		}
		n := left.Swap(0)
		taken += n
		if n > 0 && taken == workers*each {
			close(done)
		}
		inside--
		return n%3 == 1 // more to do at once, now and then
	}
	s.start(round)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				left.Add(1)
				switch (w + i) % 3 {
				case 0:
					s.ask()
				case 1:
					s.lend()
				case 2:
					s.ask()
					s.help()
				}
			}
		})
	}
	wg.Wait()
	<-done
}

// TestStrandEnds checks that nobody runs a loop that has ended, or not begun.
func TestStrandEnds(t *testing.T) {
	var s strand
	s.ask()
	s.lend()
	s.help()
	rounds := make(chan int, 10)
	n := 0
	s.start(func() bool {
		n++
		if n == 2 {
			s.end()
		}
		rounds <- n
		return n == 1
	})
	<-rounds
	<-rounds
	s.ask()
	s.lend()
	s.help()
	select {
	case n := <-rounds:
		t.Errorf("round %d after the end", n)
	default:
	}
}

// TestStrandLendsOneRound checks that who lends a hand is not kept when there
// is always more to do.
func TestStrandLendsOneRound(t *testing.T) {
	var s strand
	var more atomic.Bool
	resting := make(chan struct{}, 1)
	s.start(func() bool {
		if !more.Load() {
			signal(resting)
		}
		return more.Load()
	})
	<-resting
	more.Store(true)
	s.lend() // returns
	more.Store(false)
	<-resting
}
