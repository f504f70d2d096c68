package content

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seigr/sttnode/stc"
)

// settle makes entries in place look as if their files had been at rest for long when they were imported.
func settle(t testing.TB, s *Store) {
	t.Helper()
	var verdicts []verdict
	err := s.ledger.each(func(e entry) bool {
		if e.place.kind == inFile {
			file, info, _, err := s.openInPlace(e.place.id)
			if err != nil {
				t.Fatal(err)
			}
			file.Close()
			v := verdict{e, e}
			v.new.stamp = stampOf(info)
			verdicts = append(verdicts, v)
		}
		return true
	})
	if err = errors.Join(err, s.ledger.replace(verdicts...)); err != nil {
		t.Fatal(err)
	}
}

// changeFile changes a file in such a way that the system can tell by its times, which may take some attempts: they are coarse.
func changeFile(t *testing.T, path string, change func() error) {
	t.Helper()
	look := func() stamp {
		info, err := os.Stat(path)
		if err != nil {
			return stamp{}
		}
		return stampOf(info)
	}
	for before := look(); look() == before; {
		if err := change(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestInPlaceTree(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector, which shorter tests serve as well")
	}
	ctx := context.Background()
	dir := t.TempDir()
	src := filepath.Join(dir, "source")
	makeTree(t, src)
	want := listing(t, src)
	copied := openTest(t, filepath.Join(dir, "copied"))
	opts := ImportOptions{Chunker: ChunkerCDC, ChunkSize: 64 << 10, ChunkerKey: [32]byte{1}}
	plain, err := copied.Import(ctx, src, opts)
	if err != nil {
		t.Fatal(err)
	}
	store := filepath.Join(dir, "store")
	s := openTest(t, store)
	opts.InPlace = true
	got, err := s.Import(ctx, src, opts)
	if err != nil || got.Root != plain.Root {
		t.Fatalf("root %v, copied %v: %v", got.Root, plain.Root, err)
	}
	for round := range 2 {
		st := s.Stats()
		// All but manifests, small files and the short ends of files.
		if copied := st.Bytes - st.InPlaceBytes; copied > 400<<10 || st.InPlaceBytes < 6<<20 || st.SegmentBytes > 200<<10 {
			t.Fatalf("round %d: %d bytes are copied: %+v", round, copied, st)
		}
		if paths, err := s.Origins(got.Root); err != nil || !slices.Equal(paths, []string{src}) {
			t.Fatalf("origins %q, %v", paths, err)
		}
		target := filepath.Join(dir, fmt.Sprint("target", round))
		if _, err := s.Export(ctx, got.Root, target, ExportOptions{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Chmod(filepath.Join(target, "read-only"), 0o700) })
		if !maps.Equal(want, listing(t, target)) {
			t.Fatal("trees differ")
		}
		if r, err := s.Verify(ctx, nil); err != nil || !r.OK() || r.Blobs != st.Blobs {
			t.Fatalf("%+v %v", r, err)
		}
		s.Close()
		if round == 0 { // What the index alone knows is found again.
			if err := os.RemoveAll(filepath.Join(store, indexName)); err != nil {
				t.Fatal(err)
			}
		}
		s = openTest(t, store)
	}
	freed, err := s.Remove(ctx, got.Root)
	if err != nil || freed.Bytes > 400<<10 {
		t.Fatalf("%+v %v", freed, err)
	}
	if st := s.Stats(); st.Blobs != 0 || st.InPlaceBlobs != 0 || st.InPlaceBytes != 0 {
		t.Fatalf("%+v", st)
	}
	for _, prefix := range []byte{prefixFile, prefixUse, prefixOrigin} {
		err := s.index.Each([]byte{prefix}, []byte{prefix + 1}, func(key, _ []byte) bool {
			t.Errorf("left in the index: %q", key)
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if !maps.Equal(want, listing(t, src)) {
		t.Fatal("the user's files have changed")
	}
}

// inPlaceFile is a file of distinct chunks in a store, and what was reported of it.
type inPlaceFile struct {
	*Store
	path     string
	chunks   [][]byte
	root     stc.Hash
	reported []*ChangedError
}

const inPlaceChunk = 32 << 10

func newInPlaceFile(t *testing.T, chunks int) *inPlaceFile {
	t.Helper()
	dir := t.TempDir()
	f := &inPlaceFile{path: filepath.Join(dir, "sub", "file")}
	r := rand.New(rand.NewPCG(testSeed(t), 0))
	for range chunks {
		f.chunks = append(f.chunks, randomBlob(r, inPlaceChunk))
	}
	if err := os.Mkdir(filepath.Dir(f.path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.path, slices.Concat(f.chunks...), 0o644); err != nil {
		t.Fatal(err)
	}
	var err error
	f.Store, err = Open(filepath.Join(dir, "store"), Config{Key: [32]byte{1}, OnChanged: func(e *ChangedError) { f.reported = append(f.reported, e) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Store.Close() })
	f.root = f.seed(t, ImportOptions{InPlace: true})
	return f
}

func (f *inPlaceFile) seed(t *testing.T, opts ImportOptions) stc.Hash {
	t.Helper()
	opts.Chunker, opts.ChunkSize = ChunkerFixed, inPlaceChunk
	got, err := f.Import(context.Background(), f.path, opts)
	if err != nil {
		t.Fatal(err)
	}
	return got.Root
}

// served reports which chunks are served, and fails if one of them is wrong.
func (f *inPlaceFile) served(t *testing.T) string {
	t.Helper()
	out := ""
	for i, chunk := range f.chunks {
		got, err := f.Get([]byte("x"), stc.Sum(chunk))
		var changed *ChangedError
		has, herr := f.Has(stc.Sum(chunk))
		switch {
		case err == nil && (!bytes.Equal(got[1:], chunk) || got[0] != 'x'):
			t.Fatalf("wrong bytes are served of chunk %d", i)
		case err == nil:
			out += "y"
		case !errors.Is(err, ErrCorrupt) || !errors.As(err, &changed) || changed.Path != f.path || string(got) != "x":
			t.Fatalf("chunk %d: %v", i, err)
		default:
			out += "n"
		}
		if herr != nil || has != (err == nil) {
			t.Fatalf("chunk %d: has %v, %v", i, has, herr)
		}
	}
	return out
}

func (f *inPlaceFile) write(off int64, b []byte) error {
	file, err := os.OpenFile(f.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(b, off)
	return errors.Join(err, file.Close())
}

// TestInPlaceChanges changes a file behind the store's back: what is not there any more is not served, and reported; the rest is.
func TestInPlaceChanges(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector, which shorter tests serve as well")
	}
	moved := func(f *inPlaceFile, then func() error) error {
		if err := os.Rename(f.path, f.path+".moved"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return then()
	}
	for name, test := range map[string]struct {
		change func(f *inPlaceFile) error
		served string
	}{
		"touched":      {func(f *inPlaceFile) error { return os.Chtimes(f.path, time.Time{}, time.Now()) }, "yyyy"},
		"one byte":     {func(f *inPlaceFile) error { return f.write(inPlaceChunk+5, []byte{f.chunks[1][5] + 1}) }, "ynyy"},
		"appended":     {func(f *inPlaceFile) error { return appendTo(f.path, "more") }, "yyyy"},
		"truncated":    {func(f *inPlaceFile) error { return os.Truncate(f.path, 2*inPlaceChunk+1) }, "yynn"},
		"emptied":      {func(f *inPlaceFile) error { return os.Truncate(f.path, 0) }, "nnnn"},
		"moved":        {func(f *inPlaceFile) error { return moved(f, func() error { return nil }) }, "nnnn"},
		"a directory":  {func(f *inPlaceFile) error { return moved(f, func() error { return os.Mkdir(f.path, 0o755) }) }, "nnnn"},
		"a dead link":  {func(f *inPlaceFile) error { return moved(f, func() error { return os.Symlink("nowhere", f.path) }) }, "nnnn"},
		"its own copy": {func(f *inPlaceFile) error { return moved(f, func() error { return copyFile(f.path+".moved", f.path) }) }, "yyyy"},
		"directory above gone": {func(f *inPlaceFile) error {
			dir := filepath.Dir(f.path)
			return errors.Join(os.Rename(dir, dir+".moved"), os.WriteFile(dir, nil, 0o644))
		}, "nnnn"},
		"same size and time": {func(f *inPlaceFile) error {
			info, err := os.Stat(f.path)
			return errors.Join(err, f.write(0, []byte{f.chunks[0][0] + 1}), os.Chtimes(f.path, time.Time{}, info.ModTime()))
		}, "nyyy"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newInPlaceFile(t, 4)
			settle(t, f.Store)
			if got := f.served(t); got != "yyyy" || len(f.reported) > 0 {
				t.Fatalf("before: %s, %v", got, f.reported)
			}
			changeFile(t, f.path, func() error { return test.change(f) })
			for range 2 {
				if got := f.served(t); got != test.served {
					t.Fatalf("served %s, want %s", got, test.served)
				}
			}
			whole := test.served == "yyyy"
			if len(f.reported) == 0 != whole || len(f.reported) > 1 || !whole && f.reported[0].Path != f.path {
				t.Fatalf("reported %v", f.reported)
			}
			report, err := f.Verify(context.Background(), nil)
			if err != nil || report.OK() != whole || report.BadCount != uint64(strings.Count(test.served, "n")) {
				t.Fatalf("%+v %v", report, err)
			}
			if !whole && (!slices.Equal(report.Changed, []string{f.path}) || !slices.Equal(report.Incomplete, []stc.Hash{f.root})) {
				t.Fatalf("%+v", report)
			}
			// What comes back is served again.
			dir := filepath.Dir(f.path)
			if name == "directory above gone" {
				if err := errors.Join(os.Remove(dir), os.Rename(dir+".moved", dir)); err != nil {
					t.Fatal(err)
				}
			}
			if info, err := os.Lstat(f.path); err == nil && !info.Mode().IsRegular() {
				os.Remove(f.path)
			}
			changeFile(t, f.path, func() error { return os.WriteFile(f.path, slices.Concat(f.chunks...), 0o644) })
			if got := f.served(t); got != "yyyy" {
				t.Fatalf("restored: served %s", got)
			}
		})
	}
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o644)
}

// TestInPlaceStamps looks when a chunk is hashed before it is served, by what happens when its hash is wrong.
func TestInPlaceStamps(t *testing.T) {
	f := newInPlaceFile(t, 1)
	h := stc.Sum(f.chunks[0])
	info, err := os.Stat(f.path)
	if err != nil {
		t.Fatal(err)
	}
	now, changed := stampOf(info), info.ModTime()
	if settledStamp(info, changed.Add(settleTime-1)) != (stamp{}) {
		t.Error("a file that has just changed is trusted")
	}
	if settledStamp(info, changed.Add(settleTime+time.Minute)) != now {
		t.Error("a file at rest is not trusted")
	}
	if settledStamp(info, changed.Add(-time.Hour)) != (stamp{}) {
		t.Error("a file from the future is trusted")
	}
	look := func() entry {
		e, ok, err := f.ledger.lookup(h)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		return e
	}
	// At rest: nothing is hashed.
	settle(t, f.Store)
	e := look()
	if e.stamp != now {
		t.Fatalf("%+v", e)
	}
	wrong := e
	wrong.place.off = 1
	wrong.size--
	if _, err := f.readInPlace(nil, wrong); err != nil {
		t.Errorf("hashed without need: %v", err)
	}
	wrong.stamp[0]++
	var bad *ChangedError
	if _, err := f.readInPlace(nil, wrong); !errors.As(err, &bad) {
		t.Errorf("not hashed under another stamp: %v", err)
	}
	// Known to be bad, as the file is now: not even read.
	known := e
	known.bad = true
	if _, err := f.readInPlace(nil, known); !errors.As(err, &bad) || bad.stamp != now {
		t.Errorf("read again: %v", err)
	}
	// A new stamp is noted, soon, if the entry is what it was then.
	fresh := e
	fresh.stamp[0]++
	f.note(verdict{wrong, known})
	f.note(verdict{e, fresh})
	if look() != e {
		t.Error("noted at once")
	}
	if f.flushVerdicts(); look() != fresh {
		t.Errorf("%+v, want %+v", look(), fresh)
	}
}

// TestInPlaceAndCopies imports the same both ways, in either order: what has been copied does not depend on the file.
func TestInPlaceAndCopies(t *testing.T) {
	for _, first := range []bool{true, false} {
		t.Run(fmt.Sprint("in place first ", first), func(t *testing.T) {
			f := newInPlaceFile(t, 3)
			if !first {
				if _, err := f.Remove(context.Background(), f.root); err != nil {
					t.Fatal(err)
				}
			}
			f.seed(t, ImportOptions{})
			if !first {
				f.seed(t, ImportOptions{InPlace: true})
			}
			if st := f.Stats(); st.InPlaceBlobs != 0 || st.Segments != 1 {
				t.Fatalf("%+v", st)
			}
			os.Remove(f.path)
			if got := f.served(t); got != "yyy" {
				t.Fatalf("served %s", got)
			}
		})
	}
}

// TestInPlaceVersions imports a file, changes its end and imports it again: both contents are kept as far as they can be, and
// what has moved is found where it is now.
func TestInPlaceVersions(t *testing.T) {
	ctx := context.Background()
	f := newInPlaceFile(t, 4)
	old := slices.Clone(f.chunks)
	f.chunks[3] = bytes.Repeat([]byte("n"), inPlaceChunk)
	changeFile(t, f.path, func() error { return os.WriteFile(f.path, slices.Concat(f.chunks...), 0o644) })
	second := f.seed(t, ImportOptions{InPlace: true})
	if got := f.served(t); got != "yyyy" {
		t.Fatalf("served %s of the second version", got)
	}
	f.chunks = old
	if got := f.served(t); got != "yyyn" {
		t.Fatalf("served %s of the first version", got)
	}
	if _, err := f.Remove(ctx, second); err != nil {
		t.Fatal(err)
	}
	if got := f.served(t); got != "yyyn" {
		t.Fatalf("served %s when the second version is removed", got)
	}
	// Seeded from elsewhere, it does not need the old path any more.
	moved := f.path + ".moved"
	if err := errors.Join(os.WriteFile(moved, slices.Concat(old...), 0o644), os.Remove(f.path)); err != nil {
		t.Fatal(err)
	}
	f.path = moved
	f.seed(t, ImportOptions{InPlace: true, Name: "file"})
	if got := f.served(t); got != "yyyy" {
		t.Fatalf("served %s from the new path", got)
	}
	if paths, err := f.Origins(f.root); err != nil || len(paths) != 2 || !slices.Contains(paths, moved) {
		t.Fatalf("%q %v", paths, err)
	}
}
