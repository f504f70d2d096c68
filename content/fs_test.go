package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

var (
	_ fs.ReadDirFS  = (*FS)(nil)
	_ fs.StatFS     = (*FS)(nil)
	_ fs.ReadLinkFS = (*FS)(nil)
)

// TestFS compares a tree with everything that a tree can have, as FS shows it, with what os.DirFS shows of the original.
func TestFS(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector, which shorter tests serve as well")
	}
	dir := t.TempDir()
	src := filepath.Join(dir, "source")
	makeTree(t, src)
	os.Remove(filepath.Join(src, "deep/dangling")) // fstest opens everything,
	os.Remove(filepath.Join(src, "long"))          // and reads it byte by byte
	os.Remove(filepath.Join(src, "exactly a unit"))
	s := openTest(t, filepath.Join(dir, "store"))
	got, err := s.Import(context.Background(), src, ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	fsys, err := s.FS(got.Root)
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(fsys, "tool", "many/0", "deep/link", "deep/er/con.txt"); err != nil {
		t.Fatal(err)
	}
	describe := func(fsys fs.FS) map[string]string {
		all := make(map[string]string)
		err := fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			text := info.Mode().String()
			switch {
			case d.Type() == fs.ModeSymlink:
				text, err = fs.ReadLink(fsys, path)
			case !d.IsDir():
				var b []byte
				b, err = fs.ReadFile(fsys, path)
				text += fmt.Sprintf(" %x", b)
			}
			all[path] = text
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if want, got := describe(os.DirFS(src)), describe(fsys); !maps.Equal(want, got) {
		t.Fatalf("%d names, %d in the original", len(got), len(want))
	}
	if b, err := fs.ReadFile(fsys, "deep/link"); err != nil || len(b) != 5000 {
		t.Fatalf("through a link: %d bytes, %v", len(b), err)
	}
	for name, want := range map[string]error{
		"absent": fs.ErrNotExist, "many/absent": fs.ErrNotExist, "": fs.ErrInvalid, "/": fs.ErrInvalid, "../x": fs.ErrInvalid,
		"many/": fs.ErrInvalid, "tool/x": errNotDirectory, "A": fs.ErrNotExist, "zzz": fs.ErrNotExist,
	} {
		if _, err := fsys.Open(name); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", name, err, want)
		}
		if _, err := fs.Stat(fsys, name); !errors.Is(err, want) {
			t.Errorf("stat %q: %v, want %v", name, err, want)
		}
	}
	if _, err := fsys.ReadDir("tool"); !errors.Is(err, errNotDirectory) {
		t.Error(err)
	}
	if _, err := fsys.ReadLink("tool"); !errors.Is(err, fs.ErrInvalid) {
		t.Error(err)
	}
}

func TestFSOfFile(t *testing.T) {
	s := openTest(t, t.TempDir())
	for _, name := range []string{"film.mkv", ""} {
		got, err := s.ImportReader(context.Background(), strings.NewReader("moving pictures"), ImportOptions{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		fsys, err := s.FS(got.Root)
		if err != nil {
			t.Fatal(err)
		}
		if name == "" {
			name = got.Root.String()
		}
		if err := fstest.TestFS(fsys, name); err != nil {
			t.Fatal(err)
		}
		if b, err := fs.ReadFile(fsys, name); err != nil || string(b) != "moving pictures" {
			t.Fatalf("%q, %v", b, err)
		}
		if _, err := s.OpenFile(got.Root); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.OpenFile(hostile(t, s)); !errors.Is(err, ErrFileType) {
		t.Fatalf("a directory as a file: %v", err)
	}
}

// TestFSLinks follows links where they may lead, and nowhere else.
func TestFSLinks(t *testing.T) {
	s := openTest(t, t.TempDir())
	chunk, err := s.Put(context.Background(), []byte("seven b"))
	if err != nil {
		t.Fatal(err)
	}
	link := func(name, target string) Entry { return Entry{Name: name, Type: TypeSymlink, Target: target} }
	entries := []Entry{
		link("absolute", "/etc/passwd"), link("chain", "up"), link("dangling", "nothing/f"), link("dir", "../dir"), link("end", "f/"), link("endless", "endless/x"),
		{Name: "f", Type: TypeFile, Mode: 0o644, Ref: Ref{Kind: KindChunk, Hash: chunk, Size: 7, Chunks: 1}},
		link("loop", "loop"), link("out", "../../x"), link("through", "f/../f"), link("up", "./../dir//f"),
	}
	fsys, err := s.FS(hostile(t, s, entries...))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{
		"f": nil, "chain": nil, "up": nil, "dir/f": nil, "dir/dir/chain": nil,
		"dangling": fs.ErrNotExist, "absolute": errEscapes, "out": errEscapes, "loop": errTooManyLinks, "endless": errTooManyLinks,
		"end": errNotDirectory, "through": errNotDirectory,
	} {
		b, err := fs.ReadFile(fsys, "dir/"+name)
		if !errors.Is(err, want) || err == nil && string(b) != "seven b" {
			t.Errorf("%s: %q, %v, want %v", name, b, err, want)
		}
	}
	if info, err := fsys.Lstat("dir/out"); err != nil || info.Mode().Type() != fs.ModeSymlink {
		t.Errorf("%v %v", info, err)
	}
	if target, err := fsys.ReadLink("dir/dir/out"); err != nil || target != "../../x" {
		t.Errorf("%q %v", target, err)
	}
	if info, err := fsys.Stat("dir/dir"); err != nil || !info.IsDir() {
		t.Errorf("%v %v", info, err)
	}
}

// TestFSWideDirectory looks names up in a directory of several nodes, and reads it in pieces.
func TestFSWideDirectory(t *testing.T) {
	s := openTest(t, t.TempDir())
	const n = 5*dirFanOut + 3
	store := nodes{}
	tree := &dirTree{put: store.put}
	name := func(i int) string { return fmt.Sprintf("n%07d", 2*i) }
	for i := range n {
		if err := tree.add(Entry{Name: name(i), Type: TypeFile, Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
	}
	ref, err := tree.close(&RootInfo{Mode: 0o755})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutMany(context.Background(), slices.Collect(maps.Values(store))); err != nil {
		t.Fatal(err)
	}
	fsys, err := s.FS(ref.Hash)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 1, dirFanOut - 1, dirFanOut, 5*dirFanOut - 1, 5 * dirFanOut, n - 1} {
		if info, err := fsys.Stat(name(i)); err != nil || info.Name() != name(i) || info.Size() != 0 {
			t.Errorf("%s: %v %v", name(i), info, err)
		}
		if _, err := fsys.Stat(name(i) + "x"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%sx: %v", name(i), err)
		}
	}
	d, err := fsys.Open(".")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var names []string
	for {
		list, err := d.(fs.ReadDirFile).ReadDir(1000)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			names = append(names, e.Name())
		}
	}
	if len(names) != n || !slices.IsSorted(names) {
		t.Fatalf("%d of %d names", len(names), n)
	}
}
