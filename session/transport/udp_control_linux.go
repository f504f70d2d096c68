package transport

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// controlSize is enough for the control messages of a call in either
// direction, in bytes, and keeps a row of them aligned.
const controlSize = 128

// controls holds memory for writeControlled, which may run concurrently.
var controls = sync.Pool{New: func() any { b := make([]byte, 0, controlSize); return &b }}

// writeControlled sends all of buf in one call: as datagrams of size bytes,
// or as one if size is 0; from source, if that is valid.
func (u *UDP) writeControlled(buf []byte, size int, source netip.Addr, to netip.AddrPort) (int, error) {
	memory := controls.Get().(*[]byte)
	defer controls.Put(memory)
	control := u.appendSource((*memory)[:0], source)
	if size > 0 {
		var data []byte
		control, data = appendControl(control, unix.SOL_UDP, unix.UDP_SEGMENT, 2)
		binary.NativeEndian.PutUint16(data, uint16(size))
	}
	if _, _, err := u.conn.WriteMsgUDPAddrPort(buf, control, to); err != nil {
		return 0, err
	}
	return len(buf), nil
}

// readControlled receives what the kernel has joined, or one datagram.
func (u *UDP) readControlled(buf []byte) (arrival, error) {
	n, controls, flags, from, err := u.conn.ReadMsgUDPAddrPort(buf, u.system.control)
	if err != nil || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		return arrival{}, err
	}
	size, at := parseControl(u.system.control[:controls])
	if size <= 0 || size > n {
		size = n
	}
	return arrival{n: n, size: size, from: unmap(from), at: at}, nil
}

// appendSource appends what makes a datagram leave from an address, or
// nothing if that is not valid.
func (u *UDP) appendSource(control []byte, source netip.Addr) []byte {
	if !source.IsValid() {
		return control
	}
	if u.system.family == unix.AF_INET {
		control, data := appendControl(control, unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)
		*(*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0])) = unix.Inet4Pktinfo{Spec_dst: source.As4()}
		return control
	}
	control, data := appendControl(control, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo)
	*(*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0])) = unix.Inet6Pktinfo{Addr: source.As16()}
	return control
}

// appendControl appends a control message and returns its n bytes of data
// beside. There must be room.
func appendControl(control []byte, level, kind int32, n int) (all, data []byte) {
	start := len(control)
	control = control[:start+unix.CmsgSpace(n)]
	h := (*unix.Cmsghdr)(unsafe.Pointer(&control[start]))
	h.Level, h.Type = level, kind
	h.SetLen(unix.CmsgLen(n))
	return control, control[start+unix.CmsgLen(0):][:n]
}

// parseControl returns the size of the datagrams that a receive joined, or 0
// if it joined none, and the address that they were sent to, if the socket
// asks for it and answers can be sent from there.
func parseControl(control []byte) (size int, at netip.Addr) {
	for len(control) >= unix.CmsgLen(0) {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
		n := int(h.Len)
		if n < unix.CmsgLen(0) || n > len(control) {
			break
		}
		switch data := control[unix.CmsgLen(0):n]; {
		case h.Level == unix.SOL_UDP && h.Type == unix.UDP_GRO && len(data) >= 4:
			size = int(int32(binary.NativeEndian.Uint32(data)))
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			at = netip.AddrFrom4((*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0])).Spec_dst)
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			at = netip.AddrFrom16((*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0])).Addr).Unmap()
		}
		next := unix.CmsgSpace(n - unix.CmsgLen(0))
		if next > len(control) {
			break
		}
		control = control[next:]
	}
	// A multicast address sends nothing, and one of a link needs the link,
	// which the peer's address names already.
	if at.IsMulticast() || at.IsLinkLocalUnicast() && at.Is6() {
		at = netip.Addr{}
	}
	return size, at
}
