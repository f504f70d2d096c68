package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/session"
	"github.com/seigr/sttnode/stc"
)

// A stream of protocolPacket carries messages, in one direction:
//
//	length (LEB128) ‖ data        length ≤ MaxPacket
const protocolPacket = "stt/packet/1"

const (
	// MaxPacket is the most bytes of data in a Packet.
	MaxPacket = 256 << 10
	// packetWindow bounds the data of a session's packets that have been read
	// from their streams and are not received yet.
	packetWindow = 2 * MaxPacket
	// maxLatePackets bounds the streams of sessions that have ended, with
	// packets that nobody has received yet. More are given up.
	maxLatePackets = 64
)

// Packet is a message as it arrived.
type Packet struct {
	Session frame.SessionID
	Peer    stc.Hash // the node that sent it
	Stream  uint16   // packets of one stream of a session arrive in the order of their sending
	Data    []byte   // the receiver's own
}

// packets is the node's traffic of packets.
type packets struct {
	queue   chan Packet
	wanted  chan struct{} // closed by the first Receive
	receive sync.Once
	late    chan struct{} // holds a token for each stream of an ended session

	sent, received, bytesSent, bytesReceived atomic.Uint64
}

// packetPeer is what a session's packets need.
type packetPeer struct {
	window *semaphore.Weighted // of packetWindow
	turn   chan struct{}       // holds a token while somebody sends

	// Owned by who has the turn.
	out  *session.Stream // that Send uses, or nil
	buf  []byte          // the packet that was written last
	rest []byte          // the part of it that had no room when its Send had to end
}

func newPackets() packets {
	return packets{queue: make(chan Packet), wanted: make(chan struct{}), late: make(chan struct{}, maxLatePackets)}
}

func newPacketPeer() packetPeer {
	return packetPeer{window: semaphore.NewWeighted(packetWindow), turn: make(chan struct{}, 1)}
}

// Receive yields the packets of all sessions as they arrive, until ctx ends or
// the node stops; the error is yielded last. Each packet is yielded to one
// caller. While nobody receives, packets wait at their senders, but for at most
// 512 KiB a session and what the sessions' windows hold. What had arrived when
// its session ended is still yielded, of up to 64 streams.
func (n *Node) Receive(ctx context.Context) iter.Seq2[Packet, error] {
	return func(yield func(Packet, error) bool) {
		ctx, end, err := n.begin(ctx)
		if err != nil {
			yield(Packet{}, err)
			return
		}
		defer end()
		n.packets.receive.Do(func() { close(n.packets.wanted) })
		for {
			select {
			case p := <-n.packets.queue:
				n.packets.received.Add(1)
				n.packets.bytesReceived.Add(uint64(len(p.Data)))
				if !yield(p, nil) {
					return
				}
			case <-ctx.Done():
				yield(Packet{}, context.Cause(ctx))
				return
			}
		}
	}
}

// Send sends data, 0 to MaxPacket bytes, as one packet to the peers of some
// sessions. It returns when it is buffered for all of them, not once it has
// arrived; sessions do not delay each other, and a packet arrives whole or not
// at all, those of one session in the order of the calls. A peer that does not
// receive lets Send wait until ctx ends; the packet may then still arrive, before
// those of later calls, and all earlier ones do. Errors of several sessions are joined;
// the others get the packet all the same: ErrNoSession, ErrPacketSize, ErrState,
// ctx's cause, a session's error.
func (n *Node) Send(ctx context.Context, data []byte, to ...frame.SessionID) error {
	if len(data) > MaxPacket {
		return fmt.Errorf("%w: %d bytes, at most %d are possible; a stream takes more", ErrPacketSize, len(data), MaxPacket)
	}
	ctx, end, err := n.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	errs := make([]error, len(to))
	var sending sync.WaitGroup
	for i, id := range to {
		sending.Go(func() {
			m, err := n.pool.byID(id)
			if err == nil {
				err = m.sendPacket(ctx, data)
			}
			if err != nil {
				errs[i] = fmt.Errorf("packet to session %v: %w", id, err)
				return
			}
			n.packets.sent.Add(1)
			n.packets.bytesSent.Add(uint64(len(data)))
		})
	}
	sending.Wait()
	return errors.Join(errs...)
}

