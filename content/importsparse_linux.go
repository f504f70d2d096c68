package content

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// isSparse reports whether a file takes less room on the disk than it is long, so that it may have holes.
func isSparse(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Blocks*512 < info.Size()
}

// nextData returns where data begins in a file of this size at or behind off: size if there is a hole up to the end, off where
// the file system can't tell.
func nextData(f *os.File, off, size int64) int64 {
	data, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return size
	case err != nil:
		return off
	}
	return min(data, size)
}
