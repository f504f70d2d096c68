package frame

import (
	"encoding/hex"
	"fmt"
)

// Limits of a frame.
const (
	// MaxSize is the largest frame in bytes, header and metadata included.
	// It applies to WebSocket; on UDP a frame is a datagram and smaller.
	MaxSize = 2 << 20
	// TagSize is the length in bytes of the crypto metadata of a frame.
	TagSize = 16
	// MaxStream is the largest stream ID.
	MaxStream = 1<<16 - 1
	// MaxHeaderSize is the length in bytes of the longest header.
	MaxHeaderSize = fixedHeader + 4 + 8
	// MinHeaderSize is the length in bytes of the shortest header.
	MinHeaderSize = fixedHeader + 1 + 1

	fixedHeader = 1 + 1 + 8
)

// Type says what a frame carries.
type Type uint8

// The frame types. Types from 0x07 to 0x7F are reserved; those from
// [TypeUser] on belong to the application.
const (
	TypeHandshake     Type = 0x01
	TypeData          Type = 0x02
	TypeControl       Type = 0x03
	TypeStreamControl Type = 0x04
	TypeAuth          Type = 0x05
	TypeDHT           Type = 0x06
	TypeUser          Type = 0x80
)

// Known reports whether t is a type that this version speaks: one of the
// protocol's own, or the application's.
func (t Type) Known() bool { return t >= TypeHandshake && t <= TypeDHT || t >= TypeUser }

// String returns the name that the specification uses.
func (t Type) String() string {
	switch t {
	case TypeHandshake:
		return "HANDSHAKE"
	case TypeData:
		return "DATA"
	case TypeControl:
		return "CONTROL"
	case TypeStreamControl:
		return "STREAM_CONTROL"
	case TypeAuth:
		return "AUTH"
	case TypeDHT:
		return "DHT"
	}
	if t >= TypeUser {
		return fmt.Sprintf("USER(%#02x)", uint8(t))
	}
	return fmt.Sprintf("RESERVED(%#02x)", uint8(t))
}

// SessionID names a session at both of its ends. All zero means none.
type SessionID [8]byte

// String returns the ID as 16 hexadecimal digits.
func (id SessionID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether id is the ID of no session.
func (id SessionID) IsZero() bool { return id == SessionID{} }

// Header is what a frame says in clear.
type Header struct {
	Type    Type
	Epoch   uint8 // low byte of the key epoch
	Session SessionID
	Stream  uint16 // 0 is the session itself
	Seq     uint64 // below MaxVarint
}

// AppendHeader appends h to dst. It panics when h.Seq exceeds [MaxVarint].
func AppendHeader(dst []byte, h Header) []byte {
	dst = append(dst, byte(h.Type), h.Epoch)
	dst = append(dst, h.Session[:]...)
	dst = AppendVarint(dst, uint64(h.Stream))
	return AppendVarint(dst, h.Seq)
}

// HeaderSize returns the number of bytes that AppendHeader appends for h.
func HeaderSize(h Header) int {
	return fixedHeader + VarintSize(uint64(h.Stream)) + VarintSize(h.Seq)
}

// ParseHeader reads the header at the start of b and returns it with its
// length. Errors wrap [ErrTruncated] or [ErrMalformed]; the payload behind
// the header is not looked at.
func ParseHeader(b []byte) (Header, int, error) {
	var h Header
	if len(b) < MinHeaderSize {
		return h, 0, fmt.Errorf("frame header: %w", ErrTruncated)
	}
	h.Type, h.Epoch = Type(b[0]), b[1]
	if !h.Type.Known() {
		return h, 0, fmt.Errorf("frame type %s: %w", h.Type, ErrMalformed)
	}
	copy(h.Session[:], b[2:])
	n := fixedHeader
	stream, k, err := ConsumeVarint(b[n:])
	if err != nil {
		return h, 0, fmt.Errorf("frame stream ID: %w", err)
	}
	if stream > MaxStream {
		return h, 0, fmt.Errorf("frame stream ID %d: %w", stream, ErrMalformed)
	}
	n += k
	h.Stream = uint16(stream)
	h.Seq, k, err = ConsumeVarint(b[n:])
	if err != nil {
		return h, 0, fmt.Errorf("frame sequence number: %w", err)
	}
	return h, n + k, nil
}
