package content

import (
	"context"
	"errors"
	"fmt"

	"github.com/seigr/sttnode/stc"
)

// The collector marks and sweeps beside everything else. Marking fills a filter with what the pins need. Sweeping deletes, of
// the blobs it is offered, those that are neither in the filter nor wanted by anybody since the marking began:
//
//   - what has been put, looked up or read since then (Store.touched), so that a download which finds a blob here, and a root
//     pinned only afterwards, can rely on it; and what was being put when it began (Store.putting), for a node among that may
//     not have been here to be marked by;
//   - what imports under way have put (Store.keepers), from their beginning, for their root comes last;
//   - what new pins, and contents held since, need, which are marked before sweeping goes on.
//
// All filters err to the side of keeping. Deleting is Store.remove's business, which settles races blob by blob.

// Remove unpins a content and frees what nothing else needs. ErrNotFound if nothing of it is here. It works on a full disk. A
// crash, or the end of ctx, in the middle leaves garbage for GC and nothing worse.
func (s *Store) Remove(ctx context.Context, root stc.Hash) (Freed, error) {
	if err := s.enter(); err != nil {
		return Freed{}, err
	}
	defer s.exit()
	has, err := s.Has(root)
	if err != nil {
		return Freed{}, err
	}
	if err := s.forget(ctx, root, nil); err != nil && (!errors.Is(err, ErrNotFound) || !has) {
		return Freed{}, err
	}
	return s.collect(ctx, false, spareAll, func(sweep func(stc.Hash) error) error {
		w := walker{
			store: s, seen: make(map[stc.Hash]struct{}), visit: sweep, last: true,
			unreadable: func(stc.Hash, error) error { return nil },
		}
		return w.walk(ctx, root)
	})
}

// GC drops the contents that are only cached, those held excepted, and frees all blobs that nothing else needs. With dryRun it
// only counts. Reads and writes go on beside it. A crash, or the end of ctx, in the middle leaves the rest to the next GC.
func (s *Store) GC(ctx context.Context, dryRun bool) (Freed, error) {
	if err := s.enter(); err != nil {
		return Freed{}, err
	}
	defer s.exit()
	return s.collect(ctx, dryRun, func(p Pin) bool { return !p.Cached }, s.everything)
}

// everything offers all blobs to a collection.
func (s *Store) everything(sweep func(stc.Hash) error) error {
	var failed error
	err := s.ledger.each(func(e entry) bool {
		failed = sweep(e.hash)
		return failed == nil
	})
	return errors.Join(err, failed)
}

func spareAll(Pin) bool { return true }

// collect marks what the contents that spare accepts need, and what is held, drops the others, all of which are cached, and
// sweeps the blobs that candidates offers.
func (s *Store) collect(ctx context.Context, dryRun bool, spare func(Pin) bool,
	candidates func(sweep func(stc.Hash) error) error) (Freed, error) {
	s.collecting.Lock()
	defer s.collecting.Unlock()
	blobs := s.Stats().Blobs
	s.mu.Lock()
	s.touched = new(hashSet)
	for _, hashes := range s.putting {
		for _, h := range hashes {
			s.touched.add(h)
		}
	}
	s.mu.Unlock()
	s.watching.Store(true)
	defer func() {
		s.watching.Store(false)
		s.mu.Lock()
		s.touched, s.newPins = nil, nil
		s.mu.Unlock()
	}()
	c := &collection{store: s, dryRun: dryRun, live: newBloom(blobs), marked: make(map[stc.Hash]struct{})}
	pins, err := s.pins()
	if err != nil {
		return Freed{}, err
	}
	held := s.heldRoots()
	var victims []stc.Hash
	for _, p := range pins {
		if !spare(p) && !held[p.Root] {
			victims = append(victims, p.Root)
			continue
		}
		err := c.mark(ctx, p.Root)
		if damaged := errors.Is(err, ErrNotFound) || errors.Is(err, ErrCorrupt); damaged && p.Cached && !held[p.Root] {
			victims = append(victims, p.Root) // It is worth nothing as it is.
		} else if err != nil {
			return Freed{}, err
		}
	}
	for root := range held {
		if err := c.mark(ctx, root); err != nil {
			return Freed{}, err
		}
	}
	if err := c.drop(ctx, victims); err != nil {
		return c.freed, err
	}
	err = candidates(func(h stc.Hash) error { return c.offer(ctx, h) })
	if err == nil {
		err = c.sweep(ctx)
	}
	if derr := s.dropEmpty(); err == nil {
		err = derr
	}
	if err == nil && !dryRun {
		err = s.forgetKnown(ctx)
	}
	return c.freed, err
}

