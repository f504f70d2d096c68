package content

import (
	"os"

	"github.com/seigr/sttnode/content/internal/vfs"
)

// syncsWhole says that syncPart covers the files in a directory.
const syncsWhole = false

// syncPart makes a part durable; files in a directory have been synced one by one.
func syncPart(f *os.File, dir bool) error {
	if dir {
		return nil
	}
	return f.Sync()
}

// lockPart locks a file. Directories can't be locked here.
func lockPart(f *os.File, dir bool) error {
	if dir {
		return nil
	}
	return vfs.LockFile(f)
}

// releasePart closes a part, because an open one can't be renamed.
func releasePart(f *os.File) error { return f.Close() }

// startWriteback leaves it to the system when it writes out what was written to a file.
func startWriteback(*os.File) {}
