package content

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seigr/sttnode/stc"
)

// listing describes a tree: path → type, mode, target and hash of the bytes.
func listing(t *testing.T, root string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		text := info.Mode().String()
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text = "link " + target
		case info.Mode().IsRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += " " + stc.Sum(b).String()
		}
		out[rel] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// makeTree makes a tree with everything that a tree can have.
func makeTree(t *testing.T, root string) {
	t.Helper()
	r := rand.New(rand.NewPCG(3, 4))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := func(name string) {
		must(os.Mkdir(filepath.Join(root, name), 0o700))
		t.Cleanup(func() { os.Chmod(filepath.Join(root, name), 0o700) })
	}
	file := func(name string, size int, mode fs.FileMode) {
		must(os.WriteFile(filepath.Join(root, name), randomBlob(r, size), 0o600))
		must(os.Chmod(filepath.Join(root, name), mode))
	}
	dir("")
	dir("empty")
	dir("read-only")
	dir("many")
	dir("deep")
	dir("deep/er")
	file("nothing", 0, 0o644)
	file("one byte", 1, 0o600)
	file("tool", 5000, 0o755)
	file("a chunk", ChunkSize, 0o644)
	file("a chunk and more", ChunkSize+1, 0o444)
	file("long", 5*unitSize+12345, 0o640)
	file("exactly a unit", unitSize, 0o644)
	file("read-only/file", 10, 0o400)
	file("deep/er/ünïcode and \n newline", 10, 0o644)
	file("deep/er/con.txt", 3, 0o644)
	for i := range 600 {
		file(fmt.Sprintf("many/%d", i*7919), i%300, 0o644)
	}
	must(os.Symlink("../tool", filepath.Join(root, "deep/link")))
	must(os.Symlink("er/nowhere", filepath.Join(root, "deep/dangling")))
	must(os.Chmod(filepath.Join(root, "read-only"), 0o555))
	must(os.Chmod(filepath.Join(root, "many"), 0o750))
	must(os.Chmod(root, 0o755))
}

func TestTreeRoundTrip(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector, which shorter tests serve as well")
	}
	ctx := context.Background()
	dir := t.TempDir()
	src := filepath.Join(dir, "source")
	makeTree(t, src)
	s := openTest(t, filepath.Join(dir, "store"))
	var progress ImportProgress
	got, err := s.Import(ctx, src, ImportOptions{Progress: func(p ImportProgress) { progress = p }})
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != "source" || got.Files != 610 || got.Directories != 6 || got.Links != 2 || got.EscapingCount != 0 {
		t.Fatalf("%+v", got)
	}
	if progress.Bytes != got.Size || progress.Files != got.Files {
		t.Fatalf("%+v, then %+v", progress, got)
	}
	if pin, ok, err := s.PinInfo(got.Root); err != nil || !ok || pin.State != PinComplete || pin.Name != "source" || pin.Size != got.Size {
		t.Fatalf("%+v %v %v", pin, ok, err)
	}
	before := s.Stats()
	again, err := s.Import(ctx, src, ImportOptions{})
	if err != nil || again.Root != got.Root {
		t.Fatalf("second import: %+v, %v", again, err)
	}
	if after := s.Stats(); after != before {
		t.Fatalf("importing the same again changed %+v to %+v", before, after)
	}
	other := openTest(t, filepath.Join(dir, "other"))
	if other, err := other.Import(ctx, src, ImportOptions{}); err != nil || other.Root != got.Root {
		t.Fatalf("another store gives another root: %v", err)
	}

	for _, opts := range []ExportOptions{{}, {NoSync: true}} {
		target := filepath.Join(dir, fmt.Sprint("target", opts.NoSync))
		out, err := s.Export(ctx, got.Root, target, opts)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Chmod(filepath.Join(target, "read-only"), 0o700) })
		if out.Files != got.Files || out.Directories != got.Directories || out.Links != got.Links || out.Size != got.Size {
			t.Fatalf("imported %+v, exported %+v", got, out)
		}
		if want, got := listing(t, src), listing(t, target); !maps.Equal(want, got) {
			for name := range want {
				if want[name] != got[name] {
					t.Errorf("%s: want %s, got %s", name, want[name], got[name])
				}
			}
			t.Fatalf("trees differ: %d and %d names", len(want), len(got))
		}
		if _, err := s.Export(ctx, got.Root, target, opts); !errors.Is(err, ErrTarget) {
			t.Fatalf("export over a tree: %v", err)
		}
	}
	noParts(t, dir)
	if r, err := s.Verify(ctx, nil); err != nil || !r.OK() || r.Blobs != s.Stats().Blobs {
		t.Fatalf("%+v %v", r, err)
	}
}

// noParts makes sure that exports have left nothing behind.
func noParts(t *testing.T, dir string) {
	t.Helper()
	names, _ := filepath.Glob(filepath.Join(dir, partPrefix+"*"))
	if len(names) > 0 {
		t.Fatalf("left behind: %v", names)
	}
}

