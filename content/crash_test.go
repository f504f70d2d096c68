package content

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"

	"github.com/seigr/sttnode/content/internal/faultfs"
	"github.com/seigr/sttnode/stc"
)

// testRounds is how many seeds a randomised test goes through: $STT_TEST_ROUNDS, or the default.
func testRounds(t *testing.T, normal int) int {
	if text := os.Getenv("STT_TEST_ROUNDS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if testing.Short() {
		return normal / 10
	}
	return normal
}

const faultDir = "/store"

// openFault opens a store on a file system in memory, with segments short enough to be many.
func openFault(fsys *faultfs.FS) (*Store, error) {
	return open(fsys, faultDir, Config{Key: [32]byte{7}}, 256<<10)
}

// fate is what is known of a blob or a pin.
type fate uint8

const (
	absent    fate = iota
	coming         // asked for, not acknowledged
	present        // acknowledged
	leaving        // deletion asked for, not acknowledged
	uncertain      // both
)

// model is what the store must hold. Each blob belongs to one worker, so that its fate is known.
type model struct {
	mu    sync.Mutex
	blobs map[stc.Hash]fate
	bytes map[stc.Hash][]byte
	roots map[stc.Hash]fate   // contents
	files map[stc.Hash][]byte // bytes of their only file
}

func newModel() *model {
	return &model{
		blobs: make(map[stc.Hash]fate), bytes: make(map[stc.Hash][]byte),
		roots: make(map[stc.Hash]fate), files: make(map[stc.Hash][]byte),
	}
}

func (m *model) set(fates map[stc.Hash]fate, h stc.Hash, to fate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fates[h] = to
}

func (m *model) pick(fates map[stc.Hash]fate, r *rand.Rand, mine func(stc.Hash) bool) (stc.Hash, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for h, f := range fates {
		if f == present && mine(h) && r.IntN(3) == 0 {
			return h, true
		}
	}
	return stc.Hash{}, false
}

// work does things to the store. What fails must fail because of wanted, and is the end if that is ErrCrashed.
func (m *model) work(t *testing.T, s *Store, r *rand.Rand, worker byte, steps int, wanted ...error) {
	ctx := context.Background()
	mine := map[stc.Hash]bool{}
	owns := func(h stc.Hash) bool { return mine[h] }
	goesOn := func(err error) bool {
		for _, w := range wanted {
			if errors.Is(err, w) {
				return w != faultfs.ErrCrashed
			}
		}
		t.Errorf("worker %d: %v", worker, err)
		return false
	}
	blob := func() []byte {
		size := []int{r.IntN(100), r.IntN(maxSmall), maxSmall + 1 + r.IntN(30<<10)}[r.IntN(3)]
		return append(randomBlob(r, size), worker)
	}
	for range steps {
		switch r.IntN(10) {
		default: // put one or some
			var blobs [][]byte
			var hashes []stc.Hash
			for range 1 + r.IntN(4)*r.IntN(2) {
				b := blob()
				h := stc.Sum(b)
				blobs, hashes = append(blobs, b), append(hashes, h)
				mine[h] = true
				m.mu.Lock()
				m.blobs[h], m.bytes[h] = coming, b
				m.mu.Unlock()
			}
			if _, err := s.PutMany(ctx, blobs); err != nil {
				if !goesOn(err) {
					return
				}
				continue
			}
			for _, h := range hashes {
				m.set(m.blobs, h, present)
			}
		case 5: // again what is there
			if h, ok := m.pick(m.blobs, r, owns); ok {
				if err := s.PutVerified(ctx, []stc.Hash{h}, [][]byte{m.bytesOf(h)}); err != nil && !goesOn(err) {
					return
				}
			}
		case 6: // read
			if h, ok := m.pick(m.blobs, r, owns); ok {
				got, err := s.Get(nil, h)
				if err != nil {
					if !goesOn(err) {
						return
					}
				} else if !bytes.Equal(got, m.bytesOf(h)) {
					t.Errorf("worker %d: wrong bytes for %v", worker, h)
				}
			}
		case 7: // delete
			if h, ok := m.pick(m.blobs, r, owns); ok {
				m.set(m.blobs, h, leaving)
				if err := s.Delete(ctx, h); err != nil {
					if !goesOn(err) {
						return
					}
					continue
				}
				m.set(m.blobs, h, absent)
			}
		case 8: // a content
			data := append(randomBlob(r, r.IntN(120<<10)), worker)
			name := fmt.Sprint(worker, r.Uint32())
			got, err := s.ImportReader(ctx, bytes.NewReader(data), ImportOptions{Name: name, ChunkSize: 32 << 10})
			if err != nil {
				if !goesOn(err) {
					return
				}
				continue
			}
			m.mu.Lock()
			m.roots[got.Root], m.files[got.Root] = present, data
			m.mu.Unlock()
			mine[got.Root] = true
		case 9: // its removal
			if root, ok := m.pick(m.roots, r, owns); ok {
				m.set(m.roots, root, leaving)
				if _, err := s.Remove(ctx, root); err != nil {
					if !goesOn(err) {
						return
					}
					continue
				}
				m.set(m.roots, root, absent)
			}
		}
	}
}

