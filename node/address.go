package node

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/seigr/sttnode/stc"
)

// Address is where a node is said to be reached over UDP: the form
// [nodeid@]host:port that people write.
type Address struct {
	// Peer is the node that must answer; zero accepts whoever holds the shared
	// seed.
	Peer stc.Hash
	// Host is an IP address, an IPv6 one without brackets, or a name.
	Host string
	Port uint16
}

// ParseAddress reads an address as people write it. Errors wrap ErrAddress.
func ParseAddress(s string) (Address, error) {
	var a Address
	rest := s
	if strings.Contains(s, "://") {
		return a, fmt.Errorf("%w: %q: only UDP addresses of the form [nodeid@]host:port are known", ErrAddress, s)
	}
	if id, after, ok := strings.Cut(s, "@"); ok {
		peer, err := stc.ParseHash(id)
		if err != nil {
			return a, fmt.Errorf("%w: %q: node ID: %w", ErrAddress, s, err)
		}
		a.Peer, rest = peer, after
	}
	host, port, err := net.SplitHostPort(rest)
	if err != nil {
		return a, fmt.Errorf("%w: %q is not of the form [nodeid@]host:port", ErrAddress, s)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return a, fmt.Errorf("%w: %q: the port must be a number from 1 to 65535", ErrAddress, s)
	}
	if host == "" {
		return a, fmt.Errorf("%w: %q has no host", ErrAddress, s)
	}
	a.Host, a.Port = host, uint16(n)
	return a, nil
}

// String returns the form that ParseAddress reads.
func (a Address) String() string {
	s := net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port)))
	if !a.Peer.IsZero() {
		s = a.Peer.String() + "@" + s
	}
	return s
}

// resolve returns the addresses of both families that a stands for and that a
// socket bound to local can send to, in the order of the resolver. Errors
// wrap ErrResolve.
func (a Address) resolve(ctx context.Context, local netip.Addr) ([]netip.AddrPort, error) {
	var ips []netip.Addr
	if ip, err := netip.ParseAddr(a.Host); err == nil {
		ips = []netip.Addr{ip}
	} else if ips, err = net.DefaultResolver.LookupNetIP(ctx, "ip", a.Host); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrResolve, a.Host, err)
	}
	var reachable []netip.AddrPort
	for _, ip := range ips {
		if ip = concrete(ip.Unmap()); sameFamily(local, ip) {
			reachable = append(reachable, netip.AddrPortFrom(ip, a.Port))
		}
	}
	if len(reachable) == 0 {
		return nil, fmt.Errorf("%w: %s has no address of the family of %v, where this node listens", ErrResolve, a.Host, local)
	}
	return reachable, nil
}

// concrete turns the address that means "here" for a listener into one that
// can be sent to.
func concrete(ip netip.Addr) netip.Addr {
	switch ip {
	case netip.IPv4Unspecified():
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case netip.IPv6Unspecified():
		return netip.IPv6Loopback()
	}
	return ip
}

// sameFamily reports whether a socket bound to local reaches ip. One bound to
// the unspecified IPv6 address reaches both families.
func sameFamily(local, ip netip.Addr) bool {
	return !local.IsValid() || local == netip.IPv6Unspecified() || local.Is4() == ip.Is4()
}
