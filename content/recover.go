package content

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seigr/sttnode/content/internal/kv"
	"github.com/seigr/sttnode/content/internal/segment"
	"github.com/seigr/sttnode/stc"
)

// startPipeline finds what lies behind the ends that the index knows, starts the pipeline and puts it again.
//
// There lies what a crash has kept from being acknowledged, torn perhaps, and, if the last records of the index's journal are
// lost, what was acknowledged. Each record that is intact is put as if it were new, which is safe whatever the reason, and then
// the segment is cut.
func (s *Store) startPipeline(segmentSize int64) error {
	ids, err := s.segments.List()
	if err != nil {
		return err
	}
	slices.Sort(ids)
	nextID := uint64(1)
	if len(ids) > 0 {
		nextID = ids[len(ids)-1] + 1
	}
	for id := range s.ledger.segments {
		nextID = max(nextID, id+1)
	}
	var tails []uint64
	for _, id := range ids {
		size, err := s.segments.Size(id)
		if err != nil {
			return err
		}
		if size > s.ledger.segments[id].end {
			tails = append(tails, id)
		}
	}
	var tail *segment.Tail
	if last := nextID - 1; len(tails) == 0 && len(ids) > 0 && last == ids[len(ids)-1] {
		st := s.ledger.segments[last]
		if size, err := s.segments.Size(last); err == nil && size == st.end && size < segmentSize {
			if tail, err = s.segments.OpenTail(last, st.end); err != nil {
				return err
			}
		}
	}
	smallEnd := s.ledger.totals.smallEnd
	nextSmall := smallEnd
	last, err := s.small.Last([]byte{prefixBlob}, []byte{prefixBlob + 1})
	if err != nil {
		return err
	}
	if len(last) == 9 {
		nextSmall = max(nextSmall, binary.BigEndian.Uint64(last[1:])+1)
	}
	s.pipeline = &pipeline{
		seal: s.seal, ledger: s.ledger, small: s.small, segments: s.segments, reserve: s.reserve,
		segmentSize: segmentSize, resolve: s.resolve, nextSmall: nextSmall,
	}
	s.pipeline.start(tail, nextID)
	s.doubtful = true
	defer func() { s.doubtful = false }()
	if err = s.replay(tails, smallEnd, nextSmall); err != nil && !errors.Is(err, ErrDiskFull) {
		s.pipeline.stop()
		return err
	}
	return nil
}

// replay puts what lies behind the known ends again. On a full disk it stays where it is, for the next time.
func (s *Store) replay(tails []uint64, smallEnd, nextSmall uint64) error {
	ctx := context.Background()
	for _, id := range tails {
		g := newPutGroup()
		err := s.segments.Scan(id, s.ledger.segmentEnd(id), MaxBlobSize, func(r segment.Record) error {
			if r.Blob == nil {
				return nil
			}
			return s.submit(ctx, g, nil, []stc.Hash{r.Hash}, [][]byte{r.Blob})
		})
		if err = errors.Join(err, g.wait(ctx)); err != nil {
			return fmt.Errorf("content: recovering segment %d: %w", id, err)
		}
		if err := s.segments.Truncate(id, s.ledger.segmentEnd(id)); err != nil {
			return mapError(err)
		}
	}
	var b kv.Batch
	g := newPutGroup()
	var failed error
	err := s.small.Each(smallKey(smallEnd), smallKey(nextSmall), func(key, value []byte) bool {
		b.Delete(key)
		h, blob, err := segment.Parse(s.seal.cipher, value, maxSmall)
		if err != nil {
			return true
		}
		failed = s.submit(ctx, g, nil, []stc.Hash{h}, [][]byte{blob})
		return failed == nil
	})
	if err = errors.Join(err, failed, g.wait(ctx)); err != nil {
		return mapError(err)
	}
	if b.Len() > 0 {
		return mapError(writeKV(s.small, &b))
	}
	return nil
}

