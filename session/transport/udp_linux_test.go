package transport

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// noChecksum has sockets leave out checksums, or not; the kernel refuses to
// segment without.
func noChecksum(t *testing.T, on int, sockets ...*UDP) {
	t.Helper()
	for _, u := range sockets {
		var err error
		e := u.system.raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_NO_CHECK, on)
			if u.system.family == unix.AF_INET6 {
				for _, o := range []int{unix.UDP_NO_CHECK6_TX, unix.UDP_NO_CHECK6_RX} {
					err = errors.Join(err, unix.SetsockoptInt(int(fd), unix.SOL_UDP, o, on))
				}
			}
		})
		if err := errors.Join(e, err); err != nil {
			t.Fatal(err)
		}
	}
}

// A destination that refuses segmentation gets every datagram nevertheless,
// others stay as they are, and after a while it is tried again.
func TestUDPSegmentationRefused(t *testing.T) {
	eachUDP(t, func(t *testing.T, listen func(testing.TB) *UDP, to func(*UDP) netip.AddrPort) {
		synctest.Test(t, func(t *testing.T) {
			a, b, c := listen(t), listen(t), listen(t)
			if a.send != BatchSegmentation {
				t.Skip("not segmented")
			}
			exchange := func() {
				t.Helper()
				const size = 100
				if err := b.Send([]byte("here I am"), size, to(a)); err != nil {
					t.Fatal(err)
				}
				receive(t, a, 1)
				sent := randomBytes(70*size + 1)
				if err := a.Send(sent, size, to(b)); err != nil {
					t.Fatal(err)
				}
				for i, got := range receive(t, b, 71) {
					if got.data != string(sent[i*size:min((i+1)*size, len(sent))]) {
						t.Fatalf("datagram %d differs", i)
					}
				}
			}
			exchange()
			if refuses(a.peers, to(b)) {
				t.Fatal("segmentation is refused without reason")
			}
			noChecksum(t, 1, a, b)
			for _, second := range []Batching{BatchMessages, BatchPlain} {
				a.second = second
				exchange()
				if !refuses(a.peers, to(b)) || refuses(a.peers, to(c)) {
					t.Fatalf("refuses %v, another %v", refuses(a.peers, to(b)), refuses(a.peers, to(c)))
				}
				exchange()
				time.Sleep(refusalTime)
				if refuses(a.peers, to(b)) {
					t.Fatal("segmentation is not tried again")
				}
			}
			noChecksum(t, 0, a, b)
			exchange()
			if refuses(a.peers, to(b)) {
				t.Fatal("segmentation is refused after the reason has gone")
			}
		})
	})
}

// A datagram that is too large is an error that says so, and does not take
// the others with it.
func TestUDPTooLarge(t *testing.T) {
	eachUDP(t, func(t *testing.T, listen func(testing.TB) *UDP, to func(*UDP) netip.AddrPort) {
		a, b := listen(t), listen(t)
		const size = 65510
		if err := a.Send(make([]byte, size), size, to(b)); !errors.Is(err, unix.EMSGSIZE) {
			t.Errorf("%d bytes: %v, want EMSGSIZE", size, err)
		}
		if err := a.Send(make([]byte, size+7), size, to(b)); !errors.Is(err, unix.EMSGSIZE) {
			t.Errorf("%d bytes and 7: %v, want EMSGSIZE", size, err)
		}
		if got := receive(t, b, 1); len(got[0].data) != 7 {
			t.Errorf("got %d bytes, want the 7 behind the large datagram", len(got[0].data))
		}
		if refuses(a.peers, to(b)) {
			t.Error("segmentation is blamed for the datagram's size")
		}
		if err := a.Send(make([]byte, MaxBatch+1), 1000, to(b)); err == nil {
			t.Error("more than MaxBatch was sent")
		}
		if err := a.Send([]byte("x"), 0, to(b)); err == nil {
			t.Error("datagrams of no size were sent")
		}
		if err := a.Send(nil, 1, to(b)); err != nil {
			t.Error(err)
		}
	})
}

