package dht

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

// Limits of a message. All lengths are in bytes.
const (
	// MaxDatagram is the longest datagram that this package sends or takes.
	// It passes every path that IPv6 runs over without being fragmented.
	MaxDatagram = 1200

	sealOverhead = frame.MinHeaderSize + stc.DatagramOverhead
	maxMessage   = MaxDatagram - sealOverhead

	protocolVersion = 1
	minMessage      = 1 + 1 + 1 + 8 // version, kind, flags, transaction
	cookieSize      = 16

	contactSize4  = 1 + 4 + 2 + stc.PublicKeySize
	contactSize6  = 1 + 16 + 2 + stc.PublicKeySize
	webSocketSize = 2

	// maxKeys is the most keys in an ADD_PROVIDER. The bits of one uint32 say
	// in the answer which of them were stored.
	maxKeys = 32

	// barePing is the size of a PING that grants a cookie and proves nothing,
	// and of the shortest datagram that answers anything usefully.
	barePing = sealOverhead + minMessage + cookieSize
)

// kind is the type of a message.
type kind uint8

const (
	kindPing          kind = 0x01
	kindFindNode      kind = 0x02
	kindFindProviders kind = 0x03
	kindAddProvider   kind = 0x04
	kindDialBack      kind = 0x05
	kindDial          kind = 0x06
	kindGetRecord     kind = 0x07
	kindPutRecord     kind = 0x08

	// An answer is the kind of its request with this bit.
	kindAnswer kind = 0x80
	// kindChallenge answers any request whose sender has not proven its
	// address. It grants a cookie; the request is to be repeated with it.
	kindChallenge kind = kindAnswer
)

func (k kind) isAnswer() bool { return k&kindAnswer != 0 }

func (k kind) String() string {
	switch k {
	case kindPing:
		return "ping"
	case kindFindNode:
		return "find_node"
	case kindFindProviders:
		return "find_providers"
	case kindAddProvider:
		return "add_provider"
	case kindDialBack:
		return "dial_back"
	case kindDial:
		return "dial"
	case kindGetRecord:
		return "get_record"
	case kindPutRecord:
		return "put_record"
	case kindChallenge:
		return "challenge"
	}
	if k.isAnswer() {
		return (k &^ kindAnswer).String() + " answer"
	}
	return fmt.Sprintf("kind %#02x", uint8(k))
}

// The flags of a message.
const (
	flagClient   = 0x01 // the sender takes no part in routing: keep it out of tables
	flagProof    = 0x02 // a cookie follows that the recipient granted the sender
	flagGrant    = 0x04 // a cookie follows that the recipient may prove its address with
	flagProvides = 0x08 // answer of FIND_PROVIDERS: the sender itself provides the key
	knownFlags   = flagClient | flagProof | flagGrant | flagProvides
)

// cookie proves that who shows it receives at the address that it was sent to;
// see cookies. The zero cookie is none.
type cookie [cookieSize]byte

// message is one message in clear. Which of the fields below tx count depends
// on the kind; encode ignores the others, and decode leaves them zero.
type message struct {
	kind     kind
	client   bool
	provides bool // answer of FIND_PROVIDERS
	tx       uint64
	proof    cookie
	grant    cookie

	target    stc.Hash   // FIND_NODE, FIND_PROVIDERS, GET_RECORD
	above     uint64     // GET_RECORD: only a record with a higher sequence number is wanted
	ttl       uint32     // ADD_PROVIDER, PUT_RECORD: seconds; of the former, 0 withdraws
	webSocket uint16     // ADD_PROVIDER: as Contact.WebSocket
	keys      []stc.Hash // ADD_PROVIDER: 1 to maxKeys
	stored    uint32     // answer of ADD_PROVIDER: bit i for key i

	record []byte  // PUT_RECORD, answer of GET_RECORD: of the shape of one, not verified; there, nil for none
	cut    bool    // answer of GET_RECORD: there was no room for nodes beside the record
	code   putCode // answer of PUT_RECORD

	providers []Contact // answer of FIND_PROVIDERS
	nodes     []Contact // answers of FIND_NODE, FIND_PROVIDERS and GET_RECORD; DIAL: one, DIAL_BACK's: at most dialBackBy

	pad int // zero bytes at the end, requests only
}

