package integration

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// testSeed is where all random choices of a run come from.
var testSeed = sync.OnceValue(func() uint64 {
	if n, err := strconv.ParseUint(os.Getenv("STT_TEST_SEED"), 10, 64); err == nil {
		return n
	}
	return uint64(time.Now().UnixNano())
})

// random returns a generator for one test, and logs how to repeat it.
func random(t testing.TB) *rand.Rand {
	t.Helper()
	seed := testSeed()
	t.Logf("STT_TEST_SEED=%d", seed)
	name := sha256.Sum256([]byte(t.Name()))
	return rand.New(rand.NewPCG(seed, uint64(name[0])<<8|uint64(name[1])))
}

// randomFile writes a file of random bytes.
func randomFile(t testing.TB, rnd *rand.Rand, path string, size int64) string {
	t.Helper()
	var key [32]byte
	for i := range key {
		key[i] = byte(rnd.Uint32())
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.CopyN(f, rand.NewChaCha8(key), size); err != nil {
		t.Fatal(err)
	}
	return path
}

// smallTree writes a directory with one of each thing that a tree can hold.
func smallTree(t testing.TB, rnd *rand.Rand, root string) string {
	t.Helper()
	const chunk = 256 << 10
	for _, dir := range []struct {
		name string
		mode fs.FileMode
	}{{".", 0o755}, {"empty", 0o755}, {"private", 0o700}, {"deep/er/still", 0o755}, {"many", 0o750}} {
		path := filepath.Join(root, filepath.FromSlash(dir.name))
		must(t, os.MkdirAll(path, 0o755))
		must(t, os.Chmod(path, dir.mode))
	}
	for _, file := range []struct {
		name string
		size int64
		mode fs.FileMode
	}{
		{"zero", 0, 0o644},
		{"one", 1, 0o600},
		{"program", 20_000, 0o755},
		{"readonly", 17_000, 0o444},
		{"chunk", chunk, 0o644},
		{"chunk and a byte", chunk + 1, 0o640},
		{"private/several", 5*chunk/2 + 3, 0o600},
		{"deep/er/still/Größe – 大小", 100, 0o644},
		{"deep/.hidden", 10, 0o644},
	} {
		path := filepath.Join(root, filepath.FromSlash(file.name))
		randomFile(t, rnd, path, file.size)
		must(t, os.Chmod(path, file.mode))
	}
	for i := range 40 {
		must(t, os.WriteFile(filepath.Join(root, "many", fmt.Sprintf("file%02d", i)), []byte(strings.Repeat("same ", i/2)), 0o644))
	}
	if runtime.GOOS != "windows" {
		must(t, os.Symlink("chunk", filepath.Join(root, "link")))
		must(t, os.Symlink("../program", filepath.Join(root, "private", "up")))
		must(t, os.Symlink("deep/er", filepath.Join(root, "to a directory")))
	}
	return root
}

// sourceTree is the source of Go's standard library: thousands of real files.
func sourceTree(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatalf("go env GOROOT: %v", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "src")
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// entry is what a fetch must preserve of one name.
type entry struct {
	mode fs.FileMode // type and permissions
	size int64
	sum  string // of the bytes, or a link's target
}

// listing reads a file or a whole tree.
func listing(t testing.TB, root string) map[string]entry {
	t.Helper()
	entries := map[string]entry{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		e := entry{mode: info.Mode() & (fs.ModeType | fs.ModePerm)}
		switch {
		case info.Mode().IsRegular():
			e.size = info.Size()
			e.sum, err = fileSum(path)
		case info.Mode()&fs.ModeSymlink != 0:
			e.mode = fs.ModeSymlink // permissions of a link mean nothing
			e.sum, err = os.Readlink(path)
		}
		entries[filepath.ToSlash(name)] = e
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func fileSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// same demands that got is what want is: names, kinds, permissions, bytes.
func same(t testing.TB, want, got string) {
	t.Helper()
	a, b := listing(t, want), listing(t, got)
	differ := 0
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if have, ok := b[name]; !ok {
			differ++
			t.Errorf("%s: %s is missing", got, name)
		} else if have != a[name] {
			differ++
			t.Errorf("%s: %s is %v, want %v", got, name, have, a[name])
		}
		delete(b, name)
		if differ > 10 {
			t.Fatal("and perhaps more")
		}
	}
	for name := range b {
		t.Errorf("%s: %s should not be there", got, name)
	}
}

// absent demands that nothing is at path.
func absent(t testing.TB, path string) {
	t.Helper()
	if _, err := os.Lstat(path); err == nil {
		t.Errorf("%s is there", path)
	}
}

// fileBytes is the size of all files below dir whose names end so. Some may vanish meanwhile.
func fileBytes(dir, suffix string) (sum int64) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, suffix) {
			return nil
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			sum += info.Size()
		}
		return nil
	})
	return sum
}

// contains reports whether a file below dir holds b.
func contains(t testing.TB, dir string, b []byte) (found string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, b) {
			found = path
		}
		return err
	})
	must(t, err)
	return found
}
