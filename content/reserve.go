package content

import (
	"path/filepath"
	"sync"

	"github.com/seigr/sttnode/content/internal/kv"
	"github.com/seigr/sttnode/content/internal/vfs"
)

// reserveSize is how much of the disk the store keeps for the day that it is full: enough for the index to recover and to
// note what is deleted.
const reserveSize = kv.Room + 2<<20

// reserve is a file that only takes room. Nothing is appended without it. On a full disk it is let go, so that what was appended
// before can still be entered in the index, and removing content works where adding doesn't.
type reserve struct {
	fsys vfs.FS
	dir  string

	mu   sync.Mutex
	held bool
}

const reserveName = "reserve"

// hold makes sure that the reserve is there.
func (r *reserve) hold() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held {
		return nil
	}
	name := filepath.Join(r.dir, reserveName)
	if f, err := r.fsys.Open(name); err == nil { // from the last time
		size, err := f.Size()
		f.Close()
		if err == nil && size == reserveSize {
			r.held = true
			return nil
		}
	}
	f, err := r.fsys.Create(name)
	if err != nil {
		return err
	}
	err = f.Allocate(reserveSize)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		r.fsys.Remove(name)
		return err
	}
	r.held = true
	return nil
}

// letGo gives the room up and reports whether that may help.
func (r *reserve) letGo() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.giveUp()
}

// spend gives the room up for what use writes, if it was still there to give. Nobody takes it for a new reserve meanwhile.
func (r *reserve) spend(use func() error) (spent bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.giveUp() {
		return false, nil
	}
	return true, use()
}

// giveUp removes the file. The caller holds mu.
func (r *reserve) giveUp() bool {
	r.held = false
	return r.fsys.Remove(filepath.Join(r.dir, reserveName)) == nil
}
