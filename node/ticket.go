package node

import (
	"context"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/seigr/sttnode/stc"
)

// Ticket is a content with addresses of nodes that had it when the ticket was
// made. It is no secret and no permission: whoever follows it needs the shared
// seed all the same.
type Ticket struct {
	Root  stc.Hash
	Peers []Address // at least one, at most MaxTicketPeers, each once
}

const (
	// MaxTicketPeers bounds the addresses in a ticket.
	MaxTicketPeers = 64
	// MaxTicketSize bounds a ticket's text, in bytes.
	MaxTicketSize = 8 << 10

	// ticketPrefix begins every ticket; its digit is the version. No hash has
	// such letters.
	ticketPrefix   = "stt1"
	ticketChecksum = 4
	ticketDomain   = "stt ticket v1"
	maxHostName    = 253 // RFC 1035 section 2.3.4, as text
)

// The kinds of addresses in a ticket. withPeer is added where a node ID stands
// in front of it.
const (
	ticketIPv4 = 1 + iota
	ticketIPv6
	ticketHost
	ticketURL
	ticketKinds = 0x7f
	withPeer    = 0x80
)

// ticketText is the alphabet of tickets: what can be read out, marked by a
// double click, and put into a file name or a URL.
var ticketText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// LooksLikeTicket reports whether a text begins as tickets do.
func LooksLikeTicket(s string) bool { return strings.HasPrefix(strings.ToLower(s), ticketPrefix) }

// MarshalText returns the ticket's one text. Errors wrap ErrTicket.
func (t Ticket) MarshalText() ([]byte, error) {
	if t.Root.IsZero() || len(t.Peers) == 0 || len(t.Peers) > MaxTicketPeers {
		return nil, fmt.Errorf("%w: it needs a content and 1 to %d addresses", ErrTicket, MaxTicketPeers)
	}
	b := append([]byte(nil), t.Root[:]...)
	for i, a := range t.Peers {
		if slices.Contains(t.Peers[:i], a) {
			return nil, fmt.Errorf("%w: %v is in it twice", ErrTicket, a)
		}
		var err error
		if b, err = appendTicketAddress(b, a); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrTicket, err)
		}
	}
	b = append(b, ticketSum(b)...)
	text := make([]byte, len(ticketPrefix)+ticketText.EncodedLen(len(b)))
	ticketText.Encode(text[copy(text, ticketPrefix):], b)
	if len(text) > MaxTicketSize {
		return nil, fmt.Errorf("%w: longer than %d characters; name fewer addresses", ErrTicket, MaxTicketSize)
	}
	return text, nil
}

// ParseTicket reads a ticket's text; upper case, in which it makes a smaller
// QR code, is as good. Errors wrap ErrTicket.
func ParseTicket(s string) (Ticket, error) {
	var t Ticket
	text := strings.ToLower(s)
	rest, ok := strings.CutPrefix(text, ticketPrefix)
	switch {
	case !ok:
		return t, fmt.Errorf("%w: it does not begin with %s", ErrTicket, ticketPrefix)
	case len(s) > MaxTicketSize:
		return t, fmt.Errorf("%w: longer than %d characters", ErrTicket, MaxTicketSize)
	}
	b, err := ticketText.DecodeString(rest)
	if err != nil || len(b) < stc.HashSize+ticketChecksum {
		return t, errMangled
	}
	body := b[:len(b)-ticketChecksum]
	if string(ticketSum(body)) != string(b[len(body):]) {
		return t, errMangled
	}
	t.Root = stc.Hash(body)
	for body = body[stc.HashSize:]; len(body) > 0; {
		if len(t.Peers) >= MaxTicketPeers {
			return Ticket{}, fmt.Errorf("%w: more than %d addresses", ErrTicket, MaxTicketPeers)
		}
		var a Address
		if a, body, err = consumeTicketAddress(body); err != nil {
			return Ticket{}, fmt.Errorf("%w: %w", ErrTicket, err)
		}
		t.Peers = append(t.Peers, a)
	}
	// What a ticket says can be said in one way only.
	if again, err := t.MarshalText(); err != nil {
		return Ticket{}, err
	} else if string(again) != text {
		return Ticket{}, errMangled
	}
	return t, nil
}

var errMangled = fmt.Errorf("%w: it was cut or changed on its way", ErrTicket)

func ticketSum(body []byte) []byte {
	sum := stc.Sum(append([]byte(ticketDomain), body...))
	return sum[:ticketChecksum]
}

func appendTicketAddress(b []byte, a Address) ([]byte, error) {
	var kind byte
	var where []byte
	ip, err := netip.ParseAddr(a.Host)
	switch {
	case a.URL != "":
		kind, where = ticketURL, binary.BigEndian.AppendUint16(nil, uint16(len(a.URL)))
		where = append(where, a.URL...)
	case err != nil:
		if len(a.Host) > maxHostName {
			return nil, fmt.Errorf("host name of more than %d bytes", maxHostName)
		}
		kind, where = ticketHost, append([]byte{byte(len(a.Host))}, a.Host...)
	case ip.Zone() != "":
		return nil, fmt.Errorf("%v means nothing on another machine", a)
	case ip.Unmap().Is4():
		ip = ip.Unmap()
		kind, where = ticketIPv4, ip.AsSlice()
	default:
		kind, where = ticketIPv6, ip.AsSlice()
	}
	if a.URL == "" {
		where = binary.BigEndian.AppendUint16(where, a.Port)
	}
	// Whatever ParseAddress refuses has no place in a ticket either.
	if again, err := ParseAddress(a.String()); err != nil {
		return nil, err
	} else if again.Peer != a.Peer || again.URL != a.URL {
		return nil, fmt.Errorf("%v is not written as addresses are", a)
	}
	if a.Peer.IsZero() {
		return append(append(b, kind), where...), nil
	}
	b = append(append(b, kind|withPeer), a.Peer[:]...)
	return append(b, where...), nil
}

