package dht

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/seigr/sttnode/stc"
)

func TestScopesOfAddresses(t *testing.T) {
	for _, test := range []struct {
		addr   string
		scope  scope
		subnet string // "" for none
	}{
		{"127.0.0.1:1", scopeLoopback, ""},
		{"[::1]:1", scopeLoopback, ""},
		{"10.1.2.3:1", scopePrivate, ""},
		{"172.18.0.5:1", scopePrivate, ""},
		{"192.168.7.7:1", scopePrivate, ""},
		{"100.64.0.9:1", scopePrivate, ""},
		{"169.254.1.1:1", scopePrivate, ""},
		{"[fd00::1]:1", scopePrivate, ""},
		{"[fe80::1%eth0]:1", scopePrivate, ""},
		{"100.128.0.1:1", scopePublic, "100.128.0.0/24"},
		{"203.0.113.9:1", scopePublic, "203.0.113.0/24"},
		{"[2001:db8:1:2::3]:1", scopePublic, "2001:db8:1::/48"},
	} {
		addr := netip.MustParseAddrPort(test.addr)
		if got := scopeOf(addr.Addr()); got != test.scope {
			t.Errorf("%v has scope %d, want %d", addr, got, test.scope)
		}
		net, ok := subnetOf(addr)
		if ok != (test.subnet != "") {
			t.Errorf("subnet of %v: %x, %v", addr, net, ok)
		}
		if !ok {
			continue
		}
		within := netip.MustParsePrefix(test.subnet)
		for _, x := range []struct {
			ip   netip.Addr
			same bool
		}{{within.Addr(), true}, {lastOf(within), true}, {within.Addr().Prev(), false}, {lastOf(within).Next(), false}} {
			if other, _ := subnetOf(netip.AddrPortFrom(x.ip, 1)); (other == net) != x.same {
				t.Errorf("%v and %v: subnets %x and %x", addr, x.ip, net, other)
			}
		}
	}
}

// lastOf returns the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}

// A node on the internet can neither send us to hosts of our network nor use
// their addresses; one beside us can do both.
func TestRelayable(t *testing.T) {
	loop, private, public := "127.0.0.1:5", "192.168.0.5:5", "203.0.113.5:5"
	for _, test := range []struct {
		addr, other string
		want        bool
	}{
		{loop, loop, true}, {loop, private, false}, {loop, public, false},
		{private, loop, true}, {private, private, true}, {private, public, false},
		{public, loop, true}, {public, private, true}, {public, public, true},
		{"[fe80::1%eth0]:5", loop, false}, {"[fe80::1]:5", private, false}, {"[2001:db8::1%eth0]:5", public, false},
	} {
		if got := relayable(netip.MustParseAddrPort(test.addr), netip.MustParseAddrPort(test.other)); got != test.want {
			t.Errorf("relayable(%v, %v) = %v", test.addr, test.other, got)
		}
	}
}

func TestContactCheck(t *testing.T) {
	good := testContact(testIdentity(t, 1, 1), testAddr(1))
	if err := good.check(); err != nil {
		t.Errorf("a good contact: %v", err)
	}
	bad := map[string]Contact{"zero": {}}
	c := good
	c.ID = stc.Sum(nil)
	bad["another ID"] = c
	for name, addr := range map[string]string{
		"unspecified": "0.0.0.0:1", "unspecified IPv6": "[::]:1", "port 0": "10.0.0.1:0",
		"multicast": "224.0.0.1:1", "broadcast": "255.255.255.255:1", "mapped": "[::ffff:10.0.0.1]:1",
	} {
		c = good
		c.Addr = netip.MustParseAddrPort(addr)
		bad[name] = c
	}
	for name, c := range bad {
		if err := c.check(); !errors.Is(err, ErrBadContact) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := NewContact(good.Key, netip.MustParseAddrPort("[::ffff:10.0.0.1]:1")); got.check() != nil {
		t.Errorf("NewContact keeps a mapped address: %v", got.Addr)
	}
}

// Of one subnet a list takes two as long as there are others; without others
// it is filled up in order.
func TestDiverse(t *testing.T) {
	parse := func(addrs ...string) (cs []Contact) {
		for _, a := range addrs {
			cs = append(cs, Contact{Addr: netip.MustParseAddrPort(a + ":1")})
		}
		return cs
	}
	for name, test := range map[string]struct {
		n, limit   int
		have, want []Contact
	}{
		"none":             {3, 2, nil, nil},
		"n = 0":            {0, 2, parse("1.0.0.1"), nil},
		"fewer than n":     {3, 1, parse("1.0.0.1", "1.0.0.2"), parse("1.0.0.1", "1.0.0.2")},
		"others are there": {3, 2, parse("1.0.0.1", "1.0.0.2", "1.0.0.3", "1.0.0.4", "2.0.0.1", "3.0.0.1"), parse("1.0.0.1", "1.0.0.2", "2.0.0.1")},
		"filled up":        {4, 1, parse("1.0.0.1", "1.0.0.2", "1.0.0.3", "2.0.0.1", "1.0.0.4"), parse("1.0.0.1", "1.0.0.2", "1.0.0.3", "2.0.0.1")},
		"private":          {3, 1, parse("10.0.0.1", "10.0.0.2", "10.0.0.3", "2.0.0.1"), parse("10.0.0.1", "10.0.0.2", "10.0.0.3")},
		"no limit":         {2, -1, parse("1.0.0.1", "1.0.0.2", "2.0.0.1"), parse("1.0.0.1", "1.0.0.2")},
	} {
		got := diverse(nil, test.have, test.n, test.limit, func(c Contact) netip.AddrPort { return c.Addr })
		if len(got) != len(test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
			continue
		}
		for i := range got {
			if got[i] != test.want[i] {
				t.Errorf("%s: place %d is %v, want %v", name, i, got[i].Addr, test.want[i].Addr)
			}
		}
	}
}
