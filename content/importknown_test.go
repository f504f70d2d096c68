package content

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/seigr/sttnode/stc"
)

// age makes an import of path look as if its files had been at rest for long: it notes what the import would have noted then.
func age(t testing.TB, s *Store, path string, opts ImportOptions) *Imported {
	t.Helper()
	ctx := context.Background()
	got, err := s.Import(ctx, path, opts)
	if err != nil {
		t.Fatal(err)
	}
	settle(t, s)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	node, err := s.root(got.Root)
	if err != nil {
		t.Fatal(err)
	}
	im, err := opts.parse()
	if err != nil {
		t.Fatal(err)
	}
	im.store, im.rootInfo = s, &RootInfo{Name: got.Name, Mode: info.Mode().Perm()}
	a := &assembler{importer: im}
	note := func(path string, root *RootInfo, ref Ref) {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		a.remember(&source{path: path, stamp: stampOf(info)}, root, ref)
	}
	if node.Kind == KindFile {
		note(path, im.rootInfo, Ref{Kind: KindFile, Hash: got.Root, Size: node.Size, Chunks: node.Chunks})
	}
	for _, e := range node.Entries() {
		if e.Type == TypeFile {
			note(filepath.Join(path, e.Name), nil, e.Ref)
		}
	}
	a.saveNotes()
	return got
}

