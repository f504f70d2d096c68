package content

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/seigr/sttnode/stc"
)

func openTest(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir, Config{Key: [32]byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func randomBlob(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte(fmt.Appendf(nil, "%032x", r.Uint64()))).Read(b)
	return b
}

func TestPutGet(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir)
	if _, err := Open(dir, Config{}); !errors.Is(err, ErrNoKey) {
		t.Errorf("without a key: %v", err)
	}
	if _, err := Open(dir, Config{Key: [32]byte{1}}); !errors.Is(err, ErrLocked) {
		t.Fatalf("opened twice: %v", err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	var blobs [][]byte
	for _, n := range []int{0, 1, 100, maxSmall, maxSmall + 1, ChunkSize, MaxBlobSize} {
		blobs = append(blobs, randomBlob(r, n))
	}
	hs, err := s.PutMany(context.Background(), blobs)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for i, h := range hs {
			if h != stc.Sum(blobs[i]) {
				t.Fatal("wrong hash")
			}
			got, err := s.Get([]byte("x"), h)
			if err != nil || !bytes.Equal(got[1:], blobs[i]) || got[0] != 'x' {
				t.Fatalf("blob %d: %v", i, err)
			}
		}
		if st := s.Stats(); st.Blobs != uint64(len(blobs)) {
			t.Fatalf("%+v", st)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openTest(t, dir)
	}
	if err := s.Delete(context.Background(), hs...); err != nil {
		t.Fatal(err)
	}
	for _, h := range hs {
		if _, err := s.Get(nil, h); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
	}
	if st := s.Stats(); st.Blobs != 0 || st.Bytes != 0 || st.SegmentBytes != 0 {
		t.Fatalf("%+v", st)
	}
}
