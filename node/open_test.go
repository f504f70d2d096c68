package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/session/transport/memory"
	"github.com/seigr/sttnode/stc"
)

// A file is read as any other, while it comes.
func TestOpen(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		data := testBytes("film", 3<<20+77)
		seeder, root := w.seed(ctx, "s", "film", data)
		f := w.start(w.config("f"))
		file, err := f.Open(ctx, root, OpenOptions{Peers: []Address{addressOf(seeder)}})
		if err != nil {
			t.Fatal(err)
		}
		if file.Size() != int64(len(data)) || file.Name() != "film" {
			t.Errorf("%q of %d bytes", file.Name(), file.Size())
		}
		if err := iotest.TestReader(struct {
			io.ReadSeeker
			io.ReaderAt
		}{file, file}, data); err != nil {
			t.Error(err)
		}
		if err := file.Close(); err != nil {
			t.Error(err)
		}
		if _, err := file.ReadAt(make([]byte, 1), 0); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("read of a closed file: %v", err)
		}
		// What was read is in the store, unpinned, and read again without anybody.
		w.cut(seeder)
		if pins, err := f.Store().Pins(); err != nil || len(pins) != 1 || !pins[0].Cached {
			t.Errorf("%+v, %v", pins, err)
		}
		again, err := f.Open(ctx, root, OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		if got, err := io.ReadAll(again); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

// The window bounds what is fetched, and moves with the reader.
func TestOpenWindow(t *testing.T) {
	inBubble(t, memory.Link{Delay: 10 * time.Millisecond, Rate: 12_500_000}, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		data := testBytes("film", 24<<20)
		seeder, root := w.seed(ctx, "s", "film", data)
		f := w.start(w.config("f"))
		file, err := f.Open(ctx, root, OpenOptions{Peers: []Address{addressOf(seeder)}, ReadAhead: 2 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		fetched := func() uint64 { return f.Stats().Fetching.BytesFetched }
		time.Sleep(time.Minute)
		if n := fetched(); n > 64<<10 {
			t.Errorf("%d bytes were fetched before anything was read", n)
		}
		part := make([]byte, 100)
		for _, at := range []int64{0, 20 << 20, 12<<20 - 50} {
			before := fetched()
			if _, err := file.ReadAt(part, at); err != nil || !bytes.Equal(part, data[at:at+100]) {
				t.Fatalf("at %d: %v", at, err)
			}
			time.Sleep(time.Minute)
			if n := fetched() - before; n < 2<<20 || n > 3<<20 {
				t.Errorf("%d bytes were fetched for a window of 2 MiB at %d", n, at)
			}
		}
		if _, err := file.Seek(4<<20, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		got, err := io.ReadAll(file)
		if err != nil || !bytes.Equal(got, data[4<<20:]) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		// 14 MiB at 12.5 MB/s: the window keeps the link busy.
		if d := time.Since(start); d > 2500*time.Millisecond {
			t.Errorf("reading on took %v", d)
		}
	})
}

// farAway is far away; its rate is no matter.
var farAway = memory.Link{Delay: 50 * time.Millisecond}

// With a session to make, the first byte comes three round trips after the
// first provider is known; a seek into what is not here takes no longer. What
// does not fit into the first window of a congestion control takes what its
// slow start takes: the first byte of a chunk is verified with its last.
func TestOpenRoundTrips(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector, which shorter tests serve as well")
	}
	inBubble(t, farAway, func(t *testing.T, w *network) {
		const rtt = 100 * time.Millisecond
		ctx := within(t, time.Hour)
		s := w.start(w.config("s"))
		for name, size := range map[string]int{"short": 2 << 20, "long": 40 << 20} {
			data := testBytes(name, size)
			seeded, err := s.Seed(ctx, writeFile(t, filepath.Join(w.dir, "in", name), data), ImportOptions{})
			if err != nil {
				t.Fatal(err)
			}
			f := w.start(w.config(name))
			start := time.Now()
			file, err := f.Open(ctx, seeded.Root, OpenOptions{Peers: []Address{addressOf(s)}, ReadAhead: 1 << 20})
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			b := make([]byte, 1)
			read := func(at int64) time.Duration {
				t.Helper()
				start := time.Now()
				if _, err := file.ReadAt(b, at); err != nil || b[0] != data[at] {
					t.Fatal(err)
				}
				return time.Since(start)
			}
			read(0)
			if d := time.Since(start); d > 2*rtt+rtt/20 {
				t.Errorf("%s: the first byte came after %v", name, d)
			}
			for _, part := range []int{15, 19, 10} {
				time.Sleep(5 * time.Second)
				if d := read(int64(size * part / 20)); d > 3*rtt {
					t.Errorf("%s: a seek took %v", name, d)
				}
			}
		}
	})
}

// A seek waits for nothing that was under way to where the reader was, although
// the path is full of it.
func TestSeekOvertakes(t *testing.T) {
	const rtt = 20 * time.Millisecond
	inBubble(t, memory.Link{Delay: rtt / 2, Rate: 12_500_000}, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		data := make([]byte, 32<<20)
		for at := 0; at < len(data); at += content.ChunkSize {
			binary.BigEndian.PutUint32(data[at:], uint32(at))
		}
		seeder, root := w.seed(ctx, "s", "film", data)
		f := w.start(w.config("f"))
		file, err := f.Open(ctx, root, OpenOptions{Peers: []Address{addressOf(seeder)}, ReadAhead: 8 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		var b [4]byte
		for i, at := range []int64{0, 24 << 20, 12 << 20} {
			start := time.Now()
			if _, err := file.ReadAt(b[:], at); err != nil || binary.BigEndian.Uint32(b[:]) != uint32(at) {
				t.Fatal(b, err)
			}
			if d := time.Since(start); i > 0 && d > 3*rtt {
				t.Errorf("the bytes at %d came after %v", at, d)
			}
			time.Sleep(300 * time.Millisecond) // the path is full, and half of the window has not come
		}
	})
}

// Many read at once, each its own place.
func TestOpenReadersAtOnce(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		data := testBytes("film", 8<<20)
		seeder, root := w.seed(ctx, "s", "film", data)
		f := w.start(w.config("f"))
		file, err := f.Open(ctx, root, OpenOptions{Peers: []Address{addressOf(seeder)}, ReadAhead: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		seed := testSeed(t)
		var readers sync.WaitGroup
		for i := range 8 {
			readers.Go(func() {
				rng := rand.New(rand.NewPCG(seed, uint64(i)))
				for range 8 {
					at, n := rng.IntN(len(data)), rng.IntN(600<<10)
					p := make([]byte, n)
					got, err := file.ReadAt(p, int64(at))
					want := data[at:min(at+n, len(data))]
					if !bytes.Equal(p[:got], want) || err != nil && (!errors.Is(err, io.EOF) || got == n) {
						t.Errorf("%d bytes at %d: %d, %v", n, at, got, err)
					}
				}
			})
		}
		readers.Wait()
	})
}

// A file in a tree is read without the others.
func TestOpenInTree(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		tree := filepath.Join(w.dir, "tree")
		song := testBytes("song", 900<<10)
		for name, data := range map[string][]byte{
			"a/film": testBytes("film", 4<<20), "b/deep/song": song, "c/note": []byte("note"), "z": testBytes("z", 4<<20), "none": nil,
		} {
			writeFile(t, filepath.Join(tree, name), data)
		}
		if err := os.Symlink("b/deep/song", filepath.Join(tree, "link")); err != nil {
			t.Fatal(err)
		}
		s := w.start(w.config("s"))
		seeded, err := s.Seed(ctx, tree, ImportOptions{})
		if err != nil {
			t.Fatal(err)
		}
		f := w.start(w.config("f"))
		opts := OpenOptions{Peers: []Address{addressOf(s)}}
		for path, want := range map[string][]byte{"b/deep/song": song, "link": song, "c/note": []byte("note"), "none": nil} {
			opts.Path = path
			file, err := f.Open(ctx, seeded.Root, opts)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			got, err := io.ReadAll(file)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes, %v", path, len(got), err)
			}
			if err := file.Close(); err != nil {
				t.Error(err)
			}
		}
		if n := f.Stats().Fetching.BytesFetched; n > 1<<20 {
			t.Errorf("%d bytes were fetched", n)
		}
		for path, want := range map[string]error{"b/none": fs.ErrNotExist, "b": ErrDirectoryStream, "": ErrDirectoryStream} {
			opts.Path = path
			if _, err := f.Open(ctx, seeded.Root, opts); !errors.Is(err, want) {
				t.Errorf("%q: %v", path, err)
			}
		}
	})
}