// collection is one run of the collector.
type collection struct {
	store   *Store
	dryRun  bool
	live    *bloom                // what pins need
	marked  map[stc.Hash]struct{} // nodes below which everything that was here is in live
	offered []stc.Hash
	freed   Freed
}

// mark puts what a pin needs into live. Where a node of a complete content is damaged or missing, nobody knows what is below
// it, so nothing may be freed before that content is repaired or removed. A node of a partial one may come, and the content be
// complete, between the look for the node and that for the pin.
func (c *collection) mark(ctx context.Context, root stc.Hash) error {
	looked := false // at a complete pin
	w := walker{
		store: c.store, seen: c.marked,
		visit: func(h stc.Hash) error {
			c.live.add(h)
			return nil
		},
		unreadable: func(h stc.Hash, err error) error {
			p, ok, perr := c.store.pin(root)
			if perr != nil {
				return perr
			}
			if errors.Is(err, ErrNotFound) && (!ok || p.State == PinPartial) {
				return nil
			}
			if !looked {
				looked = true
				return errLookAgain
			}
			return fmt.Errorf("content: %v is incomplete; repair or remove it before anything is freed: %w", root, err)
		},
	}
	return w.walk(ctx, root)
}

// offer takes a candidate, and sweeps when there are enough of them.
func (c *collection) offer(ctx context.Context, h stc.Hash) error {
	if c.live.has(h) {
		return nil
	}
	if c.offered = append(c.offered, h); len(c.offered) < deleteBatch {
		return nil
	}
	return c.sweep(ctx)
}

// sweep deletes what has been offered.
func (c *collection) sweep(ctx context.Context) error {
	defer func() { c.offered = c.offered[:0] }()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.markNew(ctx); err != nil {
			return err
		}
		late := false // a pin has come since
		spare := func(h stc.Hash) bool {
			late = late || len(c.store.newPins) > 0
			return late || c.live.has(h) || c.store.kept(h)
		}
		var freed Freed
		var err error
		if c.dryRun {
			freed, err = c.store.count(c.offered, spare)
		} else {
			freed, err = c.store.remove(c.offered, spare)
		}
		c.freed.Blobs += freed.Blobs
		c.freed.Bytes += freed.Bytes
		if err != nil || !late {
			return err
		}
	}
}

// markNew marks pins that have come since the marking.
func (c *collection) markNew(ctx context.Context) error {
	for {
		c.store.mu.Lock()
		roots := c.store.newPins
		c.store.newPins = nil
		c.store.mu.Unlock()
		if len(roots) == 0 {
			return nil
		}
		// Below what is marked there may be nodes by now that were missing then.
		c.marked = make(map[stc.Hash]struct{})
		for _, root := range roots {
			if err := c.mark(ctx, root); err != nil {
				return err
			}
		}
	}
}

// count is remove that removes nothing.
func (s *Store) count(hashes []stc.Hash, spare func(stc.Hash) bool) (Freed, error) {
	var freed Freed
	for _, h := range hashes {
		s.mu.Lock()
		spared := spare(h)
		s.mu.Unlock()
		if spared {
			continue
		}
		e, ok, err := s.ledger.lookup(h)
		if err != nil {
			return freed, err
		}
		if ok {
			freed.add(e)
		}
	}
	return freed, nil
}