// size returns the length of the message's encoding.
func (m *message) size() int {
	n := minMessage + m.pad
	if m.proof != (cookie{}) {
		n += cookieSize
	}
	if m.grant != (cookie{}) {
		n += cookieSize
	}
	switch m.kind {
	case kindFindNode, kindFindProviders:
		n += stc.HashSize
	case kindGetRecord:
		n += stc.HashSize + 8
	case kindPutRecord:
		n += 4 + len(m.record)
	case kindPutRecord | kindAnswer:
		n++
	case kindGetRecord | kindAnswer:
		n += 1 + len(m.record) + 1 + listSize(m.nodes, nodeSize)
	case kindAddProvider:
		n += 4 + webSocketSize + 1 + len(m.keys)*stc.HashSize
	case kindAddProvider | kindAnswer:
		n += 4
	case kindDial:
		n += listSize(m.nodes, nodeSize)
	case kindFindNode | kindAnswer, kindDialBack | kindAnswer:
		n += 1 + listSize(m.nodes, nodeSize)
	case kindFindProviders | kindAnswer:
		n += 1 + listSize(m.providers, providerSize) + 1 + listSize(m.nodes, nodeSize)
	}
	return n
}

// append appends the encoding of the message. The caller keeps it within
// maxMessage and its lists within their limits.
func (m *message) append(dst []byte) []byte {
	var flags byte
	if m.client {
		flags |= flagClient
	}
	if m.proof != (cookie{}) {
		flags |= flagProof
	}
	if m.grant != (cookie{}) {
		flags |= flagGrant
	}
	if m.provides {
		flags |= flagProvides
	}
	dst = append(dst, protocolVersion, byte(m.kind), flags)
	dst = binary.BigEndian.AppendUint64(dst, m.tx)
	if flags&flagProof != 0 {
		dst = append(dst, m.proof[:]...)
	}
	if flags&flagGrant != 0 {
		dst = append(dst, m.grant[:]...)
	}
	switch m.kind {
	case kindFindNode, kindFindProviders:
		dst = append(dst, m.target[:]...)
	case kindGetRecord:
		dst = append(dst, m.target[:]...)
		dst = binary.BigEndian.AppendUint64(dst, m.above)
	case kindPutRecord:
		dst = binary.BigEndian.AppendUint32(dst, m.ttl)
		dst = append(dst, m.record...)
	case kindPutRecord | kindAnswer:
		dst = append(dst, byte(m.code))
	case kindGetRecord | kindAnswer:
		dst = append(append(dst, byte(m.recordState())), m.record...)
		dst = appendContacts(dst, m.nodes)
	case kindAddProvider:
		dst = binary.BigEndian.AppendUint32(dst, m.ttl)
		dst = binary.BigEndian.AppendUint16(dst, m.webSocket)
		dst = append(dst, byte(len(m.keys)))
		for i := range m.keys {
			dst = append(dst, m.keys[i][:]...)
		}
	case kindAddProvider | kindAnswer:
		dst = binary.BigEndian.AppendUint32(dst, m.stored)
	case kindDial:
		dst = appendContact(dst, m.nodes[0])
	case kindFindNode | kindAnswer, kindDialBack | kindAnswer:
		dst = appendContacts(dst, m.nodes)
	case kindFindProviders | kindAnswer:
		dst = append(dst, byte(len(m.providers)))
		for _, p := range m.providers {
			dst = binary.BigEndian.AppendUint16(appendContact(dst, p), p.WebSocket)
		}
		dst = appendContacts(dst, m.nodes)
	}
	for range m.pad {
		dst = append(dst, 0)
	}
	return dst
}

