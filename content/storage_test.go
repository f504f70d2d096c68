package content_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"testing"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/content/storagetest"
	"github.com/seigr/sttnode/stc"
)

func TestStoreIsStorage(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) content.Storage {
		s, err := content.Open(t.TempDir(), content.Config{Key: [32]byte{1}})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestMemoryIsStorage(t *testing.T) {
	storagetest.Run(t, func(*testing.T) content.Storage { return content.NewMemory(content.MemoryConfig{}) })
}

// What is over the limit is refused and takes no room; what is deleted makes some.
func TestMemoryLimit(t *testing.T) {
	ctx := context.Background()
	m := content.NewMemory(content.MemoryConfig{MaxBytes: 1000})
	first, err := m.Put(ctx, make([]byte, 600))
	if err != nil {
		t.Fatal(err)
	}
	var limit *content.LimitError
	if _, err := m.Put(ctx, make([]byte, 401)); !errors.Is(err, content.ErrLimit) || !errors.As(err, &limit) || limit.Fixed != 600 {
		t.Errorf("over the limit: %v", err)
	}
	for range 3 { // no second copy
		if _, err := m.Put(ctx, make([]byte, 600)); err != nil {
			t.Error(err)
		}
	}
	second, err := m.Put(ctx, make([]byte, 400))
	if err != nil {
		t.Errorf("up to the limit: %v", err)
	}
	if err := m.Delete(ctx, first, second, first); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Put(ctx, make([]byte, 1000)); err != nil {
		t.Errorf("what was deleted still takes room: %v", err)
	}
}

// Readings under their hashes: the hash is all that has to be passed on, and the same reading is stored once.
func ExampleStorage() {
	ctx := context.Background()
	var storage content.Storage = content.NewMemory(content.MemoryConfig{MaxBytes: 64 << 20}) // or content.Open, on the disk
	defer storage.Close()

	reading := []byte("cpu 61.5 °C")
	h, err := storage.Put(ctx, reading)
	if err != nil {
		log.Fatal(err)
	}
	again, _ := storage.Put(ctx, bytes.Clone(reading))
	fmt.Println("stored once:", h == again, h == stc.Sum(reading))

	got, err := storage.Get(nil, h)
	fmt.Printf("%s %v\n", got, err)

	_, err = storage.Get(nil, stc.Sum([]byte("cpu 95.3 °C")))
	fmt.Println(errors.Is(err, content.ErrNotFound))
	// Output:
	// stored once: true true
	// cpu 61.5 °C <nil>
	// true
}
