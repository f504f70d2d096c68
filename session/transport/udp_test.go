package transport

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"testing"
)

func listen(t testing.TB) *UDP {
	t.Helper()
	u, err := ListenUDP("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return u
}

// receive collects count datagrams from u.
func receive(t *testing.T, u *UDP, count int) [][]byte {
	t.Helper()
	buf := make([]byte, MaxBatch)
	var out [][]byte
	for len(out) < count {
		n, size, _, err := u.Receive(buf)
		if err != nil {
			t.Fatal(err)
		}
		for b := buf[:n]; len(b) > 0; {
			k := min(size, len(b))
			out = append(out, bytes.Clone(b[:k]))
			b = b[k:]
		}
	}
	return out
}

func TestUDPBatches(t *testing.T) {
	for _, offload := range []bool{true, false} {
		a, b := listen(t), listen(t)
		if !offload {
			a.segment.Store(false)
		}
		want := make([][]byte, 20)
		var batch []byte
		for i := range want {
			want[i] = bytes.Repeat([]byte{byte(i)}, 1000)
			if i == len(want)-1 {
				want[i] = want[i][:7]
			}
			batch = append(batch, want[i]...)
		}
		if err := a.Send(batch, 1000, b.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		for i, got := range receive(t, b, len(want)) {
			if !bytes.Equal(got, want[i]) {
				t.Fatalf("offload %v: datagram %d: %d bytes of %d", offload, i, len(got), got[0])
			}
		}
	}
}

func TestUDPDualStack(t *testing.T) {
	a, err := ListenUDP(":0")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b := listen(t)
	if err := b.Send([]byte("four"), 4, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), a.LocalAddr().Port())); err != nil {
		t.Fatal(err)
	}
	_, _, from, err := a.Receive(make([]byte, MaxBatch))
	if err != nil || from != b.LocalAddr() {
		t.Fatalf("from %v, %v; want %v, not its IPv6-mapped form", from, err, b.LocalAddr())
	}
	if err := a.Send([]byte("back"), 4, from); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, b, 1); string(got[0]) != "back" {
		t.Fatalf("got %q", got[0])
	}
}

func TestUDPClose(t *testing.T) {
	a := listen(t)
	done := make(chan error)
	go func() {
		_, _, _, err := a.Receive(make([]byte, MaxBatch))
		done <- err
	}()
	a.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Receive after Close: %v", err)
	}
	if err := a.Send([]byte("x"), 1, a.LocalAddr()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Send after Close: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if _, err := ListenUDP("no such host.invalid:1"); err == nil {
		t.Error("listened on a name that does not resolve")
	}
}

func BenchmarkUDPLoopback(b *testing.B) {
	for _, name := range []string{"offload", "plain"} {
		b.Run(name, func(b *testing.B) {
			from, to := listen(b), listen(b)
			if name == "plain" {
				from.segment.Store(false)
			}
			go func() {
				buf := make([]byte, MaxBatch)
				for {
					if _, _, _, err := to.Receive(buf); err != nil {
						return
					}
				}
			}()
			batch := make([]byte, 44*1400)
			b.SetBytes(int64(len(batch)))
			b.ReportAllocs()
			for b.Loop() {
				if err := from.Send(batch, 1400, to.LocalAddr()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