func consumeTicketAddress(b []byte) (a Address, rest []byte, err error) {
	take := func(n int) []byte {
		if len(b) < n {
			err = errors.New("an address ends too soon")
			return make([]byte, n)
		}
		field := b[:n]
		b = b[n:]
		return field
	}
	kind := take(1)[0]
	if kind&withPeer != 0 {
		a.Peer = stc.Hash(take(stc.HashSize))
	}
	switch kind & ticketKinds {
	case ticketIPv4:
		a.Host = netip.AddrFrom4([4]byte(take(4))).String()
	case ticketIPv6:
		a.Host = netip.AddrFrom16([16]byte(take(16))).String()
	case ticketHost:
		a.Host = string(take(int(take(1)[0])))
	case ticketURL:
		a.URL = string(take(int(binary.BigEndian.Uint16(take(2)))))
	default:
		return a, nil, fmt.Errorf("address of unknown kind %d", kind)
	}
	if a.URL == "" && err == nil {
		a.Port = binary.BigEndian.Uint16(take(2))
	}
	return a, b, err
}

// Ticket returns a ticket for root with this node as the peer that has it: its
// ID with every address that it listens on, over UDP and over WebSocket. A node
// that listens on all addresses names those of its interfaces that reach beyond
// the machine and the link; how a NAT in front of it is reached from outside it
// does not know. Errors: ErrState, ErrTicket.
func (n *Node) Ticket(root stc.Hash) (Ticket, error) {
	if err := n.active(); err != nil {
		return Ticket{}, err
	}
	t := Ticket{Root: root}
	for _, a := range reachableAt(n.endpoint.LocalAddr()) {
		t.Peers = append(t.Peers, Address{Peer: n.ID(), Host: a.Addr().String(), Port: a.Port()})
	}
	if n.ws != nil {
		for _, a := range reachableAt(n.ws.addr()) {
			t.Peers = append(t.Peers, Address{Peer: n.ID(), URL: webSocketURL(n.ws.scheme(), a)})
		}
	}
	_, err := t.MarshalText()
	return t, err
}

// FindTicket asks the network who provides root, and returns a ticket with
// their addresses, of which it takes no more than fit. What they have they were
// not asked for. Errors: *NoProviderError, those of Join, dht.ErrNoNodes,
// dht.ErrNoAnswer, ErrState; ctx's cause only if nobody was found until then.
func (n *Node) FindTicket(ctx context.Context, root stc.Hash) (Ticket, error) {
	ctx, end, err := n.begin(ctx)
	if err != nil {
		return Ticket{}, err
	}
	defer end()
	if err := n.Join(ctx); err != nil {
		return Ticket{}, err
	}
	t := Ticket{Root: root}
	add := func(a Address) {
		if len(t.Peers) < MaxTicketPeers && !slices.Contains(t.Peers, a) {
			t.Peers = append(t.Peers, a)
		}
	}
	search := n.dht.FindProviders(ctx, root)
	for c := range search.Providers() {
		r := routeTo(c)
		if r.udp.IsValid() {
			add(Address{Peer: c.ID, Host: r.udp.Addr().WithZone("").String(), Port: r.udp.Port()})
		}
		if r.ws != "" {
			add(Address{Peer: c.ID, URL: r.ws})
		}
	}
	stats, err := search.Result()
	switch {
	case len(t.Peers) > 0:
		return t, nil
	case ctx.Err() != nil:
		return t, context.Cause(ctx)
	case err != nil:
		return t, err
	}
	return t, &NoProviderError{Root: root, Asked: stats.Asked}
}

// maxOwnAddrs bounds the addresses of interfaces that a ticket names.
const maxOwnAddrs = 8

// reachableAt returns the addresses that a listener is reached at.
func reachableAt(listen netip.AddrPort) (all []netip.AddrPort) {
	if !listen.Addr().IsUnspecified() {
		return []netip.AddrPort{listen}
	}
	found, _ := net.InterfaceAddrs() // without any, the machine's own is left
	for _, f := range found {
		prefix, err := netip.ParsePrefix(f.String())
		if err != nil {
			continue
		}
		ip := prefix.Addr().Unmap()
		if ip.IsGlobalUnicast() && sameFamily(listen.Addr(), ip) && len(all) < maxOwnAddrs {
			all = append(all, netip.AddrPortFrom(ip, listen.Port()))
		}
	}
	if len(all) == 0 {
		all = append(all, netip.AddrPortFrom(concrete(listen.Addr()), listen.Port()))
	}
	return all
}
