// Package vfs is the little that the store asks of a file system, so that tests can put one below it that loses what was not
// synced, tears writes, fills up and fails. [OS] is the real one.
package vfs

import (
	"errors"
	"io"
	"io/fs"
)

// ErrLocked reports a lock that somebody else holds.
var ErrLocked = errors.New("vfs: locked")

// FS is a file system. Names are paths as the system writes them. Missing files are fs.ErrNotExist. Safe for concurrent use.
type FS interface {
	// Open opens a file for reading.
	Open(name string) (File, error)
	// Create makes an empty file, or empties the one that is there, for reading and writing.
	Create(name string) (File, error)
	// OpenWrite opens a file that exists for reading and writing.
	OpenWrite(name string) (File, error)
	// MkdirAll makes a directory and those above it that don't exist.
	MkdirAll(name string) error
	// ReadDir returns the names in a directory, in no order.
	ReadDir(name string) ([]string, error)
	Remove(name string) error
	// Rename replaces newName if it exists. It is durable once the directory is synced.
	Rename(oldName, newName string) error
	// SyncDir makes creations, removals and renames in a directory durable.
	SyncDir(name string) error
	// Lock takes the lock that is the file name, making the file if need be, until the Closer is closed or the process ends.
	// ErrLocked if somebody holds it.
	Lock(name string) (io.Closer, error)
}

// File is an open file. ReadAt may run beside everything else; writes to one place don't overlap.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Sync makes the bytes, and the length needed to read them, durable.
	Sync() error
	Truncate(size int64) error
	Size() (int64, error)
	// PunchHole makes a range read as zeros and gives its blocks back where the system can. errors.ErrUnsupported where it can't;
	// nothing has changed then.
	PunchHole(off, size int64) error
	// Allocate makes the file size bytes long with all its blocks taken.
	Allocate(size int64) error
}

// ReadFile reads a file of at most limit bytes.
func ReadFile(fsys FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.NewSectionReader(f, 0, limit))
}

// WriteFile replaces a file as one step: after a crash there is the old one or the new one.
func WriteFile(fsys FS, dir, name string, data []byte) error {
	tmp := join(dir, name+".tmp")
	f, err := fsys.Create(tmp)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = fsys.Rename(tmp, join(dir, name))
	}
	if err == nil {
		err = fsys.SyncDir(dir)
	}
	if err != nil {
		fsys.Remove(tmp)
	}
	return err
}

// Exists reports whether a file or directory can be opened or is there at all.
func Exists(fsys FS, name string) (bool, error) {
	f, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, f.Close()
}
