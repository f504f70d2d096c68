package transport

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// Batching is how datagrams pass between a [UDP] and the kernel.
type Batching uint8

const (
	// BatchAuto is the best of what follows that the system has.
	BatchAuto Batching = iota
	// BatchSegmentation has the kernel cut one write into datagrams
	// (UDP_SEGMENT) and join what it receives (UDP_GRO). Linux from 5.0.
	BatchSegmentation
	// BatchMessages moves many datagrams a system call: sendmmsg, recvmmsg.
	// Linux.
	BatchMessages
	// BatchPlain is one system call a datagram. Everywhere.
	BatchPlain
)

// String returns the name.
func (b Batching) String() string {
	switch b {
	case BatchAuto:
		return "auto"
	case BatchSegmentation:
		return "segmentation"
	case BatchMessages:
		return "messages"
	case BatchPlain:
		return "plain"
	}
	return fmt.Sprintf("batching(%d)", uint8(b))
}

// UDPConfig configures a [UDP]. The zero value is what most want.
type UDPConfig struct {
	// Batching is BatchAuto, or one of the others to have exactly that or an
	// error that wraps errors.ErrUnsupported.
	Batching Batching
	// Buffer is how many bytes the kernel is asked to hold in each
	// direction. A burst of a full congestion window must fit. 8 MiB.
	Buffer int
}

const defaultBuffer = 8 << 20

// UDP is a [Conn] over a UDP socket.
//
// What the kernel can do is tried before it is used. A destination on whose
// path segmentation fails is sent the same datagrams by the next of
// [Batching], and so for the following minute; others are not affected.
//
// On Linux a socket on all addresses answers from the address that it was
// addressed at: a peer that is heard from is sent to from there.
//
// Datagrams are never fragmented on Linux: one that is larger than the first
// link's MTU, or than UDP can carry, fails with an error that wraps EMSGSIZE,
// and the shorter last one of the same call is sent nevertheless. What routers
// say about the rest of the path is not listened to (IP_PMTUDISC_PROBE): it
// can be forged, and RFC 8899 does not need it.
type UDP struct {
	conn    *net.UDPConn
	local   netip.AddrPort
	send    Batching // of several datagrams at once
	second  Batching // the same, where segmentation is refused
	receive Batching
	peers   *peers
	buffers Buffers
	polling polling
	system  system
}

// ListenUDP opens a socket as the zero [UDPConfig] does.
func ListenUDP(addr string) (*UDP, error) { return UDPConfig{}.Listen(addr) }

// Listen opens a socket on addr, a "host:port"; an empty host listens on
// every address of both families and port 0 picks a free one.
func (c UDPConfig) Listen(addr string) (*UDP, error) {
	if c.Batching > BatchPlain || c.Buffer < 0 {
		return nil, fmt.Errorf("udp: invalid configuration: %v, buffer of %d bytes", c.Batching, c.Buffer)
	}
	if c.Buffer == 0 {
		c.Buffer = defaultBuffer
	}
	send, receive, second := capabilities()
	if c.Batching != BatchAuto {
		if c.Batching == BatchSegmentation && send != c.Batching || c.Batching == BatchMessages && second != c.Batching {
			return nil, fmt.Errorf("udp: batching by %v: %w", c.Batching, errors.ErrUnsupported)
		}
		send, receive = c.Batching, c.Batching
	}
	u, err := open("udp", addr, send, receive)
	if err != nil {
		return nil, err
	}
	u.second = second
	u.buffers = grow(u.conn, c.Buffer)
	return u, nil
}

// open opens a socket that uses what it is told to, and refuses if it cannot.
func open(network, addr string, send, receive Batching) (*UDP, error) {
	local, err := net.ResolveUDPAddr(network, addr)
	if err != nil {
		return nil, err
	}
	conn, err := net.ListenUDP(network, local)
	if err != nil {
		return nil, err
	}
	u := &UDP{
		conn: conn, local: unmap(conn.LocalAddr().(*net.UDPAddr).AddrPort()),
		send: send, second: BatchPlain, receive: receive, peers: newPeers(), polling: newPolling(),
	}
	if err := u.configure(); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return u, nil
}

// Batching returns what is used where nothing refuses it.
func (u *UDP) Batching() (send, receive Batching) { return u.send, u.receive }

// LocalAddr implements [Conn].
func (u *UDP) LocalAddr() netip.AddrPort { return u.local }

// Close implements [Conn].
func (u *UDP) Close() error {
	if err := u.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Send implements [Conn]. It takes more than [MaxSegments] datagrams, too.
// When some of them cannot be sent, the others are, and the error is the
// first.
func (u *UDP) Send(buf []byte, size int, to netip.AddrPort) error {
	if size <= 0 || len(buf) > MaxBatch {
		return fmt.Errorf("udp: batch of %d bytes in datagrams of %d", len(buf), size)
	}
	u.polling.sent.Add(int64(len(buf)))
	to = unmap(to)
	path, source := u.send, netip.Addr{}
	if known, ok := u.peers.get(to); ok {
		now := time.Now()
		if path == BatchSegmentation && known.refuses(now) {
			path = u.second
		}
		source = known.sourceAt(now)
	}
	var first error
	refused := false
	for len(buf) > 0 {
		by := path
		if len(buf) <= size {
			by = BatchPlain
		}
		n, err := u.write(by, buf, size, source, to)
		buf = buf[n:]
		switch {
		case err == nil:
		case errors.Is(err, net.ErrClosed):
			return err
		case by == BatchSegmentation && segmentationRefused(err):
			path, refused = u.second, true
		case source.IsValid() && sourceRefused(err):
			// The address is not ours any more, and may have been the reason
			// for the refusal, too.
			u.peers.forgetSource(to)
			source = netip.Addr{}
			if refused {
				path, refused = u.send, false
			}
		default:
			if first == nil {
				first = err
			}
			buf = buf[min(len(buf), covered(by, err, len(buf), size)):]
		}
	}
	// When the next path fails as well, segmentation was not to blame.
	if refused && first == nil {
		u.peers.refuse(to)
	}
	return first
}

// covered returns how many of n bytes need not be tried after err: what the
// failed call would have sent, or everything that is as large.
func covered(by Batching, err error, n, size int) int {
	switch {
	case errors.Is(err, syscall.EMSGSIZE):
		return max(size, n-n%size)
	case by == BatchSegmentation:
		return segmentedBytes(size)
	}
	return size
}

// segmentedBytes returns how many bytes one segmented write takes.
func segmentedBytes(size int) int {
	return max(1, min(MaxSegments, MaxSegmented/size)) * size
}

// arrival is what was read: n bytes in datagrams of size.
type arrival struct {
	n, size int
	from    netip.AddrPort
	at      netip.Addr // of ours, if it is to be answered from there
}

// Receive implements [Conn].
func (u *UDP) Receive(buf []byte) (n, size int, from netip.AddrPort, err error) {
	for {
		begin := time.Now()
		u.await(begin)
		a, err := u.read(buf)
		switch {
		case err == nil && a.n > 0:
			u.polling.waited(time.Since(begin), a.n)
			if a.at.IsValid() {
				u.peers.reached(a.from, a.at)
			}
			return a.n, a.size, a.from, nil
		case err != nil && (errors.Is(err, net.ErrClosed) || !transient(err)):
			return 0, 0, netip.AddrPort{}, err
		}
		// Nothing in it, or what an ICMP message or an oversized datagram
		// left behind on some systems; the socket itself still works.
	}
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
