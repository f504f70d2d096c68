package session

import (
	"crypto/subtle"
	"net/netip"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

// A node that has lost its sessions answers their frames with UNKNOWN, so
// that its peers notice within one round trip instead of an idle timeout
// (RFC 9000 section 10.3). The token in it is made from the session's ID and
// a key that outlives a restart; each side told it to the other, sealed,
// when the session began. Who has not read it there cannot end a session.

type (
	resetToken [16]byte
	resetKey   [32]byte
)

// resetLabel names the key of the tokens among those that an identity
// derives.
const resetLabel = "session reset tokens"

// unknownSize is the length in bytes of a datagram with UNKNOWN. Only longer
// ones are answered, so that two nodes never answer each other for ever.
const unknownSize = frame.MinHeaderSize + 1 + len(resetToken{})

// token returns the token of a session.
func (k *resetKey) token(id frame.SessionID) resetToken {
	var b [len(resetKey{}) + len(frame.SessionID{})]byte
	copy(b[:], k[:])
	copy(b[len(k):], id[:])
	h := stc.Sum(b[:])
	return resetToken(h[:])
}

// sendUnknown answers a frame of a session that this node does not know.
func (e *Endpoint) sendUnknown(b []byte, to netip.AddrPort) {
	h, _, err := frame.ParseHeader(b)
	if err != nil || len(b) <= unknownSize || e.cfg.Stealth || !e.hints.Allow() {
		return
	}
	token := e.resets.token(h.Session)
	out := appendHandshake(nil, frame.TypeHandshake, h.Session, kindUnknown, token[:])
	_ = e.link.send(out, len(out), to)
}

// onUnknown ends a session whose peer proves that it has forgotten it, unless
// it has been heard since: data right behind AUTH_PROOF may come to a node that
// does not know the session yet.
func (e *Endpoint) onUnknown(p handshakePacket) {
	e.mu.RLock()
	s := e.sessions[p.id]
	e.mu.RUnlock()
	if s == nil {
		return
	}
	s.mu.Lock()
	told := s.reset != (resetToken{}) && subtle.ConstantTimeCompare(s.reset[:], p.body) == 1
	if told {
		s.forgotten = p.at
	}
	s.mu.Unlock()
	if told {
		s.strand.ask()
	}
}