func TestOpenEnds(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		seeder, root := w.seed(ctx, "s", "film", testBytes("film", 4<<20))
		f := w.start(w.config("f"))
		if _, err := f.Open(ctx, stc.Sum(nil), OpenOptions{Peers: []Address{addressOf(seeder)}}); !errors.Is(err, ErrNoProvider) {
			t.Errorf("of what nobody has: %v", err)
		}
		opts := OpenOptions{Peers: []Address{addressOf(seeder)}, StallTimeout: 20 * time.Second}
		reader, err := f.Open(ctx, root, opts)
		if err != nil {
			t.Fatal(err)
		}
		cancelled, cancel := context.WithCancel(ctx)
		other, err := f.Open(cancelled, root, opts)
		if err != nil {
			t.Fatal(err)
		}
		w.cut(seeder)
		b := make([]byte, 1)
		for _, f := range []*File{reader, other} { // where nothing has come with the root
			if _, err := f.Seek(2<<20, io.SeekStart); err != nil {
				t.Fatal(err)
			}
		}
		time.AfterFunc(time.Second, cancel)
		if _, err := other.Read(b); !errors.Is(err, context.Canceled) {
			t.Errorf("read when the context ends: %v", err)
		}
		closed := make(chan error, 1)
		go func() {
			_, err := other.Read(b)
			closed <- err
		}()
		if err := other.Close(); err != nil {
			t.Error(err)
		}
		if err := <-closed; !errors.Is(err, fs.ErrClosed) && !errors.Is(err, context.Canceled) {
			t.Errorf("read of a file that is closed: %v", err)
		}
		start := time.Now()
		if _, err := reader.Read(b); !errors.Is(err, ErrStalled) {
			t.Errorf("read when all peers are gone: %v", err)
		}
		if d := time.Since(start); d > time.Minute {
			t.Errorf("that took %v", d)
		}
		if err := reader.Close(); err != nil {
			t.Error(err)
		}
	})
}