func TestFileRoundTrip(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector, which shorter tests serve as well")
	}
	ctx := context.Background()
	dir := t.TempDir()
	s := openTest(t, filepath.Join(dir, "store"))
	for _, size := range []int64{0, 1, 1023, 1024, 1025, ChunkSize, unitSize + 1, 3*unitSize + 5} {
		for _, chunk := range []int{0, 1024, MaxBlobSize} {
			src := filepath.Join(dir, "source.bin")
			writeRandomFile(t, src, size, byte(size))
			os.Chmod(src, 0o750)
			got, err := s.Import(ctx, src, ImportOptions{ChunkSize: chunk})
			if err != nil {
				t.Fatal(err)
			}
			target := filepath.Join(dir, "target.bin")
			if _, err := s.Export(ctx, got.Root, target, ExportOptions{}); err != nil {
				t.Fatal(err)
			}
			want, _ := os.ReadFile(src)
			if b, err := os.ReadFile(target); err != nil || !bytes.Equal(b, want) {
				t.Fatalf("%d bytes in chunks of %d: exported file differs: %v", size, chunk, err)
			}
			if info, err := os.Stat(target); err != nil || info.Mode() != 0o750 {
				t.Fatalf("mode %v, %v", info.Mode(), err)
			}
			var stream bytes.Buffer
			if n, err := s.ExportTo(ctx, got.Root, &stream, nil); err != nil || n != uint64(size) || !bytes.Equal(stream.Bytes(), want) {
				t.Fatalf("%d bytes in chunks of %d: stream differs: %v", size, chunk, err)
			}
			// A reader may give its bytes in any portions, and the chunks are the same.
			piped, err := s.ImportReader(ctx, io.MultiReader(bytes.NewReader(want[:size/3]), bytes.NewReader(want[size/3:])),
				ImportOptions{ChunkSize: chunk})
			if err != nil || piped.Size != uint64(size) || piped.Chunks != got.Chunks {
				t.Fatalf("%+v, %v", piped, err)
			}
			stream.Reset()
			if _, err := s.ExportTo(ctx, piped.Root, &stream, nil); err != nil || !bytes.Equal(stream.Bytes(), want) {
				t.Fatalf("imported from a reader, %d bytes: %v", size, err)
			}
		}
	}
	noParts(t, dir)
}

func TestSparseExport(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, filepath.Join(dir, "store"))
	want := make([]byte, 8<<20)
	copy(want[3<<20:], "in the middle of nothing")
	src, target := filepath.Join(dir, "source"), filepath.Join(dir, "target")
	os.WriteFile(src, want, 0o644)
	got, err := s.Import(context.Background(), src, ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Bytes > 3*ChunkSize {
		t.Fatalf("zeros are stored more than once: %d bytes", st.Bytes)
	}
	if _, err := s.Export(context.Background(), got.Root, target, ExportOptions{}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(target); err != nil || !bytes.Equal(b, want) {
		t.Fatalf("sparse file differs: %v", err)
	}
}

func TestImportRefuses(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s := openTest(t, filepath.Join(dir, "store"))
	tree := func(name string) string {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	badName := tree("bad-name")
	os.WriteFile(filepath.Join(badName, "\xff"), nil, 0o644)
	longLink := tree("long-link")
	os.Symlink(strings.Repeat("x/", MaxLinkSize), filepath.Join(longLink, "l"))
	for path, want := range map[string]error{
		filepath.Join(dir, "store"): ErrFileType,
		badName:                     ErrName, longLink: ErrName, filepath.Join(dir, "absent"): fs.ErrNotExist, os.DevNull: ErrFileType,
	} {
		if _, err := s.Import(ctx, path, ImportOptions{}); !errors.Is(err, want) {
			t.Errorf("%s: %v", path, err)
		} else if !strings.Contains(err.Error(), filepath.Base(path)) {
			t.Errorf("error doesn't say where: %v", err)
		}
	}
	if _, err := s.Import(ctx, tree("x"), ImportOptions{Name: "a/b"}); !errors.Is(err, ErrName) {
		t.Errorf("name: %v", err)
	}
	if _, err := s.Import(ctx, tree("y"), ImportOptions{ChunkSize: 1000}); err == nil {
		t.Error("chunks of 1000 bytes")
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.Import(cancelled, tree("z"), ImportOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if pins, err := s.Pins(); err != nil || len(pins) != 0 {
		t.Errorf("failed imports have left pins: %v %v", pins, err)
	}
}

// TestImportChanging changes a file at the moment when the import is in the middle of it.
func TestImportChanging(t *testing.T) {
	ctx := context.Background()
	for name, change := range map[string]func(path string) error{
		"grows":   func(path string) error { return appendTo(path, "more") },
		"shrinks": func(path string) error { return os.Truncate(path, 5<<20) },
		"replaced": func(path string) error {
			return errors.Join(os.Rename(path, path+".old"), os.WriteFile(path, nil, 0o644))
		},
		"gone": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := openTest(t, filepath.Join(dir, "store"))
			tree := filepath.Join(dir, "tree")
			os.Mkdir(tree, 0o755)
			writeRandomFile(t, filepath.Join(tree, "a"), 2*unitSize, 1)
			writeRandomFile(t, filepath.Join(tree, "b"), 64*unitSize, 2)
			changed := false
			_, err := s.Import(ctx, tree, ImportOptions{Progress: func(p ImportProgress) {
				if !changed && p.Bytes > 4*unitSize { // some of b is read, and most of it is not
					changed = true
					if err := change(filepath.Join(tree, "b")); err != nil {
						t.Error(err)
					}
				}
			}})
			// What was already open when it went is read to its end, which is all that can be asked.
			if err == nil && (name == "gone" || name == "replaced") {
				return
			}
			if !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), filepath.Join(tree, "b")) {
				t.Fatal(err)
			}
		})
	}
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
