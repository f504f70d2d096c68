package segment

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/seigr/sttnode/content/internal/faultfs"
	"github.com/seigr/sttnode/content/internal/vfs"
	"github.com/seigr/sttnode/stc"
)

const maxBlob = 8 << 10

var cipher = stc.NewStoreCipher([32]byte{1})

func blob(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// write makes a file of these bytes.
func write(t testing.TB, b []byte) vfs.File {
	t.Helper()
	fsys := faultfs.New(1)
	if err := fsys.MkdirAll("/d"); err != nil {
		t.Fatal(err)
	}
	f, err := fsys.Create("/d/00000001.seg")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return f
}

func scanAll(t testing.TB, b []byte) (found []Record) {
	t.Helper()
	err := Scan(write(t, b), cipher, 0, maxBlob, func(r Record) error {
		r.Blob = bytes.Clone(r.Blob)
		found = append(found, r)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestScan finds records among garbage, holes, damaged ones and a torn end.
func TestScan(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var file []byte
	var want [][]byte
	intact := func(n int) {
		b := blob(r, n)
		file, want = Seal(file, cipher, stc.Sum(b), b), append(want, b)
	}
	intact(0)
	intact(maxBlob)
	file = append(file, make([]byte, 100_000)...) // a hole longer than the window
	intact(1)
	file = append(file, blob(r, 1000)...)
	file = append(file, magic...) // a beginning without a record
	intact(100)
	damaged := len(file)
	b := blob(r, 3000)
	file = Seal(file, cipher, stc.Sum(b), b)
	file[damaged+1000] ^= 1
	intact(200)
	other := Seal(nil, stc.NewStoreCipher([32]byte{2}), stc.Sum(b), b)
	file = append(file, other...)
	intact(300)
	file = Seal(file, cipher, stc.Sum(b), b)
	file = file[:len(file)-1]

	var got [][]byte
	bad := 0
	for _, record := range scanAll(t, file) {
		if record.Blob == nil {
			if bad++; record.Hash != stc.Sum(b) {
				t.Fatal("damaged record under another hash")
			}
			continue
		}
		if record.Hash != stc.Sum(record.Blob) || record.Size != RecordSize(len(record.Blob)) {
			t.Fatalf("record of %d bytes", len(record.Blob))
		}
		if again, err := Open(nil, cipher, record.Hash, file[record.Off:record.Off+record.Size]); err != nil || !bytes.Equal(again, record.Blob) {
			t.Fatal(err)
		}
		got = append(got, record.Blob)
	}
	if len(got) != len(want) || bad != 2 {
		t.Fatalf("found %d records and %d damaged, want %d and 2", len(got), bad, len(want))
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("record %d differs", i)
		}
	}
}

// TestOpenRefuses changes each byte of a record.
func TestOpenRefuses(t *testing.T) {
	data := []byte("some bytes")
	record := Seal(nil, cipher, stc.Sum(data), data)
	for i := range record {
		record[i] ^= 0x10
		_, err := Open(nil, cipher, stc.Sum(data), record)
		// The sealed hash is not looked at by who knows the hash; Parse looks at it.
		if err == nil && (i < prefixSize || i >= headerSize) {
			t.Fatalf("byte %d changed and accepted", i)
		}
		if _, _, err := Parse(cipher, record, maxBlob); err == nil {
			t.Fatalf("byte %d changed and parsed", i)
		}
		record[i] ^= 0x10
	}
	if _, err := Open(nil, cipher, stc.Sum([]byte("other")), record); err == nil {
		t.Fatal("opened under another hash")
	}
	for n := range record {
		if _, err := Open(nil, cipher, stc.Sum(data), record[:n]); err == nil {
			t.Fatalf("opened with %d bytes", n)
		}
	}
	if _, _, err := Parse(cipher, record, len(data)-1); err == nil {
		t.Fatal("longer than allowed")
	}
	if h, b, err := Parse(cipher, record, len(data)); err != nil || h != stc.Sum(data) || !bytes.Equal(b, data) {
		t.Fatal(err)
	}
}

// TestFree frees records on a file system with and without holes. Neither is found again, the others are untouched.
func TestFree(t *testing.T) {
	for _, holes := range []bool{true, false} {
		mem := faultfs.New(1)
		if err := mem.MkdirAll("/d"); err != nil {
			t.Fatal(err)
		}
		var fsys vfs.FS = mem
		if !holes {
			fsys = noHoles{mem}
		}
		files := NewFiles(fsys, "/d", cipher)
		defer files.Close()
		tail, err := files.NewTail(1)
		if err != nil {
			t.Fatal(err)
		}
		data := [][]byte{[]byte("first"), []byte("second"), []byte("third"), []byte("fourth"), []byte("fifth")}
		var offs []int64
		for _, b := range data {
			off, err := tail.Append(Seal(nil, cipher, stc.Sum(b), b))
			if err != nil {
				t.Fatal(err)
			}
			offs = append(offs, off)
		}
		freed := map[int]bool{1: true, 2: true, 4: true}
		var extents []Extent
		for i := range freed {
			extents = append(extents, Extent{offs[i], RecordSize(len(data[i]))})
		}
		extents = append(extents, Extent{1 << 20, 100}) // behind the end
		if err := files.Free(1, extents); err != nil {
			t.Fatal(err)
		}
		if err := files.Free(7, extents); err != nil {
			t.Fatalf("missing segment: %v", err)
		}
		for i, b := range data {
			got, err := files.Read(nil, nil, stc.Sum(b), 1, offs[i], RecordSize(len(b)))
			if freed[i] && !errors.Is(err, ErrDamaged) || !freed[i] && (err != nil || !bytes.Equal(got, b)) {
				t.Fatalf("record %d: %v", i, err)
			}
		}
		n := 0
		if err := files.Scan(1, 0, maxBlob, func(Record) error { n++; return nil }); err != nil || n != 2 {
			t.Fatalf("%d records, %v", n, err)
		}
		if _, err := files.Read(nil, nil, stc.Hash{}, 9, 0, RecordSize(1)); !errors.Is(err, ErrDamaged) {
			t.Fatalf("missing segment: %v", err)
		}
	}
}

// noHoles is a file system that can't punch holes.
type noHoles struct{ *faultfs.FS }

func (n noHoles) OpenWrite(name string) (vfs.File, error) {
	f, err := n.FS.OpenWrite(name)
	return solid{f}, err
}

type solid struct{ vfs.File }

func (solid) PunchHole(int64, int64) error { return errors.ErrUnsupported }

// TestManySegments reads from more segments than are kept open.
func TestManySegments(t *testing.T) {
	fsys := faultfs.New(1)
	fsys.MkdirAll("/d")
	files := NewFiles(fsys, "/d", cipher)
	defer files.Close()
	const n = 3 * openFiles
	for id := uint64(1); id <= n; id++ {
		tail, err := files.NewTail(id)
		if err != nil {
			t.Fatal(err)
		}
		b := []byte{byte(id)}
		if _, err := tail.Append(Seal(nil, cipher, stc.Sum(b), b)); err != nil {
			t.Fatal(err)
		}
		tail.Close()
	}
	if ids, err := files.List(); err != nil || len(ids) != n {
		t.Fatalf("%d segments, %v", len(ids), err)
	}
	done := make(chan error)
	for range 4 {
		go func() {
			r := rand.New(rand.NewPCG(rand.Uint64(), 0))
			for range 500 {
				id := 1 + r.Uint64N(n)
				b := []byte{byte(id)}
				got, err := files.Read(nil, nil, stc.Sum(b), id, 0, RecordSize(1))
				if err == nil && !bytes.Equal(got, b) {
					err = errors.New("wrong bytes")
				}
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

func FuzzScan(f *testing.F) {
	b := []byte("a blob")
	record := Seal(nil, cipher, stc.Sum(b), b)
	f.Add(record)
	f.Add(append(append(bytes.Clone(record), make([]byte, 50)...), record...))
	f.Add(record[:len(record)-1])
	f.Add([]byte(magic + magic + "\x00\x00\x00\x30"))
	f.Fuzz(func(t *testing.T, file []byte) {
		// A record in the middle of anything is found, and nothing is found that was not sealed.
		at := len(file)
		found := false
		for _, r := range scanAll(t, append(bytes.Clone(file), record...)) {
			found = found || r.Off == int64(at) && bytes.Equal(r.Blob, b)
			if r.Hash != stc.Sum(b) || r.Blob != nil && !bytes.Equal(r.Blob, b) {
				t.Fatalf("found %x", r.Blob)
			}
		}
		if !found {
			t.Fatal("record not found")
		}
	})
}
