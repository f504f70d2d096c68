package content

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/seigr/sttnode/stc"
)

// Stores as the versions of the format were written when they were new, without and with blobs in place. Whatever comes later must read
// them and go on with them. A change of the format adds one, which STT_UPDATE_FIXTURES=1 makes; those that are there are never made
// anew, for then they would be the work of a later program.
const (
	fixtureDir        = "testdata/store-v1"
	fixtureInPlaceDir = "testdata/store-v2"
	fixtureLaterDir   = "testdata/store-v1-later"
)

var fixtureKey = Config{Key: [32]byte{1, 2, 3}}

func fixtureData() []byte { return randomBlob(rand.New(rand.NewPCG(1, 1)), 40<<10) }

// fixture copies a fixture, made by fill if it is not there and is to be made, and opens the copy.
func fixture(t *testing.T, dir string, fill func(*Store) error) *Store {
	t.Helper()
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) && os.Getenv("STT_UPDATE_FIXTURES") != "" {
		s, err := Open(dir, fixtureKey)
		if err != nil {
			t.Fatal(err)
		}
		if err := fill(s); err != nil {
			t.Fatal(err)
		}
		s.Close()
		for _, name := range []string{reserveForRemove, reserveForIndex, lockName} {
			os.Remove(filepath.Join(dir, name))
		}
	}
	target := filepath.Join(t.TempDir(), "store")
	if err := os.CopyFS(target, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(target, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(target, fixtureKey)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// goesOn stores in a store that an older program has made, removes, collects, and opens it again.
func goesOn(t *testing.T, s *Store) {
	t.Helper()
	ctx := context.Background()
	pins, err := s.Pins()
	if err != nil {
		t.Fatal(err)
	}
	pins = slices.DeleteFunc(pins, func(p Pin) bool { return p.Cached })
	before := s.Stats()
	data := randomBlob(rand.New(rand.NewPCG(2, 2)), 3*ChunkSize)
	for _, removed := range []bool{true, false} {
		got, err := s.ImportReader(ctx, bytes.NewReader(data), ImportOptions{Name: "later"})
		if err != nil {
			t.Fatal(err)
		}
		if removed {
			if _, err := s.Remove(ctx, got.Root); err != nil {
				t.Fatal(err)
			}
			if st := s.Stats(); st.Blobs != before.Blobs || st.Bytes != before.Bytes {
				t.Fatalf("%+v, before %+v", st, before)
			}
			continue
		}
		if _, err := s.GC(ctx, false); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = Open(s.dir, fixtureKey); err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := exportsAs(s, got.Root, data); err != nil {
			t.Fatal(err)
		}
		if _, pinned, err := s.PinInfo(pins[0].Root); err != nil || !pinned {
			t.Fatalf("the pin from before: %v", err)
		}
		if err := exportsAs(s, pins[0].Root, fixtureData()); err != nil {
			t.Fatal(err)
		}
		if r, err := s.Verify(ctx, nil); err != nil || !r.OK() {
			t.Fatalf("%+v %v", r, err)
		}
	}
}

// TestFixture opens the store of version 1, which holds a file of two chunks with its manifest, a small blob that nothing needs,
// and a pin.
func TestFixture(t *testing.T) {
	ctx := context.Background()
	data := fixtureData()
	s := fixture(t, fixtureDir, func(s *Store) error {
		_, err := s.ImportReader(ctx, bytes.NewReader(data), ImportOptions{Name: "fixture", Chunker: ChunkerFixed, ChunkSize: 32 << 10})
		if err != nil {
			return err
		}
		_, err = s.Put(ctx, []byte("a small blob"))
		return err
	})
	pins, err := s.Pins()
	if err != nil || len(pins) != 1 || pins[0].Name != "fixture" || pins[0].State != PinComplete {
		t.Fatalf("%+v %v", pins, err)
	}
	if want := "1d1fca0ab2b20b6f7fb2e8431917c6aaa9ca51460bf004b94fd5eee4864c3572"; pins[0].Root.String() != want {
		t.Errorf("root %v", pins[0].Root)
	}
	var out bytes.Buffer
	if _, err := s.ExportTo(ctx, pins[0].Root, &out, nil); err != nil || !bytes.Equal(out.Bytes(), data) {
		t.Fatalf("exported bytes differ: %v", err)
	}
	if got, err := s.Get(nil, stc.Sum([]byte("a small blob"))); err != nil || string(got) != "a small blob" {
		t.Fatal(err)
	}
	if r, err := s.Verify(ctx, nil); err != nil || !r.OK() || r.Blobs != 4 {
		t.Fatalf("%+v %v", r, err)
	}
	goesOn(t, s)
}

// TestFixtureLater opens a store of version 1 that also has what came to it later and an older program can leave alone: notes of what
// imports have made of files and of when contents were used, and a content that is only cached.
func TestFixtureLater(t *testing.T) {
	ctx := context.Background()
	s := fixture(t, fixtureLaterDir, func(s *Store) error {
		file := filepath.Join(t.TempDir(), "fixture")
		if err := os.WriteFile(file, fixtureData(), 0o644); err != nil {
			return err
		}
		age(t, s, file, ImportOptions{Chunker: ChunkerFixed, ChunkSize: 32 << 10})
		cached, err := s.ImportReader(ctx, bytes.NewReader([]byte("cached")), ImportOptions{Name: "cached"})
		if err != nil {
			return err
		}
		s.Use(cached.Root)
		return s.Unpin(ctx, cached.Root)
	})
	pins, err := s.Pins()
	if err != nil || len(pins) != 2 {
		t.Fatalf("%+v %v", pins, err)
	}
	for _, p := range pins {
		if p.Cached != (p.Name == "cached") || p.State != PinComplete || p.Used.IsZero() {
			t.Errorf("%+v", p)
		}
	}
	if key, err := s.index.Last([]byte{prefixKnown}, []byte{prefixKnown + 1}); err != nil || key == nil {
		t.Fatalf("no note: %v", err)
	}
	if r, err := s.Verify(ctx, nil); err != nil || !r.OK() || r.Blobs != 5 {
		t.Fatalf("%+v %v", r, err)
	}
	goesOn(t, s)
}

// TestFixtureInPlace opens the store of version 2, in which the same file lies in place: a chunk of 32 KiB, while that of 8 KiB
// is copied.
func TestFixtureInPlace(t *testing.T) {
	ctx := context.Background()
	const path = "/nowhere/fixture"
	data := fixtureData()
	opts := ImportOptions{Name: "fixture", Chunker: ChunkerFixed, ChunkSize: 32 << 10}
	s := fixture(t, fixtureInPlaceDir, func(s *Store) error {
		// As an import of that path would do it.
		got, err := s.ImportReader(ctx, bytes.NewReader(data), opts)
		if err != nil {
			return err
		}
		if err := s.upgradeFormat(); err != nil {
			return err
		}
		id, err := s.ledger.fileID(path)
		if err != nil {
			return err
		}
		g, chunk := newPutGroup(), data[:32<<10]
		e := entry{hash: stc.Sum(chunk), size: len(chunk), place: place{kind: inFile, id: id}, stamp: stamp{1, 2, 3}}
		if err := s.submitPlace(ctx, g, nil, &site{id: id, file: fileRecord{path: path}}, e, func(entry) bool { return false }); err != nil {
			return err
		}
		if err := g.wait(ctx); err != nil {
			return err
		}
		info := PinInfo{Name: "fixture", State: PinComplete, Size: got.Size}
		if err := s.pinWith(ctx, got.Root, info, origin{root: got.Root, path: path}); err != nil {
			return err
		}
		return s.dropEmpty()
	})
	if st := s.Stats(); st.InPlaceBlobs != 1 || st.InPlaceBytes != 32<<10 || st.Blobs != 3 {
		t.Fatalf("%+v", st)
	}
	pins, err := s.Pins()
	if err != nil || len(pins) != 1 {
		t.Fatalf("%v %v", pins, err)
	}
	if paths, err := s.Origins(pins[0].Root); err != nil || !slices.Equal(paths, []string{path}) {
		t.Fatalf("%q %v", paths, err)
	}
	var changed *ChangedError
	if _, err := s.ExportTo(ctx, pins[0].Root, new(bytes.Buffer), nil); !errors.As(err, &changed) || changed.Path != path {
		t.Fatalf("file that isn't there: %v", err)
	}
	file := filepath.Join(t.TempDir(), "fixture")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	opts.InPlace = true
	if _, err := s.Import(ctx, file, opts); err != nil { // under another root: its node says that more would fit into it
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := s.ExportTo(ctx, pins[0].Root, &out, nil); err != nil || !bytes.Equal(out.Bytes(), data) {
		t.Fatalf("exported bytes differ: %v", err)
	}
	goesOn(t, s)
}

// TestFormatVersion looks when a store takes the version that only newer programs open: when something lies in place.
func TestFormatVersion(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir)
	file := filepath.Join(t.TempDir(), "file")
	writeRandomFile(t, file, 100<<10, 1)
	for _, want := range []string{formatPlain, formatInPlace} {
		if _, err := s.Import(context.Background(), file, ImportOptions{InPlace: want == formatInPlace}); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, formatName))
		if intact, version := parseFormat(b); err != nil || !intact || version != want {
			t.Fatalf("format is %q, want version %s: %v", b, want, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Config{Key: [32]byte{9}}); !errors.Is(err, ErrWrongKey) {
		t.Fatalf("another key: %v", err)
	}
	openTest(t, dir)
}
