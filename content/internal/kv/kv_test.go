package kv

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/seigr/sttnode/content/internal/faultfs"
	"github.com/seigr/sttnode/content/internal/vfs"
)

func put(t *testing.T, d *DB, key, value string) {
	t.Helper()
	var b Batch
	b.Put([]byte(key), []byte(value))
	if err := d.Write(&b); err != nil {
		t.Fatal(err)
	}
}

func get(d *DB, key string) string {
	v, err := d.Get([]byte(key))
	if err != nil {
		return err.Error()
	}
	return string(v)
}

func open(t *testing.T, fsys vfs.FS, create bool) *DB {
	t.Helper()
	d, err := Open(fsys, "/db", create)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestReopen(t *testing.T) {
	for op := range faultfs.Op(2) {
		fsys := faultfs.New(1)
		d := open(t, fsys, true)
		put(t, d, "a", "1")
		before := d.Opened()
		fsys.Fail(op, 1, syscall.ENOSPC, true)
		var b Batch
		b.Put([]byte("b"), []byte("2"))
		if err := d.Write(&b); !errors.Is(err, syscall.ENOSPC) || !d.Failed() {
			t.Fatal(err)
		}
		if err := d.Write(&b); !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		if err := d.Reopen(); op == faultfs.Write && !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		fsys.Fail(op, 0, nil, false)
		if got := get(d, "a"); got != "1" {
			t.Fatalf("reading while writes fail: %s", got)
		}
		if err := d.Reopen(); err != nil || d.Failed() || d.Opened() == before {
			t.Fatal(err)
		}
		put(t, d, "c", "3")
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		d = open(t, fsys, false)
		if get(d, "a") != "1" || get(d, "c") != "3" {
			t.Fatal("lost")
		}
		d.Close()
	}
}

// fullBehindProbe is a disk that others fill when a database has seen that there is room to open again.
type fullBehindProbe struct{ *faultfs.FS }

func (f fullBehindProbe) Remove(name string) error {
	err := f.FS.Remove(name)
	if filepath.Base(name) == "probe" {
		f.SetRoom(0)
	}
	return err
}

// TestReadsWhenRoomIsTaken opens a database again on a disk that is full after all, and then on one that isn't.
func TestReadsWhenRoomIsTaken(t *testing.T) {
	fsys := faultfs.New(1)
	d, err := Open(fullBehindProbe{fsys}, "/db", true)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	put(t, d, "a", "1")
	fsys.Fail(faultfs.Write, 1, syscall.ENOSPC, true)
	var b Batch
	b.Put([]byte("b"), []byte("2"))
	if err := d.Write(&b); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	fsys.Fail(faultfs.Write, 0, nil, false)
	for range 2 {
		fsys.SetRoom(2 * Room)
		if err := d.Reopen(); !errors.Is(err, syscall.ENOSPC) || !d.Failed() {
			t.Fatalf("opened on a full disk: %v", err)
		}
		if got := get(d, "a"); got != "1" {
			t.Fatalf("reading on a full disk: %s", got)
		}
		if err := d.Write(&b); !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	d.fsys = fsys
	fsys.SetRoom(2 * Room)
	if err := d.Reopen(); err != nil {
		t.Fatal(err)
	}
	if put(t, d, "c", "3"); get(d, "a") != "1" || get(d, "c") != "3" {
		t.Fatal("lost")
	}
}

// TestReadsHeal closes a database that can't be opened again at once: reads open it when they can.
func TestReadsHeal(t *testing.T) {
	fsys := faultfs.New(1)
	d := open(t, fsys, true)
	defer d.Close()
	put(t, d, "a", "1")
	fsys.Fail(faultfs.Sync, 1, syscall.EIO, true)
	var b Batch
	b.Put([]byte("b"), []byte("2"))
	if err := d.Write(&b); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	fsys.Fail(faultfs.Sync, 0, nil, false)
	if err := fsys.Rename("/db/CURRENT", "/db/elsewhere"); err != nil {
		t.Fatal(err)
	}
	if err := d.Reopen(); !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
	if _, err := d.Get([]byte("a")); !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
	if err := fsys.Rename("/db/elsewhere", "/db/CURRENT"); err != nil {
		t.Fatal(err)
	}
	if got := get(d, "a"); got != "1" {
		t.Fatal(got)
	}
	put(t, d, "c", "3")
}

func TestMissing(t *testing.T) {
	fsys := faultfs.New(1)
	if _, err := Open(fsys, "/db", false); !errors.Is(err, ErrMissing) {
		t.Fatal(err)
	}
	d := open(t, fsys, true)
	put(t, d, "a", "1")
	d.Close()
	if err := Destroy(fsys, "/db"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(fsys, "/db", false); !errors.Is(err, ErrMissing) {
		t.Fatal(err)
	}
}

// fill makes a database with tables and a journal of several records.
func fill(t *testing.T) *faultfs.FS {
	t.Helper()
	fsys := faultfs.New(1)
	d := open(t, fsys, true)
	for i := range 300 {
		put(t, d, fmt.Sprintf("key%04d", i), strings.Repeat("v", 500))
	}
	d.Close()
	d = open(t, fsys, false) // makes a table of the journal
	for i := range 300 {
		put(t, d, fmt.Sprintf("more%04d", i), strings.Repeat("w", 500))
	}
	d.Close()
	return fsys
}

func fileOf(t *testing.T, fsys *faultfs.FS, suffix string) string {
	t.Helper()
	for _, name := range fsys.Files() {
		if strings.HasSuffix(name, suffix) || strings.HasPrefix(filepath.Base(name), suffix) {
			return name
		}
	}
	t.Fatalf("no %s", suffix)
	return ""
}

// TestDamageIsTold changes bytes where goleveldb would pass over them, or worse.
func TestDamageIsTold(t *testing.T) {
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte {
			if at < 0 {
				at += len(b)
			}
			b[at] ^= 0x40
			return b
		}
	}
	for name, test := range map[string]struct {
		file   string
		change func([]byte) []byte
	}{
		"middle of the journal": {".log", flip(20_000)},
		"start of the manifest": {"MANIFEST-", flip(10)},
		"footer of a table":     {".ldb", flip(-45)},
		"magic of a table":      {".ldb", flip(-1)},
		"block of a table":      {".ldb", flip(100)},
		"index of a table":      {".ldb", flip(-100)},
		"CURRENT":               {currentName, flip(3)},
	} {
		fsys := fill(t)
		fsys.Damage(fileOf(t, fsys, test.file), test.change)
		d, err := Open(fsys, "/db", false)
		if err == nil {
			err = d.Each(nil, nil, func(_, _ []byte) bool { return true })
			d.Close()
		}
		var damage *DamageError
		if !errors.Is(err, ErrDamaged) || !errors.As(err, &damage) || damage.Dir != "/db" {
			t.Errorf("%s: %v", name, err)
		}
		if test.file == ".ldb" {
			base := filepath.Base(fileOf(t, fsys, ".ldb"))
			if err := CheckFile(fsys, "/db", base); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		d, err = Salvage(fsys, "/db")
		if err != nil {
			t.Errorf("%s: salvage: %v", name, err)
			continue
		}
		lost := 600
		d.Each(nil, nil, func(_, _ []byte) bool { lost--; return true })
		if lost > 70 { // a block of the journal is 32 KiB
			t.Errorf("%s: %d of 600 lost", name, lost)
		}
		d.Close()
	}
}

// TestTornIsNoDamage cuts the end of the journal off, as a crash does.
func TestTornIsNoDamage(t *testing.T) {
	for cut := 1; cut < 1200; cut += 37 {
		fsys := fill(t)
		fsys.Damage(fileOf(t, fsys, ".log"), func(b []byte) []byte { return b[:len(b)-cut] })
		d := open(t, fsys, false)
		if get(d, "more0290") != strings.Repeat("w", 500) {
			t.Fatalf("%d bytes cut off and too much lost", cut)
		}
		d.Close()
	}
}

func TestEach(t *testing.T) {
	d := open(t, faultfs.New(1), true)
	defer d.Close()
	const n = 3*page + 7
	var b Batch
	for i := range n {
		b.Put(fmt.Appendf(nil, "k%06d", i), fmt.Append(nil, i))
	}
	b.Put([]byte("l"), nil)
	if err := d.Write(&b); err != nil {
		t.Fatal(err)
	}
	seen := 0
	err := d.Each([]byte("k"), []byte("l"), func(key, value []byte) bool {
		if want := fmt.Appendf(nil, "k%06d", seen); !bytes.Equal(key, want) || string(value) != fmt.Sprint(seen) {
			t.Fatalf("%s=%s, want %s", key, value, want)
		}
		seen++
		var b Batch // It may change what it goes through.
		b.Delete(key)
		if seen%100 == 0 {
			if err := d.Write(&b); err != nil {
				t.Fatal(err)
			}
		}
		return true
	})
	if err != nil || seen != n {
		t.Fatalf("%d of %d, %v", seen, n, err)
	}
	if last, err := d.Last([]byte("k"), []byte("l")); err != nil || string(last) != fmt.Sprintf("k%06d", n-1) {
		t.Fatalf("%s %v", last, err)
	}
	if last, err := d.Last([]byte("x"), nil); err != nil || last != nil {
		t.Fatalf("%s %v", last, err)
	}
	seen = 0
	if err := d.Each(nil, nil, func(_, _ []byte) bool { seen++; return false }); err != nil || seen != 1 {
		t.Fatal(seen, err)
	}
}
