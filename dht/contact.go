package dht

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/seigr/sttnode/stc"
)

// Contact is a node and where it is reached: over UDP, or over a link, see
// [LinkAddr]. ID is always Key.NodeID(). A Contact is a plain value; a node that
// is known at two addresses is two Contacts with one ID.
type Contact struct {
	ID   stc.Hash
	Key  stc.PublicKey
	Addr netip.AddrPort
	// WebSocket is, of a provider, the TCP port at the IP of Addr where it also
	// takes WebSocket connections; 0 if it takes none. One that is reached in
	// no other way has port 0 in Addr.
	WebSocket uint16
}

// NewContact returns the contact of the node that owns key at addr.
func NewContact(key stc.PublicKey, addr netip.AddrPort) Contact {
	return Contact{ID: key.NodeID(), Key: key, Addr: normalAddr(addr)}
}

// check reports, as ErrBadContact, why c can be nobody's contact.
func (c Contact) check() error {
	if c.Key.IsZero() || c.ID != c.Key.NodeID() {
		return fmt.Errorf("%w: ID %v is not the ID of key %v", ErrBadContact, c.ID, c.Key)
	}
	if !usableAddr(c.Addr) {
		return fmt.Errorf("%w: nothing can be sent to %v", ErrBadContact, c.Addr)
	}
	return nil
}

// normalAddr writes an IPv4 address that came in IPv6 clothes as IPv4, so that
// one address has one form. The address of a link stays as it is.
func normalAddr(a netip.AddrPort) netip.AddrPort {
	if linked(a) {
		return a
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// usableAddr reports whether one node can be sent to at a.
func usableAddr(a netip.AddrPort) bool {
	return linked(a) || a.Port() != 0 && usableIP(a.Addr())
}

func usableIP(ip netip.Addr) bool {
	return ip.IsValid() && !ip.Is4In6() && !ip.IsUnspecified() && !ip.IsMulticast() &&
		ip != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// linkZone begins the zone of a link's address. No interface's name holds a
// colon.
const linkZone = "link:"

// LinkAddr returns the address of a node that is reached over a link: a
// connection that carries datagrams between us and this node alone, whose ID it
// has proven. remote is the other end of the connection as the socket names it,
// or invalid if that is not known. The address means something to this process
// only, which is what its zone says: Config.Send gets it back for [LinkPeer],
// and nobody is told about it.
func LinkAddr(peer stc.Hash, remote netip.AddrPort) netip.AddrPort {
	if !remote.IsValid() {
		remote = unknownRemote
	}
	ip := netip.AddrFrom16(remote.Addr().As16()).WithZone(linkZone + peer.String())
	return netip.AddrPortFrom(ip, remote.Port())
}

// unknownRemote is the other end of a link through a proxy: an address on the
// internet as far as [relayable] is concerned, that nobody has (RFC 6666).
var unknownRemote = netip.MustParseAddrPort("[100::1]:9")

// LinkPeer returns the node that an address of [LinkAddr] belongs to; ok is
// false for any other address.
func LinkPeer(a netip.AddrPort) (peer stc.Hash, ok bool) {
	id, ok := strings.CutPrefix(a.Addr().Zone(), linkZone)
	if !ok {
		return peer, false
	}
	peer, err := stc.ParseHash(id)
	return peer, err == nil
}

// linked reports whether a is the address of a link.
func linked(a netip.AddrPort) bool { return strings.HasPrefix(a.Addr().Zone(), linkZone) }

// sameAddr reports whether two addresses lead to the same place. A link is the
// same whichever connection it runs over.
func sameAddr(a, b netip.AddrPort) bool {
	return a == b || linked(a) && a.Addr().Zone() == b.Addr().Zone()
}

// Scopes of addresses, from the narrowest.
type scope uint8

const (
	scopeLoopback scope = iota
	scopePrivate        // RFC 1918, RFC 4193, RFC 6598 and link-local
	scopePublic
)

var sharedAddressSpace = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598

func scopeOf(ip netip.Addr) scope {
	ip = ip.WithZone("").Unmap()
	switch {
	case ip.IsLoopback():
		return scopeLoopback
	case ip.IsPrivate(), ip.IsLinkLocalUnicast(), sharedAddressSpace.Contains(ip):
		return scopePrivate
	}
	return scopePublic
}

// relayable reports whether an address makes sense to a node at other: whether
// we tell a node at other about it, and whether we believe a node at other who
// tells us about it. Somebody on the internet has no business to send us to
// hosts of our own network, and can reach none of them either.
func relayable(a, other netip.AddrPort) bool {
	if a.Addr().Zone() != "" || a.Addr().Is6() && a.Addr().IsLinkLocalUnicast() {
		return false // means something on one link only
	}
	return scopeOf(a.Addr()) >= scopeOf(other.Addr())
}

// subnet is a network that counts as one owner in the limits of the table and
// of answers: the /24 of IPv4 addresses, the /48 of IPv6 ones. The first bits of
// the number are the family.
type subnet uint64

// subnetOf returns the subnet of an address; ok is false for private and
// loopback addresses, which have no limit.
func subnetOf(a netip.AddrPort) (net subnet, ok bool) {
	ip := a.Addr().WithZone("").Unmap() // of a link, too
	if scopeOf(ip) != scopePublic {
		return 0, false
	}
	if ip.Is4() {
		b := ip.As4()
		return 4<<60 | subnet(b[0])<<16 | subnet(b[1])<<8 | subnet(b[2]), true
	}
	b := ip.As16()
	return 6<<60 | subnet(binary.BigEndian.Uint64(b[:])>>16), true
}

// diverse appends to dst the n members of sorted, which is in order of
// preference, of which at most limit share a subnet. Only if there are not
// enough of those are the others taken as well, in order; so a network that
// lives in one subnet works, and in a large one nobody fills a list from one
// subnet. The result is in the order of sorted. A limit of 0 or less is none.
func diverse[T any](dst, sorted []T, n, limit int, addr func(T) netip.AddrPort) []T {
	if n = max(n, 0); limit <= 0 || n == 0 || len(sorted) <= n {
		return append(dst, sorted[:min(n, len(sorted))]...)
	}
	dst = slices.Grow(dst, n)
	seen := make([]subnet, 0, 64) // once for each member that counts
	var over []bool               // members beyond the limit of their subnet; nil for none
	within := 0
	for i, x := range sorted {
		if net, limited := subnetOf(addr(x)); limited {
			same := 0
			for _, s := range seen {
				if s == net {
					same++
				}
			}
			if seen = append(seen, net); same >= limit {
				if over == nil {
					over = make([]bool, len(sorted))
				}
				over[i] = true
				continue
			}
		}
		if within++; within == n {
			break
		}
	}
	fill := n - within // how many of the others are needed
	for i, x := range sorted {
		if over != nil && over[i] {
			if fill == 0 {
				continue
			}
			fill--
		}
		if dst = append(dst, x); n == 1 {
			break
		}
		n--
	}
	return dst
}
