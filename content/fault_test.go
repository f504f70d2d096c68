package content

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/seigr/sttnode/content/internal/faultfs"
	"github.com/seigr/sttnode/stc"
)

// TestFailingWrites makes one write, sync or creation fail, or all from one on, for want of room or because the disk is broken:
// the calls concerned say so, nothing acknowledged is lost, and when the fault is gone everything works without a new start.
func TestFailingWrites(t *testing.T) {
	base := testSeed(t)
	parallelSeeds(t, testRounds(t, 120), func(t *testing.T, round uint64) {
		seed := base + round
		r := rand.New(rand.NewPCG(seed, 2))
		fsys := faultfs.New(seed)
		s, err := openFault(fsys)
		if err != nil {
			t.Fatal(err)
		}
		m := newModel()
		m.work(t, s, r, 0, 5)
		wanted := error(syscall.EIO)
		fault := wanted
		if r.IntN(2) == 0 {
			wanted, fault = ErrDiskFull, syscall.ENOSPC
		}
		fsys.Fail(faultfs.Op(r.IntN(3)), 1+r.IntN(40), fault, r.IntN(2) == 0)
		m.work(t, s, r, 1, 30, wanted)
		for op := range faultfs.Op(3) {
			fsys.Fail(op, 0, nil, false)
		}
		m.work(t, s, r, 2, 20)
		m.check(t, s)
		if r.IntN(2) == 0 {
			if err := s.Close(); err != nil && !errors.Is(err, fault) {
				t.Errorf("close: %v", err)
			}
		} else {
			fsys.Crash()
			s.Close()
			fsys = fsys.AfterCrash()
		}
		if s, err = openFault(fsys); err != nil {
			t.Fatalf("round %d: open: %v", round, err)
		}
		defer s.Close()
		m.check(t, s)
		if t.Failed() {
			t.Fatalf("round %d, fault %v", round, fault)
		}
	})
}

// TestFullDisk fills the disk. Puts say so, reads work, removing works and makes room.
func TestFullDisk(t *testing.T) {
	ctx := context.Background()
	seed := testSeed(t)
	r := rand.New(rand.NewPCG(seed, 3))
	fsys := faultfs.New(seed)
	fsys.SetRoom(reserveSize + 12<<20)
	s, err := openFault(fsys)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.Close() }()
	for round := range 3 {
		var root stc.Hash
		data := randomBlob(r, 3<<20)
		got, err := s.ImportReader(ctx, bytes.NewReader(data), ImportOptions{ChunkSize: 64 << 10})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		root = got.Root
		var stored []stc.Hash
		for err == nil {
			var h stc.Hash
			if h, err = s.Put(ctx, randomBlob(r, 1+r.IntN(100<<10))); err == nil {
				stored = append(stored, h)
			}
		}
		if !errors.Is(err, ErrDiskFull) {
			t.Fatal(err)
		}
		if _, err := s.ImportReader(ctx, bytes.NewReader(randomBlob(r, 1<<20)), ImportOptions{}); !errors.Is(err, ErrDiskFull) {
			t.Fatalf("import: %v", err)
		}
		// Somebody else takes what room there was.
		fsys.SetRoom(0)
		for _, h := range stored {
			if _, err := s.Get(nil, h); err != nil {
				t.Fatalf("reading from a full disk: %v", err)
			}
		}
		if round == 1 { // and the store is opened like that
			if err := s.Close(); err != nil && !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			if s, err = openFault(fsys); err != nil {
				t.Fatalf("open on a full disk: %v", err)
			}
			// Opening may have made a little room, by removing what was
			// replaced. Who has not stored a blob says so.
			h, err := s.Put(ctx, []byte("perhaps too much"))
			if err == nil {
				stored = append(stored, h)
				_, err = s.Get(nil, h)
			} else if errors.Is(err, ErrDiskFull) {
				err = nil
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Remove(ctx, root); err != nil {
			t.Fatalf("removing on a full disk: %v", err)
		}
		if err := s.Delete(ctx, stored...); err != nil {
			t.Fatalf("deleting on a full disk: %v", err)
		}
		fsys.SetRoom(reserveSize + 12<<20)
		if report, err := s.Verify(ctx, nil); err != nil || !report.OK() {
			t.Fatalf("%+v %v", report, err)
		}
	}
}

// TestFullDiskKeepsWhatFits fills the disk with blobs before the index could say where any of them is. They are kept
// nevertheless: only what did not fit is refused.
func TestFullDiskKeepsWhatFits(t *testing.T) {
	seed := testSeed(t)
	r := rand.New(rand.NewPCG(seed, 5))
	fsys := faultfs.New(seed)
	const room = 4 << 20
	fsys.SetRoom(reserveSize + room)
	s, err := openFault(fsys)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.Close() }()
	reached, release := fsys.Hold(faultfs.Sync, 1)
	const size = 64 << 10
	blobs := make([][]byte, 2*room/size)
	stored := make([]error, len(blobs))
	refused := make(chan struct{}, len(blobs))
	var puts sync.WaitGroup
	for i := range blobs {
		blobs[i] = randomBlob(r, size)
		puts.Go(func() {
			if _, stored[i] = s.Put(context.Background(), blobs[i]); stored[i] != nil {
				refused <- struct{}{}
			}
		})
	}
	<-reached
	<-refused
	fsys.SetRoom(0) // What is left where a blob does not fit is sometimes nothing.
	release()
	puts.Wait()
	kept := 0
	for i, err := range stored {
		switch {
		case err == nil:
			kept += size
			if got, err := s.Get(nil, stc.Sum(blobs[i])); err != nil || !bytes.Equal(got, blobs[i]) {
				t.Errorf("blob %d was acknowledged and reads %d bytes, %v", i, len(got), err)
			}
		case !errors.Is(err, ErrDiskFull):
			t.Errorf("blob %d: %v", i, err)
		}
	}
	if kept < room*3/4 {
		t.Errorf("kept %d bytes of %d that had room", kept, room)
	}
}

