package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
)

// A disk that is full is a clear error, loses nothing, and once there is room the same command goes on.
func TestFullDisk(t *testing.T) {
	if !large {
		t.Skip("mounts file systems: STT_INTEGRATION=1, as root")
	}
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	rnd := random(t)
	const size = 40 << 20
	for _, kind := range []struct {
		name  string
		mount func(t *testing.T, dir string, megabytes int)
		grow  func(t *testing.T, dir string, megabytes int)
	}{
		{"tmpfs", mountTmpfs, growTmpfs},
		{"ext4", mountExt4, nil},
	} {
		t.Run(kind.name, func(t *testing.T) {
			c := newCluster(t)
			path := randomFile(t, rnd, filepath.Join(c.dir, "file"), size)
			_, hashes := c.seeders(t, 2, nil, path)
			full := func(t *testing.T, p *process) {
				t.Helper()
				p.expect(t, exitDiskFull)
				if got := p.stderr.String(); !regexp.MustCompile(`(?i)disk (is )?full|no space`).MatchString(got) {
					t.Errorf("message %q does not speak of the disk", got)
				}
			}
			small := func(t *testing.T) string {
				dir := t.TempDir()
				kind.mount(t, dir, 32)
				return dir
			}

			t.Run("store of a fetch", func(t *testing.T) {
				disk := small(t)
				m := c.memberAt(t, "fetcher", filepath.Join(disk, "node"))
				out := filepath.Join(c.dir, "out1")
				full(t, m.start(t, "fetch", hashes[0], "-o", out, "--ready-file", filepath.Join(c.dir, "ready1")))
				absent(t, out)
				m.run(t, "store", "verify", "--dir", m.dir).expect(t, exitOK)
				held := m.stored(t)
				// How much depends on when the disk was found to be full: what was not acknowledged by then is dropped.
				if held == 0 {
					t.Error("nothing is stored on a disk of 32 MiB")
				}
				if kind.grow == nil {
					return
				}
				kind.grow(t, disk, 128)
				e := m.fetch(t, hashes[0], out)
				same(t, path, out)
				e.resumed(t, held)
			})

			t.Run("output of a fetch", func(t *testing.T) {
				disk := small(t)
				m := c.member(t, "second")
				out := filepath.Join(disk, "out2")
				full(t, m.start(t, "fetch", hashes[0], "-o", out))
				absent(t, out)
				if left := fileBytes(disk, ""); left > 1<<20 {
					t.Errorf("%d bytes of an unfinished output are left", left)
				}
				if kind.grow == nil {
					return
				}
				kind.grow(t, disk, 128)
				if e := m.fetch(t, hashes[0], out); e.fetched() > size/2 {
					t.Errorf("fetched %d bytes that were stored", e.fetched())
				}
				same(t, path, out)
			})

			t.Run("store of a seeder", func(t *testing.T) {
				disk := small(t)
				m := c.memberAt(t, "seeder", filepath.Join(disk, "node"))
				full(t, m.start(t, "seed", path))
				m.run(t, "store", "verify", "--dir", m.dir).expect(t, exitOK)
				little := randomFile(t, rnd, filepath.Join(c.dir, "little"), 10_000)
				if kind.grow == nil {
					return
				}
				kind.grow(t, disk, 128)
				m.serve(t, "seed", path, little)
				m.announced(t, path, little)
				m.p.stop(t)
			})
		})
	}
}

func mountTmpfs(t *testing.T, dir string, megabytes int) {
	t.Helper()
	if err := syscall.Mount("stt", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes)); err != nil {
		t.Fatalf("this machine lets nobody mount, so leave STT_INTEGRATION out: %v", err)
	}
	t.Cleanup(func() { unmount(t, dir) })
}

func growTmpfs(t *testing.T, dir string, megabytes int) {
	t.Helper()
	must(t, syscall.Mount("stt", dir, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%dm", megabytes)))
}

// mountExt4 mounts a file: a file system that promises space before it looks for it, and finds out late.
func mountExt4(t *testing.T, dir string, megabytes int) {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk")
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, int64(megabytes)<<20))
	t.Setenv("PATH", os.Getenv("PATH")+":/sbin:/usr/sbin")
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v\n%s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop", image, dir).CombinedOutput(); err != nil {
		t.Fatalf("this machine mounts no files, so leave STT_INTEGRATION out: %v\n%s", err, out)
	}
	t.Cleanup(func() { unmount(t, dir) })
}

// unmount runs after the processes of the test, which were started later, have been killed: cleanups go backwards.
func unmount(t *testing.T, dir string) {
	t.Helper()
	if err := syscall.Unmount(dir, 0); err != nil {
		t.Errorf("unmount %s: %v", dir, err)
		_ = syscall.Unmount(dir, syscall.MNT_DETACH)
	}
}