// eachWildcard runs a test for every way of batching on wildcard sockets of
// both families and of IPv4 alone, with two addresses of this host that reach
// them.
func eachWildcard(t *testing.T, test func(t *testing.T, u *UDP, at [2]netip.Addr)) {
	v4 := [2]netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")}
	v6 := [2]netip.Addr{netip.IPv6Loopback()}
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && p.Addr().Is6() && p.Addr().IsGlobalUnicast() {
			v6[1] = p.Addr()
		}
	}
	for _, b := range []Batching{BatchSegmentation, BatchMessages, BatchPlain} {
		for _, c := range []struct {
			name, network string
			at            [2]netip.Addr
		}{{"dual/IPv4", "udp", v4}, {"dual/IPv6", "udp", v6}, {"IPv4", "udp4", v4}} {
			t.Run(b.String()+"/"+c.name, func(t *testing.T) {
				if !c.at[1].IsValid() {
					t.Skip("this host has one IPv6 address")
				}
				u, err := open(c.network, ":0", b, b)
				if err != nil {
					t.Skip(err)
				}
				u.second = BatchMessages
				defer u.Close()
				test(t, u, c.at)
			})
		}
	}
}

// Whatever address a peer dials, it gets its answers from there.
func TestUDPAnswersFromWhereItWasReached(t *testing.T) {
	eachWildcard(t, func(t *testing.T, u *UDP, at [2]netip.Addr) {
		peer, err := ListenUDP(netip.AddrPortFrom(at[0], 0).String())
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		for _, a := range []netip.Addr{at[1], at[0], at[1]} {
			dialled := netip.AddrPortFrom(a, u.LocalAddr().Port())
			if err := peer.Send([]byte("oneone"), 3, dialled); err != nil {
				t.Fatal(err)
			}
			for _, d := range receive(t, u, 2) {
				if d.data != "one" || d.from != peer.LocalAddr() {
					t.Fatalf("got %q from %v, want it from %v", d.data, d.from, peer.LocalAddr())
				}
			}
			for _, answer := range []string{"two", "twotwotw"} {
				if err := u.Send([]byte(answer), 3, peer.LocalAddr()); err != nil {
					t.Fatal(err)
				}
				for _, d := range receive(t, peer, (len(answer)+2)/3) {
					if d.from != dialled {
						t.Fatalf("%q from %v, but %v was dialled", answer, d.from, dialled)
					}
				}
			}
			if refuses(u.peers, peer.LocalAddr()) {
				t.Fatal("segmentation is refused")
			}
		}
	})
}

// What comes from one peer to two addresses in one system call is two runs.
func TestUDPReachedAtTwoAddresses(t *testing.T) {
	eachWildcard(t, func(t *testing.T, u *UDP, at [2]netip.Addr) {
		peer, err := ListenUDP(netip.AddrPortFrom(at[0], 0).String())
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		for _, a := range at {
			if err := peer.Send([]byte("one"), 3, netip.AddrPortFrom(a, u.LocalAddr().Port())); err != nil {
				t.Fatal(err)
			}
		}
		for _, a := range at {
			receive(t, u, 1)
			if k, _ := u.peers.get(peer.LocalAddr()); k.source != a {
				t.Fatalf("answers go from %v, want %v", k.source, a)
			}
		}
	})
}

// An address that the host has lost, or by which nothing comes any more, is
// not used for ever, and no datagram falls victim to it.
func TestUDPSourceGone(t *testing.T) {
	eachWildcard(t, func(t *testing.T, u *UDP, at [2]netip.Addr) {
		synctest.Test(t, func(t *testing.T) {
			peer, err := ListenUDP(netip.AddrPortFrom(at[0], 0).String())
			if err != nil {
				t.Fatal(err)
			}
			defer peer.Close()
			exchange := func(from netip.Addr) {
				t.Helper()
				if err := u.Send([]byte("oneoneo"), 3, peer.LocalAddr()); err != nil {
					t.Fatal(err)
				}
				for _, d := range receive(t, peer, 3) {
					if d.from.Addr() != from {
						t.Fatalf("from %v, want %v", d.from, from)
					}
				}
			}
			gone := netip.MustParseAddr("192.0.2.99")
			if at[0].Is6() {
				gone = netip.MustParseAddr("2001:db8::99")
			}
			u.peers.reached(peer.LocalAddr(), gone)
			exchange(at[0])
			if k, _ := u.peers.get(peer.LocalAddr()); k.source.IsValid() || !k.refused.IsZero() {
				t.Fatalf("remembered: %+v", k)
			}
			u.peers.reached(peer.LocalAddr(), at[1])
			time.Sleep(sourceTime - 1)
			exchange(at[1])
			time.Sleep(time.Nanosecond)
			exchange(at[0]) // what the kernel chooses
		})
	})
}

