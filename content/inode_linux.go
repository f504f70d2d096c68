package content

import (
	"io/fs"
	"syscall"
	"time"
)

// inodeOf returns when an inode changed last, and its number.
func inodeOf(info fs.FileInfo) (changed time.Time, inode uint64) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return info.ModTime(), 0
	}
	return time.Unix(int64(st.Ctim.Sec), int64(st.Ctim.Nsec)), st.Ino
}
