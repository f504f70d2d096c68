package content

import (
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/seigr/sttnode/content/internal/kv"
	"github.com/seigr/sttnode/content/internal/segment"
	"github.com/seigr/sttnode/stc"
)

const (
	// maxSmall is the length in bytes of the longest blob that is kept inside LevelDB.
	maxSmall = 16 << 10

	// sealedBudget bounds the bytes that are sealed and not yet written.
	sealedBudget = 8 << 20

	// A group is what one sync covers. It is closed when the previous one has been committed, or at these limits, behind which
	// appending waits.
	maxGroupBytes = 48 << 20
	maxGroupSmall = 6 << 20
	maxGroupItems = 8192

	defaultSegmentSize = 1 << 30
)

// item is one blob on its way to the disk.
type item struct {
	hash       stc.Hash
	size       int
	sealed     *[]byte       // its record, from the pool; nil once it is written
	replaces   *entry        // what the index holds in its place: an entry known to be bad
	generation int64         // of the ledger when that was looked up
	place      place         // of a blob in place from the beginning
	tail       *segment.Tail // that it was appended to
	stamp      stamp         // of a blob in place
	file       *fileRecord   // in which it lies
}

// pipeline brings sealed blobs to the disk. Two goroutines work side by side: append writes records to the current segment,
// commit makes what was written durable, a group at a time:
//
//	Put … Put   seal, in the callers' goroutines
//	   │ queue
//	append      write the record behind the last one
//	   │ group
//	commit      sync the segment, then write the small blobs, then the index, each synced; then acknowledge
//
// So an entry of the index never points to bytes that may be lost, and a crash anywhere leaves at most bytes that nothing
// points to, behind the end that the index knows.
type pipeline struct {
	seal        *sealer
	ledger      *ledger
	small       *kv.DB
	segments    *segment.Files
	reserve     *reserve
	segmentSize int64
	resolve     func(h stc.Hash, err error) // called once for each item

	queue   chan *item
	budget  *semaphore.Weighted
	running sync.WaitGroup

	// Of append.
	tail   *segment.Tail
	nextID uint64

	mu     sync.Mutex
	change sync.Cond // group or closed
	group  group     // not yet taken by commit
	closed bool      // nothing will be appended any more
	oldest uint64    // segments with lower numbers are neither appended to nor waiting for a sync

	// Of commit.
	nextSmall uint64
	unsettled []uint64 // small values of groups that failed; the index may point to them nevertheless
	orphans   []uint64 // those to which it doesn't
	abandoned []uint64 // segments with a tail that failed
}

// group is what is committed together.
type group struct {
	items        []*item
	bytes, small int
	retired      []*segment.Tail // full or spoilt; nothing behind this group is in them
}

func (g *group) full() bool {
	return g.bytes >= maxGroupBytes || g.small >= maxGroupSmall || len(g.items) >= maxGroupItems
}

// start runs the pipeline until stop. tail, if not nil, is the segment to go on with; nextID is the first number for new ones.
func (p *pipeline) start(tail *segment.Tail, nextID uint64) {
	p.queue = make(chan *item, 64)
	p.budget = semaphore.NewWeighted(sealedBudget)
	p.change.L = &p.mu
	p.tail, p.nextID, p.oldest = tail, nextID, nextID
	if tail != nil {
		p.oldest = tail.ID
	}
	p.running.Go(p.append)
	p.running.Go(p.commitAll)
}

// stop waits until everything in the queue is committed. Nobody may be adding to the queue.
func (p *pipeline) stop() {
	close(p.queue)
	p.running.Wait()
	if p.tail != nil {
		p.tail.Close() // synced by the last commit, or nothing in it counts
	}
}

// append is the goroutine that writes records.
func (p *pipeline) append() {
	for it := range p.queue {
		if err := p.reserve.hold(); err != nil {
			p.release(it)
			p.resolve(it.hash, mapError(err))
			continue
		}
		if it.place.kind == inFile {
			p.enqueue(it, nil)
			continue
		}
		if it.size <= maxSmall {
			it.place.kind = inSmall
			p.enqueue(it, nil)
			continue
		}
		retired, err := p.write(it)
		p.release(it)
		if err != nil {
			p.resolve(it.hash, mapError(err))
			it = nil
		}
		if it != nil || retired != nil {
			p.enqueue(it, retired)
		}
	}
	p.mu.Lock()
	p.closed = true
	p.change.Broadcast()
	p.mu.Unlock()
}

