//go:build !linux

package transport

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
)

type system struct{}

func capabilities() (send, receive, second Batching) { return BatchPlain, BatchPlain, BatchPlain }

func (u *UDP) configure() error { return nil }

// granted leaves b as it is: what was accepted is what there is.
func granted(*net.UDPConn, *Buffers) {}

func (u *UDP) write(_ Batching, buf []byte, size int, _ netip.Addr, to netip.AddrPort) (int, error) {
	return u.conn.WriteToUDPAddrPort(buf[:min(size, len(buf))], to)
}

// ready says yes: here read waits without having polled.
func (u *UDP) ready() bool { return true }

func (u *UDP) read(buf []byte) (arrival, error) {
	n, from, err := u.conn.ReadFromUDPAddrPort(buf)
	return arrival{n: n, size: n, from: unmap(from)}, err
}

func segmentationRefused(error) bool { return false }

func sourceRefused(error) bool { return false }

// transient accepts every error of the socket but its closing: on Windows a
// receive fails with what an earlier send met (WSAECONNRESET, WSAENETRESET)
// or with a datagram over the buffer's size, and the socket still works.
func transient(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno)
}
