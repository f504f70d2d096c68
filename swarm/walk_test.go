package swarm

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

// walkAll drives a frontier against a store to the end. Nodes come back after
// others that were handed out later, as they do from a network.
func walkAll(t *testing.T, store *memStore, root stc.Hash, seed uint64) (chunks []step, mostOut int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 4))
	f := newFrontier(selection{})
	out := []step{f.begin(root)}
	for !f.done() {
		mostOut = max(mostOut, len(out))
		if len(out) > 0 {
			i := rng.IntN(len(out))
			s := out[i]
			out = append(out[:i], out[i+1:]...)
			n, err := s.decode(store.blobs[s.ref.Hash])
			if err != nil {
				t.Fatal(err)
			}
			if err := f.expand(s, n); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range f.take(nil, 1+rng.IntN(50)) {
			switch {
			case s.repeated:
			case s.node():
				out = append(out, s)
			default:
				chunks = append(chunks, s)
			}
		}
	}
	if f.memory != 0 || f.awaited != 0 {
		t.Errorf("%d and %d bytes accounted for at the end", f.memory, f.awaited)
	}
	return chunks, mostOut
}

// Every chunk is handed out once, under the ordinal that it has in the order
// of names and bytes.
func TestFrontierOrdinals(t *testing.T) {
	seed := testSeed(t)
	store := newMemStore()
	var data []byte
	file := func(i uint64, n int) testRef {
		b := randomBytes(i, n)
		data = append(data, b...)
		return store.putFile(b, 10, false)
	}
	inner := store.putDir([]testRef{file(1, 100), file(2, 300_000), {}, file(3, 5000)}, false)
	middle := file(4, 70_000)
	empty := store.putDir(nil, false)
	last := store.putDir([]testRef{empty, file(5, 1)}, false)
	root := store.putDir([]testRef{inner, empty, middle, last}, true)

	// The chunks of the files in order, cut as putFile does.
	var want []stc.Hash
	for _, n := range []int{100, 300_000, 5000, 70_000, 1} {
		part := data[:n]
		data = data[n:]
		for len(part) > 0 {
			k := min(len(part), 1<<10)
			want = append(want, stc.Sum(part[:k]))
			part = part[k:]
		}
	}
	for range 20 {
		chunks, _ := walkAll(t, store, root.hash, seed)
		seed++
		if len(chunks) != len(want) {
			t.Fatalf("%d chunks, want %d", len(chunks), len(want))
		}
		seen := make(map[uint64]bool)
		for _, c := range chunks {
			if want[c.first] != c.ref.Hash || seen[c.first] {
				t.Fatalf("chunk %d is %v, want %v", c.first, c.ref.Hash, want[c.first])
			}
			seen[c.first] = true
		}
	}
}

// A directory of many files with manifests of their own has many nodes on the
// way at once.
func TestFrontierPipelines(t *testing.T) {
	store := newMemStore()
	var files []testRef
	for i := range 512 {
		files = append(files, store.putFile(randomBytes(uint64(i), 3000), 10, false))
	}
	root := store.putDir(files, true)
	chunks, mostOut := walkAll(t, store, root.hash, 1)
	if len(chunks) != 3*512 || mostOut < 32 {
		t.Errorf("%d chunks, at most %d nodes on their way", len(chunks), mostOut)
	}
}

// A file of a tebibyte is walked within the memory of a few nodes.
func TestFrontierMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector, which shorter tests serve as well")
	}
	const fanOut, chunkLog = 12, 18
	size := uint64(1) << 40
	// Node hashes say level and first chunk; the frontier does not verify.
	node := func(level byte, first uint64, root bool) []byte {
		span := uint64(1) << (fanOut * (uint(level) + 1))
		bytes := min(size-first<<chunkLog, span<<chunkLog)
		b := append(nodeHeader(1, level, root), 1, chunkLog, fanOut)
		b = frame.AppendVarint(b, bytes)
		for at := uint64(0); at < bytes>>chunkLog; at += span >> fanOut {
			var h stc.Hash
			h[0] = level
			binary.BigEndian.PutUint64(h[1:], first+at)
			b = append(b, h[:]...)
		}
		return b
	}
	f := newFrontier(selection{})
	out := []step{f.begin(stc.Hash{2})}
	chunks, most, nodes := uint64(0), 0, 0
	var steps []step
	for !f.done() {
		for _, s := range out {
			n, err := s.decode(node(s.ref.Hash[0]-1, s.first, s.root))
			if err != nil {
				t.Fatal(err)
			}
			if err := f.expand(s, n); err != nil {
				t.Fatal(err)
			}
			nodes++
		}
		out = out[:0]
		most = max(most, f.memory+f.awaited)
		steps = f.take(steps[:0], 256)
		for _, s := range steps {
			if s.node() {
				out = append(out, s)
			} else {
				chunks++
			}
		}
	}
	if chunks != size>>chunkLog || nodes != 1025 {
		t.Errorf("%d chunks, %d nodes", chunks, nodes)
	}
	if most > frontierMemory {
		t.Errorf("the frontier took up to %d bytes", most)
	}
}

// Directories that are nested without end, each with much beside the next one,
// are refused before they take the memory.
func TestFrontierDepth(t *testing.T) {
	store := newMemStore()
	at := store.putDir(nil, false)
	small := store.putFile([]byte("x"), 10, false)
	wide := make([]testRef, 400)
	for i := range wide {
		wide[i] = small
	}
	for range 1000 {
		wide[0] = at
		at = store.putDir(wide, false)
	}
	f := newFrontier(selection{})
	s := f.begin(store.putDir([]testRef{at}, true).hash)
	for {
		n, err := s.decode(store.blobs[s.ref.Hash])
		if err != nil {
			t.Fatal(err)
		}
		if err := f.expand(s, n); err != nil {
			if !errors.Is(err, ErrBadManifest) {
				t.Error(err)
			}
			return
		}
		steps := f.take(nil, 1)
		if len(steps) != 1 || !steps[0].node() {
			t.Fatal("walked to the end")
		}
		s = steps[0]
		if f.memory > frontierLimit {
			t.Fatalf("%d bytes", f.memory)
		}
	}
}