// write appends an item's record, to another segment than before when that is full or spoilt.
func (p *pipeline) write(it *item) (retired *segment.Tail, err error) {
	record := *it.sealed
	if t := p.tail; t != nil && (t.Spoilt() != nil || t.End() > 0 && t.End()+int64(len(record)) > p.segmentSize) {
		retired, p.tail = t, nil
	}
	if p.tail == nil {
		if p.tail, err = p.segments.NewTail(p.nextID); err != nil {
			return retired, err
		}
		p.nextID++
	}
	off, err := p.tail.Append(record)
	if err != nil {
		return retired, err
	}
	it.place = place{inSegment, p.tail.ID, off}
	it.tail = p.tail
	return retired, nil
}

// release gives an item's buffer back.
func (p *pipeline) release(it *item) {
	if it.sealed == nil {
		return // in place
	}
	p.budget.Release(itemCost(it.size))
	putBuffer(it.sealed)
	it.sealed = nil
}

// itemCost is what an item takes of the budget.
func itemCost(size int) int64 { return segment.RecordSize(size) }

// enqueue adds an item, and a tail that ends before it, to the group, when there is room.
func (p *pipeline) enqueue(it *item, retired *segment.Tail) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if retired != nil {
		p.group.retired = append(p.group.retired, retired)
	}
	if it != nil {
		for p.group.full() {
			p.change.Wait()
		}
		p.group.items = append(p.group.items, it)
		switch it.place.kind {
		case inSmall:
			p.group.small += it.size
			p.group.bytes += it.size
		case inSegment:
			p.group.bytes += it.size
		}
	}
	p.change.Broadcast()
}

// oldestInUse returns a number below which no segment is appended to or waits for a sync.
func (p *pipeline) oldestInUse() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.oldest
}

// commitAll is the goroutine that commits groups.
func (p *pipeline) commitAll() {
	for {
		p.mu.Lock()
		for len(p.group.items) == 0 && len(p.group.retired) == 0 && !p.closed {
			p.change.Wait()
		}
		g := p.group
		p.group = group{}
		p.change.Broadcast()
		p.mu.Unlock()
		if len(g.items) == 0 && len(g.retired) == 0 {
			return
		}
		p.commit(g)
	}
}

// commit makes a group durable and resolves its items.
func (p *pipeline) commit(g group) {
	rest := p.syncTails(g.items)
	rest = p.writeSmall(rest)
	c := change{ends: make(map[uint64]int64), files: make(map[uint64]fileRecord)}
	for i, it := range rest {
		if c.generation = min(c.generation, it.generation); i == 0 {
			c.generation = it.generation
		}
		if it.replaces != nil {
			c.remove = append(c.remove, *it.replaces)
		}
		c.add = append(c.add, entry{hash: it.hash, size: it.size, place: it.place, stamp: it.stamp})
		switch it.place.kind {
		case inSegment:
			c.ends[it.place.id] = max(c.ends[it.place.id], it.place.off+segment.RecordSize(it.size))
		case inSmall:
			c.small = max(c.small, it.place.id+1)
		case inFile:
			c.files[it.place.id] = *it.file
		}
	}
	var err error
	if len(rest) > 0 {
		// The blobs lie on the disk already; that the index has no room to say so must not lose them.
		err = p.reserve.cover(func() error {
			if err := p.clean(); err != nil {
				return err
			}
			return p.ledger.commit(&c)
		})
	}
	if err != nil {
		p.fail(rest, err)
	} else {
		for _, it := range rest {
			p.resolve(it.hash, nil)
		}
		p.free(c.remove)
	}
	for _, t := range g.retired {
		t.Close()
		p.mu.Lock()
		p.oldest = max(p.oldest, t.ID+1)
		p.mu.Unlock()
	}
}

// syncTails syncs the segments of a group and returns the items that are safe. The others have failed.
func (p *pipeline) syncTails(items []*item) (safe []*item) {
	synced := make(map[*segment.Tail]error)
	safe = items[:0:0]
	for _, it := range items {
		if it.tail == nil {
			safe = append(safe, it)
			continue
		}
		err, done := synced[it.tail]
		if !done {
			if err = it.tail.Spoilt(); err != nil {
				err = fmt.Errorf("content: segment %d is given up: %w", it.tail.ID, mapError(err))
			} else {
				err = mapError(it.tail.Sync())
			}
			synced[it.tail] = err
		}
		if err != nil {
			p.fail([]*item{it}, err)
		} else {
			safe = append(safe, it)
		}
	}
	return safe
}

