package dht

import (
	"net/netip"
	"testing"
	"time"
)

func TestCookies(t *testing.T) {
	start := time.Unix(1000, 0)
	c := newCookies([32]byte{1}, start, 2*time.Hour)
	key, addr := keyOf(1), netip.MustParseAddrPort("203.0.113.5:4700")
	granted := c.grant(start, key, addr)
	for _, test := range []struct {
		name string
		age  time.Duration
		want cookieValidity
	}{
		{"at once", 0, cookieFresh},
		{"in the same period", 2*time.Hour - 1, cookieFresh},
		{"in the next", 2 * time.Hour, cookieOld},
		{"at the end of the next", 4*time.Hour - 1, cookieOld},
		{"after it", 4 * time.Hour, cookieInvalid},
	} {
		if got := c.check(start.Add(test.age), granted, key, addr); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
	for name, got := range map[string]cookieValidity{
		"another key":     c.check(start, granted, keyOf(2), addr),
		"another address": c.check(start, granted, key, netip.MustParseAddrPort("203.0.113.6:4700")),
		"another port":    c.check(start, granted, key, netip.MustParseAddrPort("203.0.113.5:4701")),
		"none":            c.check(start, cookie{}, key, addr),
		"another secret":  newCookies([32]byte{2}, start, 2*time.Hour).check(start, granted, key, addr),
	} {
		if got != cookieInvalid {
			t.Errorf("%s: valid", name)
		}
	}
}