// SendAll is Send to all sessions that are open.
func (n *Node) SendAll(ctx context.Context, data []byte) error {
	var all []frame.SessionID
	for _, s := range n.Sessions() {
		all = append(all, s.ID())
	}
	return n.Send(ctx, data, all...)
}

// OpenPacketStream opens a stream of its own for packets, for those that must
// not wait for others of the session: its SendMessage sends what the peer
// receives as one Packet, of at most MaxPacket bytes. Errors are those of
// OpenStream. The caller closes the stream.
func (n *Node) OpenPacketStream(ctx context.Context, s *session.Session) (*session.Stream, error) {
	ctx, end, err := n.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	return openOn(ctx, s, protocolPacket)
}

// sendPacket writes a packet to the session's stream for them.
func (m *pooled) sendPacket(ctx context.Context, data []byte) (err error) {
	k := &m.packets
	select {
	case k.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-m.Done():
		return m.Err()
	}
	defer func() { <-k.turn }()
	if k.out == nil {
		if k.out, err = openOn(ctx, m.Session, protocolPacket); err != nil {
			return err
		}
	}
	if err := k.write(ctx, k.rest); err != nil {
		return err
	}
	k.buf = append(binary.AppendUvarint(k.buf[:0], uint64(len(data))), data...)
	return k.write(ctx, k.buf)
}

// write writes b, which is in k.buf. If ctx ends before all of it is written,
// what is left of a packet that has begun waits for the next call in k.rest: the
// packets before it are on the same stream, and so will be those behind it.
func (k *packetPeer) write(ctx context.Context, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	cut := make(chan struct{})
	interrupt := context.AfterFunc(ctx, func() {
		defer close(cut)
		_ = k.out.SetWriteDeadline(time.Unix(1, 0))
	})
	n, err := k.out.Write(b)
	if !interrupt() {
		<-cut
		_ = k.out.SetWriteDeadline(time.Time{})
	}
	switch {
	case err == nil:
		k.rest = nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		if n > 0 {
			k.rest = b[n:]
		}
		return context.Cause(ctx)
	default:
		k.out.Reset(streamStopping)
		k.out, k.rest = nil, nil
	}
	return err
}

// servePackets hands the packets of a stream that a peer has opened to who
// receives.
func (n *Node) servePackets(ctx context.Context, m *pooled, st *session.Stream) error {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { n.packets.afterEnd(ctx, m, cancel) })
	defer watch.Wait()
	defer cancel()
	select {
	case <-n.packets.wanted:
	case <-ctx.Done():
		return nil
	}
	for {
		size, err := readPacketSize(st)
		if err != nil {
			if errors.Is(err, ErrProtocol) {
				return err
			}
			return nil // the stream's end, in whatever way
		}
		if m.packets.window.Acquire(ctx, size) != nil {
			return nil
		}
		err = n.servePacket(ctx, m, st, size)
		m.packets.window.Release(size)
		if err != nil {
			return nil
		}
	}
}

// afterEnd lets a stream of packets whose session has ended wait on for who
// receives, if there is a place for it, or else gives it up. It returns when ctx
// ends.
func (p *packets) afterEnd(ctx context.Context, m *pooled, giveUp func()) {
	select {
	case <-m.Done():
	case <-ctx.Done():
		return
	}
	select {
	case p.late <- struct{}{}:
		<-ctx.Done()
		<-p.late
	default:
		giveUp()
	}
}

// servePacket reads a packet's data and waits until somebody takes it.
func (n *Node) servePacket(ctx context.Context, s *pooled, st *session.Stream, size int64) error {
	data := make([]byte, size)
	if _, err := io.ReadFull(st, data); err != nil {
		return err
	}
	select {
	case n.packets.queue <- Packet{Session: s.ID(), Peer: s.PeerID(), Stream: st.ID(), Data: data}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// readPacketSize reads a packet's length. Errors of one that may not be wrap
// ErrProtocol.
func readPacketSize(r io.Reader) (int64, error) {
	var buf [binary.MaxVarintLen32]byte
	for i := range buf {
		if _, err := io.ReadFull(r, buf[i:i+1]); err != nil {
			return 0, err
		}
		if buf[i] >= 0x80 {
			continue
		}
		size, n := binary.Uvarint(buf[:i+1])
		if n <= 0 || size > MaxPacket {
			break
		}
		return int64(size), nil
	}
	return 0, fmt.Errorf("%w: a packet of more than %d bytes", ErrProtocol, MaxPacket)
}
