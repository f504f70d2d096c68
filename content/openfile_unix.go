//go:build unix

package content

import (
	"os"
	"syscall"
)

// openForReading doesn't wait for the other end of a pipe that has taken the place of a file.
const openForReading = os.O_RDONLY | syscall.O_NONBLOCK
