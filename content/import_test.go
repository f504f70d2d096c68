package content

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/seigr/sttnode/stc"
)

// byContent are options for chunks of 4 KiB on average whose borders the content defines.
var byContent = ImportOptions{Chunker: ChunkerCDC, ChunkSize: 4 << 10, ChunkerKey: [32]byte{1}}

// TestImportByContent imports the same bytes as a file, in a tree, and from a reader that gives them a few at a time: all must
// be cut alike, and be what a slow cutter makes of them.
func TestImportByContent(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s := openTest(t, filepath.Join(dir, "store"))
	g := newGear(byContent.ChunkerKey, chunking{ChunkerCDC, 12, defaultFanOutLog})
	src := filepath.Join(dir, "source")
	for _, size := range []int64{0, 1, 1023, 1024, 1025, 100_000, unitSize, unitSize + 1, 5*unitSize + 77} {
		writeRandomFile(t, src, size, byte(size))
		want, _ := os.ReadFile(src)
		got, err := s.Import(ctx, src, byContent)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(cuts(g, want)); got.Size != uint64(size) || got.Chunks != uint64(n) {
			t.Fatalf("%d bytes: %+v, not %d chunks", size, got, n)
		}
		var stream bytes.Buffer
		if _, err := s.ExportTo(ctx, got.Root, &stream, nil); err != nil || !bytes.Equal(stream.Bytes(), want) {
			t.Fatalf("%d bytes: stream differs: %v", size, err)
		}
		opts := byContent
		opts.Name = "source"
		read, err := s.ImportReader(ctx, iotest.HalfReader(bytes.NewReader(want)), opts)
		if err != nil || read.Root != got.Root {
			t.Fatalf("%d bytes from a reader: %+v, %v", size, read, err)
		}
		target := filepath.Join(dir, fmt.Sprint("target", size))
		if _, err := s.Export(ctx, got.Root, target, ExportOptions{}); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(target); err != nil || !bytes.Equal(b, want) {
			t.Fatalf("%d bytes: exported file differs: %v", size, err)
		}
	}
}

// TestImportEdited stores a file, and the same with an insertion in its middle: nearly all chunks must be shared.
func TestImportEdited(t *testing.T) {
	ctx := context.Background()
	s := openTest(t, filepath.Join(t.TempDir(), "store"))
	r := rand.New(rand.NewPCG(testSeed(t), 0))
	file := randomBlob(r, 4<<20)
	edited := slices.Insert(slices.Clone(file), 1<<20+r.IntN(2<<20), []byte("a line more\n")...)
	first, err := s.ImportReader(ctx, bytes.NewReader(file), byContent)
	if err != nil {
		t.Fatal(err)
	}
	before := s.Stats().Blobs
	if _, err := s.ImportReader(ctx, bytes.NewReader(edited), byContent); err != nil {
		t.Fatal(err)
	}
	// The chunk of the insertion, those behind it until a border is common again, and the node.
	if fresh := s.Stats().Blobs - before; fresh > 12 {
		t.Errorf("%d of %d blobs are new", fresh, first.Chunks)
	}
}

func TestImportRefusesOptions(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "store"))
	for _, opts := range []ImportOptions{
		{ChunkSize: 1000}, {ChunkSize: 512}, {ChunkSize: 2 << 20}, {ChunkSize: -1},
		{Chunker: ChunkerCDC}, {Chunker: ChunkerCDC, ChunkerKey: [32]byte{1}, ChunkSize: 512 << 10}, {Chunker: 4},
	} {
		if _, err := s.ImportReader(context.Background(), strings.NewReader("x"), opts); !errors.Is(err, ErrChunking) {
			t.Errorf("%+v: %v", opts, err)
		}
	}
}

