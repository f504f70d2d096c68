package content

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/seigr/sttnode/content/internal/vfs"
)

// syncsWhole says that syncPart covers the files in a directory.
const syncsWhole = true

// syncPart makes a part durable: a directory by syncing its file system, which costs one wait, not one a file.
func syncPart(f *os.File, dir bool) error {
	if dir {
		return os.NewSyscallError("syncfs", unix.Syncfs(int(f.Fd())))
	}
	return f.Sync()
}

func lockPart(f *os.File, _ bool) error { return vfs.LockFile(f) }

// releasePart gets a part ready to be renamed, which here needs nothing: it stays locked.
func releasePart(*os.File) error { return nil }

// startWriteback tells the system to begin writing out what was written to a file. It is only a hint: syncPart tells of errors.
func startWriteback(f *os.File) {
	_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
}
