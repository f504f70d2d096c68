package transport

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// eachUDP runs a test for every way of batching that the system has and on
// sockets of either family and of both. The test makes sockets by listen and
// finds them under the address that to returns.
func eachUDP(t *testing.T, test func(t *testing.T, listen func(testing.TB) *UDP, to func(*UDP) netip.AddrPort)) {
	for _, b := range []Batching{BatchSegmentation, BatchMessages, BatchPlain} {
		for _, n := range []struct{ name, listen, dial string }{
			{"IPv4", "127.0.0.1:0", "127.0.0.1"},
			{"IPv6", "[::1]:0", "::1"},
			{"wildcard IPv4", ":0", "127.0.0.1"},
			{"wildcard IPv6", ":0", "::1"},
		} {
			t.Run(b.String()+"/"+n.name, func(t *testing.T) {
				listen := func(t testing.TB) *UDP {
					t.Helper()
					u, err := UDPConfig{Batching: b}.Listen(n.listen)
					switch {
					case errors.Is(err, errors.ErrUnsupported):
						t.Skip(err)
					case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EAFNOSUPPORT):
						t.Skip("no IPv6 here:", err)
					case err != nil:
						t.Fatal(err)
					}
					t.Cleanup(func() { u.Close() })
					return u
				}
				test(t, listen, func(u *UDP) netip.AddrPort {
					return netip.AddrPortFrom(netip.MustParseAddr(n.dial), u.LocalAddr().Port())
				})
			})
		}
	}
}

type datagram struct {
	from netip.AddrPort
	data string
}

// receive collects count datagrams from u.
func receive(t testing.TB, u *UDP, count int) []datagram {
	t.Helper()
	buf := make([]byte, MaxBatch)
	var out []datagram
	for len(out) < count {
		n, size, from, err := u.Receive(buf)
		if err != nil {
			t.Fatal(err)
		}
		for b := buf[:n]; len(b) > 0; {
			k := min(size, len(b))
			out = append(out, datagram{from, string(b[:k])})
			b = b[k:]
		}
	}
	return out
}

