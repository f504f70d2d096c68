package content

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/seigr/sttnode/content/internal/kv"
	"github.com/seigr/sttnode/stc"
)

// ledger is the index and its sums: which blobs there are, where, and how much of each segment they take. It changes by
// batches, each of which is durable, and applied as a whole, when commit returns.
type ledger struct {
	seal *sealer
	db   *kv.DB

	mu       sync.Mutex // one change at a time; guards the rest, which mirrors the database
	segments map[uint64]segmentState
	totals   totals
	done     []freeing // have been freed; the next batch forgets them

	stored     atomic.Uint64 // bytes of the blobs that the store has a copy of, for those who can't wait for mu
	opened     int           // when the mirror was read: db.Opened
	generation atomic.Int64  // how often the mirror was read anew after a failed write

	// doubtful are the blobs of a removal whose write has failed. Until the index is open again it still shows them, and then they
	// may be gone: so that nobody relies on them, they are not here. nil without any.
	doubtful atomic.Pointer[map[stc.Hash]bool]
}

// change is one batch for a ledger.
type change struct {
	add        []entry
	remove     []entry               // what the index holds for blobs in add, that is, entries known to be bad; or just goes
	generation int64                 // of the ledger when remove was looked up
	ends       map[uint64]int64      // of segments that have grown
	small      uint64                // end of the small blobs, if greater
	files      map[uint64]fileRecord // the user's files in which blobs in add lie
	set        []pair                // other pairs to be set
	unset      [][]byte              // other keys to be deleted
}

type pair struct{ key, value []byte }

// newLedger reads the sums from an index.
func newLedger(seal *sealer, db *kv.DB) (*ledger, error) {
	l := &ledger{seal: seal, db: db}
	return l, l.load()
}

// load reads the mirror. The caller holds mu or is alone.
func (l *ledger) load() error {
	opened := l.db.Opened()
	segments := make(map[uint64]segmentState)
	var decodeErr error
	err := l.db.Each([]byte{prefixSegment}, []byte{prefixSegment + 1}, func(key, value []byte) bool {
		id, st, err := decodeSegment(key, value)
		segments[id] = st
		decodeErr = err
		return err == nil
	})
	if err = errors.Join(err, decodeErr); err != nil {
		return mapError(err)
	}
	value, err := l.db.Get([]byte{prefixTotals})
	switch {
	case errors.Is(err, kv.ErrNotFound):
		l.totals = totals{}
	case err != nil:
		return mapError(err)
	default:
		if l.totals, err = decodeTotals(value); err != nil {
			return err
		}
	}
	l.segments, l.opened = segments, opened
	l.stored.Store(l.totals.bytes - l.totals.inPlaceBytes)
	return nil
}

// lookup returns the entry of h.
func (l *ledger) lookup(h stc.Hash) (e entry, ok bool, err error) {
	if doubtful := l.doubtful.Load(); doubtful != nil && (*doubtful)[h] {
		return entry{}, false, nil
	}
	key := l.seal.key(prefixBlob, h)
	value, err := l.db.Get(key)
	if errors.Is(err, kv.ErrNotFound) {
		return entry{}, false, nil
	}
	if err != nil {
		return entry{}, false, mapError(err)
	}
	e, err = l.seal.openEntry(key, value)
	if err == nil && e.hash != h {
		err = fmt.Errorf("%w: index entry of another blob", ErrCorrupt)
	}
	return e, err == nil, err
}

// commit applies a change and leaves in c.remove what it has removed. After an error the change is applied or not; the ledger
// finds out before the next one.
func (l *ledger) commit(c *change) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.commitLocked(c)
}

// commitRemoval takes blobs out of the index and returns their entries.
func (l *ledger) commitRemoval(hashes []stc.Hash) ([]entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.heal(); err != nil {
		return nil, err
	}
	c := change{generation: l.generation.Load()}
	for _, h := range hashes {
		e, ok, err := l.lookup(h)
		if err != nil {
			return nil, err
		}
		if ok {
			c.remove = append(c.remove, e)
		}
	}
	err := l.commitLocked(&c)
	if err != nil && l.db.Failed() {
		doubtful := make(map[stc.Hash]bool, len(c.remove))
		for _, e := range c.remove {
			doubtful[e.hash] = true
		}
		l.doubtful.Store(&doubtful)
	}
	return c.remove, err
}

// again looks up what a change replaces, because a batch that failed since then may have been applied after all: this one, too,
// when it is tried a second time.
func (l *ledger) again(c *change) error {
	c.remove = nil
	missing := c.add[:0:0]
	for _, e := range c.add {
		old, ok, err := l.lookup(e.hash)
		if err != nil {
			return err
		}
		if ok && old == e {
			continue
		}
		if missing = append(missing, e); ok {
			c.remove = append(c.remove, old)
		}
	}
	c.add = missing
	c.generation = l.generation.Load()
	return nil
}

