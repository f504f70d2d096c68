package vfs

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// LockFile takes a lock on an open file until it is closed. ErrLocked if somebody else has it.
func LockFile(f *os.File) error {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY,
		0, 1, 0, new(windows.Overlapped))
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return ErrLocked
	}
	return err
}

// SyncDir implements FS. NTFS journals its directories and has no call for one.
func (OS) SyncDir(string) error { return nil }