// decodeMessage reads a message. It takes exactly what append writes and
// refuses everything else with errMalformed; nothing in the result aliases b.
// It allocates no more than a small multiple of len(b).
func decodeMessage(b []byte) (message, error) {
	if len(b) < minMessage || len(b) > maxMessage {
		return message{}, fmt.Errorf("message of %d bytes: %w", len(b), errMalformed)
	}
	if b[0] != protocolVersion {
		return message{}, fmt.Errorf("protocol version %d: %w", b[0], errMalformed)
	}
	m := message{kind: kind(b[1]), tx: binary.BigEndian.Uint64(b[3:])}
	flags := b[2]
	if flags&^knownFlags != 0 || flags&flagProvides != 0 && m.kind != kindFindProviders|kindAnswer {
		return message{}, fmt.Errorf("%v with flags %#02x: %w", m.kind, flags, errMalformed)
	}
	m.client, m.provides = flags&flagClient != 0, flags&flagProvides != 0
	r := reader{b: b[minMessage:]}
	if flags&flagProof != 0 {
		m.proof = r.cookie()
	}
	if flags&flagGrant != 0 {
		m.grant = r.cookie()
	}
	switch m.kind {
	case kindPing, kindPing | kindAnswer, kindChallenge, kindDialBack, kindDial | kindAnswer:
	case kindFindNode, kindFindProviders:
		m.target = stc.Hash(r.take(stc.HashSize))
	case kindGetRecord:
		m.target = stc.Hash(r.take(stc.HashSize))
		m.above = binary.BigEndian.Uint64(r.take(8))
	case kindPutRecord:
		m.ttl = binary.BigEndian.Uint32(r.take(4))
		m.record = r.record()
	case kindPutRecord | kindAnswer:
		m.code = putCode(r.take(1)[0])
		r.bad = r.bad || m.code >= putCodes
	case kindGetRecord | kindAnswer:
		switch recordState(r.take(1)[0]) {
		case recordNone:
		case recordWhole:
			m.record = r.record()
		case recordCut:
			m.record, m.cut = r.record(), true
		default:
			r.bad = true
		}
		m.nodes = r.contacts(nodeSize, r.node)
	case kindAddProvider:
		m.ttl = binary.BigEndian.Uint32(r.take(4))
		m.webSocket = binary.BigEndian.Uint16(r.take(webSocketSize))
		n := int(r.take(1)[0])
		if n == 0 || n > maxKeys || n*stc.HashSize > len(r.b) {
			return message{}, fmt.Errorf("%d keys in %d bytes: %w", n, len(r.b), errMalformed)
		}
		m.keys = make([]stc.Hash, n)
		for i := range m.keys {
			m.keys[i] = stc.Hash(r.take(stc.HashSize))
		}
	case kindAddProvider | kindAnswer:
		m.stored = binary.BigEndian.Uint32(r.take(4))
	case kindDial:
		c, ok := r.node()
		m.nodes, r.bad = []Contact{c}, r.bad || !ok
	case kindDialBack | kindAnswer:
		m.nodes = r.contacts(nodeSize, r.node)
		r.bad = r.bad || len(m.nodes) > dialBackBy
	case kindFindNode | kindAnswer:
		m.nodes = r.contacts(nodeSize, r.node)
	case kindFindProviders | kindAnswer:
		m.providers = r.contacts(providerSize, r.provider)
		m.nodes = r.contacts(nodeSize, r.node)
	default:
		return message{}, fmt.Errorf("%v: %w", m.kind, errMalformed)
	}
	if r.bad {
		return message{}, fmt.Errorf("body of %v: %w", m.kind, errMalformed)
	}
	if m.kind.isAnswer() && len(r.b) > 0 {
		return message{}, fmt.Errorf("%d bytes behind %v: %w", len(r.b), m.kind, errMalformed)
	}
	for _, x := range r.b {
		if x != 0 {
			return message{}, fmt.Errorf("padding of %v: %w", m.kind, errMalformed)
		}
	}
	m.pad = len(r.b)
	return m, nil
}

// recordState is the byte in front of the record in an answer of GET_RECORD.
type recordState uint8

const (
	recordNone  recordState = 0 // no record follows
	recordWhole recordState = 1
	recordCut   recordState = 2 // for want of room, the list behind the record is not all that it could be
)

func (m *message) recordState() recordState {
	switch {
	case m.record == nil:
		return recordNone
	case m.cut:
		return recordCut
	}
	return recordWhole
}

// contactSize returns the length of the encoding of a contact at addr.
func contactSize(addr netip.AddrPort) int {
	if addr.Addr().Is4() {
		return contactSize4
	}
	return contactSize6
}

