package content

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"sync"

	"github.com/seigr/sttnode/content/internal/segment"
	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

// The index holds, under the first byte of the key:
//
//	'b' pseudonym of a blob's hash   sealed entry
//	'p' pseudonym of a root's hash   sealed pin
//	'a' pseudonym of a root's hash   sealed time of the last use (access) of a content
//	's' segment, 8 bytes             where its committed records end, and what in it is live
//	'x' place, 17 bytes              length of a record that is deleted and not yet freed
//	'm'                              totals
//	'f' file, 8 bytes                sealed record of a file of the user's, in which blobs lie in place
//	'u' file, 8 bytes                how many
//	'i' root and path, 16 bytes      sealed origin: where a content lies in place
//	'k' pseudonym of a path and more sealed note of what an import has made of a file
//	'r'                              set while the places in the user's files have to be restored
//
// A pseudonym is HMAC-SHA256 of the hash under a key of the store's own, so that who holds the disk can't tell which known
// contents are on it.
const (
	prefixBlob    = 'b'
	prefixPin     = 'p'
	prefixAccess  = 'a'
	prefixSegment = 's'
	prefixFreeing = 'x'
	prefixTotals  = 'm'
	prefixFile    = 'f'
	prefixUse     = 'u'
	prefixOrigin  = 'i'
	prefixKnown   = 'k'
	prefixRestore = 'r'
)

// place is where a blob's bytes are.
type place struct {
	kind placeKind
	id   uint64 // number of the value in the small-blob database, or of the segment, or of the user's file
	off  int64  // in the segment or file
}

type placeKind uint8

const (
	inSmall   placeKind = 1
	inSegment placeKind = 2
	inFile    placeKind = 3 // in place: in a file of the user's, as it is
)

// entry is what the index says of a blob.
type entry struct {
	hash  stc.Hash
	size  int
	bad   bool // reading it has failed; kept for the report, and until the blob is put again
	place place
	stamp stamp // of a blob in place: of the file, when it was found to be intact, or bad
}

// sealer seals what the databases hold and names it.
type sealer struct {
	cipher *stc.StoreCipher
	macs   sync.Pool // of hash.Hash
}

func newSealer(key [32]byte) *sealer {
	pseudonymKey := derive(key, "stt store v1 pseudonyms")
	return &sealer{
		cipher: stc.NewStoreCipher(key),
		macs:   sync.Pool{New: func() any { return hmac.New(sha256.New, pseudonymKey) }},
	}
}

func derive(key [32]byte, info string) []byte {
	out, err := hkdf.Expand(sha256.New, key[:], info, 32)
	if err != nil {
		panic("content: key derivation: " + err.Error()) // only for lengths that SHA-256 can't give
	}
	return out
}

// key returns the index key of h under a prefix.
func (s *sealer) key(prefix byte, h stc.Hash) []byte {
	mac := s.macs.Get().(hash.Hash)
	defer s.macs.Put(mac)
	mac.Reset()
	mac.Write(h[:])
	return mac.Sum(append(make([]byte, 0, 1+sha256.Size), prefix))
}

// sealEntry returns key and value of an entry.
func (s *sealer) sealEntry(e entry) (key, value []byte) {
	key = s.key(prefixBlob, e.hash)
	state := byte(0)
	if e.bad {
		state = 1
	}
	plain := append(make([]byte, 0, 64), byte(e.place.kind), state)
	plain = append(plain, e.hash[:]...)
	plain = frame.AppendVarint(plain, uint64(e.size))
	plain = frame.AppendVarint(plain, e.place.id)
	plain = frame.AppendVarint(plain, uint64(e.place.off))
	if e.place.kind == inFile {
		plain = append(plain, e.stamp[:]...)
	}
	return key, s.cipher.Seal(nil, plain, key)
}

// openEntry is the inverse of sealEntry. Everything else is ErrCorrupt.
func (s *sealer) openEntry(key, value []byte) (entry, error) {
	plain, err := s.cipher.Open(make([]byte, 0, 64), value, key)
	if err != nil {
		return entry{}, fmt.Errorf("%w: index entry: %w", ErrCorrupt, err)
	}
	return decodeEntry(plain)
}

