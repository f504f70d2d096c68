package node

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/seigr/sttnode/stc"
)

func TestParseAddress(t *testing.T) {
	id := stc.Sum([]byte("x"))
	for _, want := range []Address{
		{Host: "127.0.0.1", Port: 4700},
		{Host: "::1", Port: 1},
		{Host: "boot.example.org", Port: 65535},
		{Host: "::1", Port: 4700, Peer: id},
		{URL: "ws://127.0.0.1:4780/stt"},
		{URL: "ws://[::1]:4780/stt"},
		{URL: "wss://boot.example.org/a/b%20c@d", Peer: id},
	} {
		got, err := ParseAddress(want.String())
		if err != nil || got != want {
			t.Errorf("ParseAddress(%q) = %+v, %v", want.String(), got, err)
		}
	}
	for _, bad := range []string{
		"", "host", "host:", ":4700", "host:0", "host:65536", "host:-1", "host:http", "::1:4700",
		"@host:1", "http://host:80/stt", "://host/stt", "ws:///stt", "ws://:80/stt", "ws://host:80", "ws://host:0/stt", "ws://host:x/stt",
		"ws://host:/stt", "ws://host/%zz", "ws://host/stt?x=1", "ws://host/stt?", "ws://host/stt#x", "ws://user@host/stt",
		"ws://" + id.String() + ":password@host/stt", "ab@ws://host/stt", "ws://host/" + strings.Repeat("x", maxURL), "ab@host:1", strings.ToUpper(id.String()) + "@host:1",
	} {
		if a, err := ParseAddress(bad); !errors.Is(err, ErrAddress) {
			t.Errorf("ParseAddress(%q) = %+v, %v", bad, a, err)
		}
	}
}

func TestParseAddressNodeIDInURL(t *testing.T) {
	id := stc.Sum([]byte("x"))
	want := Address{URL: "ws://host:80/stt", Peer: id}
	for _, s := range []string{id.String() + "@ws://host:80/stt", "ws://" + id.String() + "@host:80/stt"} {
		if a, err := ParseAddress(s); err != nil || a != want {
			t.Errorf("ParseAddress(%q) = %+v, %v", s, a, err)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	f.Add("ws://127.0.0.1:4780/stt")
	f.Add(stc.Sum(nil).String() + "@wss://[::1]/%41?#")
	f.Add("127.0.0.1:4700")
	f.Add("[::1]:4700")
	f.Add(stc.Sum(nil).String() + "@[fe80::1%eth0]:4700")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			return
		}
		if again, err := ParseAddress(a.String()); err != nil || again != a {
			t.Fatalf("%q → %+v → %q → %+v, %v", s, a, a.String(), again, err)
		}
	})
}

func TestResolve(t *testing.T) {
	v4, v6, any6 := netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback(), netip.IPv6Unspecified()
	tests := []struct {
		host  string
		local netip.Addr
		want  string // empty: ErrResolve
	}{
		{"192.0.2.1", any6, "192.0.2.1:5"},
		{"192.0.2.1", v4, "192.0.2.1:5"},
		{"192.0.2.1", v6, ""},
		{"2001:db8::1", any6, "[2001:db8::1]:5"},
		{"2001:db8::1", v4, ""},
		// A listener's "every address" is dialled as this machine.
		{"::", any6, "[::1]:5"},
		{"0.0.0.0", any6, "127.0.0.1:5"},
		{"::ffff:192.0.2.1", v4, "192.0.2.1:5"},
		// RFC 6761 section 6.4: never resolves.
		{"nobody.invalid", any6, ""},
	}
	for _, tt := range tests {
		got, err := Address{Host: tt.host, Port: 5}.resolve(context.Background(), tt.local)
		if tt.want == "" {
			if !errors.Is(err, ErrResolve) || !strings.Contains(err.Error(), tt.host) {
				t.Errorf("%s from %v: %v, %v", tt.host, tt.local, got, err)
			}
		} else if err != nil || len(got) != 1 || got[0].String() != tt.want {
			t.Errorf("%s from %v: %v, %v; want %s", tt.host, tt.local, got, err, tt.want)
		}
	}
}
