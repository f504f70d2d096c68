package content

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/seigr/sttnode/content/internal/faultfs"
	"github.com/seigr/sttnode/stc"
)

// TestEachFailure makes each write, sync and creation fail in turn, alone or with all behind it, for want of room and because the disk
// is broken, from the making of a store to its last collection. STT_TEST_ROUNDS=1000 goes through all of them; fewer rounds leave out
// some, others each time.
func TestEachFailure(t *testing.T) {
	seed := testSeed(t)
	file := filepath.Join(t.TempDir(), "file")
	writeRandomFile(t, file, 100<<10, 1)
	type failure struct {
		op     faultfs.Op
		nth    int
		cause  error
		sticky bool
	}
	var all []failure
	counting := faultfs.New(seed)
	unharmed := &orderly{file: file, fsys: counting, rand: rand.New(rand.NewPCG(seed, 8)), model: newModel()}
	if err := unharmed.run(t).Close(); err != nil {
		t.Fatal(err)
	}
	for op, n := range map[faultfs.Op]int{
		faultfs.Write: counting.Count(faultfs.Write), faultfs.Sync: counting.Count(faultfs.Sync), faultfs.Create: counting.Count(faultfs.Create),
	} {
		for nth := 1; nth <= n; nth++ {
			for _, cause := range []error{syscall.ENOSPC, syscall.EIO} {
				all = append(all, failure{op, nth, cause, false}, failure{op, nth, cause, true})
			}
		}
	}
	r := rand.New(rand.NewPCG(seed, 9))
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	rounds := min(testRounds(t, 60), len(all))
	t.Logf("%d of %d failures", rounds, len(all))
	parallelSeeds(t, rounds, func(t *testing.T, round uint64) {
		x := all[round]
		fsys := faultfs.New(seed)
		fsys.Fail(x.op, x.nth, x.cause, x.sticky)
		o := &orderly{file: file, fsys: fsys, rand: rand.New(rand.NewPCG(seed, 8)), model: newModel(), wanted: x.cause}
		if o.wanted == syscall.ENOSPC {
			o.wanted = ErrDiskFull
		}
		s := o.run(t)
		for op := range faultfs.Op(3) {
			fsys.Fail(op, 0, nil, false)
		}
		if s == nil {
			var err error
			if s, err = openFault(fsys); err != nil {
				t.Fatalf("%+v: open: %v", x, err)
			}
		}
		o.model.check(t, s)
		o.model.work(t, s, o.rand, 9, 10) // all of it works again
		o.model.check(t, s)
		if err := s.Close(); err != nil && !errors.Is(err, x.cause) {
			t.Errorf("close: %v", err)
		}
		if t.Failed() {
			t.Fatalf("%+v", x)
		}
	})
}

// orderly does everything once that writes, in an order that does not change.
type orderly struct {
	file   string // to be imported in place
	fsys   *faultfs.FS
	rand   *rand.Rand
	model  *model
	wanted error // what may go wrong
}

// run returns the store, or nil if it could not be opened.
func (o *orderly) run(t *testing.T) *Store {
	ctx := context.Background()
	failed := func(err error) bool {
		if err != nil && (o.wanted == nil || !errors.Is(err, o.wanted)) {
			t.Errorf("%v instead of %v", err, o.wanted)
		}
		return err != nil
	}
	m := o.model
	for range 2 {
		s, err := openFault(o.fsys)
		if failed(err) {
			return nil
		}
		o.collect(s, failed)
		for _, size := range []int{0, 10 << 10, 20 << 10, 200 << 10} {
			b := randomBlob(o.rand, size)
			h := stc.Sum(b)
			m.blobs[h], m.bytes[h] = coming, b
			if _, err := s.Put(ctx, b); !failed(err) {
				m.blobs[h] = present
			}
			if size == 20<<10 && m.blobs[h] == present {
				m.blobs[h] = leaving
				if !failed(s.Delete(ctx, h)) {
					m.blobs[h] = absent
				}
			}
		}
		for i := range 2 {
			data := randomBlob(o.rand, 100<<10)
			got, err := s.ImportReader(ctx, bytes.NewReader(data), ImportOptions{Name: fmt.Sprint(i), ChunkSize: 32 << 10})
			if failed(err) {
				continue
			}
			m.roots[got.Root], m.files[got.Root] = present, data
			if i == 0 {
				m.roots[got.Root] = leaving
				if _, err := s.Remove(ctx, got.Root); !failed(err) {
					m.roots[got.Root] = absent
				}
			}
		}
		got, err := s.Import(ctx, o.file, ImportOptions{ChunkSize: 32 << 10, InPlace: true})
		if !failed(err) {
			m.roots[got.Root] = present
			m.files[got.Root], _ = os.ReadFile(o.file)
		}
		if failed(s.Close()) {
			return nil
		}
	}
	s, err := openFault(o.fsys)
	if failed(err) {
		return nil
	}
	return s
}

// collect reads every blob that was acknowledged, for no pin keeps them, and collects.
func (o *orderly) collect(s *Store, failed func(error) bool) {
	for h, f := range o.model.blobs {
		if f == present {
			_, err := s.Get(nil, h)
			failed(err)
		}
		o.model.blobs[h] = uncertain
	}
	_, err := s.GC(context.Background(), false)
	failed(err)
}
