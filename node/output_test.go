package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/stc"
)

// What stands against an output is said before anything is fetched: the node
// here has nobody to fetch from, and would say so first.
func TestOutputIsCheckedFirst(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		n := w.start(w.config("n"))
		file := writeFile(t, filepath.Join(w.dir, "file"), []byte("mine"))
		tree := filepath.Join(w.dir, "tree")
		writeFile(t, filepath.Join(tree, "file"), nil)
		tests := map[string]struct {
			output string
			want   error
		}{
			"no such directory":      {filepath.Join(w.dir, "none", "out"), content.ErrTarget},
			"no such directory, /":   {filepath.Join(w.dir, "none") + "/", content.ErrTarget},
			"below a file":           {filepath.Join(file, "out"), content.ErrTarget},
			"a file that is there":   {file, ErrExists},
			"a directory with files": {tree, ErrExists},
		}
		if runtime.GOOS == "linux" && os.Getuid() != 0 {
			sealed := filepath.Join(w.dir, "sealed")
			if err := os.Mkdir(sealed, 0o555); err != nil {
				t.Fatal(err)
			}
			tests["no permission"] = struct {
				output string
				want   error
			}{filepath.Join(sealed, "out"), content.ErrTarget}
		}
		for name, tt := range tests {
			if _, err := n.Fetch(ctx, stc.Sum(nil), FetchOptions{Output: tt.output}); !errors.Is(err, tt.want) {
				t.Errorf("%s: %v, want %v", name, err, tt.want)
			}
		}
		wantFile(t, file, []byte("mine"))
		if entries, err := os.ReadDir(w.dir); err != nil || len(entries) > 4 {
			t.Errorf("left behind: %v, %v", entries, err)
		}
	})
}

func TestExistingOutput(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		boot := w.start(w.config("boot"))
		data := testBytes("film", 600<<10)
		_, root := w.seed(ctx, "s", "film", data, addressOf(boot))
		f := w.start(w.config("f", addressOf(boot)))
		dir := filepath.Join(w.dir, "out") + "/"
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}

		// The suggested name is known when the root is here: nothing below it
		// is fetched if it is taken.
		taken := writeFile(t, filepath.Join(dir, "film"), []byte("mine"))
		_, err := f.Fetch(ctx, root, FetchOptions{Output: dir})
		if !errors.Is(err, ErrExists) || errors.Is(err, ErrStalled) {
			t.Fatalf("the name is taken: %v", err)
		}
		wantFile(t, taken, []byte("mine"))
		if got := f.Stats().Fetching.BytesFetched; got > 10<<10 {
			t.Errorf("%d bytes were fetched for an output that is taken", got)
		}
		if err := os.Remove(taken); err != nil {
			t.Fatal(err)
		}

		result, err := f.Fetch(ctx, root, FetchOptions{Output: dir})
		if err != nil || result.Path != filepath.Join(dir, "film") {
			t.Fatalf("%+v, %v", result, err)
		}
		wantFile(t, taken, data)

		// It is there: nothing to do.
		again, err := f.Fetch(ctx, root, FetchOptions{Output: dir})
		if err != nil || again.FetchedBytes != 0 || len(again.Sources) != 0 || again.Path != result.Path {
			t.Fatalf("again: %+v, %v", again, err)
		}

		// Changed since: refused, and left alone.
		changed := append([]byte(nil), data...)
		changed[len(changed)-1] ^= 1
		writeFile(t, taken, changed)
		if _, err := f.Fetch(ctx, root, FetchOptions{Output: dir}); !errors.Is(err, ErrExists) {
			t.Fatalf("a changed file: %v", err)
		}
		wantFile(t, taken, changed)

		// A file does not take the place of an empty directory, as a tree may.
		empty := filepath.Join(w.dir, "empty")
		if err := os.Mkdir(empty, 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Fetch(ctx, root, FetchOptions{Output: empty}); !errors.Is(err, content.ErrTarget) {
			t.Fatalf("a directory is there: %v", err)
		}
	})
}

