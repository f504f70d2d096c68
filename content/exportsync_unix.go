//go:build unix && !linux

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

func lockPart(f *os.File, _ bool) error { return vfs.LockFile(f) }

// releasePart gets a part ready to be renamed, which here needs nothing: it stays locked.
func releasePart(*os.File) error { return nil }

// startWriteback leaves it to the system when it writes out what was written to a file.
func startWriteback(*os.File) {}
