package main

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/seigr/sttnode/dht"
	"github.com/seigr/sttnode/dht/simnet"
	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

// liar is a member that holds the shared seed and wants that nothing is found.
// It answers whatever is asked of it, so that it stays in every table; it says
// that it has stored what it forgets, and names as the closest nodes its
// accomplices and nodes that do not exist, but never a provider. If the gang has
// made up nobody, liars only leave out: what they name is there and answers. It
// speaks the protocol by itself, from docs/PROTOCOL.md.
type liar struct {
	w      *world
	addr   netip.AddrPort
	key    stc.PublicKey
	sealer simnet.Sealer
	gang   *gang
}

// gang is what liars share.
type gang struct {
	liars, ghosts []dht.Contact // by ID
}

const (
	headerSize   = 11 // version, kind, flags, transaction
	flagProof    = 0x02
	flagGrant    = 0x04
	kindPing     = 0x01
	kindFindNode = 0x02
	kindFind     = 0x03 // FIND_PROVIDERS
	kindAdd      = 0x04
	kindAnswer   = 0x80
)

var frameHeader = frame.AppendHeader(nil, frame.Header{Type: frame.TypeDHT})

// newGang makes ghosts. There are enough if some are closer to any key than
// every honest node; 0 for a gang that only leaves out.
func (w *world) newGang(ghosts int) *gang {
	g := &gang{}
	for i := range ghosts {
		key := stc.PublicKey(w.newKey("ghost", i))
		key[31] &= 0x7F
		g.ghosts = append(g.ghosts, dht.NewContact(key, memberAddr(1<<25+i)))
	}
	g.sort()
	return g
}

func (g *gang) sort() {
	byID := func(a, b dht.Contact) int { return a.ID.Compare(b.ID) }
	slices.SortFunc(g.liars, byID)
	slices.SortFunc(g.ghosts, byID)
}

// turn makes a liar of a member.
func (w *world) turn(m *member, g *gang) {
	m.liar = true
	w.Detach(m.host)
	m.host = w.Attach(m.contact.Addr, &liar{w: w, addr: m.contact.Addr, key: m.contact.Key, sealer: simnet.NewSealer(m.contact.Key), gang: g})
	g.liars = append(g.liars, m.contact)
	g.sort()
}

// intrude adds a liar with a key of its choice and has it make itself known to
// nodes.
func (w *world) intrude(c dht.Contact, g *gang, to []*member) {
	l := &liar{w: w, addr: c.Addr, key: c.Key, sealer: simnet.NewSealer(c.Key), gang: g}
	w.Attach(c.Addr, l)
	g.liars = append(g.liars, c)
	g.sort()
	for _, m := range to {
		ask := append([]byte{1, kindFindNode, 0}, make([]byte, 8)...)
		ask = append(ask, c.ID[:]...)
		ask = append(ask, make([]byte, dht.MaxDatagram-frame.MinHeaderSize-stc.DatagramOverhead-len(ask))...)
		l.send(m.contact.Key, m.contact.Addr, ask)
	}
}

// Advance does nothing: a liar only ever answers.
func (l *liar) Advance(time.Time) {}

// Deadline is never.
func (l *liar) Deadline() time.Time { return time.Unix(1<<40, 0) }

// Receive answers a request.
func (l *liar) Receive(_ time.Time, datagram []byte, from netip.AddrPort) {
	message, sender, err := l.sealer.Open(nil, frameHeader, datagram[len(frameHeader):])
	if err != nil || len(message) < headerSize || message[1]&kindAnswer != 0 {
		return
	}
	body := message[headerSize:]
	for _, flag := range []byte{flagProof, flagGrant} {
		if message[2]&flag != 0 {
			body = body[16:]
		}
	}
	answer := append([]byte{1, message[1] | kindAnswer, 0}, message[3:headerSize]...)
	answer[2] |= flagGrant
	answer = append(answer, slices.Repeat([]byte{7}, 16)...)
	switch message[1] {
	case kindFindNode:
		answer = l.appendNodes(answer, stc.Hash(body[:32]))
	case kindFind:
		answer = append(answer, 0)
		answer = l.appendNodes(answer, stc.Hash(body[:32]))
	case kindAdd:
		count := uint32(body[6])
		answer = binary.BigEndian.AppendUint32(answer, uint32(1<<count-1))
	}
	l.send(sender, from, answer)
}

// appendNodes appends the list that misleads best: accomplices, and half of it
// nobody.
func (l *liar) appendNodes(dst []byte, target stc.Hash) []byte {
	list := nearest(l.gang.ghosts, target, closestK/2)
	list = append(list, nearest(l.gang.liars, target, closestK-len(list))...)
	dst = append(dst, byte(len(list)))
	for _, c := range list {
		ip := c.Addr.Addr().As4()
		dst = append(append(dst, 4), ip[:]...)
		dst = binary.BigEndian.AppendUint16(dst, c.Addr.Port())
		dst = append(dst, c.Key[:]...)
	}
	return dst
}

func (l *liar) send(to stc.PublicKey, addr netip.AddrPort, message []byte) {
	datagram, err := l.sealer.Seal(slices.Clone(frameHeader), to, frameHeader, message)
	check(err)
	l.w.Send(datagram, l.addr, addr)
}

// nearest returns some of the contacts, which are in the order of their IDs,
// that are near to target: its neighbours in that order.
func nearest(sorted []dht.Contact, target stc.Hash, n int) []dht.Contact {
	i, _ := slices.BinarySearchFunc(sorted, target, func(c dht.Contact, t stc.Hash) int { return c.ID.Compare(t) })
	lo, hi := max(0, i-2*n), min(len(sorted), i+2*n)
	near := slices.Clone(sorted[lo:hi])
	slices.SortFunc(near, func(a, b dht.Contact) int { return compareDistance(target, a.ID, b.ID) })
	return near[:min(n, len(near))]
}

// grind returns a contact at addr whose ID shares bits leading bits with key.
func (w *world) grind(key stc.Hash, bits int, addr netip.AddrPort) dht.Contact {
	for {
		var k stc.PublicKey
		for i := 0; i < len(k); i += 8 {
			binary.BigEndian.PutUint64(k[i:], w.rng.Uint64())
		}
		k[31] &= 0x7F
		if c := dht.NewContact(k, addr); binary.BigEndian.Uint64(c.ID[:])^binary.BigEndian.Uint64(key[:]) < 1<<(64-bits) {
			return c
		}
	}
}