// TestDamage changes any byte of any file of a store, or cuts or removes the file. What is read is right or refused; what is
// lost, and is needed, is reported; what lies elsewhere stays readable; and putting it again makes it whole.
func TestDamage(t *testing.T) {
	base := testSeed(t)
	ctx := context.Background()
	parallelSeeds(t, testRounds(t, 200), func(t *testing.T, round uint64) {
		seed := base + round
		r := rand.New(rand.NewPCG(seed, 4))
		fsys := faultfs.New(seed)
		s, err := openFault(fsys)
		if err != nil {
			t.Fatal(err)
		}
		var file []byte
		var root stc.Hash
		var blobs [][]byte
		var hashes []stc.Hash
		for range 1 + r.IntN(3) {
			data := randomBlob(r, r.IntN(200<<10))
			got, err := s.ImportReader(ctx, bytes.NewReader(data), ImportOptions{ChunkSize: 32 << 10})
			if err != nil {
				t.Fatal(err)
			}
			file, root = data, got.Root
			for range r.IntN(10) {
				blobs = append(blobs, randomBlob(r, r.IntN(30<<10)))
			}
		}
		if hashes, err = s.PutMany(ctx, blobs); err != nil {
			t.Fatal(err)
		}
		if r.IntN(2) == 0 { // what was in the journals is in tables then
			s.Close()
			if s, err = openFault(fsys); err != nil {
				t.Fatal(err)
			}
		}
		entries := make([]entry, len(hashes))
		for i, h := range hashes {
			if entries[i], _, err = s.ledger.lookup(h); err != nil {
				t.Fatal(err)
			}
		}
		segmentName := s.segments.Name
		s.Close()

		names := slices.DeleteFunc(fsys.Files(), func(name string) bool {
			return name == faultDir+"/"+lockName || name == faultDir+"/"+reserveForRemove || name == faultDir+"/"+reserveForIndex
		})
		name := names[r.IntN(len(names))]
		way := r.IntN(4)
		off := 0
		if way == 3 {
			if err := fsys.Remove(name); err != nil {
				t.Fatal(err)
			}
		} else {
			fsys.Damage(name, func(b []byte) []byte {
				if len(b) == 0 {
					return b
				}
				off = r.IntN(len(b))
				if way == 2 {
					return b[:off]
				}
				b[off] ^= 1 << r.IntN(8)
				return b
			})
		}
		inIndex := strings.Contains(name, "/"+indexName+"/")
		what := []any{"round", round, "file", name, "way", way, "at", off}

		for range 2 { // Some damage is only met with, and made good at the next start.
			if s, err = openFault(fsys); err != nil {
				t.Fatal(append(what, "open:", err)...)
			}
			report, err := s.Verify(ctx, nil)
			if err != nil && !errors.Is(err, ErrCorrupt) {
				t.Fatal(append(what, "verify:", err)...)
			}
			reported := err != nil || !report.OK()
			for i, h := range hashes {
				got, err := s.Get(nil, h)
				if err == nil && !bytes.Equal(got, blobs[i]) {
					t.Fatal(append(what, "wrong bytes")...)
				}
				if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrCorrupt) {
					t.Fatal(append(what, "get:", err)...)
				}
			}
			_, pinned, err := s.PinInfo(root)
			if err != nil && !errors.Is(err, ErrCorrupt) {
				t.Fatal(append(what, "pin:", err)...)
			}
			var out bytes.Buffer
			if _, err := s.ExportTo(ctx, root, &out, nil); err == nil && !bytes.Equal(out.Bytes(), file) {
				t.Fatal(append(what, "wrong bytes of a content")...)
			} else if err != nil && !reported && pinned {
				t.Fatal(append(what, "lost without a report:", err)...)
			} else if err == nil && !pinned && !reported {
				t.Fatal(append(what, "pin lost")...)
			}
			s.Close()
		}
		// By now only what the damage hit is lost.
		if s, err = openFault(fsys); err != nil {
			t.Fatal(append(what, "open again:", err)...)
		}
		defer s.Close()
		lost := 0
		for i, h := range hashes {
			ok, err := s.Has(h)
			if err != nil {
				t.Fatal(append(what, "has:", err)...)
			}
			if ok {
				continue
			}
			lost++
			hit := inIndex
			switch e := entries[i]; {
			case e.place.kind == inSmall:
				hit = hit || strings.Contains(name, "/"+smallName+"/")
			case name == segmentName(e.place.id):
				hit = way == 3 || e.place.off+e.recordSize() > int64(off) && (way == 2 || e.place.off <= int64(off))
			}
			if !hit {
				t.Fatal(append(what, "lost beside the damage:", entries[i].place)...)
			}
		}
		if inIndex || way < 2 && strings.Contains(name, "/"+segmentsName+"/") {
			if lost > 1 {
				t.Fatal(append(what, "blobs lost:", lost)...)
			}
		}
		if _, err := s.PutMany(ctx, blobs); err != nil {
			t.Fatal(append(what, "putting again:", err)...)
		}
		if got, err := s.ImportReader(ctx, bytes.NewReader(file), ImportOptions{ChunkSize: 32 << 10}); err != nil || got.Root != root {
			t.Fatal(append(what, "importing again:", err)...)
		}
		for _, h := range hashes {
			if _, err := s.Get(nil, h); err != nil {
				t.Fatal(append(what, "after putting again:", err)...)
			}
		}
		var out bytes.Buffer
		if _, err := s.ExportTo(ctx, root, &out, nil); err != nil || !bytes.Equal(out.Bytes(), file) {
			t.Fatal(append(what, "after importing again:", err)...)
		}
	})
}

