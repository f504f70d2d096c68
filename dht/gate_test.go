package dht

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

var gateTestConfig = gateConfig{strangers: 10, addr: 20, subnet: 50, remember: 100}

// pour sends n datagrams of members from an address at once and returns how
// many were opened.
func pour(g *gate, now time.Time, addr netip.AddrPort, n int) (opened int) {
	for range n {
		if g.admit(now, addr) {
			g.spend(addr)
			opened++
		}
	}
	return opened
}

func TestGate(t *testing.T) {
	g := newGate(newClock(t0), gateTestConfig)
	addr := func(i int) netip.AddrPort {
		return netip.MustParseAddrPort(fmt.Sprintf("10.0.%d.%d:1", i/256, i%256))
	}
	strangers := 0
	for i := range 200 {
		strangers += pour(g, t0, addr(i), 1)
	}
	if strangers != 20 {
		t.Errorf("%d datagrams of strangers opened", strangers)
	}
	g.proven(addr(0))
	if got := pour(g, t0, addr(0), 100); got != 40 {
		t.Errorf("%d of a proven address opened beside a flood", got)
	}
	if got := pour(g, t0, addr(1), 1); got != 0 {
		t.Error("a stranger passes although the budget is spent")
	}
	if got := pour(g, t0.Add(time.Second), addr(1), 100); got != 10 {
		t.Errorf("%d of strangers opened a second later", got)
	}
}

// Who lacks the seed costs the others nothing: its datagrams are looked at and
// charged to nobody.
func TestGateIsNotSpentByOutsiders(t *testing.T) {
	g := newGate(newClock(t0), gateTestConfig)
	for range 10_000 {
		if !g.admit(t0, testAddr(1)) {
			t.Fatal("outsiders have used up the budget")
		}
	}
}

func TestGateOfASubnet(t *testing.T) {
	g := newGate(newClock(t0), gateTestConfig)
	opened := 0
	for i := range 50 {
		addr := netip.MustParseAddrPort(fmt.Sprintf("203.0.113.%d:1", i+1))
		g.proven(addr)
		opened += pour(g, t0, addr, 10)
	}
	if opened != 100 {
		t.Errorf("%d of one /24 opened", opened)
	}
	other := netip.MustParseAddrPort("198.51.100.1:1")
	g.proven(other)
	if got := pour(g, t0, other, 10); got != 10 {
		t.Errorf("%d of another /24", got)
	}
}

func TestGateIsBounded(t *testing.T) {
	g := newGate(newClock(t0), gateTestConfig)
	for i := range 10_000 {
		g.proven(testAddr(i + 1))
		pour(g, t0.Add(time.Duration(i)*time.Second), netip.MustParseAddrPort(fmt.Sprintf("203.%d.%d.1:1", i/256, i%256)), 1)
	}
	if g.addrs.len() > 100 || g.subnets.len() > 100 {
		t.Errorf("remembers %d addresses, %d subnets", g.addrs.len(), g.subnets.len())
	}
}

// Nobody makes us send to one address more often than once in an interval.
func TestGateNudge(t *testing.T) {
	g := newGate(newClock(t0), gateTestConfig)
	for i, want := range []bool{true, false, false, true} {
		if got := g.nudge(t0.Add(time.Duration(i)*20*time.Minute), testAddr(1), time.Hour); got != want {
			t.Errorf("after %d minutes: %v", 20*i, got)
		}
	}
	if !g.nudge(t0, testAddr(2), time.Hour) {
		t.Error("another address has to wait for the first")
	}
}
