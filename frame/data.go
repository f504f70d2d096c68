package frame

import "fmt"

// Flags of a DATA payload.
const (
	flagFin = 0x01
	flagAck = 0x02
)

// Data is the payload of a DATA frame: bytes of one stream.
type Data struct {
	Fin    bool   // the stream ends behind Bytes
	Offset uint64 // of the first byte
	Bytes  []byte // aliases what was parsed
	Ack    Ack    // valid if HasAck
	HasAck bool
}

// AppendDataHeader appends what stands before the bytes of a DATA payload.
// ack is an ACK body made by [AppendAck], or empty.
func AppendDataHeader(dst []byte, fin bool, ack []byte, offset uint64) []byte {
	var flags byte
	if fin {
		flags |= flagFin
	}
	if len(ack) > 0 {
		flags |= flagAck
	}
	dst = append(dst, flags)
	dst = append(dst, ack...)
	return AppendVarint(dst, offset)
}

// DataHeaderSize returns the number of bytes that AppendDataHeader appends
// for an ACK body of ack bytes.
func DataHeaderSize(ack int, offset uint64) int { return 1 + ack + VarintSize(offset) }

// ParseData reads a whole DATA payload. The result aliases b.
func ParseData(b []byte) (Data, error) {
	var d Data
	if len(b) == 0 {
		return d, fmt.Errorf("data: %w", ErrTruncated)
	}
	flags := b[0]
	if flags&^(flagFin|flagAck) != 0 {
		return d, fmt.Errorf("data flags %#02x: %w", flags, ErrMalformed)
	}
	d.Fin = flags&flagFin != 0
	b = b[1:]
	if flags&flagAck != 0 {
		ack, n, err := ConsumeAck(b)
		if err != nil {
			return d, err
		}
		d.Ack, d.HasAck = ack, true
		b = b[n:]
	}
	offset, n, err := ConsumeVarint(b)
	if err != nil {
		return d, fmt.Errorf("data offset: %w", err)
	}
	d.Offset, d.Bytes = offset, b[n:]
	if uint64(len(d.Bytes)) >= MaxVarint-offset {
		return d, fmt.Errorf("data beyond the last offset: %w", ErrMalformed)
	}
	return d, nil
}
