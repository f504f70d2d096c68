package transport

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// call is a system call on messages. It keeps its function, so that waiting
// for the socket allocates nothing.
type call struct {
	trap  uintptr // SYS_SENDMMSG or SYS_RECVMMSG
	msgs  []unix.Mmsghdr
	n     int
	errno unix.Errno
	try   func(fd uintptr) bool // c.run
}

func (c *call) run(fd uintptr) bool {
	for {
		n, _, errno := unix.Syscall6(c.trap, fd, uintptr(unsafe.Pointer(&c.msgs[0])), uintptr(len(c.msgs)), unix.MSG_DONTWAIT, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		c.n, c.errno = int(n), errno
		return errno != unix.EAGAIN
	}
}

// outgoing is the memory of a sendmmsg.
type outgoing struct {
	call
	name    unix.RawSockaddrInet6 // or a RawSockaddrInet4
	control []byte
	msgs    [MaxSegments]unix.Mmsghdr
	data    [MaxSegments]unix.Iovec
}

var outgoings = sync.Pool{New: func() any {
	o := &outgoing{call: call{trap: unix.SYS_SENDMMSG}, control: make([]byte, 0, controlSize)}
	o.try = o.run
	for i := range o.msgs {
		h := &o.msgs[i].Hdr
		h.Name = (*byte)(unsafe.Pointer(&o.name))
		h.Iov = &o.data[i]
		h.SetIovlen(1)
		h.Control = unsafe.SliceData(o.control)
	}
	return o
}}

// writeMessages sends up to MaxSegments datagrams, and at least the first or
// it fails.
func (u *UDP) writeMessages(buf []byte, size int, source netip.Addr, to netip.AddrPort) (int, error) {
	o := outgoings.Get().(*outgoing)
	defer outgoings.Put(o)
	length, ok := encodeName(&o.name, u.system.family, to)
	if !ok {
		// Zones have to be looked up, and addresses of the other family
		// explained; package net does both.
		return u.write(BatchPlain, buf, size, source, to)
	}
	control := u.appendSource(o.control[:0], source)
	count := 0
	for rest := buf; len(rest) > 0 && count < MaxSegments; count++ {
		n := min(size, len(rest))
		o.data[count].Base = &rest[0]
		o.data[count].SetLen(n)
		o.msgs[count].Hdr.Namelen = length
		o.msgs[count].Hdr.SetControllen(len(control))
		rest = rest[n:]
	}
	o.call.msgs = o.msgs[:count]
	err := u.system.raw.Write(o.try)
	runtime.KeepAlive(buf)
	clear(o.data[:count]) // the pool must not hold the caller's memory
	if err != nil {
		return 0, err
	}
	if o.errno != 0 {
		return 0, &net.OpError{Op: "write", Net: "udp", Addr: net.UDPAddrFromAddrPort(to), Err: os.NewSyscallError("sendmmsg", o.errno)}
	}
	return min(o.n*size, len(buf)), nil
}

const (
	// receiveMessages is the most datagrams of one recvmmsg. More save
	// little time and hold more memory.
	receiveMessages = 16
	// messageSize is what UDP carries at most, in round numbers.
	messageSize = 64 << 10
)

// incoming is the memory of a recvmmsg and what of it has not been taken yet.
type incoming struct {
	call
	next  int // message to take; those from call.n on are old
	msgs  [receiveMessages]unix.Mmsghdr
	data  [receiveMessages]unix.Iovec
	names [receiveMessages]unix.RawSockaddrInet6
	// memory holds messageSize bytes each. The system gives real memory only
	// for the pages that datagrams touch.
	memory []byte
	// control holds controlSize bytes each.
	control []byte
	zone    zone
}

func newIncoming() *incoming {
	in := &incoming{call: call{trap: unix.SYS_RECVMMSG}, memory: make([]byte, receiveMessages*messageSize), control: make([]byte, receiveMessages*controlSize)}
	in.try = in.run
	in.call.msgs = in.msgs[:]
	for i := range in.msgs {
		in.data[i].Base = &in.memory[i*messageSize]
		in.data[i].SetLen(messageSize)
		h := &in.msgs[i].Hdr
		h.Name = (*byte)(unsafe.Pointer(&in.names[i]))
		h.Iov = &in.data[i]
		h.SetIovlen(1)
		h.Control = &in.control[i*controlSize]
	}
	return in
}

// readMessages returns the next datagrams of one sender to one address, out of
// the last recvmmsg as long as there are any.
func (u *UDP) readMessages(buf []byte) (a arrival, err error) {
	in := u.system.messages
	if in.next >= in.n {
		if err := in.fill(u); err != nil {
			return a, err
		}
	}
	first := in.next
	a.from = in.zone.decodeName(&in.names[first])
	a.at = in.reachedAt(first)
	for ; in.next < in.n; in.next++ {
		m := &in.msgs[in.next]
		length := int(m.Len)
		if length == 0 || m.Hdr.Flags&unix.MSG_TRUNC != 0 {
			if in.next == first {
				in.next++
			}
			break
		}
		if in.next == first {
			a.size = length
		} else if in.names[in.next] != in.names[first] || in.reachedAt(in.next) != a.at || length > a.size || a.n+length > len(buf) {
			break
		}
		start := in.next * messageSize
		a.n += copy(buf[a.n:], in.memory[start:start+length])
		if length < a.size {
			in.next++
			break
		}
	}
	return a, nil
}

func (in *incoming) reachedAt(i int) netip.Addr {
	_, at := parseControl(in.control[i*controlSize:][:in.msgs[i].Hdr.Controllen])
	return at
}

// fill waits for datagrams.
func (in *incoming) fill(u *UDP) error {
	for i := range in.msgs {
		in.msgs[i].Hdr.Namelen = unix.SizeofSockaddrInet6
		in.msgs[i].Hdr.SetControllen(controlSize)
	}
	in.next, in.n = 0, 0
	if err := u.system.raw.Read(in.try); err != nil {
		in.n = 0
		return err
	}
	if in.errno != 0 {
		in.n = 0
		return &net.OpError{Op: "read", Net: "udp", Source: net.UDPAddrFromAddrPort(u.local), Err: os.NewSyscallError("recvmmsg", in.errno)}
	}
	return nil
}

// encodeName stores an address for a socket of a family and returns its
// length; ok is false if that takes more than storing it.
func encodeName(name *unix.RawSockaddrInet6, family int, to netip.AddrPort) (length uint32, ok bool) {
	switch {
	case to.Addr().Zone() != "" || !to.IsValid():
		return 0, false
	case family == unix.AF_INET && to.Addr().Is4():
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		*v4 = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: to.Addr().As4()}
		putPort(&v4.Port, to.Port())
		return unix.SizeofSockaddrInet4, true
	case family == unix.AF_INET6:
		*name = unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: to.Addr().As16()}
		putPort(&name.Port, to.Port())
		return unix.SizeofSockaddrInet6, true
	}
	return 0, false
}

// Ports are in network order, whatever the type says.
func putPort(p *uint16, port uint16) {
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(p))[:], port)
}

func getPort(p *uint16) uint16 {
	return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(p))[:])
}

// zone remembers the name of the last interface that was looked up.
type zone struct {
	index uint32
	name  string
}

func (z *zone) decodeName(name *unix.RawSockaddrInet6) netip.AddrPort {
	if name.Family == unix.AF_INET {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), getPort(&v4.Port))
	}
	addr := netip.AddrFrom16(name.Addr).Unmap()
	if name.Scope_id != 0 && addr.Is6() {
		if z.index != name.Scope_id {
			ifi, err := net.InterfaceByIndex(int(name.Scope_id))
			if err != nil {
				return netip.AddrPortFrom(addr, getPort(&name.Port))
			}
			z.index, z.name = name.Scope_id, ifi.Name
		}
		addr = addr.WithZone(z.name)
	}
	return netip.AddrPortFrom(addr, getPort(&name.Port))
}