func (l *ledger) commitLocked(c *change) error {
	if err := l.heal(); err != nil {
		return err
	}
	if c.generation != l.generation.Load() && len(c.add) > 0 {
		if err := l.again(c); err != nil {
			return err
		}
	}
	var b kv.Batch
	touched := make(map[uint64]segmentState)
	state := func(id uint64) segmentState {
		if st, ok := touched[id]; ok {
			return st
		}
		return l.segments[id]
	}
	uses := make(map[uint64]int64) // of the user's files: blobs more in each
	sums := l.totals
	for _, e := range c.remove {
		b.Delete(l.seal.key(prefixBlob, e.hash))
		sums.add(e, -1)
		if e.place.kind == inFile {
			uses[e.place.id]--
			continue
		}
		f := freeing{e.place, e.size}
		b.Put(f.key(), f.value())
		if e.place.kind == inSegment {
			st := state(e.place.id)
			st.live -= e.recordSize()
			st.records--
			touched[e.place.id] = st
		}
	}
	for _, e := range c.add {
		b.Put(l.seal.sealEntry(e))
		sums.add(e, 1)
		switch e.place.kind {
		case inFile:
			uses[e.place.id]++
		case inSegment:
			st := state(e.place.id)
			st.live += e.recordSize()
			st.records++
			touched[e.place.id] = st
		}
	}
	for id, n := range uses {
		if err := l.putUse(&b, id, n, c.files); err != nil {
			return err
		}
	}
	for id, end := range c.ends {
		st := state(id)
		st.end = max(st.end, end)
		touched[id] = st
	}
	for id, st := range touched {
		b.Put(segmentKey(id), st.encode())
	}
	sums.smallEnd = max(sums.smallEnd, c.small)
	if sums != l.totals {
		b.Put([]byte{prefixTotals}, sums.encode())
	}
	for _, p := range c.set {
		b.Put(p.key, p.value)
	}
	for _, key := range c.unset {
		b.Delete(key)
	}
	for _, f := range l.done {
		b.Delete(f.key())
	}
	if b.Len() == 0 {
		return nil
	}
	if err := l.db.Write(&b); err != nil {
		return mapError(err)
	}
	for id, st := range touched {
		l.segments[id] = st
	}
	l.totals = sums
	l.stored.Store(sums.bytes - sums.inPlaceBytes)
	l.done = nil
	return nil
}

// heal makes an index that a failed write has stopped usable again and reads the mirror anew. The caller holds mu.
func (l *ledger) heal() error {
	if l.db.Failed() {
		if err := l.db.Reopen(); err != nil {
			return mapError(err)
		}
	}
	if l.db.Opened() == l.opened {
		return nil
	}
	// In this order: who has met a doubt has the old generation, and looks again before it is committed.
	l.doubtful.Store(nil)
	l.generation.Add(1)
	return l.load()
}

// verdict is what an entry becomes that keeps its place.
type verdict struct{ old, new entry }

// replace changes those entries that still are as old says.
func (l *ledger) replace(verdicts ...verdict) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.heal(); err != nil {
		return err
	}
	var c change
	for _, v := range verdicts {
		e, ok, err := l.lookup(v.old.hash)
		if err != nil {
			return err
		}
		if ok && e == v.old {
			key, value := l.seal.sealEntry(v.new)
			c.set = append(c.set, pair{key, value})
		}
	}
	return l.commitLocked(&c)
}

// segmentEnd returns where the committed records of a segment end.
func (l *ledger) segmentEnd(id uint64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.segments[id].end
}

// smallEnd returns the number below which small blobs are accounted for.
func (l *ledger) smallEnd() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.totals.smallEnd
}

// emptySegments returns the segments in which nothing is live.
func (l *ledger) emptySegments() []uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ids []uint64
	for id, st := range l.segments {
		if st.records == 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

// forget removes a segment, whose file is gone, from the index.
func (l *ledger) forget(id uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if st, ok := l.segments[id]; !ok || st.records > 0 {
		return nil
	}
	if err := l.commitLocked(&change{unset: [][]byte{segmentKey(id)}}); err != nil {
		return err
	}
	delete(l.segments, id)
	return nil
}

// freed notes records whose room has been given back.
func (l *ledger) freed(records []freeing) {
	l.mu.Lock()
	l.done = append(l.done, records...)
	l.mu.Unlock()
}

// pending returns the records that a crash has left deleted and not freed.
func (l *ledger) pending() ([]freeing, error) {
	var records []freeing
	var decodeErr error
	err := l.db.Each([]byte{prefixFreeing}, []byte{prefixFreeing + 1}, func(key, value []byte) bool {
		f, err := decodeFreeing(key, value)
		records, decodeErr = append(records, f), err
		return err == nil
	})
	return records, mapError(errors.Join(err, decodeErr))
}

// each calls visit for the entries, as they were or as they are, until it returns false. Entries that can't be read end it
// with ErrCorrupt.
func (l *ledger) each(visit func(entry) bool) error {
	var decodeErr error
	err := l.db.Each([]byte{prefixBlob}, []byte{prefixBlob + 1}, func(key, value []byte) bool {
		e, err := l.seal.openEntry(key, value)
		if err != nil {
			decodeErr = err
			return false
		}
		return visit(e)
	})
	return mapError(errors.Join(err, decodeErr))
}

// ready makes sure that the mirror agrees with the index.
func (l *ledger) ready() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heal()
}