func (m *model) bytesOf(h stc.Hash) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bytes[h]
}

// check compares the store with the model, and settles what was uncertain by what the store says.
func (m *model) check(t *testing.T, s *Store) {
	t.Helper()
	ctx := context.Background()
	report, err := s.Verify(ctx, nil)
	if err != nil {
		t.Fatalf("verify: %v", err)
	}
	if !report.OK() {
		t.Errorf("verify: %+v", report)
	}
	for h, f := range m.blobs {
		got, err := s.Get(nil, h)
		switch {
		case err == nil && !bytes.Equal(got, m.bytes[h]):
			t.Errorf("wrong bytes for %v", h)
		case err == nil && f == absent:
			t.Errorf("deleted blob %v of %d bytes is back", h, len(got))
		case err != nil && (f == present || !errors.Is(err, ErrNotFound)):
			t.Errorf("blob of %d bytes, state %d: %v", len(m.bytes[h]), f, err)
		}
		switch {
		case err == nil:
			m.blobs[h] = present
		case f != coming: // What failed to come may still come from where it could not be cut off.
			m.blobs[h] = absent
		}
	}
	for root, f := range m.roots {
		var out bytes.Buffer
		_, pinned, err := s.PinInfo(root)
		if err != nil {
			t.Fatal(err)
		}
		if f == present && !pinned || f == absent && pinned {
			t.Errorf("content in state %d, pinned %v", f, pinned)
		}
		if _, err := s.ExportTo(ctx, root, &out, nil); (f == present || pinned) && err != nil {
			t.Errorf("content of %d bytes: %v", len(m.files[root]), err)
		} else if err == nil && !bytes.Equal(out.Bytes(), m.files[root]) {
			t.Errorf("wrong bytes for content %v", root)
		}
		if m.roots[root] = absent; pinned {
			m.roots[root] = present
		}
	}
	sums := Stats{}
	for info, err := range s.All(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		sums.Blobs++
		sums.Bytes += uint64(info.Size)
	}
	if st := s.Stats(); st.Blobs != sums.Blobs || st.Bytes != sums.Bytes {
		t.Errorf("stats say %d blobs of %d bytes, there are %d of %d", st.Blobs, st.Bytes, sums.Blobs, sums.Bytes)
	}
}

// TestPowerLoss takes the power away at a random write or sync, again and again, from a store at work and from one that
// recovers, and looks whether everything acknowledged is there, and nothing wrong.
func TestPowerLoss(t *testing.T) {
	base := testSeed(t)
	parallelSeeds(t, testRounds(t, 200), func(t *testing.T, round uint64) {
		seed := base + round
		r := rand.New(rand.NewPCG(seed, 1))
		fsys := faultfs.New(seed)
		m := newModel()
		for range 2 {
			if r.IntN(3) == 0 { // it goes down while it opens
				fsys.CrashAt(1+r.IntN(60), func() {})
				if s, err := openFault(fsys); err == nil {
					s.Close()
				} else if !errors.Is(err, faultfs.ErrCrashed) {
					t.Fatalf("open: %v", err)
				}
				fsys.Crash()
				fsys = fsys.AfterCrash()
			}
			s, err := openFault(fsys)
			if err != nil {
				t.Fatalf("open: %v", err)
			}
			m.check(t, s)
			fsys.CrashAt(1+r.IntN(300), func() {})
			var workers sync.WaitGroup
			for worker := range byte(3) {
				wr := rand.New(rand.NewPCG(r.Uint64(), uint64(worker)))
				workers.Go(func() { m.work(t, s, wr, worker, 60, faultfs.ErrCrashed) })
			}
			workers.Wait()
			fsys.Crash()
			s.Close()
			fsys = fsys.AfterCrash()
			if t.Failed() {
				t.Fatalf("round %d", round)
			}
		}
	})
}

// parallelSeeds runs test for each round, on all cores.
func parallelSeeds(t *testing.T, rounds int, test func(t *testing.T, round uint64)) {
	next := make(chan uint64)
	t.Run("rounds", func(t *testing.T) {
		for worker := range 2 {
			t.Run(fmt.Sprint(worker), func(t *testing.T) {
				t.Parallel()
				for round := range next {
					test(t, round)
				}
			})
		}
		go func() {
			defer close(next)
			for round := range uint64(rounds) {
				next <- round
			}
		}()
	})
}
