//go:build !linux

package integration

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// sealedDir makes a directory in which nothing can be written.
func sealedDir(t *testing.T, dir string) string {
	t.Helper()
	if runtime.GOOS == "windows" || os.Getuid() == 0 {
		t.Skip("a mode does not keep this user out")
	}
	sealed := filepath.Join(dir, "sealed")
	must(t, os.Mkdir(sealed, 0o555))
	return sealed
}