// TestImportSparse compares files with holes with the same bytes written out.
func TestImportSparse(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector, which shorter tests serve as well")
	}
	ctx := context.Background()
	dir := t.TempDir()
	s := openTest(t, filepath.Join(dir, "store"))
	sparse := filepath.Join(dir, "sparse")
	r := rand.New(rand.NewPCG(testSeed(t), 0))
	const size = 24*unitSize + 12345
	dense := make([]byte, size)
	f, err := os.Create(sparse)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for _, off := range []int{0, 5 << 20, 5<<20 + 300<<10, 11<<20 + r.IntN(1<<20), 20 << 20} {
		b := randomBlob(r, 1+r.IntN(1<<20))
		copy(dense[off:], b)
		if _, err := f.WriteAt(b, int64(off)); err != nil {
			t.Fatal(err)
		}
	}
	for _, opts := range []ImportOptions{{}, {ChunkSize: MaxBlobSize}, {ChunkSize: 1 << 10}, byContent,
		{Chunker: ChunkerCDC, ChunkerKey: [32]byte{2}}} {
		opts.Name = "sparse"
		got, err := s.Import(ctx, sparse, opts)
		if err != nil {
			t.Fatal(err)
		}
		want, err := s.ImportReader(ctx, bytes.NewReader(dense), opts)
		if err != nil || got.Root != want.Root || got.Size != size {
			t.Fatalf("%v of %d: with holes %+v, without %+v, %v", opts.Chunker, opts.ChunkSize, got, want, err)
		}
	}
}

// TestImportHole imports a file of nothing but 64 GiB of hole, as no one could who reads it, and asks what is where.
func TestImportHole(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s := openTest(t, filepath.Join(dir, "store"))
	path := filepath.Join(dir, "hole")
	const size = 64<<30 + 1
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "linux" {
		t.Skip("holes are looked for on Linux only")
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatalf("TMPDIR must name a file system that holds files of 64 GiB: %v", err)
	}
	if info, err := os.Stat(path); err != nil || !isSparse(info) {
		t.Fatalf("TMPDIR must name a file system with holes: %v", err)
	}
	for _, opts := range []ImportOptions{{}, {Chunker: ChunkerCDC, ChunkerKey: [32]byte{2}}} {
		got, err := s.Import(ctx, path, opts)
		if err != nil || got.Size != size {
			t.Fatalf("%+v, %v", got, err)
		}
		node, err := s.root(got.Root)
		if err != nil {
			t.Fatal(err)
		}
		for node.Level > 0 {
			i, _ := node.findOffset(node.Size - 1)
			if node, err = s.node(node.Child(i)); err != nil {
				t.Fatal(err)
			}
		}
		last := node.Child(node.Len() - 1)
		if chunk, err := s.chunk(nil, last); err != nil || len(chunk) != 1 || stc.Sum(chunk) != last.Hash {
			t.Fatalf("%v: last chunk %+v: %v", opts.Chunker, last, err)
		}
	}
	if st := s.Stats(); st.Blobs > 30 {
		t.Errorf("%d blobs for two files that hold two different chunks each, one of them behind a ramp", st.Blobs)
	}
}

func TestImportExcludes(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector, which shorter tests serve as well")
	}
	ctx := context.Background()
	dir := t.TempDir()
	s := openTest(t, filepath.Join(dir, "store"))
	src := filepath.Join(dir, "src")
	for _, name := range []string{"a.tmp", "b", "build/x", "sub/build/y", "sub/a.tmp", "sub/deep/er/z", "build2", "sub/.git/config", "Ä"} {
		path := filepath.Join(src, filepath.FromSlash(name))
		os.MkdirAll(filepath.Dir(path), 0o755)
		os.WriteFile(path, []byte(name), 0o644)
	}
	os.Symlink("sub", filepath.Join(src, "link"))
	all := []string{"a.tmp", "b", "build", "build/x", "build2", "link", "sub", "sub/.git", "sub/.git/config", "sub/a.tmp",
		"sub/build", "sub/build/y", "sub/deep", "sub/deep/er", "sub/deep/er/z", "Ä"}
	for _, test := range []struct {
		patterns, gone string // separated by spaces; directories stand for what is in them
	}{
		{"", ""},
		{"*.tmp", "a.tmp sub/a.tmp"},
		{"/*.tmp", "a.tmp"},
		{"build", "build sub/build"},
		{"build/", "build sub/build"},
		{"build2/", ""},
		{"link/", ""},
		{"/build", "build"},
		{"sub/build", "sub/build"},
		{"deep/er", ""},
		{"**/er", "sub/deep/er"},
		{"sub/**/er", "sub/deep/er"},
		{"sub/**/build", "sub/build"},
		{"sub/**", "sub/.git sub/a.tmp sub/build sub/deep"},
		{"sub/*/er", "sub/deep/er"},
		{"sub/*", "sub/.git sub/a.tmp sub/build sub/deep"},
		{"[!a-z]*", "sub/.git Ä"},
		{"[^a-z]*", "sub/.git Ä"},
		{"?", "b sub/build/y sub/deep/er/z build/x Ä"},
		{"BUILD", ""},
		{".git /b*", "sub/.git b build build2"},
		{"src", ""},
	} {
		var want []string
		for _, name := range all {
			if !slices.ContainsFunc(strings.Fields(test.gone), func(gone string) bool {
				return name == gone || strings.HasPrefix(name, gone+"/")
			}) {
				want = append(want, name)
			}
		}
		got, err := s.Import(ctx, src, ImportOptions{Exclude: strings.Fields(test.patterns)})
		if err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(dir, "target")
		if _, err := s.Export(ctx, got.Root, target, ExportOptions{NoSync: true}); err != nil {
			t.Fatal(err)
		}
		there := listing(t, target)
		delete(there, ".")
		var names []string
		for name := range there {
			names = append(names, filepath.ToSlash(name))
		}
		slices.Sort(names)
		if !slices.Equal(names, want) {
			t.Errorf("%q leaves %q, not %q", test.patterns, names, want)
		}
		os.RemoveAll(target)
	}
	for _, pattern := range []string{"", "/", "a//b", "!a", "[a", "a/../b", "."} {
		if _, err := s.Import(ctx, src, ImportOptions{Exclude: []string{pattern}}); !errors.Is(err, ErrPattern) {
			t.Errorf("%q: %v", pattern, err)
		}
	}
}

