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
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/content/internal/faultfs"
	"github.com/seigr/sttnode/stc"
)

// importRandom stores a file of random bytes.
func importRandom(t *testing.T, s *Store, r *rand.Rand, name string, size int) stc.Hash {
	t.Helper()
	got, err := s.ImportReader(context.Background(), bytes.NewReader(randomBlob(r, size)), ImportOptions{Name: name, Chunker: ChunkerFixed, ChunkSize: 32 << 10})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return got.Root
}

// names returns the names of the contents that the store knows and holds whole.
func names(t *testing.T, s *Store) (names []string) {
	t.Helper()
	pins, err := s.Pins()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pins {
		if _, err := s.ExportTo(context.Background(), p.Root, io.Discard, nil); err != nil {
			t.Fatalf("%s is known and not whole: %v", p.Name, err)
		}
		names = append(names, p.Name)
	}
	slices.Sort(names)
	return names
}

func wantNames(t *testing.T, s *Store, want ...string) {
	t.Helper()
	if got := names(t, s); !slices.Equal(got, want) {
		t.Fatalf("the store holds %v, want %v", got, want)
	}
}

func unpin(t *testing.T, s *Store, roots ...stc.Hash) {
	t.Helper()
	for _, root := range roots {
		if err := s.Unpin(context.Background(), root); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCollectCached keeps what is cached until it is collected, and what is pinned or held beyond that.
func TestCollectCached(t *testing.T) {
	ctx := context.Background()
	r := rand.New(rand.NewPCG(1, 1))
	var dropped []stc.Hash
	s, err := open(faultfs.New(1), faultDir, Config{OnDrop: func(h stc.Hash) { dropped = append(dropped, h) }}, 256<<10)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	pinned, cached, held := importRandom(t, s, r, "pinned", 1e5), importRandom(t, s, r, "cached", 1e5), importRandom(t, s, r, "held", 1e5)
	again := importRandom(t, s, r, "pinned again", 1e5)
	unpin(t, s, cached, held, again)
	release := s.Hold(held)
	wantNames(t, s, "cached", "held", "pinned", "pinned again")
	if _, err := s.PinStored(ctx, again, ""); err != nil {
		t.Fatal(err)
	}
	would, err := s.GC(ctx, true)
	if err != nil {
		t.Fatal(err)
	}
	if len(dropped) > 0 {
		t.Fatal("dropped by a dry run")
	}
	if freed, err := s.GC(ctx, false); err != nil || freed != would || freed.Contents != 1 || freed.Blobs != 5 {
		t.Fatalf("%+v, dry run %+v, %v", freed, would, err)
	}
	wantNames(t, s, "held", "pinned", "pinned again")
	if !slices.Equal(dropped, []stc.Hash{cached}) {
		t.Fatalf("told of %v", dropped)
	}
	release()
	release()
	if _, err := s.GC(ctx, false); err != nil {
		t.Fatal(err)
	}
	wantNames(t, s, "pinned", "pinned again")
	if r, err := s.Verify(ctx, nil); err != nil || !r.OK() {
		t.Fatalf("%+v %v", r, err)
	}
	// A cached content that is damaged is no reason to keep garbage, and is none itself.
	unpin(t, s, pinned)
	defer s.Hold(again)()
	if err := s.Delete(ctx, pinned); err != nil {
		t.Fatal(err)
	}
	if freed, err := s.GC(ctx, false); err != nil || freed.Contents != 1 {
		t.Fatalf("%+v %v", freed, err)
	}
	wantNames(t, s, "pinned again")
}

// TestPinStored pins what a lost pin has left.
func TestPinStored(t *testing.T) {
	ctx := context.Background()
	s, err := openFault(faultfs.New(1))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	root, blobs := describe(randomBlob(rand.New(rand.NewPCG(1, 1)), 100<<10), "film")
	if _, err := s.PinStored(ctx, root, ""); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if _, err := s.PutMany(ctx, blobs[:len(blobs)-1]); err != nil {
		t.Fatal(err)
	}
	if p, err := s.PinStored(ctx, root, ""); err != nil || p.State != PinPartial || p.Name != "film" || p.Size != 100<<10 {
		t.Fatalf("%+v %v", p, err)
	}
	if err := s.forget(ctx, root, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutMany(ctx, blobs); err != nil {
		t.Fatal(err)
	}
	if p, err := s.PinStored(ctx, root, "another name"); err != nil || p.State != PinComplete || p.Name != "another name" {
		t.Fatalf("%+v %v", p, err)
	}
	wantNames(t, s, "another name")
}

// TestCollectSparesNewlyHeld holds contents whose blobs are about to be collected.
func TestCollectSparesNewlyHeld(t *testing.T) {
	held(t, func(t *testing.T, fsys *faultfs.FS, s *Store) {
		_, contents, resume := collectHeld(t, fsys, s)
		var whole []stc.Hash
		s.mu.Lock()
		for _, c := range contents {
			if s.deleting[c[0]] == nil && s.deleting[c[1]] == nil {
				whole = c
			}
		}
		s.mu.Unlock()
		release := s.Hold(whole[0])
		resume()
		defer release()
		if _, err := s.ExportTo(context.Background(), whole[0], io.Discard, nil); err != nil {
			t.Fatalf("held while it was whole: %v", err)
		}
	})
}

// limited opens a store with room for about three contents of 100 KB.
func limited(t *testing.T, fsys *faultfs.FS) *Store {
	t.Helper()
	s, err := open(fsys, faultDir, Config{MaxBytes: 320 << 10}, 256<<10)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestLimit drops the least recently used of the cached contents, also behind a restart.
func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := faultfs.New(1)
		s := limited(t, fsys)
		r := rand.New(rand.NewPCG(1, 1))
		roots := make(map[string]stc.Hash)
		add := func(name string) {
			t.Helper()
			roots[name] = importRandom(t, s, r, name, 100<<10)
			time.Sleep(time.Hour)
		}
		use := func(name string) {
			t.Helper()
			s.Use(roots[name])
			time.Sleep(time.Hour)
		}
		known := func(want ...string) {
			t.Helper()
			pins, err := s.Pins()
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range pins {
				got = append(got, p.Name)
			}
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Fatalf("the store knows %v, want %v", got, want)
			}
		}
		add("a")
		add("b")
		add("c")
		unpin(t, s, roots["a"], roots["b"], roots["c"])
		use("b")
		use("a")
		add("d") // in place of c, which nobody has used
		known("a", "b", "d")
		unpin(t, s, roots["d"])
		use("b") // not written yet when the store closes
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = limited(t, fsys)
		add("e") // in place of a
		known("b", "d", "e")
		wantNames(t, s, "b", "d", "e")
		if r, err := s.Verify(context.Background(), nil); err != nil || !r.OK() {
			t.Fatalf("%+v %v", r, err)
		}
		if taken := s.taken(); taken != s.Stats().Bytes || taken > 320<<10 {
			t.Fatalf("%d bytes, %+v", taken, s.Stats())
		}
		s.Close()
		<-time.After(2 * time.Second) // in the bubble's time: goleveldb's mpoolDrain
	})
}

