package content

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/seigr/sttnode/content/internal/faultfs"
	"github.com/seigr/sttnode/content/internal/vfs"
)

// TestExportInPlaceTree moves a tree out of the store: all of it is there, exported once and served from there.
func TestExportInPlaceTree(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector, which shorter tests serve as well")
	}
	ctx := context.Background()
	dir := t.TempDir()
	src, target := filepath.Join(dir, "source"), filepath.Join(dir, "target")
	makeTree(t, src)
	s := openTest(t, filepath.Join(dir, "store"))
	got, err := s.Import(ctx, src, ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	before := s.Stats()
	out, err := s.Export(ctx, got.Root, target, ExportOptions{InPlace: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(filepath.Join(target, "read-only"), 0o700) })
	if out.Files != got.Files || out.Directories != got.Directories || out.Links != got.Links || out.Size != got.Size {
		t.Fatalf("imported %+v, exported %+v", got, out)
	}
	if !maps.Equal(listing(t, src), listing(t, target)) {
		t.Fatal("trees differ")
	}
	noParts(t, dir)
	st := s.Stats()
	if st.Blobs != before.Blobs || st.Bytes != before.Bytes || st.InPlaceBytes < 6<<20 || st.SegmentBytes > 200<<10 {
		t.Fatalf("before %+v, after %+v", before, st)
	}
	if paths, err := s.Origins(got.Root); err != nil || !slices.Equal(paths, []string{target}) {
		t.Fatalf("origins %q, %v", paths, err)
	}
	for range 2 { // also when the index was lost
		if r, err := s.Verify(ctx, nil); err != nil || !r.OK() {
			t.Fatalf("%+v %v", r, err)
		}
		s.Close()
		if err := os.RemoveAll(filepath.Join(dir, "store", indexName)); err != nil {
			t.Fatal(err)
		}
		s = openTest(t, filepath.Join(dir, "store"))
	}
	if s.Stats() != st {
		t.Fatalf("%+v, then %+v", st, s.Stats())
	}
}

// TestExportInPlaceGoesOn stops an export, again and again and by a loss of power as well, and goes on with it. Nothing is lost,
// whatever part of it is already where.
func TestExportInPlaceGoesOn(t *testing.T) {
	base := testSeed(t)
	ctx := context.Background()
	parallelSeeds(t, testRounds(t, 20), func(t *testing.T, round uint64) {
		r := rand.New(rand.NewPCG(base+round, 1))
		fsys := faultfs.New(base + round)
		s, err := openFault(fsys)
		if err != nil {
			t.Fatal(err)
		}
		data := slices.Concat(randomBlob(r, 400<<10), make([]byte, 100<<10), randomBlob(r, 10<<10))
		data = append(data, data[:200<<10]...)
		got, err := s.ImportReader(ctx, bytes.NewReader(data), ImportOptions{Chunker: ChunkerFixed, ChunkSize: 32 << 10})
		if err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(t.TempDir(), "target")
		done := false
		for attempt := 0; !done && attempt < 4; attempt++ {
			ctx, cancel := context.WithCancel(ctx)
			stop := uint64(r.IntN(len(data)))
			crash := r.IntN(2) == 0
			if crash {
				fsys.CrashAt(1+r.IntN(30), func() {})
			}
			_, err := s.Export(ctx, got.Root, target, ExportOptions{InPlace: true, Progress: func(p ExportProgress) {
				if p.Bytes > stop && attempt < 3 && !crash {
					cancel()
				}
			}})
			cancel()
			if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, faultfs.ErrCrashed) {
				t.Fatalf("round %d: %v", round, err)
			}
			_, serr := os.Stat(target)
			done = serr == nil // though an error may have come behind the renaming
			if crash {
				fsys.Crash()
				s.Close()
				fsys = fsys.AfterCrash()
				if s, err = openFault(fsys); err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
			}
			if report, err := s.Verify(context.Background(), nil); err != nil || !report.OK() {
				t.Fatalf("round %d, attempt %d: %+v %v", round, attempt, report, err)
			}
		}
		defer s.Close()
		if !done {
			if _, err := s.Export(ctx, got.Root, target, ExportOptions{InPlace: true}); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		if b, err := os.ReadFile(target); err != nil || !bytes.Equal(b, data) {
			t.Fatalf("round %d: exported file differs: %v", round, err)
		}
		noParts(t, filepath.Dir(target))
		if _, err := s.Export(ctx, got.Root, target, ExportOptions{InPlace: true}); !errors.Is(err, ErrTarget) {
			t.Fatalf("round %d: export over what is in place: %v", round, err)
		}
		if report, err := s.Verify(ctx, nil); err != nil || !report.OK() {
			t.Fatalf("round %d: %+v %v", round, report, err)
		}
		if st := s.Stats(); st.Bytes-st.InPlaceBytes > 32<<10 {
			t.Fatalf("round %d: %+v", round, st)
		}
	})
}

// TestExportInPlaceLosesPart cuts what an interrupted export has moved. All that is lost is found at once, and what is put again is
// moved again.
func TestExportInPlaceLosesPart(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s, err := open(vfs.OS{}, filepath.Join(dir, "store"), Config{}, 64<<10)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	data := randomBlob(rand.New(rand.NewPCG(testSeed(t), 0)), 300<<10)
	opts := ImportOptions{Chunker: ChunkerFixed, ChunkSize: 32 << 10, Name: "film"}
	got, err := s.ImportReader(ctx, bytes.NewReader(data), opts)
	if err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(dir, "film")
	stopped, stop := context.WithCancel(ctx)
	_, err = s.Export(stopped, got.Root, target, ExportOptions{InPlace: true, Progress: func(p ExportProgress) {
		if p.Bytes > 200<<10 {
			stop()
		}
	}})
	parts, _ := filepath.Glob(filepath.Join(dir, partPrefix+"*"))
	moved := s.Stats().InPlaceBlobs
	if !errors.Is(err, context.Canceled) || len(parts) != 1 || moved < 4 {
		t.Fatalf("parts %q, moved %d: %v", parts, moved, err)
	}
	if err := os.Truncate(parts[0], 32<<10); err != nil { // the first chunk stays
		t.Fatal(err)
	}
	if _, err := s.Export(ctx, got.Root, target, ExportOptions{InPlace: true}); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("export of what is lost: %v", err)
	}
	bad := uint64(0)
	for info, err := range s.All(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if info.Bad {
			bad++
		}
	}
	if bad != moved-1 {
		t.Fatalf("%d of %d blobs that are lost were found", bad, moved-1)
	}
	if _, err := s.ImportReader(ctx, bytes.NewReader(data), opts); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Export(ctx, got.Root, target, ExportOptions{InPlace: true}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(target); err != nil || !bytes.Equal(b, data) {
		t.Fatalf("exported file differs: %v", err)
	}
	noParts(t, dir)
}
