package transport

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// configure turns offloads on where the kernel has them and returns what it
// granted.
func configure(conn *net.UDPConn, want int) (segment, gro bool, buffer int) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false, false, 0
	}
	_ = raw.Control(func(fd uintptr) {
		s := int(fd)
		// Privileged processes may exceed the system's limit.
		_ = unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, want)
		_ = unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, want)
		if got, err := unix.GetsockoptInt(s, unix.SOL_SOCKET, unix.SO_RCVBUF); err == nil {
			buffer = got / 2 // the kernel reports the double, its bookkeeping included
		}
		// The option can be read exactly where UDP_SEGMENT exists.
		_, err := unix.GetsockoptInt(s, unix.SOL_UDP, unix.UDP_SEGMENT)
		segment = err == nil
		gro = unix.SetsockoptInt(s, unix.SOL_UDP, unix.UDP_GRO, 1) == nil
	})
	return segment, gro, buffer
}

// controls holds control messages for sendSegmented, which may run
// concurrently.
var controls = sync.Pool{New: func() any { b := make([]byte, unix.CmsgSpace(2)); return &b }}

func (u *UDP) sendSegmented(buf []byte, size int, to netip.AddrPort) error {
	oob := controls.Get().(*[]byte)
	defer controls.Put(oob)
	h := (*unix.Cmsghdr)(unsafe.Pointer(&(*oob)[0]))
	h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16((*oob)[unix.CmsgLen(0):], uint16(size))
	_, _, err := u.conn.WriteMsgUDPAddrPort(buf, *oob, to)
	return err
}

// offloadRefused reports whether err says that the kernel or the path cannot
// segment, as opposed to that the datagrams could not be sent.
func offloadRefused(err error) bool {
	return errors.Is(err, unix.EIO) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)
}

// segmentSize returns the size of the datagrams that a receive joined, or 0
// if it joined none.
func segmentSize(oob []byte) int {
	for len(oob) >= unix.CmsgLen(0) {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
		n := int(h.Len)
		if n < unix.CmsgLen(0) || n > len(oob) {
			return 0
		}
		if h.Level == unix.SOL_UDP && h.Type == unix.UDP_GRO && n >= unix.CmsgLen(2) {
			return int(binary.NativeEndian.Uint16(oob[unix.CmsgLen(0):]))
		}
		next := unix.CmsgSpace(n - unix.CmsgLen(0))
		if next > len(oob) {
			return 0
		}
		oob = oob[next:]
	}
	return 0
}

func transient(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EHOSTUNREACH) ||
		errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.ENOBUFS)
}
