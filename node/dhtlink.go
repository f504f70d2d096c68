package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seigr/sttnode/dht"
	"github.com/seigr/sttnode/session"
	"github.com/seigr/sttnode/stc"
)

// A stream of protocolDHT is a link of the DHT: it carries its datagrams where
// UDP does not get through. The side that takes the stream first writes the
// UDP port that it listens on; then both write datagrams.
//
//	port (2)                     once, by the side that takes the stream
//	length (2) ‖ datagram        length ≤ dht.MaxDatagram
const protocolDHT = "stt/dht/1"

const (
	// linkQueue is how many datagrams wait to be written; more are lost.
	linkQueue = 64
	// linkWriteTimeout ends a link whose peer takes nothing for so long.
	linkWriteTimeout = 30 * time.Second
)

// dhtLinks are the links of a node, one in use for each peer.
type dhtLinks struct {
	deliver func(b []byte, from netip.AddrPort) // to the DHT

	mu     sync.Mutex
	byPeer map[stc.Hash]*dhtLink
}

// dhtLink is one link.
type dhtLink struct {
	peer   stc.Hash
	remote netip.AddrPort // of the connection; may be invalid
	st     *session.Stream
	out    chan []byte
	done   chan struct{} // closed when the link has ended
	spare  atomic.Bool   // not needed any more: UDP works
}

var (
	errNoLink   = errors.New("no link to this node")
	errLinkFull = errors.New("the link is behind")
)

// any reports whether there is a link at all.
func (l *dhtLinks) any() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.byPeer) > 0
}

// send queues a copy of a datagram and does not wait.
func (l *dhtLinks) send(b []byte, peer stc.Hash) error {
	l.mu.Lock()
	k := l.byPeer[peer]
	l.mu.Unlock()
	if k == nil {
		return errNoLink
	}
	select {
	case k.out <- append([]byte(nil), b...):
		return nil
	default:
		return errLinkFull
	}
}

// open makes a stream with s's peer a link. It takes the place of an older one.
func (l *dhtLinks) open(s *session.Session, st *session.Stream) *dhtLink {
	k := &dhtLink{peer: s.PeerID(), remote: s.RemoteAddr(), st: st, out: make(chan []byte, linkQueue), done: make(chan struct{})}
	l.mu.Lock()
	old := l.byPeer[k.peer]
	l.byPeer[k.peer] = k
	l.mu.Unlock()
	if old != nil {
		old.close()
	}
	return k
}

// run carries datagrams until the stream ends; ctx ends it early. The error is
// nil for an end in order.
func (l *dhtLinks) run(ctx context.Context, k *dhtLink) error {
	unlink := context.AfterFunc(ctx, k.close)
	defer unlink()
	ended := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() { k.write(ended) })
	err := k.read(l.deliver)
	close(ended)
	k.close()
	writer.Wait()
	l.mu.Lock()
	if l.byPeer[k.peer] == k {
		delete(l.byPeer, k.peer)
	}
	l.mu.Unlock()
	close(k.done)
	return err
}

// close ends the link.
func (k *dhtLink) close() {
	k.st.Reset(streamStopping)
	k.st.CloseRead(streamStopping)
}

func (k *dhtLink) read(deliver func([]byte, netip.AddrPort)) error {
	from := dht.LinkAddr(k.peer, k.remote)
	var head [2]byte
	var buf [dht.MaxDatagram]byte
	for {
		if _, err := io.ReadFull(k.st, head[:]); err != nil {
			return nil // the stream's end, in whatever way
		}
		n := int(binary.BigEndian.Uint16(head[:]))
		if n == 0 || n > len(buf) {
			return fmt.Errorf("%w: a datagram of %d bytes", ErrProtocol, n)
		}
		if _, err := io.ReadFull(k.st, buf[:n]); err != nil {
			return nil
		}
		deliver(buf[:n], from)
	}
}

func (k *dhtLink) write(ended <-chan struct{}) {
	var b []byte
	for {
		select {
		case d := <-k.out:
			b = append(binary.BigEndian.AppendUint16(b[:0], uint16(len(d))), d...)
			_ = k.st.SetWriteDeadline(time.Now().Add(linkWriteTimeout))
			if _, err := k.st.Write(b); err != nil {
				k.close() // which ends the reader
				return
			}
		case <-ended:
			return
		}
	}
}

// serveLink runs a link that a peer has opened.
func (n *Node) serveLink(ctx context.Context, s *session.Session, st *session.Stream) {
	_ = st.SetWriteDeadline(time.Now().Add(linkWriteTimeout))
	if _, err := st.Write(binary.BigEndian.AppendUint16(nil, n.endpoint.LocalAddr().Port())); err != nil {
		return
	}
	if err := n.links.run(ctx, n.links.open(s, st)); err != nil {
		n.badPeer(s, err)
	}
}

// link opens a link with a node that was joined over WebSocket, and makes the
// node known to the DHT: by UDP if that gets through, which the link then is
// not needed for, else over the link.
func (n *Node) link(s *session.Session, r route) (*dhtLink, error) {
	st, err := n.pool.open(n.ctx, s.PeerID(), r, protocolDHT)
	if err != nil {
		return nil, err
	}
	_ = st.SetReadDeadline(time.Now().Add(preambleTimeout))
	var port [2]byte
	if _, err := io.ReadFull(st, port[:]); err != nil {
		st.Reset(streamStopping)
		st.CloseRead(streamStopping)
		return nil, fmt.Errorf("link with %v: %w", s.PeerID(), err)
	}
	_ = st.SetReadDeadline(time.Time{})
	k := n.links.open(s, st)
	n.pool.spawn(func(ctx context.Context) {
		if err := n.links.run(ctx, k); err != nil {
			n.badPeer(s, err)
		}
	})

	// UDP has the same head start as in a dial.
	udp := dht.NewContact(s.PeerKey(), netip.AddrPortFrom(s.RemoteAddr().Addr(), binary.BigEndian.Uint16(port[:])))
	through := make(chan bool, 1)
	n.wg.Go(func() {
		ok := n.overUDP(udp)
		through <- ok
		if ok {
			// Datagrams that are under way over the link may end there.
			n.sleep(linkLinger)
			k.spare.Store(true)
			k.close()
		}
	})
	timer := time.NewTimer(headStart)
	defer timer.Stop()
	select {
	case ok := <-through:
		if ok {
			return k, nil
		}
	case <-timer.C:
	case <-n.ctx.Done():
	}
	return k, n.dht.AddContact(dht.NewContact(s.PeerKey(), dht.LinkAddr(s.PeerID(), s.RemoteAddr())))
}

// linkLinger is how long a link is kept once UDP has turned out to work.
const linkLinger = 2 * time.Second

// overUDP asks a node over UDP whether it is there, and makes it known to the
// DHT if it answers.
func (n *Node) overUDP(c dht.Contact) bool {
	if !sameFamily(n.endpoint.LocalAddr().Addr(), c.Addr.Addr()) {
		return false
	}
	began := time.Now()
	if _, err := n.dht.Ping(n.ctx, c); err != nil {
		if errors.Is(err, dht.ErrNoAnswer) {
			n.dialer.udp.lost(began, time.Now())
		}
		return false
	}
	return n.dht.AddContact(c) == nil
}
