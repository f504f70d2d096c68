package transport

import (
	"fmt"
	"net"
	"runtime"
	"strings"
)

// Buffers is what the kernel holds for a socket, in bytes.
type Buffers struct {
	Wanted        int // in each direction
	Receive, Send int // granted
}

// Buffers returns what was asked for and what the system granted.
func (u *UDP) Buffers() Buffers { return u.buffers }

// Advice is one line for the operator that says what to do about buffers that
// are smaller than wanted, which costs speed, not correctness. It is empty
// when there is nothing to do.
func (b Buffers) Advice() string { return b.advice(runtime.GOOS) }

func (b Buffers) advice(goos string) string {
	var short, limits []string
	for _, d := range []struct {
		granted     int
		name, limit string
	}{{b.Receive, "receive", "net.core.rmem_max"}, {b.Send, "send", "net.core.wmem_max"}} {
		if d.granted < b.Wanted {
			short = append(short, fmt.Sprintf("%d bytes to %s", d.granted, d.name))
			limits = append(limits, fmt.Sprintf("%s=%d", d.limit, b.Wanted))
		}
	}
	if len(short) == 0 {
		return ""
	}
	line := fmt.Sprintf("the system grants the UDP socket buffers of only %s, where %d are wanted; fast transfers may lose datagrams",
		strings.Join(short, " and "), b.Wanted)
	switch goos {
	case "linux":
		line += "; as root, on the host: sysctl -w " + strings.Join(limits, " ")
	case "darwin", "freebsd":
		// The limit counts the kernel's own bookkeeping.
		line += fmt.Sprintf("; as root: sysctl -w kern.ipc.maxsockbuf=%d", b.Wanted+b.Wanted/4)
	}
	return line
}

// grow asks for buffers of want bytes, or as much as there is.
func grow(conn *net.UDPConn, want int) Buffers {
	b := Buffers{
		Wanted:  want,
		Receive: accepted(conn.SetReadBuffer, want),
		Send:    accepted(conn.SetWriteBuffer, want),
	}
	granted(conn, &b)
	return b
}

// accepted returns the largest size that set takes, halving from want: Linux
// and Windows take any, others refuse what is beyond their limit.
func accepted(set func(int) error, want int) int {
	for size := want; size > 0; size /= 2 {
		if set(size) == nil {
			return size
		}
	}
	return 0
}
