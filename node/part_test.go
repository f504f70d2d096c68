package node

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/seigr/sttnode/content"
)

func TestParseByteRange(t *testing.T) {
	for s, want := range map[string][3]int64{ // offset and length of 100 bytes
		"0-0": {0, 1, 0}, "10-19": {10, 10, 0}, "90-1000": {90, 10, 0}, "99-": {99, 1, 0}, "-7": {93, 7, 0}, "-1000": {0, 100, 0},
		"100-": {0, 0, 1}, "100-200": {0, 0, 1},
	} {
		r, err := ParseByteRange(s)
		if err != nil {
			t.Errorf("%s: %v", s, err)
			continue
		}
		offset, length, err := r.of(100)
		if offset != want[0] || length != want[1] || errors.Is(err, ErrRange) != (want[2] == 1) {
			t.Errorf("%s: %d bytes at %d, %v", s, length, offset, err)
		}
	}
	for _, s := range []string{"", "-", "5", "-0", "9-3", "a-b", "1-2-3", "--3", "+1-2", "99999999999999999999-"} {
		if r, err := ParseByteRange(s); !errors.Is(err, ErrRange) {
			t.Errorf("%q: %+v, %v", s, r, err)
		}
	}
}

func TestFetchRange(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		data := testBytes("film", 8<<20)
		seeder, root := w.seed(ctx, "s", "film", data)
		f := w.start(w.config("f"))
		var out bytes.Buffer
		opts := FetchOptions{Peers: []Address{addressOf(seeder)}, Range: &ByteRange{First: 3 << 20, Last: 4<<20 - 1}, Writer: &out}
		result, err := f.Fetch(ctx, root, opts)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out.Bytes(), data[3<<20:4<<20]) || result.Bytes != 1<<20 || result.FetchedBytes > 1<<20+64<<10 || len(result.Sources) != 1 {
			t.Errorf("%d bytes: %+v", out.Len(), result)
		}
		opts.Writer, opts.Output, opts.Range = nil, filepath.Join(w.dir, "tail"), &ByteRange{First: -100}
		if result, err = f.Fetch(ctx, root, opts); err != nil || result.Path != opts.Output {
			t.Fatalf("%+v, %v", result, err)
		}
		wantFile(t, opts.Output, data[8<<20-100:])
		if _, err = f.Fetch(ctx, root, opts); !errors.Is(err, ErrExists) {
			t.Errorf("onto what exists: %v", err)
		}
		opts.Output, opts.Range = filepath.Join(w.dir, "none"), &ByteRange{First: 8 << 20, Last: -1}
		if _, err = f.Fetch(ctx, root, opts); !errors.Is(err, ErrRange) {
			t.Errorf("behind the end: %v", err)
		}
		if left, _ := filepath.Glob(filepath.Join(w.dir, ".sttnode-*")); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		// All of it goes on from there.
		opts.Output, opts.Range = filepath.Join(w.dir, "film"), nil
		if result, err = f.Fetch(ctx, root, opts); err != nil || result.ResumedBytes < 1<<20 {
			t.Fatalf("%+v, %v", result, err)
		}
		wantFile(t, opts.Output, data)
	})
}

func TestFetchSelected(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		files := map[string][]byte{
			"album/one.flac": testBytes("one", 700<<10), "album/two.flac": testBytes("two", 10), "album/cover.png": testBytes("cover", 2<<20),
			"album/extra/three.flac": testBytes("three", 300<<10), "drafts/four.flac": testBytes("four", 1<<20), "empty.flac": nil,
			"notes/deep/note": testBytes("note", 1<<20),
		}
		for name, data := range files {
			writeFile(t, filepath.Join(w.dir, "tree", name), data)
		}
		if err := os.Symlink("album/one.flac", filepath.Join(w.dir, "tree", "link.flac")); err != nil {
			t.Fatal(err)
		}
		s := w.start(w.config("s"))
		seeded, err := s.Seed(ctx, filepath.Join(w.dir, "tree"), ImportOptions{})
		if err != nil {
			t.Fatal(err)
		}
		f := w.start(w.config("f"))
		opts := FetchOptions{Peers: []Address{addressOf(s)}, Include: []string{"*.flac"}, Exclude: []string{"/drafts"}}

		var listed []string
		list, err := f.List(ctx, seeded.Root, opts, func(p content.Placed) error {
			listed = append(listed, p.Path)
			return nil
		})
		want := []string{"album/extra/three.flac", "album/one.flac", "album/two.flac", "empty.flac", "link.flac"}
		if err != nil || !slices.Equal(listed, want) || list.Files != 4 || list.Bytes != 1000<<10+10 || !list.Directory {
			t.Fatalf("%v: %+v, %v", listed, list, err)
		}
		if n := f.Stats().Fetching.BytesFetched; n > 4<<10 {
			t.Errorf("%d bytes were fetched for a list", n)
		}
		if pins, _ := f.Store().Pins(); len(pins) != 0 {
			t.Errorf("a list has left %+v", pins)
		}

		opts.Output = filepath.Join(w.dir, "out")
		result, err := f.Fetch(ctx, seeded.Root, opts)
		if err != nil {
			t.Fatal(err)
		}
		if result.Bytes != list.Bytes || result.FetchedBytes > list.Bytes+32<<10 {
			t.Errorf("%+v", result)
		}
		var written []string
		filepath.WalkDir(opts.Output, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() || d.Name() == "notes" || d.Name() == "drafts" {
				rel, _ := filepath.Rel(opts.Output, path)
				written = append(written, rel)
			}
			return err
		})
		if !slices.Equal(written, want) {
			t.Errorf("written: %v", written)
		}
		for _, name := range want[:3] {
			wantFile(t, filepath.Join(opts.Output, name), files[name])
		}
		if pins, _ := f.Store().Pins(); len(pins) != 1 || pins[0].State != content.PinPartial {
			t.Errorf("%+v", pins)
		}
		var out bytes.Buffer
		part := FetchOptions{
			Peers: opts.Peers, Include: []string{"/notes"}, Range: &ByteRange{First: 300 << 10, Last: 300<<10 + 99}, Writer: &out,
		}
		result, err = f.Fetch(ctx, seeded.Root, part)
		if want := files["notes/deep/note"][300<<10:][:100]; err != nil || !bytes.Equal(out.Bytes(), want) || result.FetchedBytes > 300<<10 {
			t.Errorf("part of a file: %d bytes, %+v, %v", out.Len(), result, err)
		}
		part.Include = []string{"*.flac"}
		if _, err := f.Fetch(ctx, seeded.Root, part); !errors.Is(err, ErrSelection) {
			t.Errorf("part of four files: %v", err)
		}
		if _, err := f.Fetch(ctx, seeded.Root, opts); !errors.Is(err, ErrExists) {
			t.Errorf("onto what exists: %v", err)
		}
		opts.Output, opts.Include = filepath.Join(w.dir, "nothing"), []string{"*.none"}
		if _, err := f.Fetch(ctx, seeded.Root, opts); !errors.Is(err, ErrSelection) {
			t.Errorf("of nothing: %v", err)
		}
		// The rest comes with all of it.
		all := FetchOptions{Peers: opts.Peers, Output: filepath.Join(w.dir, "all")}
		if _, err := f.Fetch(ctx, seeded.Root, all); err != nil {
			t.Fatal(err)
		}
		for name, data := range files {
			wantFile(t, filepath.Join(all.Output, name), data)
		}
	})
}