func decodeEntry(plain []byte) (entry, error) {
	var e entry
	d := &decoder{rest: plain}
	e.place.kind = placeKind(d.byte())
	e.bad = d.byte() != 0
	e.hash = d.hash()
	size, id, off := d.varint(), d.varint(), d.varint()
	if e.place.kind == inFile {
		copy(e.stamp[:], d.bytes(len(e.stamp)))
	}
	if d.err != nil || size > MaxBlobSize || e.place.kind < inSmall || e.place.kind > inFile {
		return entry{}, fmt.Errorf("%w: index entry", ErrCorrupt)
	}
	e.size, e.place.id, e.place.off = int(size), id, int64(off)
	return e, nil
}

// smallKey is the key of a value in the small-blob database, which is a record as in a segment. The numbers only grow, so that
// its tables never overlap.
func smallKey(id uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{prefixBlob}, id)
}

// segmentState is what the index says of a segment.
type segmentState struct {
	end     int64 // records below are accounted for; what is behind was never acknowledged
	live    int64 // bytes of records that entries point to
	records uint64
}

func segmentKey(id uint64) []byte { return binary.BigEndian.AppendUint64([]byte{prefixSegment}, id) }

func (st segmentState) encode() []byte {
	dst := frame.AppendVarint(nil, uint64(st.end))
	dst = frame.AppendVarint(dst, uint64(st.live))
	return frame.AppendVarint(dst, st.records)
}

func decodeSegment(key, value []byte) (id uint64, st segmentState, err error) {
	d := &decoder{rest: value}
	st.end, st.live, st.records = int64(d.varint()), int64(d.varint()), d.varint()
	if len(key) != 9 || d.err != nil {
		return 0, st, fmt.Errorf("%w: index entry of a segment", ErrCorrupt)
	}
	return binary.BigEndian.Uint64(key[1:]), st, nil
}

// totals is the rest of what the index counts.
type totals struct {
	blobs, bytes uint64
	smallEnd     uint64 // small blobs with lower numbers are accounted for

	inPlaceBlobs, inPlaceBytes uint64 // of blobs and bytes, those in the user's files
}

// add adds an entry n times; n is 1 or -1.
func (t *totals) add(e entry, n int64) {
	blobs, bytes := uint64(n), uint64(n*int64(e.size)) // wrap around to subtract
	t.blobs += blobs
	t.bytes += bytes
	if e.place.kind == inFile {
		t.inPlaceBlobs += blobs
		t.inPlaceBytes += bytes
	}
}

// encode leaves out what a store that has nothing in place does not need, and an older program does not know.
func (t totals) encode() []byte {
	dst := frame.AppendVarint(nil, t.blobs)
	dst = frame.AppendVarint(dst, t.bytes)
	dst = frame.AppendVarint(dst, t.smallEnd)
	if t.inPlaceBlobs == 0 {
		return dst
	}
	dst = frame.AppendVarint(dst, t.inPlaceBlobs)
	return frame.AppendVarint(dst, t.inPlaceBytes)
}

func decodeTotals(value []byte) (totals, error) {
	d := &decoder{rest: value}
	t := totals{blobs: d.varint(), bytes: d.varint(), smallEnd: d.varint()}
	if len(d.rest) > 0 {
		t.inPlaceBlobs, t.inPlaceBytes = d.varint(), d.varint()
	}
	if d.err != nil {
		return t, fmt.Errorf("%w: index totals", ErrCorrupt)
	}
	return t, nil
}

// freeing is a record that no entry points to any more and whose room is to be given back.
type freeing struct {
	place place
	size  int // of the blob
}

func (f freeing) key() []byte {
	key := append(make([]byte, 0, 18), prefixFreeing, byte(f.place.kind))
	key = binary.BigEndian.AppendUint64(key, f.place.id)
	return binary.BigEndian.AppendUint64(key, uint64(f.place.off))
}

func (f freeing) value() []byte { return frame.AppendVarint(nil, uint64(f.size)) }

func decodeFreeing(key, value []byte) (freeing, error) {
	d := &decoder{rest: value}
	size := d.varint()
	if len(key) != 18 || d.err != nil || size > MaxBlobSize {
		return freeing{}, fmt.Errorf("%w: index entry of a deleted record", ErrCorrupt)
	}
	return freeing{
		place: place{placeKind(key[1]), binary.BigEndian.Uint64(key[2:]), int64(binary.BigEndian.Uint64(key[10:]))},
		size:  int(size),
	}, nil
}

// recordSize is how many bytes of its segment the entry's record takes.
func (e entry) recordSize() int64 { return segment.RecordSize(e.size) }
