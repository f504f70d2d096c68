package transport

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
)

// socketBuffer is what we ask the kernel to hold in each direction, in bytes.
// A burst of a full congestion window must fit; the kernel caps it.
const socketBuffer = 8 << 20

// UDP is a [Conn] over a UDP socket. Where the kernel can cut one write into
// datagrams (UDP_SEGMENT) and join what it receives (UDP_GRO), both are used;
// a path that refuses the first gets one system call a datagram from then on.
type UDP struct {
	conn    *net.UDPConn
	local   netip.AddrPort
	segment atomic.Bool // sends may be segmented by the kernel
	gro     bool        // receives may be joined
	oob     []byte      // Receive's control messages; owned by its caller
	buffer  int         // granted receive buffer in bytes, 0 if unknown
}

// ListenUDP opens a socket on addr, a "host:port"; an empty host listens on
// every address of both families and port 0 picks a free one.
func ListenUDP(addr string) (*UDP, error) {
	local, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, err
	}
	conn, err := net.ListenUDP("udp", local)
	if err != nil {
		return nil, err
	}
	u := &UDP{conn: conn, oob: make([]byte, 128)}
	ap := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	u.local = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	// A smaller buffer than asked for costs speed, not correctness.
	_ = conn.SetReadBuffer(socketBuffer)
	_ = conn.SetWriteBuffer(socketBuffer)
	segment, gro, granted := configure(conn, socketBuffer)
	u.segment.Store(segment)
	u.gro = gro
	u.buffer = granted
	return u, nil
}

// Offload reports whether the kernel cuts what is sent and joins what is
// received.
func (u *UDP) Offload() (send, receive bool) { return u.segment.Load(), u.gro }

// ReceiveBuffer returns how many bytes the kernel holds for us, and how many
// we asked for; granted is 0 where the system does not say.
func (u *UDP) ReceiveBuffer() (granted, asked int) { return u.buffer, socketBuffer }

// LocalAddr implements [Conn].
func (u *UDP) LocalAddr() netip.AddrPort { return u.local }

// Close implements [Conn].
func (u *UDP) Close() error {
	if err := u.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Send implements [Conn].
func (u *UDP) Send(buf []byte, size int, to netip.AddrPort) error {
	if size <= 0 || len(buf) > MaxBatch {
		return fmt.Errorf("udp: batch of %d bytes in datagrams of %d", len(buf), size)
	}
	if len(buf) > size && u.segment.Load() {
		err := u.sendSegmented(buf, size, to)
		if err == nil || !offloadRefused(err) {
			return err
		}
		// No checksum offload on this path, or an old driver: go on without.
		u.segment.Store(false)
	}
	var first error
	for len(buf) > 0 {
		n := min(size, len(buf))
		if _, err := u.conn.WriteToUDPAddrPort(buf[:n], to); err != nil && first == nil {
			first = err
		}
		buf = buf[n:]
	}
	return first
}

// Receive implements [Conn].
func (u *UDP) Receive(buf []byte) (n, size int, from netip.AddrPort, err error) {
	for {
		var oobn int
		if u.gro {
			n, oobn, _, from, err = u.conn.ReadMsgUDPAddrPort(buf, u.oob)
		} else {
			n, from, err = u.conn.ReadFromUDPAddrPort(buf)
		}
		if errors.Is(err, net.ErrClosed) {
			return 0, 0, from, err
		}
		if err != nil {
			// What an ICMP message or an oversized datagram left behind on
			// some systems; the socket itself still works.
			if transient(err) {
				continue
			}
			return 0, 0, from, err
		}
		if n == 0 {
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if size = segmentSize(u.oob[:oobn]); size <= 0 || size > n {
			size = n
		}
		return n, size, from, nil
	}
}
