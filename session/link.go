package session

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/session/transport"
	"github.com/seigr/sttnode/stc"
)

// link is what frames leave by and come from: the endpoint's socket, or an
// ordered carrier to a single peer. Exactly one field is set.
type link struct {
	datagrams transport.Conn
	ordered   transport.Ordered
}

// Sizes of what goes over an ordered link, in bytes.
const (
	orderedFrame = 64 << 10 // of the frames that we send
	orderedQueue = 1 << 20  // that may wait in the carrier, of one session
)

// send hands over frames of size bytes, the last of which may be shorter.
func (k *link) send(buf []byte, size int, to netip.AddrPort) error {
	if k.datagrams != nil {
		return k.datagrams.Send(buf, size, to)
	}
	for len(buf) > 0 {
		n := min(size, len(buf))
		if err := k.ordered.Send(buf[:n]); err != nil {
			return err
		}
		buf = buf[n:]
	}
	return nil
}

// Ordered reports whether the session runs over an ordered carrier, a
// WebSocket, and not over datagrams.
func (s *Session) Ordered() bool { return s.link.ordered != nil }

// orderedWindow is the congestion controller of an ordered link: it bounds
// what waits in the carrier and leaves the rest to it.
type orderedWindow struct{ carrier transport.Ordered }

func (w orderedWindow) window() int                        { return orderedQueue - w.carrier.Queued() }
func (w orderedWindow) pacing(*rtt) float64                { return unbounded }
func (w orderedWindow) sent(time.Time, int, int) rateStamp { return rateStamp{} }
func (w orderedWindow) idle(int)                           {}
func (w orderedWindow) acked(time.Time, *sentPacket)       {}
func (w orderedWindow) spurious(time.Time, *sentPacket)    {}
func (w orderedWindow) lost(time.Time, *sentPacket)        {}
func (w orderedWindow) update(ackUpdate)                   {}
func (w orderedWindow) collapsed()                         {}
func (w orderedWindow) setDatagram(size int)               {}

// errLinkBroken reports a session whose ordered carrier has failed.
var errLinkBroken = errors.New("session: the connection that carries the session broke")

// Serve takes over an ordered carrier that somebody has opened to us, and
// answers the handshake on it. The session comes out of Accept. A carrier on
// which no session begins within Config.HandshakeTimeout is closed; beyond
// Config.MaxHalfOpen of them further ones are refused with ErrTooManySessions.
func (e *Endpoint) Serve(carrier transport.Ordered) error {
	k, err := e.adopt(carrier, e.cfg.MaxHalfOpen)
	if err != nil {
		return err
	}
	time.AfterFunc(e.cfg.HandshakeTimeout, func() {
		if !e.inUse(k) {
			_ = carrier.Close()
		}
	})
	return nil
}

// DialOver begins a session over an ordered carrier, which it takes over;
// otherwise as Dial.
func (e *Endpoint) DialOver(ctx context.Context, carrier transport.Ordered, peer stc.Hash) (*Session, error) {
	k, err := e.adopt(carrier, e.cfg.MaxSessions)
	if err != nil {
		return nil, err
	}
	s, err := e.begin(ctx, k, carrier.RemoteAddr(), peer)
	if err != nil {
		_ = carrier.Close()
	}
	return s, err
}

// adopt starts to read a carrier, unless as many as maxSilent have no session
// yet. On an error it has closed it.
func (e *Endpoint) adopt(carrier transport.Ordered, maxSilent int) (*link, error) {
	k := &link{ordered: carrier}
	e.mu.Lock()
	defer e.mu.Unlock()
	silent := 0
	for _, s := range e.links {
		if s == nil {
			silent++
		}
	}
	if e.closed || len(e.links) >= e.cfg.MaxSessions || silent >= maxSilent {
		_ = carrier.Close()
		if e.closed {
			return nil, ErrClosed
		}
		return nil, ErrTooManySessions
	}
	e.links[k] = nil
	e.wg.Go(func() { e.readOrdered(k) })
	return k, nil
}

// inUse reports whether a session runs over the link.
func (e *Endpoint) inUse(k *link) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.links[k] != nil
}

// readOrdered is the goroutine that takes frames from an ordered carrier. It
// waits for the session when that is behind: nothing may be dropped here.
func (e *Endpoint) readOrdered(k *link) {
	from := k.ordered.RemoteAddr()
	for {
		buf := getBuffer(largeBuffers)
		b, err := k.ordered.Receive(buf.data)
		if err != nil {
			buf.release()
			break
		}
		e.counters.received.Add(1)
		if len(b) > len(buf.data) {
			buf.release()
			buf = &packetBuffer{data: b}
			buf.refs.Store(1)
		}
		e.dispatchOrdered(run{buf: buf, data: b, size: max(len(b), 1), from: from, at: time.Now(), link: k})
		buf.release()
	}
	e.mu.Lock()
	s := e.links[k]
	delete(e.links, k)
	e.mu.Unlock()
	if s != nil {
		s.requestClose(closeRequest{gone: errLinkBroken})
	}
	_ = k.ordered.Close()
}

// dispatchOrdered hands one frame of an ordered carrier on. Handshakes are
// answered at once: what follows AUTH_PROOF must find its session.
func (e *Endpoint) dispatchOrdered(r run) {
	if len(r.data) < frame.MinHeaderSize {
		return
	}
	e.mu.RLock()
	s := e.links[r.link]
	e.mu.RUnlock()
	switch t := frame.Type(r.data[0]); {
	case t == frame.TypeHandshake, t == frame.TypeAuth && s == nil:
		if p, ok := parseHandshake(r.data, r); ok && !e.toDial(p) {
			e.answerOne(p)
		}
	case s != nil && frame.SessionID(r.data[2:10]) == s.id:
		s.deliver(r, r.data)
	default:
		e.counters.stray.Add(1)
	}
}
