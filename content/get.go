package content

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/seigr/sttnode/content/internal/kv"
	"github.com/seigr/sttnode/content/internal/segment"
	"github.com/seigr/sttnode/stc"
)

// Get appends the blob to dst. What it returns was sealed under this hash when the hash had been verified; it does not hash
// again, unless the blob lies in a file of the user's whose stamp is not the one that it was verified under. Errors: ErrNotFound;
// ErrCorrupt when what is stored is damaged, or, as a *ChangedError, when the user's file has changed, whereupon Has says no and
// another Put of the blob replaces it.
func (s *Store) Get(dst []byte, h stc.Hash) ([]byte, error) {
	if err := s.enter(); err != nil {
		return dst, err
	}
	defer s.exit()
	s.touch(h)
	return s.get(dst, h)
}

// get is Get for those who don't want the blob to be kept.
func (s *Store) get(dst []byte, h stc.Hash) ([]byte, error) {
	var last place
	for {
		e, ok, err := s.lookup(h)
		if err != nil {
			return dst, err
		}
		if !ok {
			return dst, fmt.Errorf("%w: %v", ErrNotFound, h)
		}
		if e.bad && e.place.kind != inFile { // which may be intact again
			return dst, fmt.Errorf("%w: %v", ErrCorrupt, h)
		}
		out, err := s.read(dst, e)
		if err == nil || !errors.Is(err, ErrCorrupt) {
			return out, err
		}
		// The blob may have been deleted, and stored again, since the lookup. If it still is where it was, it is damaged.
		if e.place != last {
			last = e.place
			continue
		}
		s.condemn(e, err)
		return dst, err
	}
}

// read reads and verifies the blob of an entry and appends it to dst.
func (s *Store) read(dst []byte, e entry) ([]byte, error) {
	switch e.place.kind {
	case inFile:
		return s.readInPlace(dst, e)
	case inSegment:
		scratch := getBuffer(int(e.recordSize()))
		defer putBuffer(scratch)
		out, err := s.segments.Read(dst, *scratch, e.hash, e.place.id, e.place.off, e.recordSize())
		if err != nil {
			return dst, fmt.Errorf("%v: %w", e.hash, mapError(err))
		}
		return out, nil
	}
	record, err := s.small.Get(smallKey(e.place.id))
	if errors.Is(err, kv.ErrNotFound) {
		return dst, fmt.Errorf("%w: %v: small blob %d is missing", ErrCorrupt, e.hash, e.place.id)
	}
	if err != nil {
		s.suspect(err)
		return dst, fmt.Errorf("%v: %w", e.hash, mapError(err))
	}
	out, err := segment.Open(dst, s.seal.cipher, e.hash, record)
	if err != nil {
		return dst, fmt.Errorf("%w: %v: %w", ErrCorrupt, e.hash, err)
	}
	return out, nil
}

// condemn notes that a blob is damaged, as err says. That a full disk forbids the note changes nothing but that it will be found
// again.
func (s *Store) condemn(e entry, err error) {
	bad := e
	bad.bad = true
	var changed *ChangedError
	if errors.As(err, &changed) {
		bad.stamp = changed.stamp
		s.reportChanged(changed)
	}
	if bad == e {
		return
	}
	if err := s.ledger.replace(verdict{e, bad}); err != nil {
		s.log.Warn("a damaged blob could not be noted", "hash", e.hash, "error", err)
		return
	}
	if changed == nil {
		s.log.Warn("stored blob is damaged", "hash", e.hash)
	}
}

// lookup returns the entry of h as seen beside deletions: a blob that is being deleted is not there.
func (s *Store) lookup(h stc.Hash) (entry, bool, error) {
	s.mu.Lock()
	deleting := s.deleting[h] != nil
	s.mu.Unlock()
	if deleting {
		return entry{}, false, nil
	}
	e, ok, err := s.ledger.lookup(h)
	s.suspect(err)
	return e, ok, err
}

// Has reports whether the store holds the blob and does not know it to be damaged.
func (s *Store) Has(h stc.Hash) (bool, error) {
	_, ok, err := s.Size(h)
	return ok, err
}

// Size returns the length in bytes of a blob that Has reports.
func (s *Store) Size(h stc.Hash) (size int, ok bool, err error) {
	if err := s.enter(); err != nil {
		return 0, false, err
	}
	defer s.exit()
	s.touch(h)
	e, ok, err := s.lookup(h)
	if err != nil || !ok || e.bad {
		return 0, false, err
	}
	return e.size, true, nil
}

// BlobInfo describes a stored blob.
type BlobInfo struct {
	Hash stc.Hash
	Size int  // bytes
	Bad  bool // known to be damaged
}

// All iterates over the blobs in no order. Those stored or deleted meanwhile are visited or not. It ends with the first error.
func (s *Store) All(ctx context.Context) iter.Seq2[BlobInfo, error] {
	return func(yield func(BlobInfo, error) bool) {
		if err := s.enter(); err != nil {
			yield(BlobInfo{}, err)
			return
		}
		defer s.exit()
		stopped := false
		err := s.ledger.each(func(e entry) bool {
			if ctx.Err() != nil {
				return false
			}
			stopped = !yield(BlobInfo{e.hash, e.size, e.bad}, nil)
			return !stopped
		})
		if stopped {
			return
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			yield(BlobInfo{}, err)
		}
	}
}