// TestWrongKey opens a store with another key, which must not cost it anything.
func TestWrongKey(t *testing.T) {
	for _, damage := range []bool{false, true} {
		fsys := faultfs.New(1)
		s, err := openFault(fsys)
		if err != nil {
			t.Fatal(err)
		}
		h, err := s.Put(context.Background(), make([]byte, 20<<10))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := openFault(fsys); !errors.Is(err, ErrLocked) {
			t.Fatalf("second opening: %v", err)
		}
		s.Close()
		if damage {
			if err := fsys.Remove(faultDir + "/" + formatName); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := open(fsys, faultDir, Config{Key: [32]byte{8}}, 1<<20); !errors.Is(err, ErrWrongKey) {
			t.Fatalf("wrong key: %v", err)
		}
		if s, err = openFault(fsys); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(nil, h); err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
}

// TestNewerFormat opens a store of a format that nobody knows yet.
func TestNewerFormat(t *testing.T) {
	fsys := faultfs.New(1)
	s, err := openFault(fsys)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	fsys.Damage(faultDir+"/"+formatName, func([]byte) []byte {
		line := "sttnode store 3 and whatever comes then"
		return fmt.Appendf(nil, "%s %08x\n", line, crc32.ChecksumIEEE([]byte(line)))
	})
	if _, err := openFault(fsys); !errors.Is(err, ErrFormat) {
		t.Fatal(err)
	}
	if _, err := Open("/dev/null/store", Config{Key: [32]byte{1}}); errors.Is(err, fs.ErrNotExist) || err == nil {
		t.Fatal(err)
	}
}
