package content

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestExportLeavesHoles exports files of mostly zeros, alone and in a tree, in one chunk and in several.
func TestExportLeavesHoles(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, filepath.Join(dir, "store"))
	src := filepath.Join(dir, "source")
	os.Mkdir(src, 0o755)
	want := map[string][]byte{
		"only zeros": make([]byte, ChunkSize), "short": make([]byte, holeSize-1),
		"text in zeros": make([]byte, 8<<20+100), "zeros and an end": append(make([]byte, 3<<20), "end"...),
	}
	copy(want["text in zeros"][3<<20:], "in the middle of nothing")
	for name, b := range want {
		if err := os.WriteFile(filepath.Join(src, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	check := func(path string, want []byte) {
		t.Helper()
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%s differs: %d bytes, %v", path, len(got), err)
		}
		var info fs.FileInfo
		if info, err = os.Stat(path); err != nil {
			t.Fatal(err)
		}
		if room := info.Sys().(*syscall.Stat_t).Blocks * 512; room > 2*holeSize {
			t.Errorf("%s takes %d bytes on the disk", path, room)
		}
	}
	export := func(path string) string {
		got, err := s.Import(context.Background(), path, ImportOptions{})
		if err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(dir, "out "+filepath.Base(path))
		if _, err := s.Export(context.Background(), got.Root, target, ExportOptions{}); err != nil {
			t.Fatal(err)
		}
		return target
	}
	tree := export(src)
	for name, b := range want {
		check(filepath.Join(tree, name), b)
		check(export(filepath.Join(src, name)), b)
	}
}
