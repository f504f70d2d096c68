package main

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	mrand "math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Sizes of what the store's cases work on.
const (
	storeFileSize = 1 << 30
	storeChunk    = 256 << 10
	treeFiles     = 50_000
	treeFileSize  = 4 << 10
)

// storeBed is where the store's cases lie: one directory with what they share and what each has made.
type storeBed struct {
	dir     string
	gib     int64
	crashes int
	aside   int             // what setAside keeps
	made    map[string]bool // by once, for the case under way
}

func newStoreBed(parent string, gib int64) (*storeBed, error) {
	dir, err := os.MkdirTemp(parent, "stt-bench-store-")
	b := &storeBed{dir: dir, gib: gib, made: make(map[string]bool)}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted // What is under way fails for want of its files, and nothing that large is left.
		b.remove()
		os.Exit(130)
	}()
	return b, err
}

func (b *storeBed) remove() { _ = os.RemoveAll(b.dir) }

func (b *storeBed) path(name string) string { return filepath.Join(b.dir, name) }

// fresh returns a path at which there is nothing.
func (b *storeBed) fresh(name string) string {
	_ = os.RemoveAll(b.path(name))
	_ = syncFS(b.dir) // what was deleted costs the next run nothing
	return b.path(name)
}

// setAside keeps what is at a path until the case is over, instead of fresh's removing it: for some minutes ext4 gives no inode away
// again that was freed, and looks at each of them in every create, which takes ten times as long behind 10,000 of them.
func (b *storeBed) setAside(name string) error {
	err := os.MkdirAll(b.path("aside"), 0o700)
	if err == nil {
		err = os.Rename(b.path(name), filepath.Join(b.path("aside"), strconv.Itoa(b.aside)))
		b.aside++
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// clear removes what a case has made; the next ones need other things, and the disk is not endless.
func (b *storeBed) clear() {
	for _, name := range []string{"imported", "collected", "large", "aside"} {
		_ = os.RemoveAll(b.path(name))
		delete(b.made, name)
	}
}

// once returns a path that make has made, in this call or an earlier one.
func (b *storeBed) once(name string, make func(path string) error) (string, error) {
	path := b.path(name)
	if b.made[name] {
		return path, nil
	}
	if err := make(path); err != nil {
		return "", err
	}
	b.made[name] = true
	return path, syncFS(b.dir)
}

// file returns a file of random bytes that is in the page cache.
func (b *storeBed) file() (string, error) {
	return b.once("file", func(path string) error { return writeRandom(path, storeFileSize) })
}

// writeRandom makes a file of random bytes.
func writeRandom(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, io.LimitReader(randomBytes(), size), make([]byte, 1<<20))
	return errors.Join(err, f.Close())
}

// tree returns a directory with small files.
func (b *storeBed) tree() (string, error) {
	return b.once("tree", func(path string) error { return writeTree(path, treeFiles) })
}

// writeTree makes a directory of files of 4 KiB, 100 in each of its own.
func writeTree(path string, files int) error {
	src, buf := randomBytes(), make([]byte, treeFileSize)
	for i := range files {
		dir := filepath.Join(path, fmt.Sprintf("%03d", i/100))
		if i%100 == 0 {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		_, _ = src.Read(buf)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%05d", i)), buf, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// sparse makes a file of distinct chunks that takes a page of the disk for each: its number, and zeros behind it.
func (b *storeBed) sparse(gib int64) (string, error) {
	path := b.path("sparse")
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	var number [8]byte
	for off := int64(0); err == nil && off < gib<<30; off += storeChunk {
		binary.BigEndian.PutUint64(number[:], uint64(off)+1)
		_, err = f.WriteAt(number[:], off)
	}
	return path, errors.Join(err, f.Truncate(gib<<30), f.Close())
}

func randomBytes() *mrand.ChaCha8 {
	var seed [32]byte
	_, _ = rand.Read(seed[:])
	return mrand.NewChaCha8(seed)
}

// syncFile makes one file durable.
func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// syncFS makes everything on the file system of path durable.
func syncFS(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}

const dropCachesFile = "/proc/sys/vm/drop_caches"

// dropCaches forgets what is in memory of a directory's files; as root of all files, and of directories and inodes as well.
func (b *storeBed) dropCaches(dir string) error {
	if err := syncFS(dir); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		if err := os.WriteFile(dropCachesFile, []byte("3"), 0); err == nil {
			return nil
		}
	}
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close())
	})
}

func (b *storeBed) cacheNote() string {
	if os.Geteuid() == 0 {
		return "cold, open: behind " + dropCachesFile + ". to disk: sectors that reached a loop device with ext4 on it, its journal included."
	}
	return "cold, open: behind posix_fadvise of the files; as root behind drop_caches. to disk: write_bytes of /proc/self/io less what was\n" +
		"cancelled; as root sectors that reached a loop device."
}

// diskUsage returns what du does: the bytes of the blocks that a file, or everything in a directory, takes.
func diskUsage(path string) (total int64, err error) {
	err = filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		total += st.Blocks * 512
		return nil
	})
	return total, err
}

// meter counts bytes that reach the disk: as root those that reach a loop device with a file system of its own, else those that
// the kernel books on our processes.
type meter struct {
	bed    *storeBed
	device string // base name of the loop device; empty without one
	mount  string
}

func (b *storeBed) newMeter() (*meter, error) {
	m := &meter{bed: b, mount: b.fresh("disk")}
	if err := os.Mkdir(m.mount, 0o755); err != nil || os.Geteuid() != 0 {
		return m, err
	}
	image := b.fresh("image")
	f, err := os.Create(image)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Truncate(4<<30), f.Close()); err != nil {
		return nil, err
	}
	out, err := exec.Command("sh", "-c", `PATH=$PATH:/sbin:/usr/sbin; mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$1" &&
		mount -o loop "$1" "$2" && findmnt -no SOURCE "$2"`, "sh", image, m.mount).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("a loop device with a file system: %w\n%s", err, out)
	}
	m.device = filepath.Base(strings.TrimSpace(string(out)))
	return m, nil
}

func (m *meter) dir() string { return m.mount }

func (m *meter) close() error {
	var err error
	if m.device != "" {
		err = unix.Unmount(m.mount, 0)
	}
	return errors.Join(err, os.RemoveAll(m.mount), os.RemoveAll(m.bed.path("image")))
}

// written returns how many bytes have reached the disk so far.
func (m *meter) written() (int64, error) {
	if err := syncFS(m.mount); err != nil {
		return 0, err
	}
	if m.device != "" {
		b, err := os.ReadFile("/sys/block/" + m.device + "/stat")
		if err != nil {
			return 0, err
		}
		var n [7]int64
		_, err = fmt.Sscan(string(b), &n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &n[6])
		return n[6] * 512, err
	}
	b, err := os.ReadFile("/proc/self/io") // of this process and those that it has waited for
	if err != nil {
		return 0, err
	}
	var written, cancelled int64
	for line := range strings.Lines(string(b)) {
		_, _ = fmt.Sscanf(line, "write_bytes: %d", &written)
		_, _ = fmt.Sscanf(line, "cancelled_write_bytes: %d", &cancelled)
	}
	return written - cancelled, nil
}
