package swarm

import (
	"encoding/binary"
	"fmt"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

// msgType is the first byte of a message.
type msgType byte

const (
	msgOpen      msgType = 0x01
	msgWant      msgType = 0x02
	msgCancel    msgType = 0x03
	msgFollow    msgType = 0x04
	msgHave      msgType = 0x11
	msgBlob      msgType = 0x12
	msgMissing   msgType = 0x13
	msgCancelled msgType = 0x14
	msgClose     msgType = 0x15
)

func (t msgType) String() string {
	switch t {
	case msgOpen:
		return "OPEN"
	case msgWant:
		return "WANT"
	case msgCancel:
		return "CANCEL"
	case msgFollow:
		return "FOLLOW"
	case msgHave:
		return "HAVE"
	case msgBlob:
		return "BLOB"
	case msgMissing:
		return "MISSING"
	case msgCancelled:
		return "CANCELLED"
	case msgClose:
		return "CLOSE"
	}
	return fmt.Sprintf("message 0x%02x", byte(t))
}

const (
	headerSize = 4 // type and body length
	requestLen = 4
	wantSize   = headerSize + requestLen + stc.HashSize

	followLen = requestLen + stc.HashSize + 8 + 4 + 1

	// maxBlob is the longest blob that a BLOB message carries; DESIGN §7 limits
	// blobs to 1 MiB.
	maxBlob = 1 << 20

	// maxOpenRequests is how many requests of one stream may be unanswered.
	maxOpenRequests = 1024

	// maxHaveRanges is how many ranges one HAVE lists; a larger set takes several.
	maxHaveRanges = 2048

	// maxSmallBody is the longest body of any message except BLOB: a full HAVE.
	maxSmallBody = 1 + maxHaveRanges*2*8

	// blobHeaderSize is what precedes the bytes of a BLOB.
	blobHeaderSize = headerSize + requestLen
)

const (
	haveRanges   = 0
	haveComplete = 1
)

// closeReason says why a side ends a stream.
type closeReason byte

const (
	closeBusy      closeReason = 1
	closeNotFound  closeReason = 2
	closeMalformed closeReason = 3
	closeGoingAway closeReason = 4
)

func (r closeReason) String() string {
	switch r {
	case closeBusy:
		return "busy"
	case closeNotFound:
		return "content not here"
	case closeMalformed:
		return "malformed message"
	case closeGoingAway:
		return "going away"
	}
	return fmt.Sprintf("reason %d", byte(r))
}

// bodyLimits returns the shortest and longest body of a message of type t.
// An unknown type has none.
func (t msgType) bodyLimits() (low, high int, ok bool) {
	switch t {
	case msgOpen:
		return stc.HashSize, stc.HashSize, true
	case msgWant:
		return requestLen + stc.HashSize, requestLen + stc.HashSize, true
	case msgFollow:
		return followLen, followLen, true
	case msgCancel, msgMissing, msgCancelled:
		return requestLen, requestLen, true
	case msgHave:
		return 1, maxSmallBody, true
	case msgBlob:
		return requestLen, requestLen + maxBlob, true
	case msgClose:
		return 1, 1, true
	}
	return 0, 0, false
}

// parseHeader reads the first headerSize bytes of a message. It returns
// ErrProtocol for an unknown type and for a length that the type cannot have,
// so that no length is ever trusted further.
func parseHeader(b []byte) (t msgType, body int, err error) {
	if len(b) < headerSize {
		return 0, 0, fmt.Errorf("%w: header of %d bytes", ErrProtocol, len(b))
	}
	t = msgType(b[0])
	body = int(b[1])<<16 | int(b[2])<<8 | int(b[3])
	low, high, ok := t.bodyLimits()
	if !ok {
		return 0, 0, fmt.Errorf("%w: %v", ErrProtocol, t)
	}
	if body < low || body > high {
		return 0, 0, fmt.Errorf("%w: %v with a body of %d bytes", ErrProtocol, t, body)
	}
	return t, body, nil
}

func appendHeader(dst []byte, t msgType, body int) []byte {
	return append(dst, byte(t), byte(body>>16), byte(body>>8), byte(body))
}

func appendOpen(dst []byte, root stc.Hash) []byte {
	return append(appendHeader(dst, msgOpen, stc.HashSize), root[:]...)
}

func appendWant(dst []byte, request uint32, h stc.Hash) []byte {
	dst = appendHeader(dst, msgWant, requestLen+stc.HashSize)
	return append(binary.BigEndian.AppendUint32(dst, request), h[:]...)
}

// followRequest says what is to be sent behind a node that is asked for.
type followRequest struct {
	offset uint64 // in the data below the node: what holds bytes from there on
	bytes  uint32 // of all blobs behind the node, at most
	chunks uint8  // among them, at most
}

func appendFollow(dst []byte, request uint32, h stc.Hash, f followRequest) []byte {
	dst = appendHeader(dst, msgFollow, followLen)
	dst = append(binary.BigEndian.AppendUint32(dst, request), h[:]...)
	dst = binary.BigEndian.AppendUint64(dst, f.offset)
	return append(binary.BigEndian.AppendUint32(dst, f.bytes), f.chunks)
}

// appendRequest appends a message whose body is a request number alone:
// CANCEL, MISSING or CANCELLED.
func appendRequest(dst []byte, t msgType, request uint32) []byte {
	return binary.BigEndian.AppendUint32(appendHeader(dst, t, requestLen), request)
}

// appendBlobHeader appends what precedes the bytes of a BLOB of size bytes.
func appendBlobHeader(dst []byte, request uint32, size int) []byte {
	return binary.BigEndian.AppendUint32(appendHeader(dst, msgBlob, requestLen+size), request)
}

func appendClose(dst []byte, reason closeReason) []byte {
	return append(appendHeader(dst, msgClose, 1), byte(reason))
}

func appendHaveComplete(dst []byte) []byte {
	return append(appendHeader(dst, msgHave, 1), haveComplete)
}

// appendHave appends as many HAVE messages as the spans need, one at least.
func appendHave(dst []byte, spans []span) []byte {
	for {
		part := spans[:min(len(spans), maxHaveRanges)]
		spans = spans[len(part):]
		start := len(dst)
		dst = append(appendHeader(dst, msgHave, 0), haveRanges)
		next := uint64(0)
		for i, s := range part {
			gap := s.lo - next
			if i > 0 {
				gap--
			}
			dst = frame.AppendVarint(dst, gap)
			dst = frame.AppendVarint(dst, s.len()-1)
			next = s.hi
		}
		appendHeader(dst[:start], msgHave, len(dst)-start-headerSize)
		if len(spans) == 0 {
			return dst
		}
	}
}

// parseHave reads the body of a HAVE. The spans are appended to dst.
func parseHave(dst []span, body []byte) (spans []span, complete bool, err error) {
	if len(body) == 0 {
		return dst, false, fmt.Errorf("%w: empty HAVE", ErrProtocol)
	}
	kind, rest := body[0], body[1:]
	switch {
	case kind == haveComplete && len(rest) == 0:
		return dst, true, nil
	case kind != haveRanges:
		return dst, false, fmt.Errorf("%w: HAVE of kind %d with %d bytes", ErrProtocol, kind, len(rest))
	}
	next := uint64(0)
	for i := 0; len(rest) > 0; i++ {
		if i == maxHaveRanges {
			return dst, false, fmt.Errorf("%w: HAVE with more than %d ranges", ErrProtocol, maxHaveRanges)
		}
		gap, n, err := frame.ConsumeVarint(rest)
		if err != nil {
			return dst, false, fmt.Errorf("%w: gap of a HAVE: %w", ErrProtocol, err)
		}
		rest = rest[n:]
		length, n, err := frame.ConsumeVarint(rest)
		if err != nil {
			return dst, false, fmt.Errorf("%w: length of a HAVE: %w", ErrProtocol, err)
		}
		rest = rest[n:]
		if i > 0 {
			gap++
		}
		// Three terms below 2^62 cannot overflow 64 bits.
		lo := next + gap
		hi := lo + length + 1
		if hi > frame.MaxVarint {
			return dst, false, fmt.Errorf("%w: HAVE of chunk %d", ErrProtocol, hi)
		}
		dst = append(dst, span{lo, hi})
		next = hi
	}
	return dst, false, nil
}

// parseWant reads the body of a WANT; parseHeader has checked its length.
func parseWant(body []byte) (request uint32, h stc.Hash) {
	return binary.BigEndian.Uint32(body), stc.Hash(body[requestLen:])
}

// parseFollow reads the body of a FOLLOW; parseHeader has checked its length.
func parseFollow(body []byte) (request uint32, h stc.Hash, f followRequest) {
	request, h = parseWant(body[:requestLen+stc.HashSize])
	rest := body[requestLen+stc.HashSize:]
	return request, h, followRequest{binary.BigEndian.Uint64(rest), binary.BigEndian.Uint32(rest[8:]), rest[12]}
}

// parseRequest reads the request number that the bodies of BLOB, CANCEL,
// MISSING and CANCELLED begin with.
func parseRequest(body []byte) uint32 { return binary.BigEndian.Uint32(body) }