// nodeSize and providerSize return the length of the encoding in a list of
// nodes, and in one of providers, of what is contact bytes long otherwise.
func nodeSize(contact int) int     { return contact }
func providerSize(contact int) int { return contact + webSocketSize }

// listSize returns the length of a list without the byte of the count.
func listSize(cs []Contact, size func(int) int) int {
	n := 0
	for i := range cs {
		n += size(contactSize(cs[i].Addr))
	}
	return n
}

// fitting returns the longest prefix of cs that as a list takes at most space
// bytes, without the byte of the count.
func fitting(cs []Contact, space int, size func(int) int) []Contact {
	for i := range cs {
		if space -= size(contactSize(cs[i].Addr)); space < 0 || i == 0xFF {
			return cs[:i]
		}
	}
	return cs
}

func appendContacts(dst []byte, cs []Contact) []byte {
	dst = append(dst, byte(len(cs)))
	for i := range cs {
		dst = appendContact(dst, cs[i])
	}
	return dst
}

func appendContact(dst []byte, c Contact) []byte {
	if ip := c.Addr.Addr(); ip.Is4() {
		a := ip.As4()
		dst = append(append(dst, 4), a[:]...)
	} else {
		a := ip.As16()
		dst = append(append(dst, 6), a[:]...)
	}
	dst = binary.BigEndian.AppendUint16(dst, c.Addr.Port())
	return append(dst, c.Key[:]...)
}

// reader takes a message apart. Past the end it returns zeros and turns bad.
type reader struct {
	b   []byte
	bad bool
}

var zeros [stc.HashSize]byte

// take returns the next n bytes, n ≤ 32.
func (r *reader) take(n int) []byte {
	if len(r.b) < n {
		r.b, r.bad = nil, true
		return zeros[:n]
	}
	x := r.b[:n]
	r.b = r.b[n:]
	return x
}

func (r *reader) cookie() cookie {
	c := cookie(r.take(cookieSize))
	r.bad = r.bad || c == cookie{} // would be written without its flag
	return c
}

// record returns a copy of a record that is not verified.
func (r *reader) record() []byte {
	n, err := recordSize(r.b)
	if err != nil {
		r.b, r.bad = nil, true
		return nil
	}
	record := slices.Clone(r.b[:n])
	r.b = r.b[n:]
	return record
}

// contacts reads a list, each member of which is read by one and takes at least
// as many bytes as size says.
func (r *reader) contacts(size func(int) int, one func() (Contact, bool)) []Contact {
	n := int(r.take(1)[0])
	if n == 0 {
		return nil
	}
	if n*size(contactSize4) > len(r.b) {
		r.bad = true
		return nil
	}
	cs := make([]Contact, 0, n)
	for range n {
		c, ok := one()
		if !ok {
			r.bad = true
			return nil
		}
		cs = append(cs, c)
	}
	return cs
}

// node reads a node.
func (r *reader) node() (Contact, bool) {
	c, ok := r.contact()
	return c, ok && c.Addr.Port() != 0
}

// provider reads a provider, which may be there for WebSocket only.
func (r *reader) provider() (Contact, bool) {
	c, ok := r.contact()
	c.WebSocket = binary.BigEndian.Uint16(r.take(webSocketSize))
	return c, ok && !r.bad && (c.Addr.Port() != 0 || c.WebSocket != 0)
}

// contact reads what is common to both. Whether the key is a point of the curve
// is left to whoever seals something to it: that check costs 100 times more
// than the rest.
func (r *reader) contact() (Contact, bool) {
	var ip netip.Addr
	switch r.take(1)[0] {
	case 4:
		ip = netip.AddrFrom4([4]byte(r.take(4)))
	case 6:
		ip = netip.AddrFrom16([16]byte(r.take(16)))
	default:
		return Contact{}, false
	}
	addr := netip.AddrPortFrom(ip, binary.BigEndian.Uint16(r.take(2)))
	key := stc.PublicKey(r.take(stc.PublicKeySize))
	if r.bad || !usableIP(ip) || key.IsZero() || key[stc.PublicKeySize-1]&0x80 != 0 {
		return Contact{}, false
	}
	return Contact{ID: key.NodeID(), Key: key, Addr: addr}, true
}
