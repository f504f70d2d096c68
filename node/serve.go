package node

import (
	"context"
	"errors"
	"time"

	"github.com/seigr/sttnode/session"
)

// preambleTimeout is how long a peer may take to name the protocol of a stream
// that it has opened.
const preambleTimeout = 10 * time.Second

// acceptLoop takes the sessions that others begin into the pool.
func (n *Node) acceptLoop() {
	for {
		s, err := n.endpoint.Accept(n.ctx)
		if err != nil {
			if n.ctx.Err() == nil {
				n.log.Error("no more sessions are accepted", "err", err)
			}
			return
		}
		if !s.Ordered() {
			n.dialer.udp.heard()
		}
		if n.cfg.DialOnly {
			_ = s.CloseWithError(session.CodeLimit, "takes no sessions")
			continue
		}
		n.pool.add(s, route{})
	}
}

// serveStream runs the protocol that a stream opened by a peer names. It
// returns when the stream is done; ctx ends it early.
func (n *Node) serveStream(ctx context.Context, m *pooled, st *session.Stream) {
	s := m.Session
	unlink := context.AfterFunc(ctx, func() { st.Reset(streamStopping); st.CloseRead(streamStopping) })
	defer unlink()
	refuse := func(code uint64) {
		st.Reset(code)
		st.CloseRead(code)
	}
	_ = st.SetReadDeadline(time.Now().Add(preambleTimeout))
	protocol, err := readPreamble(st)
	if err != nil {
		if errors.Is(err, ErrProtocol) {
			n.badPeer(s, err)
		}
		refuse(streamBadPreamble)
		return
	}
	_ = st.SetReadDeadline(time.Time{})
	switch {
	case protocol == protocolSwarm && n.server != nil:
		if err := n.server.Serve(ctx, st, s.PeerID()); err != nil && ctx.Err() == nil {
			n.log.Debug("serving ended", "peer", s.PeerID(), "err", err)
		}
		_ = st.Close()
	case protocol == protocolDHT:
		n.serveLink(ctx, s, st)
	case protocol == protocolPacket:
		if err := n.servePackets(ctx, m, st); err != nil {
			n.badPeer(s, err)
			refuse(streamBadPreamble)
			return
		}
		_ = st.Close()
	default:
		known, err := n.protocols.serve(ctx, st, protocol)
		if err != nil {
			n.log.Error("handling a stream", "peer", s.PeerID(), "err", err)
		} else if !known {
			n.log.Debug("stream of an unknown protocol", "peer", s.PeerID(), "protocol", protocol)
			refuse(streamUnknownProtocol)
		}
	}
}

func (n *Node) badPeer(s *session.Session, err error) {
	n.log.Warn("peer breaks the protocol", "peer", s.PeerID(), "addr", routeOf(s, route{}), "err", err)
	n.emit(EventBadPeer, Event{Peer: s.PeerID(), Addr: routeOf(s, route{}), Err: err})
}
