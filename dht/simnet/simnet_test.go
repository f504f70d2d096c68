package simnet

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// recorder notes what reaches it, and sends at one time.
type recorder struct {
	got  []string
	at   time.Time // when to send; zero for never
	send func()
}

func (r *recorder) Receive(now time.Time, datagram []byte, from netip.AddrPort) {
	r.got = append(r.got, fmt.Sprintf("%s from %v at %v", datagram, from.Port(), now.Unix()))
}

func (r *recorder) Advance(now time.Time) {
	if !r.at.IsZero() && !now.Before(r.at) {
		r.at = time.Time{}
		r.send()
	}
}

func (r *recorder) Deadline() time.Time {
	if r.at.IsZero() {
		return time.Unix(1<<40, 0)
	}
	return r.at
}

func addr(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), port)
}

func constant(d time.Duration) Config {
	return Config{Seed: 1, Start: time.Unix(100, 0), Delay: Constant(d, 0)}
}

func expect(t *testing.T, r *recorder, want ...string) {
	t.Helper()
	if !slices.Equal(r.got, want) {
		t.Errorf("got %q, want %q", r.got, want)
	}
	r.got = nil
}

func TestNodesAreWokenAndDatagramsArrive(t *testing.T) {
	n := New(constant(2 * time.Second))
	a, b := &recorder{at: time.Unix(105, 0)}, &recorder{}
	a.send = func() { n.Send([]byte("hello"), addr(1), addr(2)) }
	n.Attach(addr(1), a)
	host := n.Attach(addr(2), b)
	n.RunFor(6 * time.Second)
	expect(t, b)
	n.RunFor(time.Second)
	expect(t, b, "hello from 1 at 107")
	if n.Now() != time.Unix(107, 0) || n.Sent() != 1 {
		t.Errorf("it is %v, %d datagrams", n.Now(), n.Sent())
	}

	n.Send([]byte("on its way"), addr(1), addr(2))
	n.Detach(host)
	n.RunFor(time.Minute)
	expect(t, b)
	n.Reattach(host)
	n.Send([]byte("back"), addr(1), addr(2))
	n.RunFor(2 * time.Second)
	expect(t, b, "back from 1 at 169")
}

func TestEventsOfOneTimeKeepTheirOrder(t *testing.T) {
	n := New(constant(0))
	var got []int
	for i := range 100 {
		n.After(time.Duration(i/10)*time.Second, func() { got = append(got, i) })
	}
	n.RunFor(time.Minute)
	if !slices.IsSorted(got) || len(got) != 100 {
		t.Errorf("order %v", got)
	}
}

func TestQueueSorts(t *testing.T) {
	var q queue
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		q.push(rng.Int64N(500), new(event))
	}
	last := int64(-1)
	for range 2000 {
		at, _, ok := q.popUntil(1000)
		if !ok || at < last {
			t.Fatalf("%d after %d", at, last)
		}
		last = at
	}
	if _, _, ok := q.popUntil(1000); ok {
		t.Error("not empty")
	}
}

// Behind a NAT only those are heard who were sent something lately.
func TestNAT(t *testing.T) {
	n := New(constant(time.Second))
	hidden := &recorder{}
	n.Attach(addr(1), hidden).Hide()
	n.Attach(addr(2), &recorder{})
	n.Send([]byte("too early"), addr(2), addr(1))
	n.RunFor(2 * time.Second)
	expect(t, hidden)
	n.Send([]byte("question"), addr(1), addr(2))
	n.Send([]byte("answer"), addr(2), addr(1))
	n.Send([]byte("from another port"), addr(3), addr(1))
	n.RunFor(2 * time.Second)
	expect(t, hidden, "answer from 2 at 103")
	n.RunFor(natMapping)
	n.Send([]byte("too late"), addr(2), addr(1))
	n.RunFor(2 * time.Second)
	expect(t, hidden)
}

// Of a thousand pairs the round trips have the median and the spread that were
// asked for, alike in both directions; and a share of the datagrams is lost.
func TestDelaysAndLoss(t *testing.T) {
	delay := Lognormal(7, 100*time.Millisecond, 0.4)
	rng := rand.New(rand.NewPCG(1, 2))
	var logs []float64
	sum, squares := 0.0, 0.0
	for i := range uint16(1000) {
		there, back := delay(rng, addr(1), addr(i+2)), delay(rng, addr(i+2), addr(1))
		if q := float64(there) / float64(back); q < 0.9 || q > 1.11 {
			t.Fatalf("%v there, %v back", there, back)
		}
		x := math.Log(float64(there+back) / float64(100*time.Millisecond))
		logs, sum, squares = append(logs, x), sum+x, squares+x*x
	}
	slices.Sort(logs)
	if sigma := math.Sqrt(squares/1000 - sum*sum/1e6); math.Abs(logs[500]) > 0.06 || math.Abs(sigma-0.4) > 0.05 {
		t.Errorf("median of the logarithm %.3f, standard deviation %.3f", logs[500], sigma)
	}

	cfg := constant(0)
	cfg.Loss = 0.2
	n := New(cfg)
	r := &recorder{}
	n.Attach(addr(1), r)
	for range 5000 {
		n.Send(nil, addr(2), addr(1))
	}
	n.RunFor(time.Second)
	if len(r.got) < 3850 || len(r.got) > 4150 {
		t.Errorf("%d of 5000 arrive", len(r.got))
	}
}

// The hash tells runs apart by time, length, addresses and order.
func TestHash(t *testing.T) {
	run := func(f func(n *Network)) uint64 {
		n := New(constant(0))
		f(n)
		return n.Hash()
	}
	hello := func(n *Network) { n.Send([]byte("hello"), addr(1), addr(2)) }
	for name, other := range map[string]func(n *Network){
		"nothing": func(*Network) {},
		"later":   func(n *Network) { n.RunFor(1); hello(n) },
		"longer":  func(n *Network) { n.Send([]byte("hello!"), addr(1), addr(2)) },
		"from":    func(n *Network) { n.Send([]byte("hello"), addr(3), addr(2)) },
		"to":      func(n *Network) { n.Send([]byte("hello"), addr(1), addr(3)) },
		"twice":   func(n *Network) { hello(n); hello(n) },
	} {
		if run(other) == run(hello) {
			t.Errorf("%s: the same hash", name)
		}
	}
	if first, again := run(hello), run(hello); first != again {
		t.Error("the same run has two hashes")
	}
}
