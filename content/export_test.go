package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seigr/sttnode/stc"
)

// hostile stores a directory whose entries the importer would not have made, and returns its root.
func hostile(t *testing.T, s *Store, entries ...Entry) stc.Hash {
	t.Helper()
	put := func(node []byte) (stc.Hash, error) { return s.Put(context.Background(), node) }
	inner := &dirTree{put: put}
	for _, e := range entries {
		if err := inner.add(e); err != nil {
			t.Fatal(err)
		}
	}
	ref, err := inner.close(nil)
	if err != nil {
		t.Fatal(err)
	}
	outer := &dirTree{put: put}
	outer.add(Entry{Name: "dir", Type: TypeDirectory, Mode: 0o755, Ref: ref})
	root, err := outer.close(&RootInfo{Mode: 0o755})
	if err != nil {
		t.Fatal(err)
	}
	return root.Hash
}

func TestExportRefusesLinks(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, filepath.Join(dir, "store"))
	for target, escapes := range map[string]bool{
		"x": false, "../x": false, "./.././a/b": false, "..": false, ".": false, "a/./b": false, "../dir/x": false,
		"/etc/passwd": true, "../../x": true, "../..": true, "a/../x": true, "../dir/../../x": true, `..\..\x`: true,
	} {
		root := hostile(t, s, Entry{Name: "link", Type: TypeSymlink, Target: target})
		out := filepath.Join(dir, "out")
		_, err := s.Export(context.Background(), root, out, ExportOptions{})
		if escapes && !errors.Is(err, ErrName) || !escapes && err != nil {
			t.Errorf("link to %s: %v", target, err)
		}
		if _, err := os.Lstat(out); escapes && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("link to %s: something was exported", target)
		}
		os.RemoveAll(out)
	}
	noParts(t, dir)
}

// TestExportLinksStayInside resolves every link that the rule lets pass, through each other, and finds none outside.
func TestExportLinksStayInside(t *testing.T) {
	seed := testSeed(t)
	r := rand.New(rand.NewPCG(seed, 0))
	dir, _ := filepath.EvalSymlinks(t.TempDir())
	parts := []string{"..", ".", "a", "b", "l0", "l1", "l2", "l3"}
	for round := range 60 {
		root := filepath.Join(dir, "up", fmt.Sprint(round))
		dirs := []string{"", "a", "b", "a/b", "a/b/a"}
		for _, d := range dirs {
			os.MkdirAll(filepath.Join(root, d), 0o755)
		}
		var links []string
		for range 12 {
			d := dirs[r.IntN(len(dirs))]
			depth := 0
			if d != "" {
				depth = strings.Count(d, "/") + 1
			}
			var elems []string
			for range 1 + r.IntN(5) {
				elems = append(elems, parts[r.IntN(len(parts))])
			}
			target := strings.Join(elems, "/")
			if !linkEscapes(depth, target) {
				link := filepath.Join(root, d, fmt.Sprint("l", r.IntN(4)))
				if os.Symlink(target, link) == nil {
					links = append(links, link)
				}
			}
		}
		for _, link := range links {
			if real, err := filepath.EvalSymlinks(link); err == nil && real != root && !strings.HasPrefix(real, root+"/") {
				t.Fatalf("%s leads to %s", link, real)
			}
		}
	}
}

