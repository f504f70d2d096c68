package integration

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// sealedDir makes a directory in which nothing can be written: by its mode or, since modes say nothing to root, by a file system
// that is read-only.
func sealedDir(t *testing.T, dir string) string {
	t.Helper()
	sealed := filepath.Join(dir, "sealed")
	must(t, os.Mkdir(sealed, 0o555))
	if os.Getuid() == 0 {
		if !large {
			t.Skip("mounts a read-only file system as root: STT_INTEGRATION=1")
		}
		must(t, syscall.Mount("stt", sealed, "tmpfs", syscall.MS_RDONLY, ""))
		t.Cleanup(func() { unmount(t, sealed) })
	}
	return sealed
}
