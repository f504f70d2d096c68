package content

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/seigr/sttnode/stc"
)

// assembling is a file of which a store has the nodes, and the test the chunks.
type assembling struct {
	store  *Store
	root   stc.Hash
	node   *Node
	data   []byte
	pieces []Piece
}

func newAssembling(t *testing.T, s *Store, data []byte) *assembling {
	t.Helper()
	root, blobs := describe(data, "file")
	memory := nodes{}
	for _, b := range blobs {
		memory[stc.Sum(b)] = b
	}
	a := &assembling{store: s, root: root, data: data}
	var err error
	if a.node, err = DecodeRoot(memory[root]); err != nil {
		t.Fatal(err)
	}
	for piece, err := range a.node.Range(0, a.node.Size, func(ref Ref) (*Node, error) { return ref.Decode(memory[ref.Hash]) }) {
		if err != nil {
			t.Fatal(err)
		}
		a.pieces = append(a.pieces, piece)
		delete(memory, piece.Hash)
	}
	for _, b := range memory {
		if _, err := s.Put(context.Background(), b); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

func (a *assembling) chunk(p Piece) []byte { return a.data[p.Offset : p.Offset+p.Size] }

// TestAssembly gives an assembly some chunks, in any order, and the store the others: the file holds all of them, and is there
// only when it does.
func TestAssembly(t *testing.T) {
	r := rand.New(rand.NewPCG(testSeed(t), 3))
	ctx := context.Background()
	for _, size := range []int{0, 1, 32 << 10, 20*32<<10 + 77} {
		dir := t.TempDir()
		a := newAssembling(t, openTest(t, filepath.Join(dir, "store")), randomBlob(r, size))
		target := filepath.Join(dir, "out")
		as, err := a.store.Assemble(a.root, a.node, target)
		if err != nil {
			t.Fatal(err)
		}
		defer as.Discard()
		r.Shuffle(len(a.pieces), func(i, j int) { a.pieces[i], a.pieces[j] = a.pieces[j], a.pieces[i] })
		given := r.IntN(len(a.pieces) + 1)
		var writers sync.WaitGroup
		for w := range 2 {
			writers.Go(func() {
				for i := w; i < given; i += 2 {
					as.WriteChunk(a.pieces[i].Offset, a.chunk(a.pieces[i]))
				}
			})
		}
		writers.Wait()
		as.WriteChunk(uint64(size), []byte("behind the end"))
		for i, p := range a.pieces[given:] {
			if _, err := as.Finish(ctx, nil); !errors.Is(err, ErrNotFound) {
				t.Fatalf("%d bytes, %d chunks missing: %v", size, len(a.pieces)-given-i, err)
			}
			if _, err := os.Lstat(target); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("%d bytes: something is there too soon: %v", size, err)
			}
			if _, err := a.store.Put(ctx, a.chunk(p)); err != nil {
				t.Fatal(err)
			}
		}
		var last ExportProgress
		got, err := as.Finish(ctx, func(p ExportProgress) { last = p })
		if err != nil || got.Size != uint64(size) || got.Files != 1 || last.Bytes != uint64(size) || last.Total != uint64(size) {
			t.Fatalf("%d bytes: %+v, %v, at the end %+v", size, got, err, last)
		}
		if b, err := os.ReadFile(target); err != nil || !bytes.Equal(b, a.data) {
			t.Fatalf("%d bytes, %d of %d chunks given: wrong bytes, %v", size, given, len(a.pieces), err)
		}
		noParts(t, dir)
	}
}

// TestAssemblyGivenUp leaves nothing behind, whether it was given up in order or with its process.
func TestAssemblyGivenUp(t *testing.T) {
	r := rand.New(rand.NewPCG(testSeed(t), 4))
	dir := t.TempDir()
	a := newAssembling(t, openTest(t, filepath.Join(dir, "store")), randomBlob(r, 5*32<<10))
	target := filepath.Join(dir, "out")
	begin := func() *Assembly {
		as, err := a.store.Assemble(a.root, a.node, target)
		if err != nil {
			t.Fatal(err)
		}
		return as
	}
	killed := begin()
	killed.WriteChunk(a.pieces[1].Offset, []byte("what a killed process has left"))
	if _, err := a.store.Assemble(a.root, a.node, target); !errors.Is(err, ErrTarget) {
		t.Fatalf("two at once: %v", err)
	}
	killed.part.file.Close() // and with it the lock
	as := begin()
	for _, p := range a.pieces {
		if p.Offset != a.pieces[1].Offset {
			as.WriteChunk(p.Offset, a.chunk(p))
		}
	}
	if _, err := as.Finish(context.Background(), nil); !errors.Is(err, ErrNotFound) {
		t.Fatalf("with what was left: %v", err)
	}
	as.Discard()
	noParts(t, dir)
	if _, err := os.Lstat(target); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

// TestAssemblyCannotWrite finds out at the end what went wrong on the way.
func TestAssemblyCannotWrite(t *testing.T) {
	dir := t.TempDir()
	a := newAssembling(t, openTest(t, filepath.Join(dir, "store")), []byte("abc"))
	as, err := a.store.Assemble(a.root, a.node, filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	as.part.file.Close()
	as.WriteChunk(0, a.data)
	if _, err := as.Finish(context.Background(), nil); !errors.Is(err, fs.ErrClosed) {
		t.Fatal(err)
	}
	as.Discard()
	noParts(t, dir)
}

// TestExtents compares with a map.
func TestExtents(t *testing.T) {
	r := rand.New(rand.NewPCG(testSeed(t), 5))
	for range 200 {
		var x extents
		model := make(map[uint64]bool)
		for range 60 {
			from := r.Uint64N(100)
			e := extent{from, from + 1 + r.Uint64N(5)}
			free := true
			for at := e.from; at < e.to; at++ {
				free = free && !model[at]
			}
			if x.add(e) != free {
				t.Fatalf("add %v to %v", e, x)
			}
			for at := e.from; free && at < e.to; at++ {
				model[at] = true
			}
			for at := range uint64(110) {
				if x.contains(at) != model[at] {
					t.Fatalf("%d in %v", at, x)
				}
			}
			for i := 1; i < len(x); i++ {
				if x[i-1].to >= x[i].from {
					t.Fatalf("overlap or touch: %v", x)
				}
			}
		}
	}
}
