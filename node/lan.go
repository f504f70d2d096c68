package node

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"

	"github.com/seigr/sttnode/stc"
)

// A beacon tells members of the network on the same link where a node is:
//
//	version (1) ‖ time (8) ‖ public key (32) ‖ UDP port (2) ‖ zeros (21)
//
// sealed for all members ([stc.BeaconSealer]) and multicast. It is always of
// the same length, and random bytes to others. Its address is the one that it
// came from. It proves nothing but that some member wrote it: who hears one
// dials, and the handshake proves the rest.
const (
	beaconVersion = 1
	beaconSize    = 64
	beaconAD      = "stt lan v1"

	// beaconAge is how old a beacon may be, or how far in the future. It also
	// bounds how long nonces must be remembered to notice a beacon that
	// somebody else has sent again.
	beaconAge = 2 * time.Minute
	// maxBeaconNonces bounds the nonces that are remembered, and maxLANPeers
	// the nodes.
	maxBeaconNonces = 4096
	maxLANPeers     = 1024

	// A node sends beacons at once, after a second, and then this far apart.
	beaconInterval = 20 * time.Second
	// answerInterval is how often it sends one because another node has come.
	answerInterval = time.Second
	// lanAgain is after how long a node that was met is dialled again when it is
	// heard: it may have lost us.
	lanAgain = time.Minute
	// lanWait is how long joining waits for somebody on the local network.
	lanWait = 2 * time.Second
	// beaconRate and beaconBurst bound the datagrams that are looked at.
	beaconRate, beaconBurst = 100, 200
	// maxLANDials bounds the dials at a time.
	maxLANDials = 4
)

// beacon is what one says.
type beacon struct {
	at   time.Time
	key  stc.PublicKey
	port uint16 // 0 for a node that takes no sessions
}

func (b beacon) append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, beaconVersion)
	dst = binary.BigEndian.AppendUint64(dst, uint64(b.at.UnixMilli()))
	dst = append(dst, b.key[:]...)
	dst = binary.BigEndian.AppendUint16(dst, b.port)
	return append(dst, make([]byte, beaconSize-(len(dst)-start))...)
}

