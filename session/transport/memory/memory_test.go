package memory

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/session/transport"
)

var (
	addrA = netip.MustParseAddrPort("10.0.0.1:1000")
	addrB = netip.MustParseAddrPort("10.0.0.2:1000")
)

func pairOf(t *testing.T, cfg Config) (*Network, *Conn, *Conn) {
	t.Helper()
	n := New(cfg)
	a, err := n.Listen(addrA)
	if err != nil {
		t.Fatal(err)
	}
	b, err := n.Listen(addrB)
	if err != nil {
		t.Fatal(err)
	}
	return n, a, b
}

// run sends count numbered datagrams from A to B, one a millisecond, and
// returns what B received within a virtual minute, as numbers in order.
func run(t *testing.T, cfg Config, count int) (got []int, stats Stats) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pairOf(t, cfg)
		done := make(chan struct{})
		go func() {
			defer close(done)
			buf := make([]byte, transport.MaxBatch)
			for {
				k, size, _, err := b.Receive(buf)
				if err != nil {
					return
				}
				for i := 0; i < k; i += size {
					got = append(got, int(buf[i])<<8|int(buf[i+1]))
				}
			}
		}()
		for i := range count {
			if err := a.Send([]byte{byte(i >> 8), byte(i)}, 2, addrB); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Minute)
		b.Close()
		<-done
		stats = n.Stats()
	})
	return got, stats
}

func TestNothingHappensOnAPerfectLink(t *testing.T) {
	got, _ := run(t, Config{Link: Link{Delay: 30 * time.Millisecond}}, 1000)
	if len(got) != 1000 {
		t.Fatalf("%d of 1000 arrived", len(got))
	}
	for i, v := range got {
		if v != i {
			t.Fatalf("datagram %d arrived in place %d", v, i)
		}
	}
}

func TestFaultsAreSeeded(t *testing.T) {
	cfg := Config{Seed: 7, Link: Link{Delay: 10 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.1, Duplicate: 0.1, Reorder: 0.1}}
	got, stats := run(t, cfg, 2000)
	if stats.Lost < 140 || stats.Lost > 260 || stats.Duplicated < 130 || stats.Duplicated > 250 {
		t.Errorf("lost %d and duplicated %d of 2000, want about 200 each", stats.Lost, stats.Duplicated)
	}
	late := 0
	for i := 1; i < len(got); i++ {
		if got[i] < got[i-1] {
			late++
		}
	}
	if late < 100 {
		t.Errorf("only %d datagrams out of order", late)
	}
	again, _ := run(t, cfg, 2000)
	if len(again) != len(got) {
		t.Fatalf("same seed: %d datagrams, then %d", len(got), len(again))
	}
	for i := range got {
		if got[i] != again[i] {
			t.Fatalf("same seed differs at datagram %d", i)
		}
	}
	cfg.Seed = 8
	if other, _ := run(t, cfg, 2000); len(other) == len(got) {
		t.Log("another seed gave the same count; allowed, unlikely")
	}
}

// TestBurst sends a datagram each millisecond: they arrive in order, none later
// than agreed, and many with one that was due before them.
func TestBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const delay, burst, count = 50 * time.Millisecond, 5 * time.Millisecond, 200
		_, a, b := pairOf(t, Config{Seed: 7, Link: Link{Delay: delay, Burst: burst}})
		start := time.Now()
		go func() {
			for i := range count {
				_ = a.Send([]byte{byte(i)}, 1, addrB)
				time.Sleep(time.Millisecond)
			}
		}()
		buf := make([]byte, transport.MaxBatch)
		bursts := 0
		for next := 0; next < count; bursts++ {
			n, _, _, err := b.Receive(buf)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range buf[:n] {
				late := time.Since(start) - delay - time.Duration(next)*time.Millisecond
				if int(v) != next || late < 0 || late > burst {
					t.Fatalf("datagram %d came as number %d, %v after it was due", v, next, late)
				}
				next++
			}
		}
		if bursts < count/6 || bursts > count/2 {
			t.Errorf("%d datagrams came in %d bursts", count, bursts)
		}
	})
}

func TestRateQueueAndDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pairOf(t, Config{Link: Link{Rate: 100_000, Queue: 10_000, Delay: 50 * time.Millisecond}})
		start := time.Now()
		for range 30 {
			if err := a.Send(make([]byte, 1000), 1000, addrB); err != nil {
				t.Fatal(err)
			}
		}
		buf := make([]byte, transport.MaxBatch)
		total := 0
		var last time.Duration
		for total < 11_000 {
			n, _, from, err := b.Receive(buf)
			if err != nil || from != addrA {
				t.Fatal(from, err)
			}
			total += n
			last = time.Since(start)
		}
		// 11 datagrams fit: the one in transmission and ten queued. Each takes 10 ms.
		if want := 160 * time.Millisecond; last != want {
			t.Errorf("the last of 11 datagrams arrived after %v, want %v", last, want)
		}
		a.Close()
		if err := a.Send([]byte("x"), 1, addrB); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Send after Close: %v", err)
		}
	})
}

func TestLinksAndRebind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pairOf(t, Config{})
		send := func(to netip.AddrPort) {
			t.Helper()
			if err := a.Send([]byte("x"), 1, to); err != nil {
				t.Fatal(err)
			}
		}
		n.SetLink(addrA, addrB, Link{Down: true})
		send(addrB)
		n.SetLink(addrA, addrB, Link{MTU: 0})
		send(addrB)
		if s := n.Stats(); s.Lost != 1 {
			t.Errorf("lost %d, want 1", s.Lost)
		}
		moved := netip.MustParseAddrPort("10.0.0.9:9")
		if err := b.Rebind(moved); err != nil {
			t.Fatal(err)
		}
		send(addrB) // nobody there any more
		send(moved)
		if _, _, _, err := b.Receive(make([]byte, transport.MaxBatch)); err != nil {
			t.Fatal(err)
		}
		if s := n.Stats(); s.Lost != 2 || s.Delivered != 1 {
			t.Errorf("stats %+v", s)
		}
		if err := b.Rebind(addrA); err == nil {
			t.Error("took an address in use")
		}
	})
}
