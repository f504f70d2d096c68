package session

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/net/nettest"

	"github.com/seigr/sttnode/session/transport"
	"github.com/seigr/sttnode/stc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// overUDP connects two endpoints over loopback.
func overUDP(t testing.TB) (sa, sb *Session, stop func()) { return overUDPOf(t, 0) }

// overUDPOf is overUDP with a bound to the size of datagrams; 0 for the
// default.
func overUDPOf(t testing.TB, datagram int) (sa, sb *Session, stop func()) {
	t.Helper()
	listen := func(name string) *Endpoint {
		conn, err := transport.ListenUDP("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		e, err := NewEndpoint(conn, Config{Identity: identity(t, name), Keyring: keyring(t, "one"), MaxDatagram: datagram})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	a, b := listen("A"), listen("B")
	sa, err := a.Dial(context.Background(), b.LocalAddr(), stc.Hash{})
	if err != nil {
		t.Fatal(err)
	}
	sb, err = b.Accept(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return sa, sb, func() { a.Close(); b.Close() }
}

// TestStreamIsAConn runs the conformance suite of net.Conn over real UDP.
func TestStreamIsAConn(t *testing.T) {
	sa, sb, stop := overUDP(t)
	defer stop()
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		st, err := sa.OpenStream(context.Background())
		if err != nil {
			return nil, nil, nil, err
		}
		// Tell the peer of the stream before any byte.
		st.mu.Lock()
		st.out.announce = true
		st.mu.Unlock()
		sa.notify(st)
		in, err := sb.AcceptStream(context.Background())
		if err != nil {
			return nil, nil, nil, err
		}
		return st, in, func() { st.Reset(0); in.Reset(0) }, nil
	})
}

// BenchmarkBulk moves bytes over loopback, in datagrams as an Ethernet
// carries them and in what loopback takes.
func BenchmarkBulk(b *testing.B) {
	for _, datagram := range []int{1452, 65507} {
		b.Run(fmt.Sprint(datagram), func(b *testing.B) { benchmarkBulk(b, datagram) })
	}
}

func benchmarkBulk(b *testing.B, datagram int) {
	sa, sb, stop := overUDPOf(b, datagram)
	defer stop()
	go func() {
		for {
			st, err := sb.AcceptStream(context.Background())
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, st)
			_ = st.Close()
		}
	}()
	st, err := sa.OpenStream(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	p := make([]byte, 256<<10)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := st.Write(p); err != nil {
			b.Fatal(err)
		}
	}
	_ = st.Close()
	s, r := sa.Stats(), sb.Stats()
	b.ReportMetric(float64(s.PacketsLost)/float64(s.MessagesSent)*100, "%lost")
	b.ReportMetric(float64(s.CongestionWindow)/1024, "cwnd-KiB")
	b.ReportMetric(float64(s.RTT.Microseconds()), "rtt-µs")
	b.ReportMetric(float64(r.MessagesSent)/float64(s.MessagesSent)*100, "%acks")
}

func BenchmarkRequest(b *testing.B) {
	sa, sb, stop := overUDP(b)
	defer stop()
	go func() {
		for {
			st, err := sb.AcceptStream(context.Background())
			if err != nil {
				return
			}
			go func() {
				var p [200]byte
				n, _ := io.ReadFull(st, p[:])
				_, _ = st.Write(p[:n])
				_ = st.Close()
			}()
		}
	}()
	p, answer := make([]byte, 100), make([]byte, 101)
	b.ReportAllocs()
	for b.Loop() {
		st, err := sa.OpenStream(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		_, _ = st.Write(p)
		_ = st.CloseWrite()
		if n, err := io.ReadFull(st, answer); n != len(p) || err != io.ErrUnexpectedEOF {
			b.Fatalf("answer of %d bytes: %v", n, err)
		}
		_ = st.Close()
	}
}
