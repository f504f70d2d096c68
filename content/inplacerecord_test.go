package content

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/seigr/sttnode/stc"
)

// FuzzRecords decodes what the databases hold once it is opened: by whoever has the key, or after a fault of the program itself.
// What decodes is encoded to the same again.
func FuzzRecords(f *testing.F) {
	s := newSealer([32]byte{1})
	h := stc.Sum([]byte("x"))
	open := func(key, value []byte) []byte {
		plain, err := s.cipher.Open(nil, value, key)
		if err != nil {
			f.Fatal(err)
		}
		return plain
	}
	for _, e := range []entry{
		{hash: h, size: 5, place: place{inSmall, 7, 0}},
		{hash: h, size: MaxBlobSize, bad: true, place: place{inSegment, 1 << 40, 1 << 50}},
		{hash: h, size: 32 << 10, bad: true, place: place{inFile, math.MaxUint64 >> 3, 1 << 50}, stamp: stamp{1, 15: 2}},
	} {
		key, value := s.sealEntry(e)
		if got, err := s.openEntry(key, value); err != nil || got != e {
			f.Fatalf("%+v %v", got, err)
		}
		f.Add(byte(0), open(key, value))
	}
	record := fileRecord{"/home/ann/film", originKey{1, 2}}
	key, value := s.sealFile(9, record)
	if got, err := s.openFile(key, value); err != nil || got != record {
		f.Fatalf("%+v %v", got, err)
	}
	f.Add(byte(1), open(key, value))
	o := origin{h, "/home/ann/film", "/home/ann/.film.part"}
	p := s.sealOrigin(o)
	if got, err := s.openOrigin(p.key, p.value); err != nil || got != o {
		f.Fatalf("%+v %v", got, err)
	}
	f.Add(byte(2), open(p.key, p.value))
	note := known{stamp{3}, Ref{Kind: KindFile, Hash: h, Size: 1 << 40, Chunks: 1 << 22}, time.Unix(1<<33, 0)}
	p = s.sealKnown([]byte("k"), note)
	if got, err := s.openKnown(p.key, p.value); err != nil || got != note {
		f.Fatalf("%+v %v", got, err)
	}
	f.Add(byte(3), open(p.key, p.value))
	f.Add(byte(2), append(h[:], "\xbf\xff\xff\xff"+strings.Repeat("/", 100)...))

	f.Fuzz(func(t *testing.T, kind byte, plain []byte) {
		switch kind {
		case 0:
			if e, err := decodeEntry(plain); err == nil {
				key, value := s.sealEntry(e)
				if got, err := s.openEntry(key, value); err != nil || got != e {
					t.Fatalf("%+v became %+v, %v", e, got, err)
				}
			}
		case 1:
			if r, err := decodeFile(plain); err == nil {
				key, value := s.sealFile(1, r)
				if got, err := s.openFile(key, value); err != nil || got != r {
					t.Fatalf("%+v became %+v, %v", r, got, err)
				}
			}
		case 3:
			if k, err := decodeKnown(plain); err == nil {
				p := s.sealKnown([]byte("k"), k)
				if got, err := s.openKnown(p.key, p.value); err != nil || got != k {
					t.Fatalf("%+v became %+v, %v", k, got, err)
				}
			}
		case 2:
			if o, err := decodeOrigin(plain); err == nil {
				p := s.sealOrigin(o)
				if got, err := s.openOrigin(p.key, p.value); err != nil || got != o {
					t.Fatalf("%+v became %+v, %v", o, got, err)
				}
			}
		}
	})
}
