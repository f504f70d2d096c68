package content

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seigr/sttnode/stc"
)

// rampSizes returns the sizes of the chunks that an importer cuts of a file.
func rampSizes(c chunking, size int64) (sizes []int) {
	im, zeros := &importer{chunking: c}, make([]byte, 2*c.longest()) // so much shows whether the first is all of the file
	for off := int64(0); off < size; {
		n := im.cut(zeros[:min(size-off, int64(len(zeros)))], off)
		sizes, off = append(sizes, n), off+int64(n)
	}
	return sizes
}

// TestRamp has the borders of the default written out.
func TestRamp(t *testing.T) {
	c := chunking{ChunkerRamp, 18, defaultFanOutLog}
	for _, test := range []struct {
		kib  int64
		want []int
	}{
		{256, []int{256}},
		{257, []int{4, 4, 8, 16, 32, 64, 128, 1}},
		{800, []int{4, 4, 8, 16, 32, 64, 128, 256, 256, 32}},
	} {
		sizes := rampSizes(c, test.kib<<10)
		for i := range sizes {
			sizes[i] >>= 10
		}
		if !slices.Equal(sizes, test.want) {
			t.Errorf("%d KiB: chunks of %v KiB, not %v", test.kib, sizes, test.want)
		}
	}
}

// TestRampTree builds trees over files with ramps, walks them, and asks for ranges.
func TestRampTree(t *testing.T) {
	root := &RootInfo{Name: "film.mkv", Mode: 0o640}
	for _, chunkLog := range []uint8{rampLog + 1, 18, maxChunkLog} {
		for _, fanOutLog := range []uint8{rampFanOutLog, rampFanOutLog + 1} {
			c := chunking{ChunkerRamp, chunkLog, fanOutLog}
			for n := range int64(40) {
				for _, size := range []int64{n << chunkLog, n<<chunkLog + 1, (n+1)<<chunkLog - 1} {
					checkFileTree(t, c, rampSizes(c, size), root)
				}
			}
			checkRampRanges(t, c, rampSizes(c, 20<<chunkLog-5))
		}
	}
}

func checkRampRanges(t *testing.T, c chunking, sizes []int) {
	t.Helper()
	store, top, starts := treeOf(t, c, sizes)
	for i, from := range starts {
		for _, to := range starts[i:] {
			checkRange(t, store, top, starts, from+i%3, max(0, to-from-1))
		}
	}
}

// TestRampImport cuts files and streams alike, and none that is one chunk.
func TestRampImport(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s := openTest(t, filepath.Join(dir, "store"))
	data := randomBlob(rand.New(rand.NewPCG(testSeed(t), 0)), 3*unitSize+5)
	for _, size := range []int{1, ChunkSize, ChunkSize + 1, unitSize, unitSize + 1, len(data)} {
		part := data[:size]
		path := filepath.Join(dir, fmt.Sprint(size))
		if err := os.WriteFile(path, part, 0o644); err != nil {
			t.Fatal(err)
		}
		file, err := s.Import(ctx, path, ImportOptions{Name: "x"})
		if err != nil {
			t.Fatal(err)
		}
		stream, err := s.ImportReader(ctx, bytes.NewReader(part), ImportOptions{Name: "x"})
		if err != nil || stream.Root != file.Root {
			t.Fatalf("%d bytes: a file is %v, a stream %v, %v", size, file.Root, stream.Root, err)
		}
		c := chunking{ChunkerRamp, 18, defaultFanOutLog}
		if file.Chunks != uint64(len(rampSizes(c, int64(size)))) {
			t.Errorf("%d bytes: %d chunks", size, file.Chunks)
		}
		if err := exportsAs(s, file.Root, part); err != nil {
			t.Fatal(err)
		}
	}
	// Chunks that are not longer than the first of a ramp need none.
	small, err := s.ImportReader(ctx, bytes.NewReader(data), ImportOptions{Name: "x", ChunkSize: 1 << rampLog})
	if err != nil {
		t.Fatal(err)
	}
	fixed, err := s.ImportReader(ctx, bytes.NewReader(data), ImportOptions{Name: "x", Chunker: ChunkerFixed, ChunkSize: 1 << rampLog})
	if err != nil || fixed.Root != small.Root {
		t.Fatalf("%v and %v, %v", small.Root, fixed.Root, err)
	}
}

// TestRampRefused has nodes with ramps where none can be.
func TestRampRefused(t *testing.T) {
	hashes := strings.Repeat("h", 64*stc.HashSize)
	node := func(flags, level, fanOutLog, size string, children int) []byte {
		return []byte("STM\x01\x01" + flags + level + map[string]string{"\x01": "\x01\xa4\x00"}[flags] + "\x03\x12" + fanOutLog + size + hashes[:children*stc.HashSize])
	}
	const chunk, more, half = "\x80\x04\x00\x00", "\x80\x04\x00\x01", "\x80\x02\x00\x00"
	if n, err := DecodeRoot(node("\x01", "\x00", "\x04", more, 8)); err != nil || n.Chunks != 8 || n.Child(0).Size != 4<<10 || n.Child(7).Size != 1 {
		t.Fatal(n, err)
	}
	for name, b := range map[string][]byte{
		"one chunk":      node("\x01", "\x00", "\x04", chunk, 1),
		"one long chunk": node("\x01", "\x00", "\x04", chunk, 7),
		"half a chunk":   node("\x01", "\x00", "\x04", half, 7),
		"no ramp":        node("\x01", "\x00", "\x04", more, 2),
		"narrow":         node("\x01", "\x00", "\x03", more, 8),
	} {
		if _, err := DecodeRoot(b); !isManifestError(nil, err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A second leaf has none, and the first one has it.
	top := &Node{Kind: KindFile, Level: 1, Size: 40 << 18, Chunks: 46, chunking: chunking{ChunkerRamp, 18, 4}, hashes: []byte(hashes[:3*stc.HashSize])}
	first, second := top.Child(0), top.Child(1)
	if first.Size != 10<<18 || second.Size != 16<<18 {
		t.Fatalf("children of %d and %d bytes", first.Size, second.Size)
	}
	leaf := func(chunker, size string) []byte {
		return []byte("STM\x01\x01\x00\x00" + chunker + "\x12\x04" + size + hashes[:16*stc.HashSize])
	}
	const ten, sixteen = "\x80\x28\x00\x00", "\x80\x40\x00\x00" // chunks of 256 KiB
	for _, test := range []struct {
		ref  Ref
		blob []byte
		good bool
	}{
		{first, leaf("\x03", ten), true},
		{first, leaf("\x01", sixteen), false},
		{second, leaf("\x01", sixteen), true},
		{second, leaf("\x03", ten), false},
	} {
		if _, err := test.ref.Decode(test.blob); (err == nil) != test.good {
			t.Errorf("%+v: %v", test.ref, err)
		}
	}
}
