//go:build unix

package content

import (
	"errors"
	"syscall"
)

// isDiskFull reports a disk without room, or a user's quota without.
func isDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
