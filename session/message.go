package session

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

// The messages of the handshake. HANDSHAKE and AUTH frames carry a kind and
// then what the kind says; the session ID of their header is the handshake's
// own, chosen by the initiator, since the session's is not known yet.
//
//	HELLO      kind 1, cookie length (1), cookie, message length (2), Noise message 1 { version (1), nonce (32), suite (1) each }, zeros
//	RESPONSE   kind 2, Noise message 2 { version (1), nonce (32), suite (1), parameters }
//	RETRY      kind 3, cookie
//	REFUSED    kind 4, reason (1)
//	UNKNOWN    kind 5, token (16); its header carries a session's ID, not a handshake's
//	AUTH_PROOF kind 1, Noise message 3 { parameters }
//	FINAL      kind 2, address length (1), address, port (2), token (16); sealed with the session's keys
//
// Zeros fill a datagram with HELLO to minDatagram bytes, so that no answer
// is longer than its question.
const (
	kindHello    = 1
	kindResponse = 2
	kindRetry    = 3
	kindRefused  = 4
	kindUnknown  = 5

	kindProof = 1
	kindFinal = 2
)

// Reasons of REFUSED. It is not authenticated: the initiator shows it to a
// person if nothing better comes, and believes nothing.
const (
	refusedSeed    = 1
	refusedVersion = 2
)

const (
	protocolVersion = 1
	nonceSize       = 32
	maxCookie       = 64
	maxSuites       = 16
)

// prologue binds the handshake to this protocol and version.
var prologue = []byte("stt/1")

var errMessage = errors.New("malformed handshake message")

// hello is the payload of Noise message 1.
type hello struct {
	version uint8
	nonce   [nonceSize]byte
	suites  []stc.Suite
}

func (m hello) append(dst []byte) []byte {
	dst = append(dst, m.version)
	dst = append(dst, m.nonce[:]...)
	for _, s := range m.suites {
		dst = append(dst, byte(s))
	}
	return dst
}

func parseHello(b []byte) (m hello, err error) {
	if len(b) < 1+nonceSize+1 || len(b) > 1+nonceSize+maxSuites {
		return m, fmt.Errorf("HELLO: %w", errMessage)
	}
	m.version = b[0]
	copy(m.nonce[:], b[1:])
	for _, s := range b[1+nonceSize:] {
		m.suites = append(m.suites, stc.Suite(s))
	}
	return m, nil
}

// response is the payload of Noise message 2.
type response struct {
	version uint8
	nonce   [nonceSize]byte
	suite   stc.Suite
	params  params
}

func (m response) append(dst []byte) []byte {
	dst = append(dst, m.version)
	dst = append(dst, m.nonce[:]...)
	dst = append(dst, byte(m.suite))
	return m.params.append(dst)
}

func parseResponse(b []byte) (m response, err error) {
	if len(b) < 1+nonceSize+1 {
		return m, fmt.Errorf("RESPONSE: %w", errMessage)
	}
	m.version = b[0]
	copy(m.nonce[:], b[1:])
	m.suite = stc.Suite(b[1+nonceSize])
	m.params, err = parseParams(b[1+nonceSize+1:])
	return m, err
}

// appendHello appends a HELLO around Noise message 1, and the zeros that make
// it minDatagram bytes.
func appendHello(dst []byte, id frame.SessionID, cookie, message []byte) []byte {
	dst = frame.AppendHeader(dst, frame.Header{Type: frame.TypeHandshake, Session: id})
	dst = append(dst, kindHello, byte(len(cookie)))
	dst = append(dst, cookie...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(message)))
	dst = append(dst, message...)
	if n := minDatagram - len(dst); n > 0 {
		dst = append(dst, make([]byte, n)...)
	}
	return dst
}

// splitHello takes what is behind the kind of a HELLO apart.
func splitHello(b []byte) (cookie, message []byte, err error) {
	if len(b) < 1 || int(b[0]) > maxCookie || len(b) < 1+int(b[0])+2 {
		return nil, nil, fmt.Errorf("HELLO: %w", errMessage)
	}
	cookie, b = b[1:1+b[0]], b[1+b[0]:]
	n := int(binary.BigEndian.Uint16(b))
	if n > len(b)-2 {
		return nil, nil, fmt.Errorf("HELLO: %w", errMessage)
	}
	return cookie, b[2 : 2+n], nil
}

// appendHandshake appends any other message of a kind.
func appendHandshake(dst []byte, t frame.Type, id frame.SessionID, kind byte, body []byte) []byte {
	dst = frame.AppendHeader(dst, frame.Header{Type: t, Session: id})
	return append(append(dst, kind), body...)
}

// appendFinal appends FINAL: the address that we see the peer at, and the
// token of UNKNOWN.
func appendFinal(dst []byte, addr netip.AddrPort, token resetToken) []byte {
	ip := addr.Addr().Unmap().AsSlice()
	dst = append(dst, kindFinal, byte(len(ip)))
	dst = append(dst, ip...)
	dst = binary.BigEndian.AppendUint16(dst, addr.Port())
	return append(dst, token[:]...)
}

func parseFinal(b []byte) (addr netip.AddrPort, token resetToken, err error) {
	if len(b) < 2 || b[0] != kindFinal {
		return addr, token, fmt.Errorf("FINAL: %w", errMessage)
	}
	n := int(b[1])
	if (n != 4 && n != 16) || len(b) != 2+n+2+len(token) {
		return addr, token, fmt.Errorf("FINAL address: %w", errMessage)
	}
	ip, _ := netip.AddrFromSlice(b[2 : 2+n])
	b = b[2+n:]
	return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(b)), resetToken(b[2:]), nil
}

// sessionID derives a session's ID from what both sides brought to the
// handshake, by the rule of the specification.
func sessionID(nonceI, nonceR [nonceSize]byte, nodeI, nodeR stc.Hash) (id frame.SessionID) {
	for i := range id {
		id[i] = nonceI[i] ^ nonceR[i] ^ nodeI[i] ^ nodeR[i]
	}
	return id
}

// chooseSuite picks the suite for a session: AES-GCM if both ends have it in
// hardware, else ChaCha20-Poly1305. Each end offers what it wants to use,
// best first; the responder's own order decides.
func chooseSuite(offered, ours []stc.Suite) (stc.Suite, bool) {
	for _, s := range ours {
		for _, o := range offered {
			if s == o {
				return s, true
			}
		}
	}
	return 0, false
}
