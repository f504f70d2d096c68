package content

import (
	"errors"

	"golang.org/x/sys/windows"
)

// isDiskFull reports a disk without room, or a user's quota without.
func isDiskFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL) ||
		errors.Is(err, windows.ERROR_DISK_QUOTA_EXCEEDED)
}
