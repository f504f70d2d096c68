// Package storagetest is what every [content.Storage] must pass.
//
//	func TestStorage(t *testing.T) {
//		storagetest.Run(t, func(t *testing.T) content.Storage { return New(…) })
//	}
package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/stc"
)

// Run checks the storages that open returns, each of them new and empty. It closes them.
func Run(t *testing.T, open func(t *testing.T) content.Storage) {
	for name, check := range map[string]func(*testing.T, content.Storage){
		"sizes":      sizes,
		"same bytes": sameBytes,
		"ownership":  ownership,
		"missing":    missing,
		"delete":     deletion,
		"all":        all,
		"context":    endedContext,
		"model":      model,
		"concurrent": concurrent,
		"close":      closed,
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			check(t, s)
			if name == "close" {
				return
			}
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

var background = context.Background()

func random(seed, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

func put(t *testing.T, s content.Storage, data []byte) stc.Hash {
	t.Helper()
	h, err := s.Put(background, data)
	if err != nil {
		t.Fatalf("Put of %d bytes: %v", len(data), err)
	}
	if want := stc.Sum(data); h != want {
		t.Fatalf("Put of %d bytes: hash %v, their SHA3-256 is %v", len(data), h, want)
	}
	return h
}

// wantBlobs checks that the storage holds these blobs and no others, by every way to look.
func wantBlobs(t *testing.T, s content.Storage, want map[stc.Hash][]byte) {
	t.Helper()
	for h, data := range want {
		if here, err := s.Has(h); !here || err != nil {
			t.Errorf("Has of a blob of %d bytes: %v, %v", len(data), here, err)
		}
		if got, err := s.Get(nil, h); err != nil || !bytes.Equal(got, data) {
			t.Errorf("Get of a blob of %d bytes: %d bytes, equal: %v, %v", len(data), len(got), bytes.Equal(got, data), err)
		}
	}
	listed := make(map[stc.Hash]bool)
	for b, err := range s.All(background) {
		if err != nil {
			t.Fatalf("All: %v", err)
		}
		data, known := want[b.Hash]
		if !known || listed[b.Hash] || b.Size != len(data) || b.Bad {
			t.Errorf("All yields %+v; known: %v, for the second time: %v, %d bytes", b, known, listed[b.Hash], len(data))
		}
		listed[b.Hash] = true
	}
	if len(listed) != len(want) {
		t.Errorf("All yields %d blobs of %d", len(listed), len(want))
	}
}

func sizes(t *testing.T, s content.Storage) {
	want := make(map[stc.Hash][]byte)
	for i, n := range []int{0, 1, 31, 32, 1000, 16 << 10, 16<<10 + 1, content.ChunkSize, content.MaxBlobSize} {
		data := random(i, n)
		want[put(t, s, data)] = data
	}
	long := random(99, content.MaxBlobSize+1)
	if _, err := s.Put(background, long); !errors.Is(err, content.ErrTooLarge) {
		t.Errorf("Put of a byte more than MaxBlobSize: %v", err)
	}
	wantBlobs(t, s, want)
}

func sameBytes(t *testing.T, s content.Storage) {
	data := random(1, 5000)
	h := put(t, s, data)
	if again := put(t, s, bytes.Clone(data)); again != h {
		t.Errorf("the same bytes are %v and %v", h, again)
	}
	wantBlobs(t, s, map[stc.Hash][]byte{h: data})
	if err := s.Delete(background, h); err != nil {
		t.Fatal(err)
	}
	wantBlobs(t, s, nil) // however often it was put
}

// ownership checks that neither side uses the other's memory.
func ownership(t *testing.T, s content.Storage) {
	data := random(1, 20_000)
	mine := bytes.Clone(data)
	h := put(t, s, mine)
	clear(mine)
	got, err := s.Get([]byte("before "), h)
	if err != nil || !bytes.Equal(got, append([]byte("before "), data...)) {
		t.Errorf("Get appends %d bytes to 7: %v", len(got), err)
	}
	clear(got)
	wantBlobs(t, s, map[stc.Hash][]byte{h: data})
}

func missing(t *testing.T, s content.Storage) {
	h := stc.Sum([]byte("never stored"))
	if here, err := s.Has(h); here || err != nil {
		t.Errorf("Has: %v, %v", here, err)
	}
	if got, err := s.Get([]byte("dst"), h); !errors.Is(err, content.ErrNotFound) || string(got) != "dst" {
		t.Errorf("Get: %q, %v", got, err)
	}
	wantBlobs(t, s, nil)
}

func deletion(t *testing.T, s content.Storage) {
	want := make(map[stc.Hash][]byte)
	var hashes []stc.Hash
	for i := range 20 {
		data := random(i, i*3000)
		h := put(t, s, data)
		want[h], hashes = data, append(hashes, h)
	}
	if err := s.Delete(background); err != nil {
		t.Errorf("Delete of nothing: %v", err)
	}
	gone := append(hashes[5:15:15], stc.Sum([]byte("never stored")), hashes[5])
	if err := s.Delete(background, gone...); err != nil {
		t.Fatal(err)
	}
	removed := make(map[stc.Hash][]byte)
	for _, h := range hashes[5:15] {
		removed[h] = want[h]
		delete(want, h)
		if _, err := s.Get(nil, h); !errors.Is(err, content.ErrNotFound) {
			t.Errorf("Get of what was deleted: %v", err)
		}
	}
	wantBlobs(t, s, want)
	if err := s.Delete(background, gone...); err != nil {
		t.Errorf("deleted again: %v", err)
	}
	for _, data := range removed {
		put(t, s, data)
	}
	maps.Copy(want, removed)
	wantBlobs(t, s, want)
}

func all(t *testing.T, s content.Storage) {
	want := make(map[stc.Hash][]byte)
	for i := range 300 {
		data := random(i, i)
		want[put(t, s, data)] = data
	}
	wantBlobs(t, s, want)
	n := 0
	for range s.All(background) {
		if n++; n == 5 {
			break
		}
	}
	if n != 5 {
		t.Errorf("%d blobs before the loop was left", n)
	}
	// The storage may be used in the loop.
	for b, err := range s.All(background) {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(nil, b.Hash); err != nil {
			t.Errorf("Get in the loop: %v", err)
		}
		if b.Size%2 == 0 {
			if err := s.Delete(background, b.Hash); err != nil {
				t.Errorf("Delete in the loop: %v", err)
			}
			delete(want, b.Hash)
		}
	}
	wantBlobs(t, s, want)
}

func endedContext(t *testing.T, s content.Storage) {
	data := random(1, 100)
	h := put(t, s, data)
	ctx, cancel := context.WithCancel(background)
	cancel()
	if _, err := s.Put(ctx, random(2, 100)); !errors.Is(err, context.Canceled) {
		t.Errorf("Put: %v", err)
	}
	if err := s.Delete(ctx, h); !errors.Is(err, context.Canceled) {
		t.Errorf("Delete: %v", err)
	}
	var last error
	for _, err := range s.All(ctx) {
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("All ends with %v", last)
	}
	wantBlobs(t, s, map[stc.Hash][]byte{h: data})
}

// model compares random operations with what a map does.
func model(t *testing.T, s content.Storage) {
	r := rand.New(rand.NewPCG(1, 2))
	want := make(map[stc.Hash][]byte)
	for i := range 400 {
		data := random(r.IntN(40), 100+r.IntN(2)*40_000)
		h := stc.Sum(data)
		switch r.IntN(3) {
		case 0:
			want[put(t, s, data)] = data
		case 1:
			if err := s.Delete(background, h); err != nil {
				t.Fatalf("operation %d: %v", i, err)
			}
			delete(want, h)
		default:
			got, err := s.Get(nil, h)
			data, known := want[h]
			if known != (err == nil) || !known && !errors.Is(err, content.ErrNotFound) || !bytes.Equal(got, data) {
				t.Fatalf("operation %d: known: %v, Get gives %d bytes, %v", i, known, len(got), err)
			}
		}
	}
	wantBlobs(t, s, want)
}

// concurrent lets many put, get and delete the same few blobs: nobody ever gets other bytes than those of the hash.
func concurrent(t *testing.T, s content.Storage) {
	const blobs = 6
	var data [blobs][]byte
	for i := range data {
		data[i] = random(i, 1+i*9000)
	}
	var working sync.WaitGroup
	for worker := range 8 {
		working.Go(func() {
			r := rand.New(rand.NewPCG(uint64(worker), 1))
			for range 60 {
				if err := touch(s, data[r.IntN(blobs)], r.IntN(4)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	working.Wait()
	want := make(map[stc.Hash][]byte)
	for _, d := range data {
		want[put(t, s, d)] = d
	}
	wantBlobs(t, s, want)
}

// touch does one of four things with a blob that others touch as well.
func touch(s content.Storage, data []byte, what int) error {
	h := stc.Sum(data)
	switch what {
	case 0:
		if err := s.Delete(background, h); err != nil {
			return fmt.Errorf("error of Delete: %w", err)
		}
	case 1:
		got, err := s.Get(nil, h)
		if err == nil && !bytes.Equal(got, data) || err != nil && !errors.Is(err, content.ErrNotFound) {
			return fmt.Errorf("blob of %d bytes: Get returns %d bytes, %v", len(data), len(got), err)
		}
	default:
		if got, err := s.Put(background, data); err != nil || got != h {
			return fmt.Errorf("blob put as %v: %v", got, err)
		}
	}
	return nil
}

func closed(t *testing.T, s content.Storage) {
	h := put(t, s, random(1, 100))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, putErr := s.Put(background, random(2, 100))
	_, getErr := s.Get(nil, h)
	_, hasErr := s.Has(h)
	var allErr error
	for _, err := range s.All(background) {
		allErr = err
	}
	for what, err := range map[string]error{
		"Put": putErr, "Get": getErr, "Has": hasErr, "All": allErr, "Delete": s.Delete(background, h), "Close": s.Close(),
	} {
		if !errors.Is(err, content.ErrClosed) {
			t.Errorf("%s of a closed storage: %v", what, err)
		}
	}
}
