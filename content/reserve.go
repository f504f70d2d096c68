package content

import (
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/seigr/sttnode/content/internal/kv"
	"github.com/seigr/sttnode/content/internal/vfs"
)

// reserve is two files that only take room, for the day that the disk is full; nothing is appended unless both are there. One is
// given up so that what was appended before can still be entered in the index, the other so that removing content works where
// adding doesn't.
type reserve struct {
	fsys vfs.FS
	dir  string

	whole atomic.Bool
	// mu is shared by those who write what the reserve is for, and held alone by those who take it or give it up: an attempt to
	// take it on a full disk would for a moment leave nothing to the others.
	mu sync.RWMutex
}

const (
	reserveForIndex  = "reserve.index"
	reserveForRemove = "reserve"

	// reserveEach is the size of either file: enough for an index whose write has failed to recover, and to note some more.
	reserveEach = kv.Room + 2<<20
	reserveSize = 2 * reserveEach
)

// hold makes sure that the reserve is there, all of it.
func (r *reserve) hold() error {
	if r.whole.Load() {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.whole.Load() {
		return nil
	}
	for _, name := range []string{reserveForRemove, reserveForIndex} {
		if err := r.take(name); err != nil {
			return err
		}
	}
	r.whole.Store(true)
	return nil
}

// take makes sure that one of the files is there. The caller holds mu.
func (r *reserve) take(base string) error {
	name := filepath.Join(r.dir, base)
	if f, err := r.fsys.Open(name); err == nil {
		size, err := f.Size()
		f.Close()
		if err == nil && size == reserveEach {
			return nil
		}
	}
	f, err := r.fsys.Create(name)
	if err != nil {
		return err
	}
	err = f.Allocate(reserveEach)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		r.fsys.Remove(name)
	}
	return err
}

// cover runs write, and if the disk is too full for it, once more with room of the reserve, should that still be there to give.
func (r *reserve) cover(write func() error) error {
	r.mu.RLock()
	err := write()
	r.mu.RUnlock()
	if !errors.Is(err, ErrDiskFull) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.give(reserveForIndex) {
		return err
	}
	return write()
}

// letGo gives up what is for removing content, and reports whether that may help.
func (r *reserve) letGo() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.give(reserveForRemove)
}

// give removes one of the files. The caller holds mu.
func (r *reserve) give(base string) bool {
	r.whole.Store(false)
	return r.fsys.Remove(filepath.Join(r.dir, base)) == nil
}