func notes(t *testing.T, s *Store) (n int) {
	t.Helper()
	err := s.index.Each([]byte{prefixKnown}, []byte{prefixKnown + 1}, func(_, _ []byte) bool {
		n++
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestImportKnown imports a tree again, after something was done to one of its files or to the store: it is read as far as it
// must be, and the root is right.
func TestImportKnown(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector, which shorter tests serve as well")
	}
	ctx := context.Background()
	const small, middle, large = 5000, 100 << 10, 3 << 20
	for _, inPlace := range []bool{false, true} {
		for name, test := range map[string]struct {
			change func(s *Store, tree string, root stc.Hash) error
			again  ImportOptions
			unread uint64
			same   bool
		}{
			"nothing":      {func(*Store, string, stc.Hash) error { return nil }, ImportOptions{}, small + middle + large, true},
			"rehash":       {func(*Store, string, stc.Hash) error { return nil }, ImportOptions{Rehash: true}, 0, true},
			"other chunks": {func(*Store, string, stc.Hash) error { return nil }, ImportOptions{ChunkSize: 64 << 10}, 0, false},
			"by content": {func(*Store, string, stc.Hash) error { return nil },
				ImportOptions{Chunker: ChunkerCDC, ChunkSize: 64 << 10, ChunkerKey: [32]byte{1}}, 0, false},
			"mode": {func(_ *Store, tree string, _ stc.Hash) error {
				return os.Chmod(filepath.Join(tree, "small"), 0o755)
			}, ImportOptions{}, middle + large, false},
			"touched": {func(_ *Store, tree string, _ stc.Hash) error {
				return os.Chtimes(filepath.Join(tree, "middle"), time.Time{}, time.Now())
			}, ImportOptions{}, small + large, true},
			"written, time set back": {func(_ *Store, tree string, _ stc.Hash) error {
				path := filepath.Join(tree, "large")
				info, err := os.Stat(path)
				return errors.Join(err, os.WriteFile(path, make([]byte, large), 0), os.Chtimes(path, time.Time{}, info.ModTime()))
			}, ImportOptions{}, small + middle, false},
			"removed and collected": {func(s *Store, tree string, root stc.Hash) error {
				_, err := s.Remove(ctx, root)
				return err
			}, ImportOptions{}, 0, true},
			"a chunk is gone": {func(s *Store, tree string, _ stc.Hash) error {
				b, err := os.ReadFile(filepath.Join(tree, "large"))
				return errors.Join(err, s.Delete(ctx, stc.Sum(b[ChunkSize:2*ChunkSize])))
			}, ImportOptions{}, small + middle, true},
			"a chunk is bad": {func(s *Store, tree string, _ stc.Hash) error {
				b, err := os.ReadFile(filepath.Join(tree, "middle"))
				e, _, lerr := s.ledger.lookup(stc.Sum(b))
				bad := e
				bad.bad = true
				return errors.Join(err, lerr, s.ledger.replace(verdict{e, bad}))
			}, ImportOptions{}, small + large, true},
		} {
			t.Run(name, func(t *testing.T) {
				dir := t.TempDir()
				s := openTest(t, filepath.Join(dir, "store"))
				tree := filepath.Join(dir, "tree")
				os.Mkdir(tree, 0o755)
				for i, size := range []int64{small, middle, large} {
					writeRandomFile(t, filepath.Join(tree, []string{"small", "middle", "large"}[i]), size, byte(i))
				}
				before := age(t, s, tree, ImportOptions{InPlace: inPlace})
				if before.Unread != 0 || notes(t, s) != 3 {
					t.Fatalf("%+v, %d notes", before, notes(t, s))
				}
				if err := test.change(s, tree, before.Root); err != nil {
					t.Fatal(err)
				}
				test.again.InPlace = inPlace
				after, err := s.Import(ctx, tree, test.again)
				if err != nil {
					t.Fatal(err)
				}
				if after.Unread != test.unread || (after.Root == before.Root) != test.same || after.Size != before.Size || after.Files != before.Files {
					t.Fatalf("in place %v: %+v, want %d unread, same root %v", inPlace, after, test.unread, test.same)
				}
				if test.again.Rehash = true; !test.same {
					if want, err := s.Import(ctx, tree, test.again); err != nil || want.Root != after.Root || want.Unread != 0 {
						t.Fatalf("root %v, want %v: %v", after.Root, want.Root, err)
					}
				}
				if r, err := s.Verify(ctx, nil); err != nil || r.MissingCount+r.BadCount > 0 && test.same {
					t.Fatalf("%+v %v", r, err)
				}
			})
		}
	}
}

// TestImportKnownFile imports a single file again, as itself, under another name, and as a copy of what was in place.
func TestImportKnownFile(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s := openTest(t, filepath.Join(dir, "store"))
	path := filepath.Join(dir, "file")
	const size = 1 << 20
	writeRandomFile(t, path, size, 1)
	first := age(t, s, path, ImportOptions{InPlace: true})
	for _, test := range []struct {
		opts   ImportOptions
		unread uint64
		same   bool
	}{
		{ImportOptions{InPlace: true}, size, true},
		{ImportOptions{InPlace: true, Name: "other"}, 0, false},
		{ImportOptions{}, 0, true}, // there is no copy
		{ImportOptions{InPlace: true}, size, true},
		{ImportOptions{}, size, true},
	} {
		got, err := s.Import(ctx, path, test.opts)
		if err != nil || got.Unread != test.unread || (got.Root == first.Root) != test.same || got.Chunks != first.Chunks {
			t.Fatalf("%+v: %+v %v", test, got, err)
		}
	}
	if st := s.Stats(); st.InPlaceBlobs != 0 {
		t.Fatalf("%+v", st)
	}
	// A file that may change unnoticed is not noted, as are not those that are empty.
	n := notes(t, s)
	a := &assembler{importer: &importer{store: s}}
	a.remember(&source{path: "/young"}, nil, Ref{Kind: KindChunk, Size: 1, Chunks: 1})
	a.remember(&source{path: "/empty", stamp: stamp{1}}, nil, Ref{})
	if a.saveNotes(); notes(t, s) != n {
		t.Fatalf("%d notes, then %d", n, notes(t, s))
	}
	// A collection removes the notes whose content is gone.
	pins, err := s.Pins()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pins {
		if err := s.Unpin(ctx, p.Root); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.GC(ctx, false); err != nil || notes(t, s) != 0 {
		t.Fatalf("%d notes are left: %v", notes(t, s), err)
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		t.Fatal("the user's file is gone")
	}
}
