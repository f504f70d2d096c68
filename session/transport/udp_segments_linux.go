package transport

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// controls holds control messages for writeSegmented, which may run
// concurrently.
var controls = sync.Pool{New: func() any { b := make([]byte, unix.CmsgSpace(2)); return &b }}

// writeSegmented sends all of buf, at most segmentedBytes of it, in one call.
func (u *UDP) writeSegmented(buf []byte, size int, to netip.AddrPort) (int, error) {
	oob := controls.Get().(*[]byte)
	defer controls.Put(oob)
	h := (*unix.Cmsghdr)(unsafe.Pointer(&(*oob)[0]))
	h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16((*oob)[unix.CmsgLen(0):], uint16(size))
	if _, _, err := u.conn.WriteMsgUDPAddrPort(buf, *oob, to); err != nil {
		return 0, err
	}
	return len(buf), nil
}

// readJoined receives what the kernel has joined, or one datagram.
func (u *UDP) readJoined(buf []byte) (n, size int, from netip.AddrPort, err error) {
	n, oobn, flags, from, err := u.conn.ReadMsgUDPAddrPort(buf, u.system.control)
	if err != nil || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		return 0, 0, from, err
	}
	if size = segmentSize(u.system.control[:oobn]); size <= 0 || size > n {
		size = n
	}
	return n, size, unmap(from), nil
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
		if h.Level == unix.SOL_UDP && h.Type == unix.UDP_GRO && n >= unix.CmsgLen(4) {
			return int(int32(binary.NativeEndian.Uint32(oob[unix.CmsgLen(0):])))
		}
		next := unix.CmsgSpace(n - unix.CmsgLen(0))
		if next > len(oob) {
			return 0
		}
		oob = oob[next:]
	}
	return 0
}
