package content

import (
	"bytes"
	"context"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/seigr/sttnode/stc"
)

// fixtureDir holds a store as this version writes it. Whatever comes later must read it. STT_UPDATE_FIXTURES=1 makes it anew.
const fixtureDir = "testdata/store-v1"

// TestFixture opens the store of version 1, which holds a file of two chunks with its manifest, a small blob that nothing needs,
// and a pin.
func TestFixture(t *testing.T) {
	ctx := context.Background()
	data := randomBlob(rand.New(rand.NewPCG(1, 1)), 40<<10)
	key := Config{Key: [32]byte{1, 2, 3}}
	if os.Getenv("STT_UPDATE_FIXTURES") != "" {
		os.RemoveAll(fixtureDir)
		s, err := Open(fixtureDir, key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.ImportReader(ctx, bytes.NewReader(data), ImportOptions{Name: "fixture", ChunkSize: 32 << 10}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Put(ctx, []byte("a small blob")); err != nil {
			t.Fatal(err)
		}
		s.Close()
		os.Remove(filepath.Join(fixtureDir, reserveForRemove))
		os.Remove(filepath.Join(fixtureDir, reserveForIndex))
		os.Remove(filepath.Join(fixtureDir, lockName))
	}
	dir := filepath.Join(t.TempDir(), "store")
	if err := os.CopyFS(dir, os.DirFS(fixtureDir)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(dir, key)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	pins, err := s.Pins()
	if err != nil || len(pins) != 1 || pins[0].Name != "fixture" || pins[0].State != PinComplete {
		t.Fatalf("%+v %v", pins, err)
	}
	if want := "1d1fca0ab2b20b6f7fb2e8431917c6aaa9ca51460bf004b94fd5eee4864c3572"; pins[0].Root.String() != want {
		t.Errorf("root %v", pins[0].Root)
	}
	var out bytes.Buffer
	if _, err := s.ExportTo(ctx, pins[0].Root, &out, nil); err != nil || !bytes.Equal(out.Bytes(), data) {
		t.Fatalf("exported bytes differ: %v", err)
	}
	if got, err := s.Get(nil, stc.Sum([]byte("a small blob"))); err != nil || string(got) != "a small blob" {
		t.Fatal(err)
	}
	if r, err := s.Verify(ctx, nil); err != nil || !r.OK() || r.Blobs != 4 {
		t.Fatalf("%+v %v", r, err)
	}
}
