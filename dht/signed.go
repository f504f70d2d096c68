package dht

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/seigr/sttnode/stc"
)

// MaxRecordValue is the most bytes in the value of a signed record. A datagram
// has 1,200, of which sealing, the message's head with two cookies, the key, the
// sequence number and the signature leave 947; the rest is for what may come.
const MaxRecordValue = 900

const (
	recordDomain   = "stt dht record v1" // signed in front of sequence number and value
	recordHead     = stc.PublicKeySize + 8 + 2
	recordOverhead = recordHead + ed25519.SignatureSize
)

// Record is a signed record: what the owner of a name says that the name stands
// for. Of two records of a name the one with the higher sequence number is the
// newer one. SignRecord and ParseRecord alone make one, so the signature of a
// Record is valid; the zero Record is none. Records are immutable and may be
// compared with ==.
type Record struct {
	key   stc.PublicKey
	seq   uint64
	value string
	sig   [ed25519.SignatureSize]byte
}

// SignRecord returns the record that gives key's name the value, as its state
// number seq, which must not be 0. ErrBadRecord if the value has more than
// MaxRecordValue bytes.
func SignRecord(key *stc.NameKey, seq uint64, value []byte) (Record, error) {
	if len(value) > MaxRecordValue || seq == 0 {
		return Record{}, fmt.Errorf("%w: value of %d bytes, %d are allowed; sequence number %d", ErrBadRecord, len(value), MaxRecordValue, seq)
	}
	r := Record{key: key.PublicKey(), seq: seq, value: string(value)}
	r.sig = [ed25519.SignatureSize]byte(key.Sign(r.signed()))
	return r, nil
}

// ParseRecord reads what AppendBinary has written. It is the one door for
// records that come from elsewhere: ErrBadRecord unless b is one record and its
// signature is the key's.
func ParseRecord(b []byte) (Record, error) {
	n, err := recordSize(b)
	if err != nil {
		return Record{}, err
	}
	if n != len(b) {
		return Record{}, fmt.Errorf("%w: %d bytes behind it", ErrBadRecord, len(b)-n)
	}
	key, err := stc.ParsePublicKey(b[:stc.PublicKeySize])
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrBadRecord, err)
	}
	r := Record{key: key, seq: rawSequence(b), value: string(b[recordHead : n-ed25519.SignatureSize]),
		sig: [ed25519.SignatureSize]byte(b[n-ed25519.SignatureSize:])}
	if !key.Verify(r.signed(), r.sig[:]) {
		return Record{}, fmt.Errorf("%w: the signature is wrong", ErrBadRecord)
	}
	return r, nil
}

// recordSize returns how many of the bytes of b are the record that it begins
// with. That the record has this shape says nothing about its signature.
func recordSize(b []byte) (int, error) {
	if len(b) < recordOverhead {
		return 0, fmt.Errorf("%w: %d bytes", ErrBadRecord, len(b))
	}
	length := int(binary.BigEndian.Uint16(b[recordHead-2:]))
	if length > MaxRecordValue || recordOverhead+length > len(b) || rawSequence(b) == 0 {
		return 0, fmt.Errorf("%w: value of %d bytes in %d", ErrBadRecord, length, len(b))
	}
	return recordOverhead + length, nil
}

// rawSequence and rawName return what a record that was not checked says.
func rawSequence(b []byte) uint64 { return binary.BigEndian.Uint64(b[stc.PublicKeySize:]) }
func rawName(b []byte) stc.Name   { return stc.PublicKey(b[:stc.PublicKeySize]).Name() }

// signed returns the bytes that the signature is made over.
func (r Record) signed() []byte {
	b := append(make([]byte, 0, len(recordDomain)+8+len(r.value)), recordDomain...)
	return append(binary.BigEndian.AppendUint64(b, r.seq), r.value...)
}

// AppendBinary appends the record's one encoding, as it goes over the wire. It
// never fails.
func (r Record) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, r.key[:]...)
	b = binary.BigEndian.AppendUint64(b, r.seq)
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.value)))
	b = append(b, r.value...)
	return append(b, r.sig[:]...), nil
}

// bytes is AppendBinary to nothing.
func (r Record) bytes() []byte {
	b, _ := r.AppendBinary(make([]byte, 0, recordOverhead+len(r.value)))
	return b
}

// Name returns the name that the record is about.
func (r Record) Name() stc.Name { return r.key.Name() }

// Sequence returns the record's sequence number.
func (r Record) Sequence() uint64 { return r.seq }

// Value returns a copy of the record's value.
func (r Record) Value() []byte { return []byte(r.value) }

// IsZero reports whether r is no record at all.
func (r Record) IsZero() bool { return r.seq == 0 }

// Newer reports whether r replaces other, a record of the same name or none. Two
// records of one sequence number should not be; if they are, everybody takes the
// same one.
func (r Record) Newer(other Record) bool {
	if r.seq != other.seq {
		return r.seq > other.seq
	}
	return strings.Compare(r.value, other.value) > 0
}
