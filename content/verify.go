package content

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/seigr/sttnode/stc"
)

// VerifyReport is what Verify has found.
type VerifyReport struct {
	Blobs, Bytes uint64 // read
	Damage
}

// Damage is what is wrong with a store.
type Damage struct {
	// Bad are the blobs that are damaged, Missing those that are not here although a complete content needs them. Each list ends
	// after MaxReported; the counts go on.
	Bad, Missing           []stc.Hash
	BadCount, MissingCount uint64
	// Incomplete are the roots of contents pinned as complete that need a bad or missing blob.
	Incomplete []stc.Hash
	// Changed are the user's files, by their paths, in which bad blobs were to lie in place; it ends after MaxReported, too.
	Changed []string
}

// OK reports whether nothing is wrong.
func (d *Damage) OK() bool {
	return d.BadCount == 0 && d.MissingCount == 0 && len(d.Incomplete) == 0
}

// MaxReported is the length of the longest list of blobs in a Damage.
const MaxReported = 10_000

// VerifyProgress tells how far Verify is.
type VerifyProgress struct {
	Blobs, Bytes           uint64 // read
	TotalBlobs, TotalBytes uint64 // when it began
	Bad                    uint64
}

// Verify reads every blob, decrypts it, hashes it again, and then looks whether everything is here that the contents pinned as
// complete need. progress, if not nil, is called now and then, by one goroutine at a time. Damage does not end it; errors are
// those of ctx and of the disk, and ErrCorrupt when the index itself is damaged, which the next Open repairs.
func (s *Store) Verify(ctx context.Context, progress func(VerifyProgress)) (*VerifyReport, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.exit()
	start := s.Stats()
	v := &verification{store: s, progress: progress, at: VerifyProgress{TotalBlobs: start.Blobs, TotalBytes: start.Bytes}}
	workers, wctx := errgroup.WithContext(ctx)
	batches := make(chan []entry)
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() error {
			for batch := range batches {
				if err := v.read(batch); err != nil {
					return err
				}
			}
			return nil
		})
	}
	var batch []entry
	send := func() bool {
		select {
		case batches <- batch:
			batch = nil
			return true
		case <-wctx.Done():
			return false
		}
	}
	err := s.ledger.each(func(e entry) bool {
		batch = append(batch, e)
		return len(batch) < verifyBatch || send()
	})
	if len(batch) > 0 {
		send()
	}
	close(batches)
	if werr := workers.Wait(); werr != nil {
		return nil, werr
	}
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = v.completeness(ctx)
	}
	s.suspect(err)
	return &v.report, err
}

// verifyBatch is how many blobs are hashed side by side.
const verifyBatch = 4

// verification is one run of Verify.
type verification struct {
	store    *Store
	progress func(VerifyProgress)

	mu     sync.Mutex
	report VerifyReport
	at     VerifyProgress
}

// read verifies some blobs.
func (v *verification) read(entries []entry) error {
	blobs := make([][]byte, 0, len(entries))
	intact := entries[:0:0]
	buf := getBuffer(MaxBlobSize)
	defer putBuffer(buf)
	space := (*buf)[:0]
	for _, e := range entries {
		if cap(space)-len(space) < e.size {
			space = make([]byte, 0, verifyBatch*MaxBlobSize)
		}
		start := len(space)
		out, err := v.store.read(space, e)
		switch {
		case err == nil:
			blobs, intact = append(blobs, out[start:]), append(intact, e)
			space = out
		case errors.Is(err, ErrCorrupt):
			v.bad(e, err)
		default:
			return err
		}
	}
	hashes := make([]stc.Hash, len(blobs))
	stc.SumMany(hashes, blobs)
	for i, e := range intact {
		if hashes[i] != e.hash || len(blobs[i]) != e.size {
			v.bad(e, v.store.differs(e))
			continue
		}
		if e.bad && e.place.kind != inFile {
			good := e
			good.bad = false
			if err := v.store.ledger.replace(verdict{e, good}); err != nil {
				return err
			}
		}
		v.mu.Lock()
		v.report.Blobs++
		v.report.Bytes += uint64(e.size)
		v.mu.Unlock()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.at.Blobs, v.at.Bytes, v.at.Bad = v.report.Blobs, v.report.Bytes, v.report.BadCount
	if v.progress != nil {
		v.progress(v.at)
	}
	return nil
}

// bad notes a blob that is damaged, as cause says, unless it has been deleted or replaced since.
func (v *verification) bad(e entry, cause error) {
	now, ok, err := v.store.lookup(e.hash)
	if err == nil && (!ok || now.place != e.place) {
		return
	}
	if !e.bad || e.place.kind == inFile {
		v.store.condemn(e, cause)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	var changed *ChangedError
	if errors.As(cause, &changed) && len(v.report.Changed) < MaxReported && !slices.Contains(v.report.Changed, changed.Path) {
		v.report.Changed = append(v.report.Changed, changed.Path)
	}
	v.list(e.hash)
}

// list adds a bad blob to the report. The caller holds mu, or is alone.
func (v *verification) list(h stc.Hash) {
	v.report.BadCount++
	if len(v.report.Bad) < MaxReported {
		v.report.Bad = append(v.report.Bad, h)
	}
}

// completeness looks for what complete contents need and don't have.
func (v *verification) completeness(ctx context.Context) error {
	pins, err := v.store.Pins()
	if err != nil {
		return err
	}
	for _, p := range pins {
		if p.State != PinComplete {
			continue
		}
		var missing []stc.Hash // as many as may still be listed
		count, incomplete := uint64(0), false
		err := v.store.gaps(ctx, p.Root, func(h stc.Hash, damaged bool) {
			incomplete = true
			if damaged {
				return
			}
			count++
			if len(v.report.Missing)+len(missing) < MaxReported {
				missing = append(missing, h)
			}
		})
		if err != nil {
			return err
		}
		// Removed meanwhile, it is nobody's concern any more.
		if now, still, err := v.store.pin(p.Root); err != nil {
			return err
		} else if !incomplete || !still || now.State != PinComplete {
			continue
		}
		v.report.Incomplete = append(v.report.Incomplete, p.Root)
		v.report.MissingCount += count
		v.report.Missing = append(v.report.Missing, missing...)
	}
	return nil
}

// KnownDamage returns what an earlier Verify has found, or a read, and what has not been repaired since; it reads manifests and no
// more.
func (s *Store) KnownDamage(ctx context.Context) (Damage, error) {
	if err := s.enter(); err != nil {
		return Damage{}, err
	}
	defer s.exit()
	v := &verification{store: s}
	err := s.ledger.each(func(e entry) bool {
		if e.bad {
			v.list(e.hash)
		}
		return ctx.Err() == nil
	})
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = v.completeness(ctx)
	}
	return v.report.Damage, err
}

// gaps calls visit for what a content needs and is not here, or known to be damaged, as far as its nodes tell.
func (s *Store) gaps(ctx context.Context, root stc.Hash, visit func(h stc.Hash, damaged bool)) error {
	w := walker{
		store: s, seen: make(map[stc.Hash]struct{}),
		visit: func(h stc.Hash) error {
			e, ok, err := s.lookup(h)
			if err == nil && (!ok || e.bad) {
				visit(h, ok)
			}
			return err
		},
		unreadable: func(stc.Hash, error) error { return nil },
	}
	return w.walk(ctx, root)
}
