package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/seigr/sttnode/stc"
)

// Address is where a node is said to be reached: over UDP, written
// [nodeid@]host:port, or over WebSocket, written [nodeid@]ws[s]://host[:port]/path.
type Address struct {
	// Peer is the node that must answer; zero accepts whoever holds the shared
	// seed.
	Peer stc.Hash
	// URL is a WebSocket address; empty for one of UDP.
	URL string
	// Host is an IP address, an IPv6 one without brackets, or a name. Host and
	// Port are those of an address of UDP.
	Host string
	Port uint16
}

// maxURL bounds WebSocket addresses, in bytes.
const maxURL = 1024

// ParseAddress reads an address as people write it. Errors wrap ErrAddress.
func ParseAddress(s string) (Address, error) {
	var a Address
	rest := s
	if id, after, ok := strings.Cut(s, "@"); ok && !strings.Contains(id, "://") {
		peer, err := stc.ParseHash(id)
		if err != nil {
			return a, fmt.Errorf("%w: %q: node ID: %w", ErrAddress, s, err)
		}
		a.Peer, rest = peer, after
	}
	if strings.Contains(rest, "://") {
		if err := a.parseURL(rest); err != nil {
			return Address{}, fmt.Errorf("%w: %q: %w", ErrAddress, s, err)
		}
		return a, nil
	}
	host, port, err := net.SplitHostPort(rest)
	if err != nil {
		return a, fmt.Errorf("%w: %q is not of the form [nodeid@]host:port or [nodeid@]ws://host:port/path", ErrAddress, s)
	}
	n, err := parsePort(port)
	if err != nil {
		return a, fmt.Errorf("%w: %q: %w", ErrAddress, s, err)
	}
	if host == "" {
		return a, fmt.Errorf("%w: %q has no host", ErrAddress, s)
	}
	a.Host, a.Port = host, n
	return a, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, errors.New("the port must be a number from 1 to 65535")
	}
	return uint16(n), nil
}

// parseURL reads a WebSocket address. The node ID may also stand where a URL
// has its user.
func (a *Address) parseURL(s string) error {
	u, err := url.Parse(s)
	var bad *url.Error
	if errors.As(err, &bad) {
		err = bad.Err // names the address, which the caller does
	}
	switch {
	case err != nil:
		return err
	case u.Scheme != "ws" && u.Scheme != "wss":
		return fmt.Errorf("%s:// is not known; addresses are host:port for UDP and ws:// or wss:// for WebSocket", u.Scheme)
	case u.Hostname() == "":
		return errors.New("no host")
	case u.Path == "":
		return fmt.Errorf("no path; that of a node is %s, as in %s://%s%s", WebSocketPath, u.Scheme, u.Host, WebSocketPath)
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#"):
		return errors.New("the path must be the end")
	case len(s) > maxURL:
		return fmt.Errorf("longer than %d bytes", maxURL)
	}
	if strings.HasSuffix(u.Host, ":") || u.Port() != "" {
		if _, err := parsePort(u.Port()); err != nil {
			return err
		}
	}
	if u.User != nil {
		id := u.User.String()
		if a.Peer, err = stc.ParseHash(id); err != nil {
			return fmt.Errorf("node ID: %w", err)
		}
		u.User = nil
	}
	a.URL = u.String()
	return nil
}

// anyTLS reports whether a is the address of a port that the DHT may have named,
// and a ticket repeats: it is written as one without TLS, whether that is spoken
// there or not.
func (a Address) anyTLS() bool {
	host, plain := strings.CutPrefix(a.URL, schemePlain+"://")
	host, ours := strings.CutSuffix(host, WebSocketPath)
	_, err := netip.ParseAddrPort(host)
	return plain && ours && err == nil
}

// String returns the form that ParseAddress reads.
func (a Address) String() string {
	s := a.URL
	if s == "" {
		s = net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port)))
	}
	if !a.Peer.IsZero() {
		s = a.Peer.String() + "@" + s
	}
	return s
}

// resolve returns the addresses of both families that a, an address of UDP,
// stands for and that a socket bound to local can send to, in the order of the resolver. Errors
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
