//go:build !linux

package transport

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
)

func configure(*net.UDPConn, int) (segment, gro bool, buffer int) { return false, false, 0 }

func (u *UDP) sendSegmented([]byte, int, netip.AddrPort) error { return errors.ErrUnsupported }

func offloadRefused(error) bool { return true }

func segmentSize([]byte) int { return 0 }

// transient accepts every error of the socket but its closing: on Windows a
// receive fails with what an earlier send met (WSAECONNRESET, WSAENETRESET)
// or with a datagram over the buffer's size, and the socket still works.
func transient(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno)
}
