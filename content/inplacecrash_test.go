package content

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seigr/sttnode/content/internal/faultfs"
	"github.com/seigr/sttnode/stc"
)

// TestInPlacePowerLoss imports in place, copies, removes and collects at random until the power goes, and sometimes loses the
// index as well. What was acknowledged is there.
func TestInPlacePowerLoss(t *testing.T) {
	base := testSeed(t)
	dir := t.TempDir()
	var paths []string
	var files [][]byte
	r := rand.New(rand.NewPCG(base, 1))
	shared := randomBlob(r, 64<<10)
	for i := range 4 {
		b := append(randomBlob(r, i*20<<10), shared...)
		paths, files = append(paths, filepath.Join(dir, fmt.Sprint(i))), append(files, b)
		if err := os.WriteFile(paths[i], b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	parallelSeeds(t, testRounds(t, 30), func(t *testing.T, round uint64) {
		r := rand.New(rand.NewPCG(base+round, 2))
		fsys := faultfs.New(base + round)
		fates := make(map[stc.Hash]fate)
		bytesOf := make(map[stc.Hash][]byte)
		rootOf := make(map[string]stc.Hash)
		ctx := context.Background()
		for range 3 {
			s, err := openFault(fsys)
			if err != nil {
				t.Fatalf("round %d: open: %v", round, err)
			}
			checkContents(t, s, fates, bytesOf)
			fsys.CrashAt(1+r.IntN(80), func() {})
			for err == nil {
				i := r.IntN(len(paths))
				opts := ImportOptions{Name: fmt.Sprint(r.IntN(2)), ChunkSize: 32 << 10, InPlace: r.IntN(3) > 0}
				var got *Imported
				switch known := slices.Collect(maps.Keys(fates)); {
				case r.IntN(3) > 0 || len(known) == 0:
					again := rootOf[fmt.Sprint(i, opts.Name)]
					if fates[again] == absent {
						fates[again] = coming
					}
					if got, err = s.Import(ctx, paths[i], opts); err == nil {
						fates[got.Root], bytesOf[got.Root] = present, files[i]
						rootOf[fmt.Sprint(i, opts.Name)] = got.Root
					}
				case r.IntN(4) == 0:
					_, err = s.GC(ctx, false)
				default:
					root := known[r.IntN(len(known))]
					if fates[root] == present {
						fates[root] = leaving
						if _, err = s.Remove(ctx, root); err == nil {
							fates[root] = absent
						}
					}
				}
			}
			if !errors.Is(err, faultfs.ErrCrashed) {
				t.Fatalf("round %d: %v", round, err)
			}
			fsys.Crash()
			s.Close()
			fsys = fsys.AfterCrash()
			if r.IntN(3) == 0 {
				for _, name := range fsys.Files() {
					if strings.HasPrefix(name, faultDir+"/"+indexName) {
						fsys.Remove(name)
					}
				}
			}
		}
	})
}

// checkContents looks whether contents are there, whole, as their fates say.
func checkContents(t *testing.T, s *Store, fates map[stc.Hash]fate, bytesOf map[stc.Hash][]byte) {
	t.Helper()
	ctx := context.Background()
	if report, err := s.Verify(ctx, nil); err != nil || !report.OK() {
		t.Fatalf("verify: %+v %v", report, err)
	}
	for root, f := range fates {
		_, pinned, err := s.PinInfo(root)
		if err != nil || f == present && !pinned || f == absent && pinned {
			t.Fatalf("content in state %d, pinned %v: %v", f, pinned, err)
		}
		if !pinned {
			delete(fates, root)
			continue
		}
		fates[root] = present
		var out bytes.Buffer
		if _, err := s.ExportTo(ctx, root, &out, nil); err != nil || !bytes.Equal(out.Bytes(), bytesOf[root]) {
			t.Fatalf("content of %d bytes: %v", len(bytesOf[root]), err)
		}
	}
	var sums Stats
	err := s.ledger.each(func(e entry) bool {
		sums.Blobs++
		sums.Bytes += uint64(e.size)
		if e.place.kind == inFile {
			sums.InPlaceBlobs++
			sums.InPlaceBytes += uint64(e.size)
		}
		return true
	})
	if st := s.Stats(); err != nil || st.Blobs != sums.Blobs || st.Bytes != sums.Bytes || st.InPlaceBlobs != sums.InPlaceBlobs || st.InPlaceBytes != sums.InPlaceBytes {
		t.Fatalf("stats say %+v, there are %+v: %v", st, sums, err)
	}
}