func parseBeacon(message []byte) (b beacon, err error) {
	if len(message) != beaconSize || message[0] != beaconVersion {
		return b, fmt.Errorf("%w: beacon of another version", ErrProtocol)
	}
	b.at = time.UnixMilli(int64(binary.BigEndian.Uint64(message[1:])))
	if b.key, err = stc.ParsePublicKey(message[9:41]); err != nil {
		return b, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	b.port = binary.BigEndian.Uint16(message[41:])
	return b, nil
}

// LANStats counts what discovery on the local network has come to, since Start.
type LANStats struct {
	Sent    uint64 // beacons, one for each interface and family
	Heard   uint64 // of other nodes of this network
	Refused uint64 // datagrams that were too many, no beacons of this network, too old, or came before
	Met     uint64 // nodes that were found so
}

// lanHearing decides what becomes of datagrams. It is pure: it has no clock and
// no socket. Not safe for concurrent use.
type lanHearing struct {
	self   stc.PublicKey
	sealer *stc.BeaconSealer
	limit  *rate.Limiter
	nonces *simplelru.LRU[[stc.BeaconNonceSize]byte, struct{}]
	peers  *simplelru.LRU[stc.Hash, time.Time] // when each was last worth a dial
	answer time.Time                           // when a beacon was last sent because of another one
	stats  LANStats
	opened [beaconSize + stc.BeaconOverhead]byte
}

func newLANHearing(self stc.PublicKey, kr *stc.Keyring) *lanHearing {
	nonces, err := simplelru.NewLRU[[stc.BeaconNonceSize]byte, struct{}](maxBeaconNonces, nil)
	peers, err2 := simplelru.NewLRU[stc.Hash, time.Time](maxLANPeers, nil)
	if err != nil || err2 != nil {
		panic("node: sizes of caches must be positive")
	}
	return &lanHearing{
		self: self, sealer: stc.NewBeaconSealer(kr), limit: rate.NewLimiter(beaconRate, beaconBurst), nonces: nonces, peers: peers,
	}
}

// heard is what a datagram asks for.
type heard struct {
	dial   bool // peer, at addr
	peer   stc.Hash
	addr   netip.AddrPort
	answer bool // by a beacon
}

// hear takes a datagram.
func (l *lanHearing) hear(now time.Time, datagram []byte, from netip.Addr) (h heard) {
	if !l.limit.AllowN(now, 1) {
		l.stats.Refused++
		return h
	}
	b, ok := l.open(now, datagram)
	switch {
	case !ok:
		l.stats.Refused++
		return h
	case b.key == l.self:
		return h // our own comes back
	}
	l.stats.Heard++
	h.peer = b.key.NodeID()
	if last, ok := l.peers.Get(h.peer); ok && now.Sub(last) < lanAgain {
		return h
	}
	l.peers.Add(h.peer, now)
	if now.Sub(l.answer) >= answerInterval {
		l.answer, h.answer = now, true
	}
	h.dial, h.addr = b.port != 0, netip.AddrPortFrom(from, b.port)
	return h
}

// open opens a beacon and takes note of it, so that it is not taken twice.
func (l *lanHearing) open(now time.Time, datagram []byte) (b beacon, ok bool) {
	if len(datagram) != beaconSize+stc.BeaconOverhead {
		return b, false
	}
	message, err := l.sealer.Open(l.opened[:0], datagram, []byte(beaconAD))
	if err != nil {
		return b, false
	}
	if b, err = parseBeacon(message); err != nil || b.at.Before(now.Add(-beaconAge)) || b.at.After(now.Add(beaconAge)) {
		return b, false
	}
	nonce := [stc.BeaconNonceSize]byte(datagram)
	if l.nonces.Contains(nonce) {
		return b, false
	}
	l.nonces.Add(nonce, struct{}{})
	return b, true
}

// seal makes a beacon.
func (l *lanHearing) seal(now time.Time, port uint16) []byte {
	return l.sealer.Seal(nil, beacon{now, l.self, port}.append(nil), []byte(beaconAD))
}

// lanDatagram is one that was received.
type lanDatagram struct {
	bytes []byte
	from  netip.Addr
}

// localNet is discovery on the local network.
type localNet struct {
	n     *Node
	hears *lanHearing // owned by run
	in    chan lanDatagram
	dials chan struct{} // holds a token for each dial under way
	lost  chan stc.Hash // nodes that were not reached
	met   atomic.Uint64
	stats chan chan LANStats
}

// discover finds nodes on the local network, and lets them find this one, until
// the node stops.
func (n *Node) discover() {
	l := n.local
	sockets := &lanSockets{deliver: l.deliver, log: n.log, port: lanPort}
	defer sockets.close()
	port := n.endpoint.LocalAddr().Port()
	if n.cfg.DialOnly {
		port = 0
	}
	send := func() {
		sockets.refresh()
		l.hears.stats.Sent += uint64(sockets.send(l.hears.seal(time.Now(), port)))
	}
	send()
	again := time.NewTimer(time.Second)
	defer again.Stop()
	for {
		select {
		case d := <-l.in:
			h := l.hears.hear(time.Now(), d.bytes, d.from)
			if h.dial {
				l.dial(h.peer, h.addr)
			}
			if h.answer {
				send()
			}
		case <-again.C:
			send()
			again.Reset(beaconInterval + rand.N(beaconInterval/4))
		case reply := <-l.stats:
			stats := l.hears.stats
			stats.Met = l.met.Load()
			reply <- stats
		case peer := <-l.lost:
			l.hears.peers.Remove(peer) // when it is heard again, it is dialled again
		case <-n.ctx.Done():
			return
		}
	}
}

func newLocalNet(n *Node) *localNet {
	return &localNet{
		n: n, hears: newLANHearing(n.cfg.Identity.PublicKey(), n.cfg.Keyring),
		in: make(chan lanDatagram, 64), dials: make(chan struct{}, maxLANDials), stats: make(chan chan LANStats),
		lost: make(chan stc.Hash, maxLANDials),
	}
}

// deliver hands over a datagram, unless too many wait.
func (l *localNet) deliver(b []byte, from netip.Addr) {
	select {
	case l.in <- lanDatagram{b, from}:
	default:
	}
}

// dial proves who is at an address, and makes the node known to the DHT.
func (l *localNet) dial(peer stc.Hash, addr netip.AddrPort) {
	select {
	case l.dials <- struct{}{}:
	default:
		l.hears.peers.Remove(peer) // when it is heard again
		return
	}
	n := l.n
	n.wg.Go(func() {
		defer func() { <-l.dials }()
		r := udpRoute(addr)
		s, err := n.meet(n.ctx, r, peer)
		if err == nil {
			_, err = n.introduce(s, r)
		}
		if err == nil {
			l.met.Add(1)
			return
		}
		n.log.Info("node on the local network not reached", "peer", peer, "addr", addr, "err", err)
		select {
		case l.lost <- peer:
		case <-n.ctx.Done():
		}
	})
}

// joinLAN settles the way into the network that the local one is.
func (n *Node) joinLAN() {
	if !n.sleep(lanWait) {
		n.joining.settle(true, context.Canceled)
		return
	}
	n.joining.settle(true, errNobodyNear)
}

// lanStats asks the owner.
func (n *Node) lanStats() LANStats {
	if n.local == nil {
		return LANStats{}
	}
	reply := make(chan LANStats, 1)
	select {
	case n.local.stats <- reply:
		return <-reply
	case <-n.ctx.Done():
		return LANStats{}
	}
}
