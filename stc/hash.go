package stc

import (
	"bytes"
	"crypto/sha3"
	"encoding/hex"
	"fmt"
	"hash"

	"github.com/seigr/sttnode/stc/internal/keccak"
)

// HashSize is the length of a Hash in bytes.
const HashSize = 32

// Hash is a SHA3-256 digest (FIPS 202). It names nodes, blobs, contents and DHT keys alike. The zero Hash names nothing.
type Hash [HashSize]byte

// Sum returns the SHA3-256 of data. It does not allocate.
func Sum(data []byte) Hash {
	if len(data) >= minAlone && keccak.Fast(1) {
		return sumAlone(data)
	}
	return sha3.Sum256(data)
}

// NewHash returns a streaming SHA3-256. Its Write never fails; it is for one goroutine at a time.
func NewHash() hash.Hash { return sha3.New256() }

// ParseHash reads the text form of a hash: exactly 64 lower-case hexadecimal digits, so that one hash has one text.
// Everything else is ErrBadHash.
func ParseHash(s string) (Hash, error) {
	var h Hash
	if len(s) != 2*HashSize {
		return Hash{}, fmt.Errorf("%w: %d characters instead of %d", ErrBadHash, len(s), 2*HashSize)
	}
	for i := range len(s) {
		var nibble byte
		switch c := s[i]; {
		case '0' <= c && c <= '9':
			nibble = c - '0'
		case 'a' <= c && c <= 'f':
			nibble = c - 'a' + 10
		default:
			return Hash{}, fmt.Errorf("%w: character %d is not one of 0-9 a-f", ErrBadHash, i+1)
		}
		h[i/2] = h[i/2]<<4 | nibble
	}
	return h, nil
}

// String returns the 64 lower-case hexadecimal digits that ParseHash reads.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether h is the zero Hash.
func (h Hash) IsZero() bool { return h == Hash{} }

// Compare orders hashes as big-endian numbers: −1 if h < other, 0 if equal, +1 if h > other.
func (h Hash) Compare(other Hash) int { return bytes.Compare(h[:], other[:]) }

// AppendText appends the text form to b. It implements encoding.TextAppender and never fails.
func (h Hash) AppendText(b []byte) ([]byte, error) { return hex.AppendEncode(b, h[:]), nil }

// MarshalText returns the text form. It implements encoding.TextMarshaler and never fails.
func (h Hash) MarshalText() ([]byte, error) { return h.AppendText(make([]byte, 0, 2*HashSize)) }

// UnmarshalText accepts exactly what ParseHash accepts. h is unchanged after an error.
func (h *Hash) UnmarshalText(text []byte) error {
	parsed, err := ParseHash(string(text))
	if err != nil {
		return err
	}
	*h = parsed
	return nil
}
