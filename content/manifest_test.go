package content

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

// testSeed returns the seed of a randomised test: that in STT_TEST_SEED, or a new one, which is logged.
func testSeed(t testing.TB) uint64 {
	seed := rand.Uint64()
	if text := os.Getenv("STT_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("STT_TEST_SEED=%d", seed)
	return seed
}

// nodes is a store of nodes in memory.
type nodes map[stc.Hash][]byte

func (n nodes) put(node []byte) (stc.Hash, error) {
	h := stc.Sum(node)
	n[h] = node
	return h, nil
}

// check decodes the tree below ref, compares every node with its encoding, and returns the chunks in order.
func (n nodes) check(t *testing.T, ref Ref, root bool) (chunks []Ref) {
	t.Helper()
	node, err := ref.Decode(n[ref.Hash])
	if root {
		node, err = DecodeRoot(n[ref.Hash])
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := node.encode(); !bytes.Equal(got, n[ref.Hash]) {
		t.Fatalf("encoding of the decoded node differs:\n%x\n%x", got, n[ref.Hash])
	}
	for first, child := range node.All() {
		if uint64(len(chunks)) != first {
			t.Fatalf("reference begins at %d, %d chunks were before it", first, len(chunks))
		}
		if child.Kind == KindChunk {
			chunks = append(chunks, child)
		} else {
			chunks = append(chunks, n.check(t, child, false)...)
		}
	}
	for ordinal := range node.Chunks {
		i, first := node.Find(ordinal)
		if ref := node.Child(i); ordinal < first || ordinal >= first+ref.Chunks {
			t.Fatalf("chunk %d looked for in reference %d, which has %d to %d", ordinal, i, first, first+ref.Chunks)
		}
	}
	if uint64(len(chunks)) != node.Chunks {
		t.Fatalf("%d chunks, the node says %d", len(chunks), node.Chunks)
	}
	if node.Kind == KindFile {
		var end uint64
		for i, child := range node.Children() {
			for _, off := range []uint64{end, end + child.Size/2, end + child.Size - 1} {
				if found, begin := node.findOffset(off); found != i || begin != end {
					t.Fatalf("byte %d looked for in reference %d from %d; it is in %d from %d", off, found, begin, i, end)
				}
			}
			end += child.Size
		}
		if end != node.Size {
			t.Fatalf("references have %d bytes, the node says %d", end, node.Size)
		}
	}
	return chunks
}

// encode is the encoder that the decoder must agree with, from what the decoder has found.
func (n *Node) encode() []byte {
	if n.Kind == KindFile {
		t := &fileTree{chunking: n.chunking}
		l := &fileLevel{size: n.Size, chunks: n.Chunks, hashes: n.hashes}
		for i := range n.ends {
			l.sizes = frame.AppendVarint(l.sizes, n.Child(i).Size)
		}
		return t.encode(n.Level, n.Root, l)
	}
	l := dirLevel{entries: n.EntryCount, size: n.Size, chunks: n.Chunks}
	if n.Level > 0 {
		for _, ref := range n.children {
			l.body = append(append(l.body, byte(len(ref.names.first))), ref.names.first...)
			l.body = appendNodeRef(l.body, ref.Size, ref.Chunks, ref.Hash)
		}
		return l.encode(n.Level, n.Root)
	}
	var t dirTree
	for _, e := range n.entries {
		if err := t.add(e); err != nil {
			panic(err)
		}
	}
	if len(t.levels) > 0 {
		l.body = t.levels[0].body
	}
	return l.encode(0, n.Root)
}

func TestFileTree(t *testing.T) {
	root := &RootInfo{Name: "film.mkv", Mode: 0o640}
	r := rand.New(rand.NewPCG(testSeed(t), 0))
	for _, fanOutLog := range []uint8{1, 2, 3} {
		for n := range 70 {
			for _, c := range []chunking{{ChunkerFixed, minChunkLog, fanOutLog}, {ChunkerCDC, minChunkLog, fanOutLog}} {
				sizes := make([]int, n)
				for i := range sizes {
					if sizes[i] = 1 << minChunkLog; c.chunker == ChunkerCDC {
						sizes[i] = c.shortest() + r.IntN(c.longest()-c.shortest()+1)
					}
				}
				for _, last := range []int{1, 1<<minChunkLog - 1, 1 << minChunkLog} {
					if n > 0 {
						sizes[n-1] = last
					}
					checkFileTree(t, c, sizes, root)
				}
			}
		}
	}
}

// checkFileTree builds the tree of a file with chunks of these sizes and walks it.
func checkFileTree(t *testing.T, c chunking, sizes []int, root *RootInfo) {
	t.Helper()
	store := nodes{}
	tree := &fileTree{chunking: c, put: store.put}
	total := 0
	for i, size := range sizes {
		if err := tree.add(stc.Sum(fmt.Append(nil, i)), size); err != nil {
			t.Fatal(err)
		}
		total += size
	}
	ref, err := tree.close(root)
	if err != nil {
		t.Fatal(err)
	}
	if ref.Size != uint64(total) || ref.Chunks != uint64(len(sizes)) {
		t.Fatalf("%d chunks: %+v", len(sizes), ref)
	}
	for i, chunk := range store.check(t, ref, true) {
		if chunk.Hash != stc.Sum(fmt.Append(nil, i)) || chunk.Size != uint64(sizes[i]) {
			t.Fatalf("chunk %d of %d: %+v, not %d bytes", i, len(sizes), chunk, sizes[i])
		}
	}
}

func TestFileInDirectory(t *testing.T) {
	for n, kind := range []Kind{0, KindChunk, KindFile} {
		store := nodes{}
		tree := &fileTree{chunking: chunking{ChunkerFixed, 18, 12}, put: store.put}
		for i := range n {
			tree.add(stc.Sum([]byte{byte(i)}), ChunkSize)
		}
		ref, err := tree.close(nil)
		if err != nil || ref.Kind != kind || ref.Size != uint64(n)*ChunkSize {
			t.Fatalf("%d chunks: %+v, %v", n, ref, err)
		}
		if kind == KindFile {
			store.check(t, ref, false)
		} else if len(store) != 0 {
			t.Fatalf("a file of %d chunks has a node", n)
		}
	}
}

// TestLongFile has the shape of 10 TiB: it looks only at what the top says.
func TestLongFile(t *testing.T) {
	c := chunking{ChunkerFixed, 18, 12}
	size := uint64(10<<40 - 5)
	tree := &fileTree{chunking: c}
	level := treeLevel(c.fanOutLog, c.chunks(size))
	if level != 2 {
		t.Fatalf("level %d", level)
	}
	children := (c.chunks(size) + c.span(1) - 1) / c.span(1)
	node, err := DecodeRoot(tree.encode(level, &RootInfo{}, &fileLevel{size: size, hashes: make([]byte, children*stc.HashSize)}))
	if err != nil {
		t.Fatal(err)
	}
	var sum, chunks uint64
	for _, ref := range node.Children() {
		sum, chunks = sum+ref.Size, chunks+ref.Chunks
	}
	if node.Chunks != 40<<20 || sum != size || chunks != node.Chunks {
		t.Fatalf("%d chunks; children have %d in %d", node.Chunks, sum, chunks)
	}
	if i, first := node.Find(node.Chunks - 1); i != node.Len()-1 || first != uint64(i)<<24 {
		t.Fatalf("last chunk below reference %d from %d", i, first)
	}
}

func TestDirectoryTree(t *testing.T) {
	for _, n := range []int{0, 1, 2, dirFanOut, dirFanOut + 1, dirFanOut*dirFanOut + 1} {
		store := nodes{}
		tree := &dirTree{put: store.put}
		empty, err := (&dirTree{put: store.put}).close(nil)
		if err != nil {
			t.Fatal(err)
		}
		var want []stc.Hash
		for i := range n {
			e := Entry{Name: fmt.Sprintf("%08d", i), Type: TypeFile, Mode: 0o644}
			switch i % 4 {
			case 0:
				e.Ref = Ref{Kind: KindChunk, Hash: stc.Sum([]byte(e.Name)), Size: 7, Chunks: 1}
				want = append(want, e.Ref.Hash)
			case 1:
				e.Type, e.Mode, e.Target = TypeSymlink, 0, "../x"
			case 2:
				e.Type, e.Mode, e.Ref = TypeDirectory, 0o755, empty
			}
			if err := tree.add(e); err != nil {
				t.Fatal(err)
			}
		}
		ref, err := tree.close(&RootInfo{Mode: 0o700})
		if err != nil {
			t.Fatal(err)
		}
		var got []stc.Hash
		for _, chunk := range store.check(t, ref, true) {
			got = append(got, chunk.Hash)
		}
		if !slices.Equal(got, want) || ref.Size != 7*uint64(len(want)) {
			t.Fatalf("%d entries: %d chunks, want %d", n, len(got), len(want))
		}
	}
}

func TestGoldenNodes(t *testing.T) {
	one, two := stc.Hash{0: 0x11, 31: 0x1f}, stc.Hash{0: 0x22, 31: 0x2f}
	h1, h2 := hex.EncodeToString(one[:]), hex.EncodeToString(two[:])
	put := func(want string) func([]byte) (stc.Hash, error) {
		return func(node []byte) (stc.Hash, error) {
			t.Helper()
			if got := hex.EncodeToString(node); got != strings.ReplaceAll(want, " ", "") {
				t.Errorf("\n got %s\nwant %s", got, strings.ReplaceAll(want, " ", ""))
			}
			return stc.Sum(node), nil
		}
	}
	f := &fileTree{chunking: chunking{ChunkerFixed, 18, 12}, put: put("53544d01 01 01 00 01ed 0161 01 12 0c 80040001" + h1 + h2)}
	f.add(one, ChunkSize)
	f.add(two, 1)
	if _, err := f.close(&RootInfo{Name: "a", Mode: 0o755}); err != nil {
		t.Fatal(err)
	}
	v := &fileTree{chunking: chunking{ChunkerCDC, 18, 12}, put: put("53544d01 01 01 00 01ed 0161 02 12 0c 80050001 02 80050000 01" + h1 + h2)}
	v.add(one, 5<<16)
	v.add(two, 1)
	if _, err := v.close(&RootInfo{Name: "a", Mode: 0o755}); err != nil {
		t.Fatal(err)
	}
	d := &dirTree{put: put("53544d01 02 00 00 04 4103 01" +
		" 0161 01 01a4 00" +
		" 0162 01 01a4 4103 01" + h1 +
		" 0163 02 01ed 00 00" + h2 +
		" 0164 03 0001 61")}
	d.add(Entry{Name: "a", Type: TypeFile, Mode: 0o644})
	d.add(Entry{Name: "b", Type: TypeFile, Mode: 0o644, Ref: Ref{Kind: KindChunk, Hash: one, Size: 259, Chunks: 1}})
	d.add(Entry{Name: "c", Type: TypeDirectory, Mode: 0o755, Ref: Ref{Kind: KindDirectory, Hash: two}})
	d.add(Entry{Name: "d", Type: TypeSymlink, Target: "a"})
	if _, err := d.close(nil); err != nil {
		t.Fatal(err)
	}
}

// TestDecodeRefuses changes a valid node in every way that a hostile peer might try first.
func TestDecodeRefuses(t *testing.T) {
	top := []byte("STM\x01\x01\x01\x00\x01\xa4\x01a\x01\x0a\x01")
	hashes := make([]byte, 4*stc.HashSize)
	node := func(b []byte, more ...byte) []byte { return append(slices.Clone(b), more...) }
	dir := []byte("STM\x01\x02\x01\x00\x01\xed\x00")
	entries := func(more string) []byte { return append(slices.Clone(dir), more...) }
	h := make([]byte, stc.HashSize)
	// Of a file of 2 chunks that the content defines, of 256 to 4,096 bytes.
	cdc := []byte("STM\x01\x01\x01\x00\x01\xa4\x01a\x02\x0a\x01")
	sized := func(body string, n int) []byte {
		return append(append(slices.Clone(cdc), body...), hashes[:n*stc.HashSize]...)
	}
	bad := map[string][]byte{
		"empty":                   {},
		"magic":                   []byte("STM\x02\x01\x00\x00"),
		"short":                   top,
		"bytes behind":            append(node(top, 0x44, 0x01), hashes[:33]...),
		"hash missing":            append(node(top, 0x44, 0x01), hashes[:32]...),
		"long integer":            append(node(top, 0x80, 0, 0, 1), hashes[:32]...),
		"too many for a leaf":     append(node(top, 0x4c, 0x00), hashes[:96]...),
		"too high":                append([]byte("STM\x01\x01\x01\x01\x01\xa4\x00\x01\x0a\x01\x44\x00"), hashes[:32]...),
		"chunker":                 append([]byte("STM\x01\x01\x01\x00\x01\xa4\x00\x04\x0a\x01\x01"), hashes[:32]...),
		"sizes missing":           sized("\x41\x01\x02", 2),
		"sum of sizes":            sized("\x41\x02\x02\x41\x00\x01", 2),
		"sum of sizes too high":   sized("\x41\x01\x02\x41\x00\x02", 2),
		"long size":               sized("\x41\x01\x02\x80\x00\x01\x00\x01", 2),
		"short chunk inside":      sized("\x41\x00\x02\x40\xff\x01", 2),
		"chunk too long":          sized("\x50\x02\x02\x50\x01\x01", 2),
		"chunk of no bytes":       sized("\x41\x00\x02\x41\x00\x00", 2),
		"more sizes than hashes":  sized("\x41\x01\x02\x41\x00\x01", 1),
		"too many of any size":    sized("\x44\x00\x03\x41\x00\x41\x00\x42\x00", 3),
		"bytes in no chunk":       sized("\x01\x00", 0),
		"average of 512 KiB":      append([]byte("STM\x01\x01\x01\x00\x01\xa4\x00\x02\x13\x01\x01\x01\x01"), hashes[:32]...),
		"chunks of 2 MiB":         append([]byte("STM\x01\x01\x01\x00\x01\xa4\x00\x01\x15\x01\x01"), hashes[:32]...),
		"flags":                   append([]byte("STM\x01\x01\x02\x00\x01\x0a\x01\x01"), hashes[:32]...),
		"mode":                    append([]byte("STM\x01\x01\x01\x00\x03\xa4\x00\x01\x0a\x01\x01"), hashes[:32]...),
		"root named ..":           append([]byte("STM\x01\x01\x01\x00\x01\xa4\x02..\x01\x0a\x01\x01"), hashes[:32]...),
		"root with a slash":       append([]byte("STM\x01\x01\x01\x00\x01\xa4\x03a/b\x01\x0a\x01\x01"), hashes[:32]...),
		"entry named ..":          entries("\x01\x00\x00\x02..\x01\x01\xa4\x00"),
		"entry with a slash":      entries("\x01\x00\x00\x02/a\x01\x01\xa4\x00"),
		"entry without a name":    entries("\x01\x00\x00\x00\x01\x01\xa4\x00"),
		"entry not UTF-8":         entries("\x01\x00\x00\x01\xff\x01\x01\xa4\x00"),
		"entry with NUL":          entries("\x01\x00\x00\x01\x00\x01\x01\xa4\x00"),
		"unsorted":                entries("\x02\x00\x00\x01b\x01\x01\xa4\x00\x01a\x01\x01\xa4\x00"),
		"twice":                   entries("\x02\x00\x00\x01a\x01\x01\xa4\x00\x01a\x01\x01\xa4\x00"),
		"unknown entry":           entries("\x01\x00\x00\x01a\x04\x01\xa4\x00"),
		"link to nothing":         entries("\x01\x00\x00\x01a\x03\x00\x00"),
		"wrong sum":               append(entries("\x01\x06\x01\x01a\x01\x01\xa4\x05\x01"), h...),
		"bytes without a chunk":   append(entries("\x01\x05\x00\x01a\x01\x01\xa4\x05\x00"), h...),
		"more chunks than bytes":  append(entries("\x01\x05\x06\x01a\x01\x01\xa4\x05\x06"), h...),
		"more bytes than chunks":  append(entries("\x01\x80\x10\x00\x01\x01\x01a\x01\x01\xa4\x80\x10\x00\x01\x01"), h...),
		"too many entries":        node(dir, 0x42, 0x01, 0, 0),
		"entries that aren't":     node(dir, 0x02, 0, 0),
		"longer than a blob":      make([]byte, MaxBlobSize+1),
		"a file's node, not root": append([]byte("STM\x01\x01\x00\x00\x01\x0a\x01\x44\x01"), hashes[:64]...),
	}
	for name, b := range bad {
		if _, err := DecodeRoot(b); !errors.Is(err, ErrManifest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := append(node(top, 0x44, 0x01), hashes[:64]...)
	if _, err := DecodeRoot(good); err != nil {
		t.Fatal(err)
	}
	if n, err := DecodeRoot(sized("\x41\x01\x02\x41\x00\x01", 2)); err != nil || n.Child(0).Size != 256 || n.Child(1).Size != 1 {
		t.Fatal(n, err)
	}
	leaf := append([]byte("STM\x01\x01\x00\x00\x02\x0a\x01\x41\x01\x02\x41\x00\x01"), hashes[:64]...)
	end := Ref{Kind: KindFile, Size: 257, Chunks: 2, inner: true, chunking: chunking{ChunkerCDC, 10, 1}}
	if _, err := end.Decode(leaf); err != nil {
		t.Fatal(err)
	}
	if end.more = true; !isManifestError(end.Decode(leaf)) {
		t.Error("a short chunk in the middle of a file is accepted")
	}
	inner := append([]byte("STM\x01\x01\x00\x00\x01\x0a\x01\x44\x01"), hashes[:64]...)
	ref := Ref{Kind: KindFile, Size: 1025, Chunks: 2}
	if _, err := ref.Decode(inner); err != nil {
		t.Fatal(err)
	}
	for name, ref := range map[string]Ref{
		"size":   {Kind: KindFile, Size: 1026, Chunks: 2},
		"chunks": {Kind: KindFile, Size: 1025, Chunks: 3},
		"kind":   {Kind: KindDirectory, Size: 1025, Chunks: 2},
		"chunk":  {Kind: KindChunk, Size: 1025, Chunks: 1},
		"level":  {Kind: KindFile, Size: 1025, Chunks: 2, inner: true, level: 1, chunking: chunking{ChunkerFixed, 10, 1}},
		"shape":  {Kind: KindFile, Size: 1025, Chunks: 2, inner: true, chunking: chunking{ChunkerFixed, 10, 2}},
	} {
		if _, err := ref.Decode(inner); !errors.Is(err, ErrManifest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ref.Decode(good); !errors.Is(err, ErrManifest) {
		t.Errorf("root inside: %v", err)
	}
}

// TestShortChunkInside has a short chunk at the end of a leaf, which is fine only if the file ends there, however deep the leaf.
func TestShortChunkInside(t *testing.T) {
	for _, at := range []int{1, 3, 5, 7} {
		sizes := slices.Repeat([]int{1024}, 8)
		sizes[at] = 10
		store, top, _ := treeOf(t, chunking{ChunkerCDC, 10, 1}, sizes)
		load := func(ref Ref) (*Node, error) { return ref.Decode(store[ref.Hash]) }
		var err error
		for _, e := range top.Range(0, top.Size, load) {
			err = errors.Join(err, e)
		}
		if errors.Is(err, ErrManifest) != (at < 7) {
			t.Errorf("chunk %d of 8 is short: %v", at, err)
		}
	}
}

func isManifestError(_ *Node, err error) bool { return errors.Is(err, ErrManifest) }

// TestDirectoryRanges puts leaves under a node that promises other names.
func TestDirectoryRanges(t *testing.T) {
	leaf := func(names ...string) []byte {
		var node []byte
		tree := &dirTree{put: func(b []byte) (stc.Hash, error) { node = b; return stc.Hash{}, nil }}
		for _, name := range names {
			tree.add(Entry{Name: name, Type: TypeFile})
		}
		tree.close(nil)
		return node
	}
	ref := Ref{Kind: KindDirectory, inner: true, entries: 2, names: nameRange{"b", "d"}}
	if _, err := ref.Decode(leaf("b", "c")); err != nil {
		t.Fatal(err)
	}
	for _, names := range [][]string{{"a", "b"}, {"b", "d"}, {"c", "cc"}, {"b"}, {"b", "c", "ca"}} {
		if _, err := ref.Decode(leaf(names...)); !errors.Is(err, ErrManifest) {
			t.Errorf("%v: %v", names, err)
		}
	}
}

func FuzzDecodeNode(f *testing.F) {
	root := &RootInfo{Name: "name", Mode: 0o755}
	add := func(b []byte) (stc.Hash, error) { f.Add(b); return stc.Sum(b), nil }
	for _, n := range []int{0, 1, 3, 5} {
		file := &fileTree{chunking: chunking{ChunkerFixed, 10, 1}, put: add}
		varied := &fileTree{chunking: chunking{ChunkerCDC, 10, 1}, put: add}
		ramp := &fileTree{chunking: chunking{ChunkerRamp, 14, rampFanOutLog}, put: add}
		for _, size := range rampSizes(ramp.chunking, int64(n)<<15) {
			ramp.add(stc.Sum([]byte{byte(n)}), size)
		}
		ramp.close(root)
		dir := &dirTree{put: add}
		for i := range n {
			file.add(stc.Sum([]byte{byte(i)}), 1024)
			varied.add(stc.Sum([]byte{byte(i)}), 300*(1+i))
			dir.add(Entry{Name: fmt.Sprint(i), Type: EntryType(1 + i%3), Target: "x", Ref: Ref{Kind: KindChunk, Size: 9, Chunks: 1}})
		}
		file.close(root)
		varied.close(root)
		dir.close(root)
		(&dirTree{put: add}).close(nil)
	}
	var items []byte
	for _, name := range []string{"a", "b"} {
		items = append(append(items, 1), name...)
		items = appendNodeRef(items, 512, 512, stc.Hash{})
	}
	l := dirLevel{entries: 600, size: 1024, chunks: 1024, body: items}
	add(l.encode(1, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := decodeNode(b)
		if err != nil {
			if !errors.Is(err, ErrManifest) {
				t.Fatal(err)
			}
			return
		}
		if got := n.encode(); !bytes.Equal(got, b) {
			t.Fatalf("decoded\n%x\nencoded\n%x", b, got)
		}
		var size, chunks uint64
		for first, ref := range n.All() {
			if first != chunks {
				t.Fatal("ordinals have a gap")
			}
			size, chunks = size+ref.Size, chunks+ref.Chunks
		}
		if size != n.Size || chunks != n.Chunks {
			t.Fatalf("children sum up to %d, %d; node says %d, %d", size, chunks, n.Size, n.Chunks)
		}
		if n.Kind == KindFile && n.Size > 0 {
			for _, off := range []uint64{0, n.Size / 2, n.Size - 1} {
				if i, begin := n.findOffset(off); off < begin || off-begin >= n.Child(i).Size {
					t.Fatalf("wrong place for byte %d", off)
				}
			}
		}
		if n.Chunks > 0 {
			for _, ordinal := range []uint64{0, n.Chunks / 2, n.Chunks - 1} {
				i, first := n.Find(ordinal)
				if ref := n.Child(i); ordinal < first || ordinal-first >= ref.Chunks {
					t.Fatalf("wrong place for chunk %d", ordinal)
				}
			}
		}
		if _, err := DecodeRoot(binary.BigEndian.AppendUint16(b, 0)); err == nil {
			t.Fatal("bytes behind the end are accepted")
		}
	})
}
