package content

import (
	"context"
	"errors"

	"github.com/seigr/sttnode/stc"
)

// deleteBatch is how many blobs are deleted with one sync.
const deleteBatch = 1024

// Delete removes blobs whoever needs them. Hashes that the store doesn't hold are ignored. It works on a full disk.
func (s *Store) Delete(ctx context.Context, hashes ...stc.Hash) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.exit()
	for len(hashes) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(len(hashes), deleteBatch)
		if err := s.awaitClaims(ctx, hashes[:n]); err != nil {
			return err
		}
		if _, err := s.remove(hashes[:n], nil); err != nil {
			return err
		}
		hashes = hashes[n:]
	}
	return s.dropEmpty()
}

// awaitClaims waits for puts under way.
func (s *Store) awaitClaims(ctx context.Context, hashes []stc.Hash) error {
	for _, h := range hashes {
		s.mu.Lock()
		c := s.claims[h]
		s.mu.Unlock()
		if c == nil {
			continue
		}
		select {
		case <-c.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Freed says what a removal has freed.
type Freed struct {
	Contents uint64 // that were only cached
	Blobs    uint64
	Bytes    uint64 // of the blobs that the store had a copy of; those in place take no room in it
}

// add counts an entry.
func (f *Freed) add(e entry) {
	f.Blobs++
	if e.place.kind != inFile {
		f.Bytes += uint64(e.size)
	}
}

// remove deletes those blobs that nobody is putting and that spare, if not nil, doesn't ask to keep. spare is called with s.mu
// held.
//
// While it runs they are in s.deleting: they count as absent, and a put of one waits, so that it meets either the old blob,
// untouched, or none. Readers that found the old entry before read the old bytes, or fail and look again.
func (s *Store) remove(hashes []stc.Hash, spare func(stc.Hash) bool) (Freed, error) {
	done := make(chan struct{})
	var doomed []stc.Hash
	s.mu.Lock()
	for _, h := range hashes {
		if s.claims[h] == nil && s.deleting[h] == nil && (spare == nil || !spare(h)) {
			s.deleting[h] = done
			doomed = append(doomed, h)
		}
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		for _, h := range doomed {
			delete(s.deleting, h)
		}
		s.mu.Unlock()
		close(done)
	}()

	removed, err := s.ledger.commitRemoval(doomed)
	if errors.Is(err, ErrDiskFull) && s.reserve.letGo() {
		removed, err = s.ledger.commitRemoval(doomed)
	}
	if err != nil {
		return Freed{}, err
	}
	var freed Freed
	for _, e := range removed {
		freed.add(e)
	}
	s.ledger.freed(freeRecords(storedRecords(removed), s.segments, s.small))
	return freed, nil
}

// dropEmpty removes the segments in which nothing is left.
func (s *Store) dropEmpty() error {
	oldest := s.pipeline.oldestInUse()
	for _, id := range s.ledger.emptySegments() {
		if id >= oldest {
			continue
		}
		if err := s.segments.Remove(id); err != nil {
			return mapError(err)
		}
		if err := s.ledger.forget(id); err != nil {
			return err
		}
	}
	return nil
}