// writeSmall writes the small blobs of a group and returns the items that are safe.
func (p *pipeline) writeSmall(items []*item) (safe []*item) {
	for {
		var b kv.Batch
		for _, id := range p.orphans {
			b.Delete(smallKey(id))
		}
		n, size := 0, 0
		first := p.nextSmall
		for _, it := range items {
			if it.sealed != nil && size < kv.MaxBatch {
				it.place.id = p.nextSmall
				p.nextSmall++
				b.Put(smallKey(it.place.id), *it.sealed)
				size += len(*it.sealed)
				p.release(it)
				n++
			}
		}
		if n == 0 {
			return items
		}
		err := p.reserve.cover(func() error { return mapError(writeKV(p.small, &b)) })
		if err == nil {
			p.orphans = nil
			continue
		}
		isSmall := func(it *item) bool { return it.place.kind == inSmall }
		var lost []*item
		for _, it := range items {
			if isSmall(it) {
				if it.sealed != nil {
					p.release(it)
					it.place.id = first // never written; deleting it twice is no harm
				}
				lost = append(lost, it)
			}
		}
		p.fail(lost, err)
		return slices.DeleteFunc(slices.Clone(items), isSmall)
	}
}

// writeKV writes a batch to a database whose state nobody mirrors, so that it can be reopened at once.
func writeKV(db *kv.DB, b *kv.Batch) error {
	if db.Failed() {
		if err := db.Reopen(); err != nil {
			return err
		}
	}
	return db.Write(b)
}

// fail resolves items with an error. Nothing more is appended to their segments.
func (p *pipeline) fail(items []*item, err error) {
	for _, it := range items {
		if it.tail != nil {
			it.tail.Spoil(err)
			if !slices.Contains(p.abandoned, it.tail.ID) {
				p.abandoned = append(p.abandoned, it.tail.ID)
			}
		} else if it.place.kind == inSmall {
			p.unsettled = append(p.unsettled, it.place.id)
		}
		p.resolve(it.hash, err)
	}
}

// clean settles what failed groups have left, once the index can tell whether it was applied after all: what lies behind the
// ends that it knows is cut off or will be deleted. What can't be cut off now is found when the store is opened next.
func (p *pipeline) clean() error {
	if len(p.abandoned) == 0 && len(p.unsettled) == 0 {
		return nil
	}
	if err := p.ledger.ready(); err != nil {
		return err
	}
	for _, id := range p.abandoned {
		p.segments.Truncate(id, p.ledger.segmentEnd(id))
	}
	end := p.ledger.smallEnd()
	for _, id := range p.unsettled {
		if id >= end {
			p.orphans = append(p.orphans, id)
		}
	}
	p.abandoned, p.unsettled = nil, nil
	return nil
}

// free gives back the room of entries that a commit has removed.
func (p *pipeline) free(removed []entry) {
	if len(removed) == 0 {
		return
	}
	p.ledger.freed(freeRecords(storedRecords(removed), p.segments, p.small))
}

// storedRecords returns what entries leave to be freed: nothing where the blob lies in a file of the user's.
func storedRecords(removed []entry) []freeing {
	records := make([]freeing, 0, len(removed))
	for _, e := range removed {
		if e.place.kind != inFile {
			records = append(records, freeing{e.place, e.size})
		}
	}
	return records
}

// freeRecords gives back the room of records that nothing points to and returns those for which that worked; the others are
// tried again when the store is opened next.
func freeRecords(records []freeing, segments *segment.Files, small *kv.DB) (done []freeing) {
	var b kv.Batch
	var inBatch []freeing
	bySegment := make(map[uint64][]freeing)
	for _, f := range records {
		if f.place.kind == inSmall {
			b.Delete(smallKey(f.place.id))
			inBatch = append(inBatch, f)
		} else {
			bySegment[f.place.id] = append(bySegment[f.place.id], f)
		}
	}
	for id, records := range bySegment {
		extents := make([]segment.Extent, len(records))
		for i, f := range records {
			extents[i] = segment.Extent{Off: f.place.off, Size: segment.RecordSize(f.size)}
		}
		if err := segments.Free(id, extents); err == nil {
			done = append(done, records...)
		}
	}
	if len(inBatch) > 0 {
		if err := writeKV(small, &b); err == nil {
			done = append(done, inBatch...)
		}
	}
	return done
}