func TestSameContent(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		n := w.start(w.config("n"))
		tree := filepath.Join(w.dir, "tree")
		large := writeFile(t, filepath.Join(tree, "sub", "large"), testBytes("large", 600<<10))
		small := writeFile(t, filepath.Join(tree, "small"), []byte("small"))
		empty := writeFile(t, filepath.Join(tree, "empty"), nil)
		link := filepath.Join(tree, "link")
		if err := os.Symlink("small", link); err != nil {
			t.Fatal(err)
		}
		imported, err := n.Import(ctx, tree, ImportOptions{})
		if err != nil {
			t.Fatal(err)
		}
		same := func() bool {
			t.Helper()
			ok, err := sameContent(ctx, n.Store(), imported.Root, tree)
			if err != nil {
				t.Fatal(err)
			}
			return ok
		}
		if !same() {
			t.Fatal("a tree differs from what was imported from it")
		}
		changes := map[string]struct{ do, undo func() error }{
			"byte of a large file": {
				func() error { return os.WriteFile(large, append(testBytes("large", 600<<10-1), 0), 0o644) },
				func() error { return os.WriteFile(large, testBytes("large", 600<<10), 0o644) },
			},
			"byte of a small file": {
				func() error { return os.WriteFile(small, []byte("smalL"), 0o644) },
				func() error { return os.WriteFile(small, []byte("small"), 0o644) },
			},
			"length": {
				func() error { return os.WriteFile(empty, []byte("x"), 0o644) },
				func() error { return os.WriteFile(empty, nil, 0o644) },
			},
			"mode": {
				func() error { return os.Chmod(small, 0o755) },
				func() error { return os.Chmod(small, 0o644) },
			},
			"mode of a directory": {
				func() error { return os.Chmod(filepath.Join(tree, "sub"), 0o700) },
				func() error { return os.Chmod(filepath.Join(tree, "sub"), 0o755) },
			},
			"target of a link": {
				func() error { return errors.Join(os.Remove(link), os.Symlink("empty", link)) },
				func() error { return errors.Join(os.Remove(link), os.Symlink("small", link)) },
			},
			"file for a link": {
				func() error { return errors.Join(os.Remove(link), os.WriteFile(link, []byte("small"), 0o644)) },
				func() error { return errors.Join(os.Remove(link), os.Symlink("small", link)) },
			},
			"name": {
				func() error { return os.Rename(empty, empty+"2") },
				func() error { return os.Rename(empty+"2", empty) },
			},
			"one more": {
				func() error { return os.WriteFile(filepath.Join(tree, "sub", "more"), nil, 0o644) },
				func() error { return os.Remove(filepath.Join(tree, "sub", "more")) },
			},
		}
		for name, change := range changes {
			if err := change.do(); err != nil {
				t.Fatal(err)
			}
			if same() {
				t.Errorf("%s: not noticed", name)
			}
			if err := change.undo(); err != nil {
				t.Fatal(err)
			}
			if !same() {
				t.Fatalf("%s: not undone", name)
			}
		}
	})
}

// The output of a file grows while it is fetched, under another name, and
// nothing of it is left when the fetch is given up.
func TestOutputGrowsWhileFetching(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		boot := w.start(w.config("boot"))
		data := testBytes("film", 9<<20)
		_, root := w.seed(ctx, "s", "film", data, addressOf(boot))
		f := w.start(w.config("f", addressOf(boot)))
		dir := t.TempDir()
		out := filepath.Join(dir, "out")
		half, stop := context.WithCancelCause(ctx)
		enough := errors.New("enough")
		_, err := f.Fetch(half, root, FetchOptions{Output: out, OnStored: func(n uint64) {
			if n > uint64(len(data)/4) {
				stop(enough)
			}
		}})
		if !errors.Is(err, enough) {
			t.Fatal(err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Fatalf("left behind: %v, %v", left, err)
		}
		written := 0
		r, err := f.Fetch(ctx, root, FetchOptions{Output: out, OnStored: func(uint64) {
			parts, err := os.ReadDir(dir)
			if err != nil || len(parts) != 1 || parts[0].Name() == "out" {
				t.Fatalf("on the way there are %v, %v", parts, err)
			}
			b, err := os.ReadFile(filepath.Join(dir, parts[0].Name()))
			if err != nil || len(b) != len(data) {
				t.Fatalf("%d bytes, %v", len(b), err)
			}
			n := 0
			for at := 0; at < len(b); at += content.ChunkSize {
				if bytes.Equal(b[at:at+content.ChunkSize], data[at:at+content.ChunkSize]) {
					n++
				}
			}
			written = max(written, n)
		}})
		if err != nil || r.ResumedBytes == 0 || written == 0 {
			t.Fatalf("%+v, %v, %d chunks written on the way", r, err, written)
		}
		wantFile(t, out, data)
	})
}

// Batches of chunks that are stored at the same moment all show the root to the
// fetch; the output is begun once.
func TestOutputIsBegunOnce(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		n := w.start(w.config("n"))
		imported, err := n.Import(ctx, writeFile(t, filepath.Join(w.dir, "film"), testBytes("film", 1<<20)), ImportOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			f := &fetch{n: n, root: imported.Root, opts: FetchOptions{Output: filepath.Join(w.dir, fmt.Sprint("out", i))}}
			f.store = newFetchStore(f)
			if f.output, err = newOutput(n.store, f.root, f.opts); err != nil {
				t.Fatal(err)
			}
			var batches sync.WaitGroup
			for range 8 {
				batches.Go(func() {
					durable, err := f.store.Submit(ctx, nil, nil)
					if err == nil {
						err = durable(ctx)
					}
					if err != nil {
						t.Error(err)
					}
				})
			}
			batches.Wait()
			f.output.discard()
		}
	})
}
