package segment

import (
	"sync/atomic"

	"github.com/seigr/sttnode/content/internal/vfs"
)

// Tail is a segment that is being appended to. One goroutine appends; another may sync at the same time.
//
// A Tail whose sync failed is spoilt: which of its unsynced bytes will reach the disk is unknown, and the system reports the
// failure only once, so neither those bytes nor any appended later may be acknowledged.
type Tail struct {
	ID      uint64
	file    vfs.File
	end     int64 // where the next record goes; of the appending goroutine
	spoilt  atomic.Pointer[error]
	saveDir func() error // makes a new file's name durable; nil when that is done; of the syncing goroutine
}

// NewTail makes an empty segment.
func (f *Files) NewTail(id uint64) (*Tail, error) {
	file, err := f.fsys.Create(f.Name(id))
	if err != nil {
		return nil, err
	}
	return &Tail{ID: id, file: file, saveDir: func() error { return f.fsys.SyncDir(f.dir) }}, nil
}

// OpenTail goes on with a segment at end, behind which nothing in it counts.
func (f *Files) OpenTail(id uint64, end int64) (*Tail, error) {
	file, err := f.fsys.OpenWrite(f.Name(id))
	if err != nil {
		return nil, err
	}
	if err := file.Truncate(end); err != nil {
		file.Close()
		return nil, err
	}
	return &Tail{ID: id, file: file, end: end}, nil
}

// End returns where the next record goes.
func (t *Tail) End() int64 { return t.end }

// Append writes a record and returns where. After an error nothing has been appended.
func (t *Tail) Append(record []byte) (off int64, err error) {
	off = t.end
	if _, err := t.file.WriteAt(record, off); err != nil {
		t.file.Truncate(off) // What can't be cut off is written over by the next record.
		return 0, err
	}
	t.end += int64(len(record))
	return off, nil
}

// Sync makes what was appended before the call durable.
func (t *Tail) Sync() error {
	err := t.file.Sync()
	if err == nil && t.saveDir != nil {
		if err = t.saveDir(); err == nil {
			t.saveDir = nil
		}
	}
	if err != nil {
		t.Spoil(err)
	}
	return err
}

// Spoil marks the segment as spoilt for another reason: what was appended will not be acknowledged.
func (t *Tail) Spoil(err error) { t.spoilt.CompareAndSwap(nil, &err) }

// Spoilt returns the error of the sync that failed first, or of Spoil, or nil.
func (t *Tail) Spoilt() error {
	if err := t.spoilt.Load(); err != nil {
		return *err
	}
	return nil
}

// Close closes the file without syncing it.
func (t *Tail) Close() error { return t.file.Close() }
