// Package segment is the files that hold the bytes of the larger blobs: append-only sequences of records, each of which says
// by itself what it holds, so that what is lost of the index can be found again.
//
//	+-----------+-------------------+-----------------------+----------------------------+
//	| magic (4) | sealed length (4) | sealed hash (32 + 40) | sealed blob (length + 40)  |
//	+-----------+-------------------+-----------------------+----------------------------+
//
// Sealed length counts the bytes of the sealed blob. The first eight bytes are the additional data under which the hash is
// sealed, the hash is that of the blob. Records follow one another without gaps; where one was deleted there are zeros.
package segment

import (
	"encoding/binary"
	"errors"

	"github.com/seigr/sttnode/stc"
)

const (
	magic      = "STS\x01"
	prefixSize = 8
	headerSize = prefixSize + stc.HashSize + stc.StoreOverhead

	// Overhead is how much longer a record is than its blob, in bytes.
	Overhead = headerSize + stc.StoreOverhead
)

// errNoRecord reports bytes that are no record of this store.
var errNoRecord = errors.New("segment: no record")

// Seal appends a record to dst.
func Seal(dst []byte, c *stc.StoreCipher, h stc.Hash, blob []byte) []byte {
	start := len(dst)
	dst = append(dst, magic...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(blob)+stc.StoreOverhead))
	dst = c.Seal(dst, h[:], dst[start:start+prefixSize:start+prefixSize])
	return c.Seal(dst, blob, h[:])
}

// RecordSize returns the length of the record of a blob of size bytes.
func RecordSize(size int) int64 { return int64(size) + Overhead }

// Open verifies a record that is known to be of h and appends its blob to dst.
func Open(dst []byte, c *stc.StoreCipher, h stc.Hash, record []byte) ([]byte, error) {
	if len(record) < Overhead || string(record[:len(magic)]) != magic {
		return dst, errNoRecord
	}
	if int(binary.BigEndian.Uint32(record[len(magic):])) != len(record)-headerSize {
		return dst, errNoRecord
	}
	out, err := c.Open(dst, record[headerSize:], h[:])
	if err != nil {
		return dst, err
	}
	return out, nil
}

// openHeader verifies the header of a record and returns the blob's hash and the record's size. maxBlob bounds the latter.
func openHeader(c *stc.StoreCipher, header []byte, maxBlob int) (h stc.Hash, size int64, err error) {
	if len(header) < headerSize || string(header[:len(magic)]) != magic {
		return h, 0, errNoRecord
	}
	sealed := int(binary.BigEndian.Uint32(header[len(magic):]))
	if sealed < stc.StoreOverhead || sealed > maxBlob+stc.StoreOverhead {
		return h, 0, errNoRecord
	}
	plain, err := c.Open(nil, header[prefixSize:headerSize], header[:prefixSize])
	if err != nil || len(plain) != stc.HashSize {
		return h, 0, errNoRecord
	}
	return stc.Hash(plain), headerSize + int64(sealed), nil
}

// Parse verifies a record of which nothing is known and returns what it holds.
func Parse(c *stc.StoreCipher, record []byte, maxBlob int) (h stc.Hash, blob []byte, err error) {
	h, size, err := openHeader(c, record, maxBlob)
	if err != nil {
		return h, nil, err
	}
	if size != int64(len(record)) {
		return h, nil, errNoRecord
	}
	blob, err = c.Open(nil, record[headerSize:], h[:])
	return h, blob, err
}