func TestExportLies(t *testing.T) {
	dir := t.TempDir()
	ctx := context.Background()
	s := openTest(t, filepath.Join(dir, "store"))
	chunk, err := s.Put(ctx, []byte("seven b"))
	if err != nil {
		t.Fatal(err)
	}
	file := func(size, chunks uint64, kind Kind, h stc.Hash) Entry {
		return Entry{Name: "f", Type: TypeFile, Mode: 0o644, Ref: Ref{Kind: kind, Hash: h, Size: size, Chunks: chunks}}
	}
	for name, test := range map[string]struct {
		entry Entry
		want  error
	}{
		"chunk of another size": {file(8, 1, KindChunk, chunk), ErrManifest},
		"chunk as a node":       {file(8, 2, KindFile, chunk), ErrManifest},
		"chunk as a directory":  {Entry{Name: "d", Type: TypeDirectory, Ref: Ref{Kind: KindDirectory, Hash: chunk}}, ErrManifest},
		"missing chunk":         {file(8, 1, KindChunk, stc.Hash{1}), ErrNotFound},
	} {
		root := hostile(t, s, test.entry)
		if _, err := s.Export(ctx, root, filepath.Join(dir, "out"), ExportOptions{}); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Export(ctx, chunk, filepath.Join(dir, "out"), ExportOptions{}); !errors.Is(err, ErrManifest) {
		t.Errorf("chunk as root: %v", err)
	}
	noParts(t, dir)
}

func TestExportReplaces(t *testing.T) {
	dir := t.TempDir()
	ctx := context.Background()
	s := openTest(t, filepath.Join(dir, "store"))
	got, err := s.ImportReader(ctx, strings.NewReader("new"), ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(dir, "target")
	os.WriteFile(target, []byte("old and longer"), 0o600)
	if _, err := s.Export(ctx, got.Root, target, ExportOptions{}); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(target); string(b) != "new" {
		t.Fatalf("%q", b)
	}
	os.Mkdir(filepath.Join(dir, "empty"), 0o755)
	if _, err := s.Export(ctx, got.Root, filepath.Join(dir, "empty"), ExportOptions{}); !errors.Is(err, ErrTarget) {
		t.Fatalf("file over a directory: %v", err)
	}
	tree := hostile(t, s)
	if _, err := s.Export(ctx, tree, filepath.Join(dir, "empty"), ExportOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Export(ctx, tree, target, ExportOptions{}); !errors.Is(err, ErrTarget) {
		t.Fatalf("directory over a file: %v", err)
	}
	if _, err := s.ExportTo(ctx, tree, io.Discard, nil); !errors.Is(err, ErrTarget) {
		t.Fatalf("directory to a stream: %v", err)
	}
}

// TestExportAfterCrash finds what an interrupted export has left, with all the rights taken away that it may have taken.
func TestExportAfterCrash(t *testing.T) {
	dir := t.TempDir()
	ctx := context.Background()
	s := openTest(t, filepath.Join(dir, "store"))
	root := hostile(t, s)
	target := filepath.Join(dir, "target")
	left, err := newPart(target, root, true, false)
	if err != nil {
		t.Fatal(err)
	}
	os.MkdirAll(filepath.Join(left.path, "a/b"), 0o700)
	os.WriteFile(filepath.Join(left.path, "a/b/f"), nil, 0o400)
	os.Chmod(filepath.Join(left.path, "a/b"), 0o500)
	os.Chmod(left.path, 0o500)
	if _, err := s.Export(ctx, root, target, ExportOptions{}); !errors.Is(err, ErrTarget) {
		t.Fatalf("beside another export: %v", err)
	}
	left.file.Close() // as the end of the process does
	if _, err := s.Export(ctx, root, target, ExportOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(listing(t, target))); !slices.Equal(got, []string{".", "dir"}) {
		t.Fatalf("%v", got)
	}
	noParts(t, dir)
}

func TestCheckTarget(t *testing.T) {
	dir := t.TempDir()
	full := filepath.Join(dir, "full")
	os.MkdirAll(filepath.Join(full, "x"), 0o755)
	file := filepath.Join(dir, "file")
	os.WriteFile(file, nil, 0o644)
	os.Mkdir(filepath.Join(dir, "empty"), 0o755)
	for path, ok := range map[string]bool{
		file: true, filepath.Join(dir, "empty"): true, filepath.Join(dir, "new"): true,
		full: false, filepath.Join(dir, "absent", "x"): false, filepath.Join(file, "x"): false, os.DevNull: false,
	} {
		if err := CheckTarget(path); ok && err != nil || !ok && !errors.Is(err, ErrTarget) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if os.Getuid() != 0 {
		os.Chmod(full, 0o500)
		if err := CheckTarget(filepath.Join(full, "y")); !errors.Is(err, ErrTarget) {
			t.Errorf("directory that can't be written: %v", err)
		}
		os.Chmod(full, 0o700)
	}
	noParts(t, dir)
}