// rescueSmall saves what kv.Salvage would lose: it gives up a damaged table with everything in it, though all that is wrong may
// be a bit of its index. The values are records that can be found by themselves, so those in damaged files are copied to a new
// segment, behind the end that the index knows, from where startPipeline puts them again. What goleveldb can't bear to see is
// removed.
func (s *Store) rescueSmall() error {
	dir := s.path(smallName)
	names, err := s.fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	ids, err := s.segments.List()
	if err != nil {
		return err
	}
	var tail *segment.Tail
	for _, name := range names {
		err := kv.CheckFile(s.fsys, dir, name)
		if err == nil {
			continue
		}
		if !errors.Is(err, kv.ErrDamaged) {
			return err
		}
		s.log.Warn("rescuing small blobs from a damaged file", "file", name, "error", err)
		if tail == nil {
			if tail, err = s.segments.NewTail(slices.Max(append(ids, 0)) + 1); err != nil {
				return err
			}
			defer tail.Close()
		}
		err = s.segments.ScanFile(filepath.Join(dir, name), 0, maxSmall, func(r segment.Record) error {
			if r.Blob == nil {
				return nil
			}
			_, err := tail.Append(segment.Seal(nil, s.seal.cipher, r.Hash, r.Blob))
			return err
		})
		if err != nil {
			return err
		}
		if err := tail.Sync(); err != nil {
			return err
		}
		if strings.HasSuffix(name, ".ldb") {
			if err := s.fsys.Remove(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// rebuild makes the index again from the segments and the small blobs, reading and verifying them all. It writes a database
// beside the old one and then puts it in its place, so that an interruption costs only the time.
func (s *Store) rebuild() error {
	if err := kv.Destroy(s.fsys, s.path(newIndexName)); err != nil {
		return err
	}
	db, err := kv.Open(s.fsys, s.path(newIndexName), true)
	if err != nil {
		return err
	}
	err = s.fill(db)
	if cerr := db.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := kv.Destroy(s.fsys, s.path(indexName)); err != nil {
		return err
	}
	if err := s.fsys.Rename(s.path(newIndexName), s.path(indexName)); err != nil {
		return err
	}
	if err := s.fsys.SyncDir(s.dir); err != nil {
		return err
	}
	if s.index, err = kv.Open(s.fsys, s.path(indexName), false); err != nil {
		return err
	}
	s.ledger, err = newLedger(s.seal, s.index)
	return err
}

// fill writes into an empty index what segments and small blobs hold.
func (s *Store) fill(db *kv.DB) error {
	l, err := newLedger(s.seal, db)
	if err != nil {
		return err
	}
	c := &change{ends: make(map[uint64]int64), set: []pair{{[]byte{prefixRestore}, nil}}}
	seen := make(map[stc.Hash]bool) // in c
	flush := func() error {
		err := l.commit(c)
		c = &change{ends: make(map[uint64]int64)}
		clear(seen)
		return err
	}
	add := func(e entry) error {
		if seen[e.hash] {
			return nil
		}
		if _, ok, err := l.lookup(e.hash); err != nil || ok {
			return err
		}
		seen[e.hash] = true
		if c.add = append(c.add, e); len(c.add) < 4096 {
			return nil
		}
		return flush()
	}
	ids, err := s.segments.List()
	if err != nil {
		return err
	}
	slices.Sort(ids)
	for _, id := range ids {
		err := s.segments.Scan(id, 0, MaxBlobSize, func(r segment.Record) error {
			if r.Blob == nil {
				return nil
			}
			return add(entry{hash: r.Hash, size: len(r.Blob), place: place{inSegment, id, r.Off}})
		})
		if err != nil {
			return err
		}
		if c.ends[id], err = s.segments.Size(id); err != nil {
			return err
		}
	}
	var failed error
	err = s.small.Each(nil, nil, func(key, value []byte) bool {
		switch {
		case key[0] == prefixPin, key[0] == prefixOrigin:
			c.set = append(c.set, pair{key, value})
		case key[0] == prefixBlob && len(key) == 9:
			id := binary.BigEndian.Uint64(key[1:])
			c.small = max(c.small, id+1)
			if h, blob, err := segment.Parse(s.seal.cipher, value, maxSmall); err == nil {
				failed = add(entry{hash: h, size: len(blob), place: place{inSmall, id, 0}})
			}
		}
		return failed == nil
	})
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	return flush()
}
