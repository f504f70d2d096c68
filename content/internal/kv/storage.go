package kv

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	lerrors "github.com/syndtr/goleveldb/leveldb/errors"
	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/seigr/sttnode/content/internal/vfs"
)

// files is goleveldb's storage on a vfs.FS. Whoever opens the database holds the lock of the whole store, so its own lock is
// of no consequence.
type files struct {
	fsys vfs.FS
	dir  string

	mu      sync.Mutex
	unsaved map[string]bool // names made since the directory was last synced
	failure error           // the last of a write; goleveldb hands on the text of some errors only
}

func newStorage(fsys vfs.FS, dir string) *files {
	return &files{fsys: fsys, dir: dir, unsaved: make(map[string]bool)}
}

const currentName = "CURRENT"

// fileName is where goleveldb's own storage would put the file, so that other tools can read the database.
func fileName(fd storage.FileDesc) string {
	switch fd.Type {
	case storage.TypeManifest:
		return fmt.Sprintf("MANIFEST-%06d", fd.Num)
	case storage.TypeJournal:
		return fmt.Sprintf("%06d.log", fd.Num)
	case storage.TypeTable:
		return fmt.Sprintf("%06d.ldb", fd.Num)
	}
	return fmt.Sprintf("%06d.tmp", fd.Num)
}

// parseName is the inverse of fileName.
func parseName(name string) (storage.FileDesc, bool) {
	var fd storage.FileDesc
	for typ, pattern := range map[storage.FileType]string{
		storage.TypeManifest: "MANIFEST-%d", storage.TypeJournal: "%d.log", storage.TypeTable: "%d.ldb", storage.TypeTemp: "%d.tmp",
	} {
		if n, _ := fmt.Sscanf(name, pattern, &fd.Num); n == 1 {
			fd.Type = typ
			if fileName(fd) == name {
				return fd, true
			}
		}
	}
	return storage.FileDesc{}, false
}

func (s *files) path(name string) string { return filepath.Join(s.dir, name) }

// note keeps the error of a write.
func (s *files) note(err error) error {
	if err != nil {
		s.mu.Lock()
		s.failure = err
		s.mu.Unlock()
	}
	return err
}

// explain gives an error of goleveldb's back what it has lost of its cause.
func (s *files) explain(err error) error {
	if err == nil || err == ErrNotFound {
		return err
	}
	if lerrors.IsCorrupted(err) {
		return &DamageError{s.dir, err}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure == nil || errors.Is(err, s.failure) {
		return err
	}
	return fmt.Errorf("%w, after %w", err, s.failure)
}

type unlocked struct{}

func (unlocked) Unlock() {}

// Lock implements storage.Storage.
func (s *files) Lock() (storage.Locker, error) { return unlocked{}, nil }

// Log implements storage.Storage.
func (s *files) Log(string) {}

// Close implements storage.Storage.
func (s *files) Close() error { return nil }

// SetMeta implements storage.Storage.
func (s *files) SetMeta(fd storage.FileDesc) error {
	return s.note(vfs.WriteFile(s.fsys, s.dir, currentName, []byte(fileName(fd)+"\n")))
}

// GetMeta implements storage.Storage.
func (s *files) GetMeta() (storage.FileDesc, error) {
	b, err := vfs.ReadFile(s.fsys, s.path(currentName), 64)
	if err != nil {
		return storage.FileDesc{}, err
	}
	name, ok := strings.CutSuffix(string(b), "\n")
	fd, parsed := parseName(name)
	if !ok || !parsed || fd.Type != storage.TypeManifest {
		return storage.FileDesc{}, &storage.ErrCorrupted{Err: fmt.Errorf("%s says %q", currentName, b)}
	}
	return fd, nil
}

// List implements storage.Storage.
func (s *files) List(types storage.FileType) ([]storage.FileDesc, error) {
	names, err := s.fsys.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var fds []storage.FileDesc
	for _, name := range names {
		if fd, ok := parseName(name); ok && fd.Type&types != 0 {
			fds = append(fds, fd)
		}
	}
	return fds, nil
}

// Open implements storage.Storage.
func (s *files) Open(fd storage.FileDesc) (storage.Reader, error) {
	f, err := s.fsys.Open(s.path(fileName(fd)))
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err == nil && fd.Type == storage.TypeTable {
		if ferr := checkFooter(f, size); ferr != nil {
			f.Close()
			return nil, &storage.ErrCorrupted{Fd: fd, Err: ferr}
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &reader{SectionReader: io.NewSectionReader(f, 0, size), file: f}, nil
}

// Create implements storage.Storage.
func (s *files) Create(fd storage.FileDesc) (storage.Writer, error) {
	name := fileName(fd)
	f, err := s.fsys.Create(s.path(name))
	if err != nil {
		return nil, s.note(err)
	}
	s.mu.Lock()
	s.unsaved[name] = true
	s.mu.Unlock()
	return &writer{storage: s, name: name, file: f}, nil
}

// Remove implements storage.Storage.
func (s *files) Remove(fd storage.FileDesc) error { return s.fsys.Remove(s.path(fileName(fd))) }

// Rename implements storage.Storage.
func (s *files) Rename(from, to storage.FileDesc) error {
	if from == to {
		return nil
	}
	if err := s.fsys.Rename(s.path(fileName(from)), s.path(fileName(to))); err != nil {
		return err
	}
	return s.fsys.SyncDir(s.dir)
}

// saveName makes the name of a file durable, once.
func (s *files) saveName(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.unsaved[name] {
		return nil
	}
	if err := s.fsys.SyncDir(s.dir); err != nil {
		return err
	}
	clear(s.unsaved)
	return nil
}

type reader struct {
	*io.SectionReader
	file vfs.File
}

func (r *reader) Close() error { return r.file.Close() }

// writer appends; goleveldb uses one from one goroutine at a time.
type writer struct {
	storage *files
	name    string
	file    vfs.File
	off     int64
	closed  bool
}

func (w *writer) Write(p []byte) (int, error) {
	n, err := w.file.WriteAt(p, w.off)
	w.off += int64(n)
	return n, w.storage.note(err)
}

func (w *writer) Sync() error {
	if err := w.file.Sync(); err != nil {
		return w.storage.note(err)
	}
	return w.storage.note(w.storage.saveName(w.name))
}

func (w *writer) Close() error {
	if w.closed {
		return storage.ErrClosed
	}
	w.closed = true
	return w.file.Close()
}

// isMissing reports a file that is not there.
func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// written is files without empty journals, of which a failed opening leaves one: reading only, goleveldb takes the end of a
// journal for a failure to begin with the next.
type written struct{ *files }

func (w written) List(types storage.FileType) ([]storage.FileDesc, error) {
	all, err := w.files.List(types)
	return slices.DeleteFunc(all, func(fd storage.FileDesc) bool {
		if fd.Type != storage.TypeJournal {
			return false
		}
		f, err := w.fsys.Open(w.path(fileName(fd)))
		if err != nil {
			return false
		}
		defer f.Close()
		size, err := f.Size()
		return err == nil && size == 0
	}), err
}