func TestPeersAreBounded(t *testing.T) {
	p := newPeers()
	peer := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1)
	}
	for i := range maxPeers + 100 {
		p.refuse(peer(i))
		if !refuses(p, peer(i)) {
			t.Fatal("a peer is forgotten at once")
		}
	}
	if len(p.known) != maxPeers {
		t.Errorf("%d peers are remembered, want %d", len(p.known), maxPeers)
	}
}

// Every Linux of today has all of it, sandboxes aside: that nothing is used
// of what is there must not go unnoticed.
func TestUDPCapabilities(t *testing.T) {
	send, receive, second := capabilities()
	t.Logf("send by %v, then %v; receive by %v", send, second, receive)
	if second != BatchMessages {
		t.Errorf("a refused destination is sent to by %v: no sendmmsg here?", second)
	}
}

func TestParseControl(t *testing.T) {
	for _, b := range [][]byte{nil, make([]byte, 15), make([]byte, 64)} {
		if got, at := parseControl(b); got != 0 || at.IsValid() {
			t.Errorf("%d zero bytes: %d, %v", len(b), got, at)
		}
	}
}

func TestZone(t *testing.T) {
	var name unix.RawSockaddrInet6
	var z zone
	v6 := netip.MustParseAddrPort("[fe80::1]:4700")
	if n, ok := encodeName(&name, unix.AF_INET6, v6); !ok || n != unix.SizeofSockaddrInet6 {
		t.Fatal(n, ok)
	}
	ifi, err := net.InterfaceByIndex(1)
	if err != nil {
		t.Skip(err)
	}
	name.Scope_id = 1
	for range 2 {
		if got, want := z.decodeName(&name).String(), "[fe80::1%"+ifi.Name+"]:4700"; got != want {
			t.Errorf("zone 1: %s, want %s", got, want)
		}
	}
	if _, ok := encodeName(&name, unix.AF_INET6, netip.MustParseAddrPort("[fe80::1%lo]:4700")); ok {
		t.Error("an address with a zone was encoded without it")
	}
	if _, ok := encodeName(&name, unix.AF_INET, v6); ok {
		t.Error("an IPv6 address was encoded for an IPv4 socket")
	}
}

// TestUDPStaysJoined checks that a full batch of any usual size passes the
// loopback in pieces of many datagrams: the kernel cuts what is too long to
// be handed on whole, and everything costs a multiple from there.
func TestUDPStaysJoined(t *testing.T) {
	if send, receive, _ := capabilities(); send != BatchSegmentation || receive != BatchSegmentation {
		t.Skip("not segmented")
	}
	a, b := udp(t, "127.0.0.1:0"), udp(t, "127.0.0.1:0")
	buf := make([]byte, MaxBatch)
	for _, size := range []int{1200, 1260, 1310, 1394, 1424, 1452, 1472, 8972} {
		batch := make([]byte, min(MaxSegments, MaxBatch/size)*size)
		if err := a.Send(batch, size, b.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		receives := 0
		for got := 0; got < len(batch); receives++ {
			n, _, _, err := b.Receive(buf)
			if err != nil {
				t.Fatal(err)
			}
			got += n
		}
		if receives > 2 {
			t.Errorf("%d datagrams of %d bytes came in %d pieces", len(batch)/size, size, receives)
		}
	}
}

func udp(t *testing.T, addr string) *UDP {
	t.Helper()
	u, err := ListenUDP(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return u
}
