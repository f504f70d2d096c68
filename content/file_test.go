package content

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"sort"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/seigr/sttnode/content/internal/faultfs"
	"github.com/seigr/sttnode/stc"
)

// storeDescribed stores the blobs of a file, cut as describe does, and returns its root and its bytes.
func storeDescribed(t *testing.T, s *Store, r *rand.Rand, size int) (stc.Hash, []byte) {
	t.Helper()
	data := randomBlob(r, size)
	root, blobs := describe(data, "file")
	if _, err := s.PutMany(context.Background(), blobs); err != nil {
		t.Fatal(err)
	}
	return root, data
}

// TestFile reads files of many sizes, in chunks of 32 KiB under a binary tree, in every way that there is.
func TestFile(t *testing.T) {
	seed := testSeed(t)
	r := rand.New(rand.NewPCG(seed, 1))
	s, err := openFault(faultfs.New(seed))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const chunk = 32 << 10
	for _, size := range []int{0, 1, chunk - 1, chunk, chunk + 1, 3*chunk + 7, 9 * chunk} {
		root, want := storeDescribed(t, s, r, size)
		f, err := s.OpenFile(root)
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(f, want); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		for range 50 {
			off, n := r.IntN(size+10), r.IntN(3*chunk)
			got := make([]byte, n)
			have, err := f.ReadAt(got, int64(off))
			wanted := want[min(off, size):min(off+n, size)]
			if !bytes.Equal(got[:have], wanted) || (err == io.EOF) != (have < n) || err != nil && err != io.EOF {
				t.Fatalf("%d bytes of %d at %d: %d, %v", n, size, off, have, err)
			}
			if _, err := f.Seek(int64(off), io.SeekStart); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if n, err := f.WriteTo(&out); err != nil || int(n) != out.Len() || !bytes.Equal(out.Bytes(), want[min(off, size):]) {
				t.Fatalf("from %d of %d: %d, %v", off, size, n, err)
			}
			if at, err := f.Seek(0, io.SeekCurrent); err != nil || at != int64(max(off, size)) && at != int64(off) {
				t.Fatalf("at %d behind WriteTo: %v", at, err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFileBesideItself(t *testing.T) {
	s, err := openFault(faultfs.New(1))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	root, want := storeDescribed(t, s, rand.New(rand.NewPCG(1, 1)), 20*32<<10+5)
	f, err := s.OpenFile(root)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var readers sync.WaitGroup
	for worker := range uint64(4) {
		readers.Go(func() {
			r := rand.New(rand.NewPCG(2, worker))
			got := make([]byte, 40<<10)
			for range 200 {
				off := r.IntN(len(want))
				n, err := f.ReadAt(got[:r.IntN(len(got))], int64(off))
				if err != nil && err != io.EOF || !bytes.Equal(got[:n], want[off:off+n]) {
					t.Errorf("at %d: %d, %v", off, n, err)
				}
			}
		})
	}
	readers.Wait()
}

func TestFileErrors(t *testing.T) {
	ctx := context.Background()
	s, err := openFault(faultfs.New(1))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const chunk = 32 << 10
	root, want := storeDescribed(t, s, rand.New(rand.NewPCG(1, 1)), 4*chunk)
	if _, err := s.OpenFile(stc.Sum(want)); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	f, err := s.OpenFile(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(ctx, stc.Sum(want[2*chunk:3*chunk])); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4*chunk)
	if n, err := f.ReadAt(got, 10); !errors.Is(err, ErrNotFound) || n != 2*chunk-10 || !bytes.Equal(got[:n], want[10:2*chunk]) {
		t.Fatalf("across a missing chunk: %d, %v", n, err)
	}
	if n, err := f.ReadAt(got[:chunk], 3*chunk); err != nil || !bytes.Equal(got[:n], want[3*chunk:]) {
		t.Fatalf("behind a missing chunk: %v", err)
	}
	if _, err := f.ReadAt(got, -1); !errors.Is(err, fs.ErrInvalid) {
		t.Fatal(err)
	}
	if _, err := f.Seek(-1, io.SeekCurrent); !errors.Is(err, fs.ErrInvalid) {
		t.Fatal(err)
	}
	other, err := s.OpenFile(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{f.Close(), second(f.Read(nil)), second(f.ReadAt(got, 0)), second(f.Seek(0, 0)), second(f.WriteTo(io.Discard)), second(f.Stat())} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("behind Close: %v", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := other.ReadAt(got[:1], 0); !errors.Is(err, ErrClosed) {
		t.Fatalf("behind the store's Close: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// TestRange asks for every range of a file, and for no node that does not lead there.
func TestRange(t *testing.T) {
	const chunk = 1 << minChunkLog
	for chunks := range 20 {
		for _, c := range []chunking{{ChunkerFixed, minChunkLog, 1}, {ChunkerCDC, minChunkLog, 1}} {
			for _, last := range []int{1, chunk} {
				sizes := make([]int, chunks)
				for i := range chunks {
					sizes[i] = chunk
					if i == chunks-1 {
						sizes[i] = last
					} else if c.chunker == ChunkerCDC {
						sizes[i] = c.shortest() + i*997%(c.longest()-c.shortest())
					}
				}
				store, top, starts := treeOf(t, c, sizes)
				for from := range chunks + 1 {
					for to := from; to <= chunks+1; to++ {
						off, end := starts[from]+from%3, starts[min(to, chunks)]+chunk*(to-min(to, chunks))-to%3
						checkRange(t, store, top, starts, off, max(0, end-off))
					}
				}
			}
		}
	}
}

// treeOf returns the tree over chunks of some sizes, its top, and where in the file they begin, and it ends.
func treeOf(t *testing.T, c chunking, sizes []int) (store nodes, top *Node, starts []int) {
	t.Helper()
	store, starts = nodes{}, []int{0}
	tree := &fileTree{chunking: c, put: store.put}
	for i, size := range sizes {
		if err := tree.add(stc.Sum([]byte{byte(i)}), size); err != nil {
			t.Fatal(err)
		}
		starts = append(starts, starts[i]+size)
	}
	ref, err := tree.close(&RootInfo{})
	if err != nil {
		t.Fatal(err)
	}
	if top, err = DecodeRoot(store[ref.Hash]); err != nil {
		t.Fatal(err)
	}
	return store, top, starts
}

// checkRange asks for one range of a file whose chunks begin at starts, the last of which is the file's end.
func checkRange(t *testing.T, store nodes, top *Node, starts []int, off, length int) {
	t.Helper()
	size := starts[len(starts)-1]
	// The chunk of a byte is the last that begins at or below it.
	chunkOf := func(off int) int { return sort.SearchInts(starts, off+1) - 1 }
	first, last := 0, -1
	if off < size && length > 0 {
		first, last = chunkOf(off), chunkOf(min(off+length, size)-1)
	}
	asked := 0
	load := func(ref Ref) (*Node, error) {
		asked++
		return ref.Decode(store[ref.Hash])
	}
	i := first
	for piece, err := range top.Range(uint64(off), uint64(length), load) {
		if err != nil {
			t.Fatal(err)
		}
		if piece.Hash != stc.Sum([]byte{byte(i)}) || piece.Offset != uint64(starts[i]) {
			t.Fatalf("bytes %d to %d of %d: chunk at %d where %d was expected", off, off+length, size, piece.Offset, starts[i])
		}
		i++
	}
	if i != last+1 {
		t.Fatalf("bytes %d to %d of %d: ends at chunk %d, not %d", off, off+length, size, i, last+1)
	}
	// Of each level below the top, the nodes from that above the first chunk to that above the last.
	need := 0
	for level := range top.Level {
		if span := int(top.chunking.span(level)); last >= first {
			need += last/span - first/span + 1
		}
	}
	if asked != need {
		t.Fatalf("bytes %d to %d of %d: %d nodes read, %d lead there", off, off+length, size, asked, need)
	}
}

func TestRangeError(t *testing.T) {
	store := nodes{}
	tree := &fileTree{chunking: chunking{ChunkerFixed, minChunkLog, 1}, put: store.put}
	for i := range 8 {
		tree.add(stc.Sum([]byte{byte(i)}), 1<<minChunkLog)
	}
	ref, _ := tree.close(&RootInfo{})
	top, err := DecodeRoot(store[ref.Hash])
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	var errs []error
	for _, err := range top.Range(0, maxTotal, func(Ref) (*Node, error) { return nil, broken }) {
		errs = append(errs, err)
	}
	if len(errs) != 1 || errs[0] != broken {
		t.Fatalf("%v", errs)
	}
	for range top.Range(0, maxTotal, func(ref Ref) (*Node, error) { return ref.Decode(store[ref.Hash]) }) {
		break // which must be possible
	}
}

// TestFileOfTenTebibytes reads from the end of a file of the same chunk again and again, whose manifest is three nodes and two
// chunks.
func TestFileOfTenTebibytes(t *testing.T) {
	ctx := context.Background()
	s, err := openFault(faultfs.New(1))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	chunk := bytes.Repeat([]byte("0123456789abcdef"), ChunkSize/16)
	put := func(b []byte) stc.Hash {
		h, err := s.Put(ctx, b)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	const fanOut = 1 << 12
	tree := fileTree{chunking: chunking{ChunkerFixed, 18, 12}}
	hashes := put(chunk)
	node := func(level uint8, n int, below stc.Hash, root *RootInfo) stc.Hash {
		size := uint64(n) * ChunkSize
		if level > 0 {
			size = uint64(n) * tree.chunking.span(level-1) * ChunkSize
		}
		return put(tree.encode(level, root, &fileLevel{size: size, hashes: bytes.Repeat(below[:], n)}))
	}
	leaf := node(0, fanOut, hashes, nil)
	middle := node(1, fanOut, leaf, nil)
	root := node(2, 3, middle, &RootInfo{Name: "huge"})
	f, err := s.OpenFile(root)
	if err != nil {
		t.Fatal(err)
	}
	const size = 3 << 42
	if end, err := f.Seek(-5, io.SeekEnd); err != nil || end != size-5 {
		t.Fatal(end, err)
	}
	if got, err := io.ReadAll(f); err != nil || string(got) != "bcdef" {
		t.Fatalf("%q %v", got, err)
	}
	got := make([]byte, 20)
	if _, err := f.ReadAt(got, 5<<40+ChunkSize-4); err != nil || string(got) != "cdef0123456789abcdef" {
		t.Fatalf("%q %v", got, err)
	}
}