// TestLimitOfPins stores nothing over what is pinned, and says so.
func TestLimitOfPins(t *testing.T) {
	ctx := context.Background()
	s := limited(t, faultfs.New(1))
	defer s.Close()
	r := rand.New(rand.NewPCG(1, 1))
	var pinned []stc.Hash
	for i := range 3 {
		pinned = append(pinned, importRandom(t, s, r, fmt.Sprint(i), 100<<10))
	}
	_, err := s.ImportReader(ctx, bytes.NewReader(randomBlob(r, 100<<10)), ImportOptions{Name: "more", Chunker: ChunkerFixed, ChunkSize: 32 << 10})
	var limit *LimitError
	if !errors.Is(err, ErrLimit) || !errors.As(err, &limit) || limit.Limit != 320<<10 || limit.Fixed < 300<<10 {
		t.Fatal(err)
	}
	wantNames(t, s, "0", "1", "2")
	// What is here already needs no room.
	data := randomBlob(rand.New(rand.NewPCG(1, 1)), 100<<10)
	if _, err := s.ImportReader(ctx, bytes.NewReader(data), ImportOptions{Name: "0", Chunker: ChunkerFixed, ChunkSize: 32 << 10}); err != nil {
		t.Fatal(err)
	}
	// What can't fit is refused before anything happens.
	unpin(t, s, pinned[0])
	path := filepath.Join(t.TempDir(), "long")
	if err := os.WriteFile(path, make([]byte, 321<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	before := s.Stats()
	if _, err := s.Import(ctx, path, ImportOptions{}); !errors.Is(err, ErrLimit) || s.Stats() != before {
		t.Fatal(err)
	}
	// What nothing refers to makes room, and so does what is unpinned.
	importRandom(t, s, r, "new", 100<<10)
	wantNames(t, s, "1", "2", "new")
	if st := s.Stats(); st.Bytes > 320<<10 {
		t.Fatalf("%+v", st)
	}
}

// TestLimitOfGarbage collects what nothing refers to before anything that is cached.
func TestLimitOfGarbage(t *testing.T) {
	ctx := context.Background()
	s := limited(t, faultfs.New(1))
	defer s.Close()
	r := rand.New(rand.NewPCG(1, 1))
	importRandom(t, s, r, "pinned", 100<<10)
	var garbage [][]byte
	for range 6 {
		garbage = append(garbage, randomBlob(r, 32<<10))
	}
	if _, err := s.PutMany(ctx, garbage); err != nil {
		t.Fatal(err)
	}
	importRandom(t, s, r, "more", 150<<10)
	wantNames(t, s, "more", "pinned")
}

// TestMakeRoom makes room for what is missing of a content, and for no more.
func TestMakeRoom(t *testing.T) {
	ctx := context.Background()
	s := limited(t, faultfs.New(1))
	defer s.Close()
	r := rand.New(rand.NewPCG(1, 1))
	cached := importRandom(t, s, r, "cached", 100<<10)
	unpin(t, s, cached)
	importRandom(t, s, r, "pinned", 100<<10)
	fetch := func(size, here int) (stc.Hash, error) {
		root, blobs := describe(randomBlob(r, size), "fetched")
		release := s.Hold(root)
		defer release()
		if _, err := s.PutMany(ctx, blobs[:here]); err != nil {
			t.Fatal(err)
		}
		err := s.MakeRoom(ctx, root)
		if here > 1 && err == nil {
			if _, err := s.PutMany(ctx, blobs); err != nil {
				t.Fatal(err)
			}
		}
		return root, err
	}
	if _, err := fetch(100<<10, 1); err != nil {
		t.Fatal(err)
	}
	wantNames(t, s, "cached", "pinned")
	if _, err := fetch(300<<10, 1); !errors.Is(err, ErrLimit) {
		t.Fatal(err)
	}
	wantNames(t, s, "cached", "pinned") // Nothing is dropped for what can't fit.
	if _, err := s.GC(ctx, true); err != nil {
		t.Fatal(err)
	}
	// Most of a content of 192 KiB is here: the nodes, which come first, and four of six chunks.
	_, nodes := describe(make([]byte, 192<<10), "")
	if _, err := fetch(192<<10, 5+4); err != nil {
		t.Fatal(len(nodes), err)
	}
}

// TestLimitBeside imports, exports, unpins, collects and verifies beside each other in a store that is always full. What is pinned
// stays whole, and the limit holds.
func TestLimitBeside(t *testing.T) {
	ctx := context.Background()
	seed := testSeed(t)
	const limit = 1 << 20
	s, err := open(faultfs.New(seed), faultDir, Config{MaxBytes: limit}, 256<<10)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	chunks := palette(100)
	steps := 60
	if testing.Short() {
		steps = 10
	}
	var workers sync.WaitGroup
	for worker := range 3 {
		r := rand.New(rand.NewPCG(seed, uint64(worker)))
		workers.Go(func() {
			var last stc.Hash
			for step := range steps {
				var data []byte
				for range 1 + r.IntN(4) {
					data = append(data, chunks[2*r.IntN(len(chunks)/2)]...)
				}
				got, err := s.ImportReader(ctx, bytes.NewReader(data), ImportOptions{Name: fmt.Sprint(worker, step), ChunkSize: 32 << 10})
				if err != nil {
					t.Error(err)
					return
				}
				// Each keeps one content pinned, the last; those before may go.
				if _, err := s.ExportTo(ctx, got.Root, io.Discard, nil); err != nil {
					t.Errorf("imported and pinned: %v", err)
				}
				if step > 0 {
					if _, err := s.ExportTo(ctx, last, io.Discard, nil); err != nil {
						t.Errorf("pinned before: %v", err)
					}
					if err := s.Unpin(ctx, last); err != nil {
						t.Error(err)
					}
				}
				last = got.Root
				if r.IntN(8) == 0 {
					if _, err := s.GC(ctx, r.IntN(2) == 0); err != nil {
						t.Error(err)
					}
				}
				if taken := s.taken(); taken > limit+3*maxSmall+3<<15 {
					t.Errorf("%d bytes in a store limited to %d", taken, limit)
				}
			}
		})
	}
	workers.Wait()
	if r, err := s.Verify(ctx, nil); err != nil || !r.OK() {
		t.Fatalf("%+v, %v", r, err)
	}
	if s.pending.Load() != 0 {
		t.Fatalf("%d bytes are pending for ever", s.pending.Load())
	}
}
