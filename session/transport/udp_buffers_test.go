package transport

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestBuffersAdvice(t *testing.T) {
	const begin = "the system grants the UDP socket buffers of only "
	for _, c := range []struct {
		goos string
		b    Buffers
		want string
	}{
		{"linux", Buffers{}, ""},
		{"linux", Buffers{Wanted: 100, Receive: 100, Send: 200}, ""},
		{"linux", Buffers{Wanted: 100, Receive: 40, Send: 100}, begin +
			"40 bytes to receive, where 100 are wanted; fast transfers may lose datagrams; as root, on the host: sysctl -w net.core.rmem_max=100"},
		{"linux", Buffers{Wanted: 100, Receive: 40, Send: 30}, begin +
			"40 bytes to receive and 30 bytes to send, where 100 are wanted; fast transfers may lose datagrams; as root, on the host: sysctl -w net.core.rmem_max=100 net.core.wmem_max=100"},
		{"darwin", Buffers{Wanted: 100, Receive: 100, Send: 50}, begin +
			"50 bytes to send, where 100 are wanted; fast transfers may lose datagrams; as root: sysctl -w kern.ipc.maxsockbuf=125"},
		{"windows", Buffers{Wanted: 100, Send: 100}, begin + "0 bytes to receive, where 100 are wanted; fast transfers may lose datagrams"},
	} {
		if got := c.b.advice(c.goos); got != c.want {
			t.Errorf("%s %+v:\n%s\nwant\n%s", c.goos, c.b, got, c.want)
		}
	}
}

// A system that refuses what exceeds its limit is asked for less.
func TestBuffersHalve(t *testing.T) {
	var asked []int
	got := accepted(func(n int) error {
		asked = append(asked, n)
		if n > 300 {
			return errors.New("no buffer space")
		}
		return nil
	}, 1000)
	if got != 250 || !slices.Equal(asked, []int{1000, 500, 250}) {
		t.Errorf("%d after asking for %v", got, asked)
	}
	if got := accepted(func(int) error { return errors.New("no") }, 1000); got != 0 {
		t.Errorf("%d of nothing", got)
	}
}

func TestUDPBuffers(t *testing.T) {
	for _, want := range []int{64 << 10, 1 << 30} {
		u, err := UDPConfig{Buffer: want}.Listen("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		b := u.Buffers()
		if b.Wanted != want || b.Receive <= 0 || b.Send <= 0 {
			t.Errorf("%+v of %d bytes", b, want)
		}
		if short := b.Receive < want || b.Send < want; short != strings.Contains(b.Advice(), "buffers of only") {
			t.Errorf("%+v: %q", b, b.Advice())
		}
	}
}
