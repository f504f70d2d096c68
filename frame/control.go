package frame

import (
	"fmt"
	"unicode/utf8"
)

// ControlType is the kind of a record in a CONTROL payload.
type ControlType uint8

// The records of a CONTROL payload.
const (
	ControlPadding       ControlType = 0x00
	ControlPing          ControlType = 0x01
	ControlAck           ControlType = 0x02
	ControlMaxData       ControlType = 0x03
	ControlPathChallenge ControlType = 0x04
	ControlPathResponse  ControlType = 0x05
	ControlClose         ControlType = 0x06
)

// MaxReason is the most bytes of a reason in a CLOSE record.
const MaxReason = 512

// Control is one record of a CONTROL payload. Type says which of the other
// fields count.
type Control struct {
	Type   ControlType
	Ack    Ack     // ControlAck
	Limit  uint64  // ControlMaxData: bytes
	Path   [8]byte // ControlPathChallenge, ControlPathResponse
	Code   uint64  // ControlClose
	Reason []byte  // ControlClose: UTF-8; aliases what was parsed
}

// AppendPing appends a PING record.
func AppendPing(dst []byte) []byte { return append(dst, byte(ControlPing)) }

// AppendPadding appends n PADDING records, one byte each.
func AppendPadding(dst []byte, n int) []byte {
	for range n {
		dst = append(dst, byte(ControlPadding))
	}
	return dst
}

// AppendControlAck appends an ACK record around a body made by [AppendAck].
func AppendControlAck(dst, body []byte) []byte {
	return append(append(dst, byte(ControlAck)), body...)
}

// AppendMaxData appends a MAX_DATA record.
func AppendMaxData(dst []byte, limit uint64) []byte {
	return AppendVarint(append(dst, byte(ControlMaxData)), limit)
}

// AppendPathChallenge appends a PATH_CHALLENGE record.
func AppendPathChallenge(dst []byte, data [8]byte) []byte {
	return append(append(dst, byte(ControlPathChallenge)), data[:]...)
}

// AppendPathResponse appends a PATH_RESPONSE record.
func AppendPathResponse(dst []byte, data [8]byte) []byte {
	return append(append(dst, byte(ControlPathResponse)), data[:]...)
}

// AppendClose appends a CLOSE record; a reason longer than [MaxReason] is cut
// between two characters.
func AppendClose(dst []byte, code uint64, reason string) []byte {
	if len(reason) > MaxReason {
		n := MaxReason
		for n > 0 && !utf8.RuneStart(reason[n]) {
			n--
		}
		reason = reason[:n]
	}
	dst = AppendVarint(append(dst, byte(ControlClose)), code)
	return append(AppendVarint(dst, uint64(len(reason))), reason...)
}

// ConsumeControl reads the record at the start of b and returns it with its
// length, which is at least 1.
func ConsumeControl(b []byte) (Control, int, error) {
	if len(b) == 0 {
		return Control{}, 0, fmt.Errorf("control record: %w", ErrTruncated)
	}
	c := Control{Type: ControlType(b[0])}
	rest := b[1:]
	switch c.Type {
	case ControlPadding, ControlPing:
		return c, 1, nil
	case ControlAck:
		ack, n, err := ConsumeAck(rest)
		c.Ack = ack
		return c, 1 + n, err
	case ControlMaxData:
		limit, n, err := ConsumeVarint(rest)
		if err != nil {
			return c, 0, fmt.Errorf("max data: %w", err)
		}
		c.Limit = limit
		return c, 1 + n, nil
	case ControlPathChallenge, ControlPathResponse:
		if len(rest) < len(c.Path) {
			return c, 0, fmt.Errorf("path record: %w", ErrTruncated)
		}
		copy(c.Path[:], rest)
		return c, 1 + len(c.Path), nil
	case ControlClose:
		code, n, err := ConsumeVarint(rest)
		if err != nil {
			return c, 0, fmt.Errorf("close code: %w", err)
		}
		length, k, err := ConsumeVarint(rest[n:])
		if err != nil {
			return c, 0, fmt.Errorf("close reason: %w", err)
		}
		n += k
		if length > MaxReason {
			return c, 0, fmt.Errorf("close reason of %d bytes: %w", length, ErrMalformed)
		}
		if uint64(len(rest)-n) < length {
			return c, 0, fmt.Errorf("close reason: %w", ErrTruncated)
		}
		c.Code, c.Reason = code, rest[n:n+int(length)]
		if !utf8.Valid(c.Reason) {
			return c, 0, fmt.Errorf("close reason is not UTF-8: %w", ErrMalformed)
		}
		return c, 1 + n + int(length), nil
	}
	return c, 0, fmt.Errorf("control record %#02x: %w", b[0], ErrMalformed)
}

// StreamControlType is the kind of a record in a STREAM_CONTROL payload.
type StreamControlType uint8

// The records of a STREAM_CONTROL payload.
const (
	StreamMaxData     StreamControlType = 0x01
	StreamReset       StreamControlType = 0x02
	StreamStopSending StreamControlType = 0x03
)

// StreamControl is one record of a STREAM_CONTROL payload. Type says which of
// the other fields count.
type StreamControl struct {
	Type   StreamControlType
	Code   uint64 // StreamReset, StreamStopSending: the application's error code
	Offset uint64 // the limit, the final offset, or the base
}

// AppendStreamMaxData appends a MAX_STREAM_DATA record.
func AppendStreamMaxData(dst []byte, limit uint64) []byte {
	return AppendVarint(append(dst, byte(StreamMaxData)), limit)
}

// AppendStreamReset appends a RESET record.
func AppendStreamReset(dst []byte, code, final uint64) []byte {
	return AppendVarint(AppendVarint(append(dst, byte(StreamReset)), code), final)
}

// AppendStreamStopSending appends a STOP_SENDING record.
func AppendStreamStopSending(dst []byte, code, base uint64) []byte {
	return AppendVarint(AppendVarint(append(dst, byte(StreamStopSending)), code), base)
}

// ConsumeStreamControl reads the record at the start of b and returns it with
// its length, which is at least 1.
func ConsumeStreamControl(b []byte) (StreamControl, int, error) {
	if len(b) == 0 {
		return StreamControl{}, 0, fmt.Errorf("stream control record: %w", ErrTruncated)
	}
	c := StreamControl{Type: StreamControlType(b[0])}
	n := 1
	switch c.Type {
	case StreamMaxData:
	case StreamReset, StreamStopSending:
		code, k, err := ConsumeVarint(b[n:])
		if err != nil {
			return c, 0, fmt.Errorf("stream control code: %w", err)
		}
		c.Code = code
		n += k
	default:
		return c, 0, fmt.Errorf("stream control record %#02x: %w", b[0], ErrMalformed)
	}
	offset, k, err := ConsumeVarint(b[n:])
	if err != nil {
		return c, 0, fmt.Errorf("stream control offset: %w", err)
	}
	c.Offset = offset
	return c, n + k, nil
}
