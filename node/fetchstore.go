package node

import (
	"context"
	"sync"

	"github.com/seigr/sttnode/stc"
)

// fetchStore is the store as a download sees it: it shows the root to the fetch
// before anything below is asked for, and tells those who wait for blobs.
type fetchStore struct {
	f *fetch

	calls sync.Mutex // one call of OnStored at a time; taken before mu

	mu      sync.Mutex    // guards what follows
	bytes   uint64        // fetched and stored
	change  chan struct{} // closed and replaced when blobs were stored
	over    bool          // nothing more comes
	err     error         // why, if not because all is here
	refused error         // why the content is not wanted
}

func newFetchStore(f *fetch) *fetchStore { return &fetchStore{f: f, change: make(chan struct{})} }

// Has implements [swarm.Store].
func (s *fetchStore) Has(h stc.Hash) (bool, error) { return s.f.n.store.Has(h) }

// Get implements [swarm.Store].
func (s *fetchStore) Get(dst []byte, h stc.Hash) ([]byte, error) { return s.f.n.store.Get(dst, h) }

// PutVerified implements [swarm.Store].
func (s *fetchStore) PutVerified(ctx context.Context, hashes []stc.Hash, blobs [][]byte) error {
	if err := s.f.n.store.PutVerified(ctx, hashes, blobs); err != nil {
		return err
	}
	n := uint64(0)
	for i, h := range hashes {
		n += uint64(len(blobs[i]))
		if h == s.f.root {
			// The swarm uses the slice again.
			if err := s.f.rootArrived(ctx, append([]byte(nil), blobs[i]...)); err != nil {
				s.refuse(err)
				return err
			}
		}
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
	return nil
}

// refuse notes why the content is not wanted, as the fetch has seen its root.
func (s *fetchStore) refuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = err
}

// refusal returns what refuse was told.
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
