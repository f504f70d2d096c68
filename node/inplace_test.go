package node

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/seigr/sttnode/content"
)

// A content goes from a file that is served in place to another, and from there
// to a third node; no store has a copy. What changes is reported, and fetched
// again by who is asked to.
func TestInPlace(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		boot := w.start(w.config("boot"))
		data := testBytes("film", 3<<20)
		file := writeFile(t, filepath.Join(w.dir, "in", "film"), data)
		s := w.start(w.config("s", addressOf(boot)))
		seeded, err := s.Seed(ctx, file, ImportOptions{InPlace: true})
		if err != nil {
			t.Fatal(err)
		}
		f := w.start(w.config("f", addressOf(boot)))
		if _, err := f.Fetch(ctx, seeded.Root, FetchOptions{InPlace: true}); !errors.Is(err, content.ErrTarget) {
			t.Fatalf("in place without a place: %v", err)
		}
		out := filepath.Join(w.dir, "out")
		if _, err := f.Fetch(ctx, seeded.Root, FetchOptions{InPlace: true, Output: out, Provide: true}); err != nil {
			t.Fatal(err)
		}
		wantFile(t, out, data)
		for _, n := range []*Node{s, f} {
			if st := n.Stats().Store; st.InPlaceBytes != uint64(len(data))-32<<10 || st.SegmentBytes != 0 {
				t.Fatalf("%+v", st)
			}
		}
		stopNode(t, s)
		g := w.start(w.config("g", addressOf(boot)))
		late := filepath.Join(w.dir, "late")
		if _, err := g.Fetch(ctx, seeded.Root, FetchOptions{Output: late}); err != nil {
			t.Fatal(err)
		}
		wantFile(t, late, data)

		events := watch(t, f, 16)
		defer events.Stop()
		changed := append([]byte(nil), data...)
		changed[1<<20]++
		if err := os.WriteFile(out, changed, 0o644); err != nil {
			t.Fatal(err)
		}
		// What has changed is neither overwritten nor served, but it can be fetched.
		if _, err := f.Fetch(ctx, seeded.Root, FetchOptions{InPlace: true, Output: out}); err == nil {
			t.Fatal("a changed output is as good as none")
		}
		again := filepath.Join(w.dir, "again")
		result, err := f.Fetch(ctx, seeded.Root, FetchOptions{InPlace: true, Output: again})
		if err != nil {
			t.Fatal(err)
		}
		wantFile(t, again, data)
		wantFile(t, out, changed)
		if result.FetchedBytes > 512<<10 {
			t.Errorf("fetched %d bytes again", result.FetchedBytes)
		}
		if !slices.ContainsFunc(seen(events), func(e Event) bool {
			return e.Kind == EventFileChanged && e.Path == out && errors.Is(e.Err, content.ErrCorrupt)
		}) {
			t.Fatal("the change was not reported")
		}
		if n := f.Stats().FilesChanged; n != 1 {
			t.Errorf("%d files changed", n)
		}
	})
}
