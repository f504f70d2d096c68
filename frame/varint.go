package frame

import "encoding/binary"

// MaxVarint is the largest integer that the encoding of RFC 9000 section 16
// can hold.
const MaxVarint = 1<<62 - 1

// VarintSize returns the length in bytes of v's encoding: 1, 2, 4 or 8. It
// panics when v exceeds [MaxVarint].
func VarintSize(v uint64) int {
	switch {
	case v < 1<<6:
		return 1
	case v < 1<<14:
		return 2
	case v < 1<<30:
		return 4
	case v <= MaxVarint:
		return 8
	}
	panic("frame: integer exceeds 62 bits")
}

// AppendVarint appends the shortest encoding of v to dst. It panics when v
// exceeds [MaxVarint].
func AppendVarint(dst []byte, v uint64) []byte {
	switch VarintSize(v) {
	case 1:
		return append(dst, byte(v))
	case 2:
		return binary.BigEndian.AppendUint16(dst, uint16(v)|0x4000)
	case 4:
		return binary.BigEndian.AppendUint32(dst, uint32(v)|0x8000_0000)
	}
	return binary.BigEndian.AppendUint64(dst, v|0xc000_0000_0000_0000)
}

// ConsumeVarint reads the integer at the start of b and returns it with its
// length. A longer encoding than the shortest is [ErrMalformed].
func ConsumeVarint(b []byte) (v uint64, n int, err error) {
	if len(b) == 0 {
		return 0, 0, ErrTruncated
	}
	n = 1 << (b[0] >> 6)
	if len(b) < n {
		return 0, 0, ErrTruncated
	}
	switch n {
	case 1:
		v = uint64(b[0])
	case 2:
		v = uint64(binary.BigEndian.Uint16(b) & 0x3fff)
	case 4:
		v = uint64(binary.BigEndian.Uint32(b) & 0x3fff_ffff)
	default:
		v = binary.BigEndian.Uint64(b) & MaxVarint
	}
	if VarintSize(v) != n {
		return 0, 0, ErrMalformed
	}
	return v, n, nil
}
