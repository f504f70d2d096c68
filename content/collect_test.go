package content

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/seigr/sttnode/content/internal/faultfs"
	"github.com/seigr/sttnode/stc"
)

// palette is what the contents of a test are made of, so that they share chunks.
func palette(n int) [][]byte {
	r := rand.New(rand.NewPCG(9, 9))
	chunks := make([][]byte, n)
	for i := range chunks {
		chunks[i] = randomBlob(r, 1024)
		if i%2 == 0 {
			chunks[i] = randomBlob(r, 32<<10)
		}
	}
	return chunks
}

// TestCollectExactly leaves what pins need and nothing else.
func TestCollectExactly(t *testing.T) {
	ctx := context.Background()
	seed := testSeed(t)
	r := rand.New(rand.NewPCG(seed, 5))
	s, err := openFault(faultfs.New(seed))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	chunks := palette(20)
	var roots []stc.Hash
	for i := range 12 {
		var data []byte
		for range 1 + r.IntN(6) {
			data = append(data, chunks[2*r.IntN(len(chunks)/2)]...)
		}
		got, err := s.ImportReader(ctx, bytes.NewReader(data), ImportOptions{Name: fmt.Sprint(i), Chunker: ChunkerFixed, ChunkSize: 32 << 10})
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, got.Root)
	}
	if _, err := s.PutMany(ctx, chunks); err != nil { // those that nothing refers to
		t.Fatal(err)
	}
	r.Shuffle(len(roots), func(i, j int) { roots[i], roots[j] = roots[j], roots[i] })
	for i, root := range roots {
		before := s.Stats()
		var freed Freed
		if i%2 == 0 {
			freed, err = s.Remove(ctx, root)
		} else {
			if err := s.Unpin(ctx, root); err != nil {
				t.Fatal(err)
			}
			var would Freed
			if would, err = s.GC(ctx, true); err != nil || s.Stats() != before {
				t.Fatalf("dry run: %v", err)
			}
			if freed, err = s.GC(ctx, false); would != freed {
				t.Fatalf("dry run said %+v, then %+v was freed", would, freed)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if after := s.Stats(); before.Blobs-after.Blobs != freed.Blobs || before.Bytes-after.Bytes != freed.Bytes {
			t.Fatalf("%+v, %+v, freed %+v", before, after, freed)
		}
		if r, err := s.Verify(ctx, nil); err != nil || !r.OK() {
			t.Fatalf("%+v, %v", r, err)
		}
		for _, kept := range roots[i+1:] {
			if _, err := s.ExportTo(ctx, kept, io.Discard, nil); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Remove(ctx, stc.Sum([]byte("absent"))); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
	}
	if _, err := s.GC(ctx, false); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Blobs != 0 || st.SegmentBytes != 0 || st.Segments > 1 {
		t.Fatalf("left: %+v", st)
	}
}

// TestCollectBeside runs imports, downloads, removals, collections and readers beside each other, over contents that share
// most of what they are made of. Whatever is pinned as complete at the end is whole, and nobody ever reads a damaged blob.
func TestCollectBeside(t *testing.T) {
	ctx := context.Background()
	seed := testSeed(t)
	s, err := openFault(faultfs.New(seed))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	chunks := palette(12)
	hashes := make([]stc.Hash, len(chunks))
	for i, c := range chunks {
		hashes[i] = stc.Sum(c)
	}
	steps := 60
	if testing.Short() {
		steps = 10
	}
	// A content is made of a few chunks and has a name that only one goroutine uses.
	source := func(r *rand.Rand) []byte {
		var data []byte
		for range 1 + r.IntN(5) {
			data = append(data, chunks[2*r.IntN(len(chunks)/2)]...)
		}
		return data
	}
	var movers, others sync.WaitGroup
	done := make(chan struct{})
	for worker := range 2 {
		r := rand.New(rand.NewPCG(seed, uint64(worker)))
		movers.Go(func() { // imports and removes
			var mine []stc.Hash
			for step := range steps {
				got, err := s.ImportReader(ctx, bytes.NewReader(source(r)),
					ImportOptions{Name: fmt.Sprint(worker, step), ChunkSize: 32 << 10})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := s.ExportTo(ctx, got.Root, io.Discard, nil); err != nil {
					t.Errorf("imported and pinned: %v", err)
				}
				if mine = append(mine, got.Root); len(mine) > 2 {
					i := r.IntN(len(mine))
					if _, err := s.Remove(ctx, mine[i]); err != nil {
						t.Error(err)
					}
					mine = append(mine[:i], mine[i+1:]...)
				}
			}
		})
		movers.Go(func() { // downloads: top down, storing what Has denies
			r := rand.New(rand.NewPCG(seed, uint64(10+worker)))
			for step := range steps {
				root, blobs := describe(source(r), fmt.Sprint("d", worker, step))
				if err := s.Pin(ctx, root, PinInfo{State: PinPartial}); err != nil {
					t.Error(err)
				}
				for _, b := range blobs {
					h := stc.Sum(b)
					if ok, err := s.Has(h); err != nil {
						t.Error(err)
					} else if ok {
						continue
					}
					if err := s.PutVerified(ctx, []stc.Hash{h}, [][]byte{b}); err != nil {
						t.Error(err)
					}
				}
				if err := s.Pin(ctx, root, PinInfo{State: PinComplete}); err != nil {
					t.Error(err)
				}
				if _, err := s.ExportTo(ctx, root, io.Discard, nil); err != nil {
					t.Errorf("fetched and pinned: %v", err)
				}
				if step%2 == 0 {
					if _, err := s.Remove(ctx, root); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	idle := func(f func()) {
		others.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					f()
				}
			}
		})
	}
	idle(func() {
		if _, err := s.GC(ctx, false); err != nil {
			t.Error(err)
		}
	})
	idle(func() {
		for i, h := range hashes {
			got, err := s.Get(nil, h)
			if err == nil && !bytes.Equal(got, chunks[i]) || err != nil && !errors.Is(err, ErrNotFound) {
				t.Errorf("reader: %v", err)
			}
		}
	})
	movers.Wait()
	close(done)
	others.Wait()
	if r, err := s.Verify(ctx, nil); err != nil || !r.OK() {
		t.Fatalf("%+v, %v", r, err)
	}
	pins, err := s.Pins()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pins {
		if _, err := s.Remove(ctx, p.Root); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.GC(ctx, false); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Blobs != 0 {
		t.Fatalf("left: %+v", st)
	}
}

// describe returns the blobs of a file, parents first.
func describe(data []byte, name string) (root stc.Hash, blobs [][]byte) {
	var nodes [][]byte
	tree := &fileTree{chunking: chunking{ChunkerFixed, 15, 1}, put: func(node []byte) (stc.Hash, error) {
		nodes = append([][]byte{node}, nodes...)
		return stc.Sum(node), nil
	}}
	var chunks [][]byte
	for len(data) > 0 {
		n := min(len(data), 32<<10)
		chunks = append(chunks, data[:n])
		tree.add(stc.Sum(data[:n]), n)
		data = data[n:]
	}
	ref, _ := tree.close(&RootInfo{Name: name, Mode: 0o644})
	return ref.Hash, append(nodes, chunks...)
}

// TestCollectRefuses frees nothing while nobody knows what a damaged content needs.
func TestCollectRefuses(t *testing.T) {
	ctx := context.Background()
	s, err := openFault(faultfs.New(1))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := rand.New(rand.NewPCG(1, 1))
	damaged, err := s.ImportReader(ctx, bytes.NewReader(randomBlob(r, 100<<10)), ImportOptions{Chunker: ChunkerFixed, ChunkSize: 32 << 10})
	if err != nil {
		t.Fatal(err)
	}
	other, err := s.ImportReader(ctx, bytes.NewReader(randomBlob(r, 100<<10)), ImportOptions{Chunker: ChunkerFixed, ChunkSize: 32 << 10})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(ctx, damaged.Root); err != nil {
		t.Fatal(err)
	}
	before := s.Stats()
	if _, err := s.GC(ctx, false); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if _, err := s.Remove(ctx, other.Root); !errors.Is(err, ErrNotFound) || s.Stats() != before {
		t.Fatal(err)
	}
	report, err := s.Verify(ctx, nil)
	if err != nil || len(report.Incomplete) != 1 || report.Incomplete[0] != damaged.Root || report.Missing[0] != damaged.Root {
		t.Fatalf("%+v %v", report, err)
	}
	// As a partial content it may be incomplete.
	if err := s.Pin(ctx, damaged.Root, PinInfo{State: PinPartial}); err != nil {
		t.Fatal(err)
	}
	if freed, err := s.GC(ctx, false); err != nil || freed.Blobs != 9 {
		t.Fatalf("%+v %v", freed, err)
	}
}

func TestPins(t *testing.T) {
	ctx := context.Background()
	fsys := faultfs.New(1)
	s, err := openFault(fsys)
	if err != nil {
		t.Fatal(err)
	}
	a, b := stc.Sum([]byte("a")), stc.Sum([]byte("b"))
	if err := s.Pin(ctx, a, PinInfo{Name: "first", State: PinPartial, Size: 7}); err != nil {
		t.Fatal(err)
	}
	if err := s.Pin(ctx, b, PinInfo{State: PinPartial}); err != nil {
		t.Fatal(err)
	}
	if err := s.Pin(ctx, a, PinInfo{Name: "renamed", State: PinComplete, Size: 8}); err != nil {
		t.Fatal(err)
	}
	if err := s.Pin(ctx, a, PinInfo{State: 7}); err == nil {
		t.Fatal("pin of an unknown state")
	}
	for range 2 {
		pins, err := s.Pins()
		if err != nil || len(pins) != 2 {
			t.Fatalf("%v %v", pins, err)
		}
		if p, ok, err := s.PinInfo(a); err != nil || !ok || p.Name != "renamed" || p.State != PinComplete || p.Size != 8 || p.Added.IsZero() {
			t.Fatalf("%+v %v %v", p, ok, err)
		}
		s.Close()
		// The pins outlive the index.
		for _, name := range fsys.Files() {
			if bytes.HasPrefix([]byte(name), []byte(faultDir+"/"+indexName)) {
				fsys.Remove(name)
			}
		}
		if s, err = openFault(fsys); err != nil {
			t.Fatal(err)
		}
	}
	defer s.Close()
	if err := s.Unpin(ctx, a); err != nil {
		t.Fatal(err)
	}
	if p, ok, err := s.PinInfo(a); err != nil || !ok || !p.Cached || p.Name != "renamed" || p.State != PinComplete {
		t.Fatalf("%+v %v %v", p, ok, err)
	}
	if _, err := s.GC(ctx, false); err != nil {
		t.Fatal(err)
	}
	if err := s.Unpin(ctx, a); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if pins, _ := s.Pins(); len(pins) != 1 || pins[0].Root != b || pins[0].Cached {
		t.Fatalf("%v", pins)
	}
}

func TestBloom(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	random := func() (h stc.Hash) {
		for i := range h {
			h[i] = byte(r.Uint32())
		}
		return h
	}
	const n = 100_000
	fixed, grown := newBloom(n), new(hashSet)
	added := make([]stc.Hash, n)
	for i := range added {
		added[i] = random()
		fixed.add(added[i])
		grown.add(added[i])
	}
	for _, h := range added {
		if !fixed.has(h) || !grown.has(h) {
			t.Fatal("something added is not there")
		}
	}
	wrong := 0
	for range n {
		h := random()
		if fixed.has(h) {
			wrong++
		}
		if grown.has(h) {
			wrong++
		}
	}
	if wrong > n/20 {
		t.Fatalf("%d of %d answers are wrong", wrong, 2*n)
	}
}
