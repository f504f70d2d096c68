package transport

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// system is the part of a UDP that only Linux has.
type system struct {
	raw      syscall.RawConn
	family   int       // AF_INET or AF_INET6; the latter's addresses may be IPv4-mapped
	control  []byte    // of what is received, empty if not needed; owned by Receive's caller
	messages *incoming // nil unless received by messages; owned by Receive's caller
	poll     [1]unix.PollFd
	polled   func(fd uintptr) // fills poll in; bound once
}

// capabilities returns the best ways to send and receive that work here, and
// to send where segmentation is refused. It finds out once: what the kernel
// lists it may still not do, in a sandbox that imitates or filters it.
func capabilities() (send, receive, second Batching) {
	c := probed()
	return c.send, c.receive, c.second
}

var probed = sync.OnceValue(func() (c struct{ send, receive, second Batching }) {
	c.send, c.receive, c.second = BatchPlain, BatchPlain, BatchPlain
	if works(BatchMessages) {
		c.send, c.receive, c.second = BatchMessages, BatchMessages, BatchMessages
	}
	if works(BatchSegmentation) {
		c.send, c.receive = BatchSegmentation, BatchSegmentation
	}
	return c
})

// configure sets the socket's options, those without which u.send and
// u.receive do not work first.
func (u *UDP) configure() error {
	raw, err := u.conn.SyscallConn()
	if err != nil {
		return err
	}
	u.system = system{raw: raw, control: make([]byte, controlSize)}
	u.system.polled = func(fd uintptr) {
		u.system.poll[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
		_, _ = unix.Poll(u.system.poll[:], 0)
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = u.setOptions(int(fd)) })
	if err = errors.Join(err, failed); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if u.receive == BatchMessages {
		u.system.messages = newIncoming()
	}
	return nil
}

func (u *UDP) setOptions(fd int) (err error) {
	if u.system.family, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil {
		return err
	}
	if u.send == BatchSegmentation {
		// The option can be read exactly where it exists.
		if _, err := unix.GetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT); err != nil {
			return err
		}
	}
	if u.receive == BatchSegmentation {
		if err := unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1); err != nil {
			return err
		}
	}
	if u.local.Addr().IsUnspecified() {
		// At which address we are reached. On a socket of both families the
		// second is enough; it has IPv4 addresses in their mapped form.
		if u.system.family == unix.AF_INET {
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		} else {
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		}
	}
	// No fragments: the search for the path's MTU must not be fooled by them.
	// A socket of both families has both options.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
	if u.system.family == unix.AF_INET6 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
	}
	return nil
}

// granted reads back what the kernel made of the requests in b.
func granted(conn *net.UDPConn, b *Buffers) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		for _, o := range []struct {
			force, read int
			into        *int
		}{
			{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, &b.Receive},
			{unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, &b.Send},
		} {
			// Privileged processes may exceed the system's limit.
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, o.force, b.Wanted)
			if got, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, o.read); err == nil {
				*o.into = got / 2 // the kernel reports the double, its bookkeeping included
			}
		}
	})
}

// works reports whether datagrams that are sent and received by b arrive as
// they should. It says no only if plain ones do: without a loopback interface
// there is nothing to learn.
func works(b Batching) bool {
	ok, err := arrives(b)
	if ok || err != nil {
		return ok
	}
	plain, err := arrives(BatchPlain)
	return err == nil && !plain
}

// arrives sends three datagrams over a loopback address. The error says that
// the sockets could not be made to use b.
func arrives(b Batching) (bool, error) {
	var ends [2]*UDP
	for i := range ends {
		u, err := open("udp", "127.0.0.1:0", b, b)
		if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT) {
			u, err = open("udp", "[::1]:0", b, b)
		}
		if err != nil {
			return false, err
		}
		defer u.Close()
		ends[i] = u
	}
	from, to := ends[0], ends[1]
	const size = 100
	sent := make([]byte, 2*size+size/2)
	for i := range sent {
		sent[i] = byte(i)
	}
	for rest := sent; len(rest) > 0; {
		n, err := from.write(b, rest, size, netip.Addr{}, to.local)
		if err != nil {
			return false, nil
		}
		rest = rest[n:]
	}
	// Over loopback they are there already.
	_ = to.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	buf := make([]byte, MaxBatch)
	for rest := sent; len(rest) > 0; {
		n, got, _, err := to.Receive(buf)
		if err != nil || n > len(rest) || !bytes.Equal(buf[:n], rest[:n]) || got != min(size, len(rest)) {
			return false, nil
		}
		rest = rest[n:]
	}
	return true, nil
}

// write sends the first of the datagrams in buf, or several, and returns how
// many bytes of it have left. They leave from source, if that is valid.
func (u *UDP) write(by Batching, buf []byte, size int, source netip.Addr, to netip.AddrPort) (int, error) {
	switch {
	case by == BatchSegmentation:
		return u.writeControlled(buf[:min(len(buf), segmentedBytes(size))], size, source, to)
	case by == BatchMessages:
		return u.writeMessages(buf, size, source, to)
	case source.IsValid():
		return u.writeControlled(buf[:min(size, len(buf))], 0, source, to)
	}
	return u.conn.WriteToUDPAddrPort(buf[:min(size, len(buf))], to)
}

// segmentationRefused reports whether err can mean that the kernel or the
// path does not segment: a device without checksum offload or a tunnel that
// transforms packets (EIO), an old driver, or segments larger than the MTU
// (EINVAL or EMSGSIZE, by the kernel's version).
func segmentationRefused(err error) bool {
	return errors.Is(err, unix.EIO) || errors.Is(err, unix.EINVAL) ||
		errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EMSGSIZE)
}

// sourceRefused reports whether err can mean that there is no sending from an
// address, any more, to a destination.
func sourceRefused(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EADDRNOTAVAIL) ||
		errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH)
}

// ready reports whether read would not have to wait, or may fail.
func (u *UDP) ready() bool {
	err := u.system.raw.Control(u.system.polled)
	return err != nil || u.system.poll[0].Revents != 0
}

// read is Receive, once.
func (u *UDP) read(buf []byte) (arrival, error) {
	if u.system.messages != nil {
		return u.readMessages(buf)
	}
	return u.readControlled(buf)
}

func transient(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EHOSTUNREACH) ||
		errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.ENOBUFS)
}