// TestImportReaderFails passes on what the reader says, and leaves nothing pinned.
func TestImportReaderFails(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "store"))
	broken := errors.New("broken pipe")
	r := io.MultiReader(bytes.NewReader(make([]byte, 3*unitSize)), iotest.ErrReader(broken))
	if _, err := s.ImportReader(context.Background(), r, byContent); !errors.Is(err, broken) {
		t.Error(err)
	}
	if pins, err := s.Pins(); err != nil || len(pins) > 0 {
		t.Error(pins, err)
	}
}

// TestReadNames reads a directory in parts, each of which must follow the one before.
func TestReadNames(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector, which shorter tests serve as well")
	}
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(testSeed(t), 0))
	var want []string
	for _, i := range r.Perm(3000) {
		name := fmt.Sprintf("%x", i*i)
		want = append(want, name)
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(want)
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, keep := range []int{1, 2, 700, 1499, 1500, 1501, 2999, 3000, 5000} {
		var got []string
		for after, more, parts := "", true, 0; more; parts++ {
			if keep < 700 && parts == 20 {
				break // thousands of parts take too long
			}
			var names []string
			if names, more, err = readNames(dir, info, after, keep); err != nil {
				t.Fatal(err)
			}
			if more && len(names) < keep || len(names) >= 2*keep {
				t.Fatalf("%d names where %d were to be kept", len(names), keep)
			}
			got = append(got, names...)
			after = got[len(got)-1]
		}
		if !slices.Equal(got, want[:len(got)]) || keep >= 700 && len(got) != len(want) {
			t.Fatalf("%d names, %d at a time: %d, or in another order", len(want), keep, len(got))
		}
	}
	other := t.TempDir()
	if _, _, err := readNames(other, info, "", 10); !errors.Is(err, ErrChanged) {
		t.Errorf("another directory: %v", err)
	}
}

// TestImportTotal expects the progress of a tree to know how much there is, without what is left out, or to say that it doesn't.
func TestImportTotal(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, filepath.Join(dir, "store"))
	src := filepath.Join(dir, "src")
	os.MkdirAll(filepath.Join(src, "out"), 0o755)
	os.MkdirAll(filepath.Join(src, "sub"), 0o755)
	writeRandomFile(t, filepath.Join(src, "a"), 20*unitSize, 1)
	writeRandomFile(t, filepath.Join(src, "sub", "b"), 3*unitSize, 2)
	writeRandomFile(t, filepath.Join(src, "out", "c"), unitSize, 3)
	opts := ImportOptions{Exclude: []string{"out"}, Progress: func(p ImportProgress) {
		if p.Total != 0 && p.Total != 23*unitSize {
			t.Errorf("%d bytes in all", p.Total)
		}
	}}
	im, err := opts.parse()
	if err != nil {
		t.Fatal(err)
	}
	if total := im.measure(context.Background(), src, ""); total != 23*unitSize {
		t.Errorf("measured %d bytes", total)
	}
	if _, err := s.Import(context.Background(), src, opts); err != nil {
		t.Fatal(err)
	}
}
