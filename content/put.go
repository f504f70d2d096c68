package content

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/seigr/sttnode/content/internal/segment"
	"github.com/seigr/sttnode/stc"
)

// claim is the right, and the duty, to store a blob. Whoever puts the same blob meanwhile waits for its outcome.
type claim struct {
	size    int64 // of the blob, once it counts as pending
	waiters []*putGroup
	inPlace bool // what is being noted is where the blob lies in a file of the user's
	done    chan struct{}
}

// putGroup waits for the outcome of many puts.
type putGroup struct {
	mu      sync.Mutex
	pending int
	err     error // the first
	settled chan struct{}
}

func newPutGroup() *putGroup { return &putGroup{pending: 1, settled: make(chan struct{})} }

func (g *putGroup) add() {
	g.mu.Lock()
	g.pending++
	g.mu.Unlock()
}

func (g *putGroup) finish(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = err
	}
	if g.pending--; g.pending == 0 {
		close(g.settled)
	}
}

// failed returns the first error so far.
func (g *putGroup) failed() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// wait returns the first error when all puts have settled. Nothing may be added any more.
func (g *putGroup) wait(ctx context.Context) error {
	g.finish(nil)
	select {
	case <-g.settled:
		return g.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Put stores a blob of 0 to MaxBlobSize bytes and returns its hash. When it returns without error, the blob survives a crash
// and a loss of power, until it is deleted or, being part of no content, collected: see [Storage]. Concurrent calls share their syncs.
// Errors: ErrTooLarge, ErrLimit, ErrDiskFull.
func (s *Store) Put(ctx context.Context, data []byte) (stc.Hash, error) {
	h := stc.Sum(data)
	return h, s.PutVerified(ctx, []stc.Hash{h}, [][]byte{data})
}

// PutMany stores many blobs, hashed four at a time, with few syncs. After an error, any of them may have been stored.
func (s *Store) PutMany(ctx context.Context, blobs [][]byte) ([]stc.Hash, error) {
	hashes := make([]stc.Hash, len(blobs))
	stc.SumMany(hashes, blobs)
	return hashes, s.PutVerified(ctx, hashes, blobs)
}

// PutVerified is PutMany for blobs whose hashes the caller has computed itself from these very bytes. It does not hash.
func (s *Store) PutVerified(ctx context.Context, hashes []stc.Hash, blobs [][]byte) error {
	durable, err := s.Submit(ctx, hashes, blobs)
	if err != nil {
		return err
	}
	return durable(ctx)
}

// Submit is PutVerified in two steps: it returns when the bytes are no longer needed, and waits for that while some 100 MiB are on
// their way to the disk; durable waits until they are stored, or ctx ends. It must be called once, by any goroutine: Close waits for it.
func (s *Store) Submit(ctx context.Context, hashes []stc.Hash, blobs [][]byte) (durable func(context.Context) error, err error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	g := newPutGroup()
	s.mu.Lock()
	s.putting[g] = hashes
	s.mu.Unlock()
	leave := func() {
		s.mu.Lock()
		delete(s.putting, g)
		s.mu.Unlock()
		s.exit()
	}
	if err := s.submit(ctx, g, nil, hashes, blobs); err != nil {
		leave()
		return nil, err
	}
	return func(ctx context.Context) error {
		defer leave()
		return g.wait(ctx)
	}, nil
}

// submit begins to store blobs, whose outcome g will tell, and returns when their bytes are no longer needed. keep, if not
// nil, keeps them from the collector. The caller has entered the store and stays until g has settled or it gives up.
func (s *Store) submit(ctx context.Context, g *putGroup, keep *keeper, hashes []stc.Hash, blobs [][]byte) error {
	if len(hashes) != len(blobs) {
		panic("content: as many hashes as blobs are needed")
	}
	for i, blob := range blobs {
		if len(blob) > MaxBlobSize {
			return fmt.Errorf("%w: %d bytes", ErrTooLarge, len(blob))
		}
		if err := s.submitOne(ctx, g, keep, hashes[i], blob); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) submitOne(ctx context.Context, g *putGroup, keep *keeper, h stc.Hash, blob []byte) error {
	mine, err := s.claim(ctx, g, keep, h, false)
	if err != nil || !mine {
		return err
	}
	// From here on the claim is resolved in any case, so that ctx ends no one else's put.
	generation := s.ledger.generation.Load()
	e, ok, err := s.ledger.lookup(h)
	if err != nil {
		s.resolve(h, err)
		return nil
	}
	if ok && !e.bad && e.place.kind != inFile && !(s.doubtful && s.unreadable(e)) {
		s.resolve(h, nil)
		return nil
	}
	it := &item{hash: h, size: len(blob), generation: generation}
	if ok {
		it.replaces = &e
	}
	if !ok || e.place.kind == inFile {
		if err := s.makeRoom(context.WithoutCancel(ctx), uint64(len(blob))); err != nil {
			s.resolve(h, err)
			return nil
		}
	}
	s.startPending(h, len(blob))
	if err := s.pipeline.budget.Acquire(context.Background(), itemCost(it.size)); err != nil {
		s.resolve(h, err)
		return nil
	}
	it.sealed = getBuffer(int(segment.RecordSize(len(blob))))
	*it.sealed = segment.Seal((*it.sealed)[:0], s.seal.cipher, h, blob)
	s.pipeline.queue <- it
	return nil
}

// unreadable reports whether an entry points to something damaged.
func (s *Store) unreadable(e entry) bool {
	_, err := s.read(nil, e)
	return errors.Is(err, ErrCorrupt)
}

// claim adds a put of h to g and reports whether it is the caller who has to store the blob and resolve the claim. Who wants a
// copy does not share the outcome of one who doesn't.
func (s *Store) claim(ctx context.Context, g *putGroup, keep *keeper, h stc.Hash, inPlace bool) (mine bool, err error) {
	for {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		s.mu.Lock()
		busy := s.deleting[h]
		if c := s.claims[h]; c != nil && c.inPlace && !inPlace {
			busy = c.done
		}
		if busy != nil {
			s.mu.Unlock()
			select {
			case <-busy:
				continue
			case <-ctx.Done():
				return false, ctx.Err()
			}
		}
		s.keep(keep, h)
		g.add()
		c := s.claims[h]
		if mine = c == nil; mine {
			c = &claim{done: make(chan struct{}), inPlace: inPlace}
			s.claims[h] = c
		}
		c.waiters = append(c.waiters, g)
		s.mu.Unlock()
		return mine, nil
	}
}

// resolve ends a claim.
func (s *Store) resolve(h stc.Hash, err error) {
	s.mu.Lock()
	c := s.claims[h]
	delete(s.claims, h)
	s.mu.Unlock()
	s.pending.Add(-c.size)
	for _, g := range c.waiters {
		g.finish(err)
	}
	close(c.done)
}

// buffers are for records, by the size of their array: one for chunks as they are by default, one for all.
var (
	chunkBuffers = sync.Pool{New: func() any { b := make([]byte, ChunkSize+segment.Overhead); return &b }}
	blobBuffers  = sync.Pool{New: func() any { b := make([]byte, MaxBlobSize+segment.Overhead); return &b }}
)

// getBuffer returns a buffer of at least size bytes; a blob's record is the most.
func getBuffer(size int) *[]byte {
	switch {
	case size <= ChunkSize/8:
		b := make([]byte, size)
		return &b
	case size <= ChunkSize+segment.Overhead:
		return chunkBuffers.Get().(*[]byte)
	}
	return blobBuffers.Get().(*[]byte)
}

func putBuffer(b *[]byte) {
	*b = (*b)[:cap(*b)]
	switch cap(*b) {
	case ChunkSize + segment.Overhead:
		chunkBuffers.Put(b)
	case MaxBlobSize + segment.Overhead:
		blobBuffers.Put(b)
	}
}
