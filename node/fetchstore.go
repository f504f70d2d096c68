package node

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/stc"
)

// fetchStore is the store as a download sees it: it shows the root to the fetch
// before anything below is stored, and tells those who wait for blobs.
type fetchStore struct {
	f *fetch

	calls sync.Mutex // one call of OnStored at a time; taken before mu

	looking sync.Mutex    // one call at a time shows the fetch the root
	looked  chan struct{} // closed when the fetch has seen the root
	once    sync.Once     // closes it
	follows chan struct{} // closed when the download follows who reads, if it does

	mu      sync.Mutex    // guards what follows
	bytes   uint64        // fetched and stored
	change  chan struct{} // closed and replaced when blobs were stored
	over    bool          // nothing more comes
	err     error         // why, if not because all is here
	refused error         // why the content is not wanted
}

func newFetchStore(f *fetch) *fetchStore {
	return &fetchStore{f: f, change: make(chan struct{}), looked: make(chan struct{}), follows: make(chan struct{})}
}

// Has implements [swarm.Store].
func (s *fetchStore) Has(h stc.Hash) (bool, error) { return s.f.n.store.Has(h) }

// Get implements [swarm.Store].
func (s *fetchStore) Get(dst []byte, h stc.Hash) ([]byte, error) { return s.f.n.store.Get(dst, h) }

// Submit implements [swarm.Store].
func (s *fetchStore) Submit(ctx context.Context, hashes []stc.Hash, blobs [][]byte) (durable func(context.Context) error, err error) {
	if err := s.rootFirst(ctx, hashes, blobs); err != nil {
		return nil, err
	}
	wait, err := s.f.n.store.Submit(ctx, hashes, blobs)
	if err != nil {
		return nil, err
	}
	sizes := make([]uint64, len(blobs)) // the swarm uses the slices again
	for i, b := range blobs {
		sizes[i] = uint64(len(b))
	}
	return func(ctx context.Context) error {
		err := wait(ctx)
		if err == nil {
			s.stored(hashes, sizes)
		}
		return err
	}, nil
}

// stored tells of blobs that are durable.
func (s *fetchStore) stored(hashes []stc.Hash, sizes []uint64) {
	n := uint64(0)
	for i, size := range sizes {
		n += size
		s.f.n.emit(EventChunkVerified, Event{Root: s.f.root, Chunk: hashes[i], Bytes: size})
	}
	on := s.f.opts.OnStored
	if on != nil {
		s.calls.Lock()
		defer s.calls.Unlock()
	}
	s.mu.Lock()
	s.bytes += n
	n = s.bytes
	close(s.change)
	s.change = make(chan struct{})
	s.mu.Unlock()
	if on != nil {
		on(n)
	}
}

// rootFirst returns when the fetch has seen the root, which may be among the
// blobs, and accepts it.
func (s *fetchStore) rootFirst(ctx context.Context, hashes []stc.Hash, blobs [][]byte) error {
	select {
	case <-s.looked:
		return s.refusal()
	default:
	}
	var root []byte
	var err error
	if i := slices.Index(hashes, s.f.root); i >= 0 {
		root = slices.Clone(blobs[i]) // The swarm uses the slice again.
		err = s.f.n.store.PutVerified(ctx, hashes[i:i+1], blobs[i:i+1])
	} else if root, err = s.f.n.store.Get(nil, s.f.root); errors.Is(err, content.ErrNotFound) || errors.Is(err, content.ErrCorrupt) {
		// Another call is storing it: what is below it could not be known else.
		select {
		case <-s.looked:
			return s.refusal()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	// Calls that come at the same moment may all have got here.
	s.looking.Lock()
	defer s.looking.Unlock()
	select {
	case <-s.looked:
		return s.refusal()
	default:
	}
	if err == nil {
		err = s.f.rootArrived(ctx, root)
	}
	s.look(err)
	return err
}

// look notes that the fetch has seen the root, and why it does not want the
// content if it does not.
func (s *fetchStore) look(refused error) {
	s.once.Do(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.refused = refused
		close(s.looked)
	})
}

// refusal returns what look was told.
func (s *fetchStore) refusal() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

// finish tells those who wait that nothing more comes: because everything is
// here, or because of err.
func (s *fetchStore) finish(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.over, s.err = true, err
	close(s.change)
	s.change = make(chan struct{})
}

// changed returns a channel that is closed when more has been stored, and
// whether that may still happen.
func (s *fetchStore) changed() (c <-chan struct{}, over bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.change, s.over, s.err
}