// refuses reports whether segmentation counts as refused by a peer.
func refuses(p *peers, peer netip.AddrPort) bool {
	k, _ := p.get(peer)
	return k.refuses(time.Now())
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

func TestUDPDelivers(t *testing.T) {
	eachUDP(t, func(t *testing.T, listen func(testing.TB) *UDP, to func(*UDP) netip.AddrPort) {
		a, b := listen(t), listen(t)
		for _, c := range []struct{ total, size int }{
			{1, 1}, {10, 1000}, {1200, 1200}, {6000, 1200}, {44 * 1452, 1452}, {30*1452 + 7, 1452}, // as sessions send
			{64 * 100, 100}, {65 * 100, 100}, {200*100 + 1, 100}, {MaxBatch, 512}, {MaxBatch, 1024}, // many
			{2*30000 + 1, 30000}, {65000, 65000}, {MaxBatch, 65000}, // large
		} {
			if c.size > 9000 && runtime.GOOS != "linux" {
				continue // beyond the usual limit of others
			}
			sent := randomBytes(c.total)
			if err := a.Send(sent, c.size, to(b)); err != nil {
				t.Fatalf("%d bytes by %d: %v", c.total, c.size, err)
			}
			count := (c.total + c.size - 1) / c.size
			for i, got := range receive(t, b, count) {
				want := sent[i*c.size : min((i+1)*c.size, len(sent))]
				if got.data != string(want) || got.from != to(a) {
					t.Fatalf("%d bytes by %d: datagram %d has %d bytes from %v, want %d from %v",
						c.total, c.size, i, len(got.data), got.from, len(want), to(a))
				}
			}
		}
		if refuses(a.peers, to(b)) {
			t.Error("the kernel refused what should have been segmented otherwise")
		}
	})
}

// What different peers send at once arrives mixed; each one's datagrams must
// come whole, in order and under its address.
func TestUDPManyPeers(t *testing.T) {
	eachUDP(t, func(t *testing.T, listen func(testing.TB) *UDP, to func(*UDP) netip.AddrPort) {
		const peers, rounds, size = 4, 20, 300
		receiver := listen(t)
		sent := make(map[netip.AddrPort]string)
		count := 0
		all := make([]*UDP, peers)
		for i := range all {
			all[i] = listen(t)
		}
		for range rounds {
			for _, u := range all {
				b := randomBytes(1 + rand.IntN(4*size))
				if err := u.Send(b, size, to(receiver)); err != nil {
					t.Fatal(err)
				}
				sent[to(u)] += string(b)
				count += (len(b) + size - 1) / size
			}
		}
		got := make(map[netip.AddrPort]string)
		for _, d := range receive(t, receiver, count) {
			got[d.from] += d.data
		}
		for from, data := range sent {
			if got[from] != data {
				t.Errorf("from %v: %d bytes, not the %d that were sent", from, len(got[from]), len(data))
			}
		}
	})
}

func TestUDPConcurrentSends(t *testing.T) {
	eachUDP(t, func(t *testing.T, listen func(testing.TB) *UDP, to func(*UDP) netip.AddrPort) {
		a, b := listen(t), listen(t)
		const senders, rounds, size = 4, 10, 100
		var wg sync.WaitGroup
		for s := range senders {
			wg.Go(func() {
				for range rounds {
					if err := a.Send(bytes.Repeat([]byte{byte(s)}, 3*size), size, to(b)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		var count [senders]int
		for _, d := range receive(t, b, senders*rounds*3) {
			if s := d.data[0]; d.data != strings.Repeat(string(s), size) {
				t.Fatalf("a datagram of %d bytes is torn", len(d.data))
			}
			count[d.data[0]]++
		}
		for s, n := range count {
			if n != rounds*3 {
				t.Errorf("%d datagrams of sender %d, want %d", n, s, rounds*3)
			}
		}
	})
}

// Datagrams that follow each other in any sizes, empty ones among them, which
// Receive leaves out.
func TestUDPAnySizes(t *testing.T) {
	eachUDP(t, func(t *testing.T, listen func(testing.TB) *UDP, to func(*UDP) netip.AddrPort) {
		a, b := listen(t), listen(t)
		var want []string
		for _, size := range []int{9000, 9000, 9000, 9000, 9000, 9000, 9000, 9000, 9000, 20, 0, 3, 0, 3, 3, 6, 6, 1, 2, 0, 1, 0, 1} {
			sent := randomBytes(size)
			if _, err := a.conn.WriteToUDPAddrPort(sent, to(b)); err != nil {
				t.Fatal(err)
			}
			if size > 0 {
				want = append(want, string(sent))
			}
		}
		for i, got := range receive(t, b, len(want)) {
			if got.data != want[i] {
				t.Errorf("datagram %d: %d bytes, want %d", i, len(got.data), len(want[i]))
			}
		}
	})
}

func TestUDPClose(t *testing.T) {
	eachUDP(t, func(t *testing.T, listen func(testing.TB) *UDP, to func(*UDP) netip.AddrPort) {
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
		for _, n := range []int{1, 5} {
			if err := a.Send(make([]byte, n), 1, to(a)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Send of %d datagrams after Close: %v", n, err)
			}
		}
		if err := a.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
	})
}

func TestUDPAllocatesNothing(t *testing.T) {
	eachUDP(t, func(t *testing.T, listen func(testing.TB) *UDP, to func(*UDP) netip.AddrPort) {
		a, b := listen(t), listen(t)
		buf, batch, address := make([]byte, MaxBatch), make([]byte, 40*1452), to(b)
		for _, n := range []int{100, len(batch)} {
			allocs := testing.AllocsPerRun(100, func() {
				if err := a.Send(batch[:n], 1452, address); err != nil {
					t.Fatal(err)
				}
				for got := 0; got < n; {
					k, _, _, err := b.Receive(buf)
					if err != nil {
						t.Fatal(err)
					}
					got += k
				}
			})
			if allocs != 0 && !raceEnabled {
				t.Errorf("%d bytes there: %v allocations", n, allocs)
			}
		}
	})
}

func TestUDPConfig(t *testing.T) {
	for _, c := range []UDPConfig{{Batching: BatchPlain + 1}, {Buffer: -1}} {
		if u, err := c.Listen("127.0.0.1:0"); err == nil {
			u.Close()
			t.Errorf("%+v: no error", c)
		}
	}
	if _, err := ListenUDP("no such host.invalid:1"); err == nil {
		t.Error("listened on a name that does not resolve")
	}
	u, err := ListenUDP("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if send, receive := u.Batching(); send == BatchAuto || receive == BatchAuto {
		t.Errorf("the zero configuration uses %v and %v", send, receive)
	}
	if got, want := fmt.Sprint(BatchAuto, BatchSegmentation, BatchMessages, BatchPlain, Batching(9)),
		"auto segmentation messages plain batching(9)"; got != want {
		t.Errorf("names: %s, want %s", got, want)
	}
}

func BenchmarkUDPLoopback(b *testing.B) {
	for _, batching := range []Batching{BatchSegmentation, BatchMessages, BatchPlain} {
		b.Run(batching.String(), func(b *testing.B) {
			listen := func() *UDP {
				u, err := UDPConfig{Batching: batching}.Listen("127.0.0.1:0")
				if err != nil {
					b.Skip(err)
				}
				b.Cleanup(func() { u.Close() })
				return u
			}
			from, to := listen(), listen()
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
