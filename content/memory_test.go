package content

import (
	"context"
	"errors"
	"testing"
)

var (
	_ Storage = (*Store)(nil)
	_ Storage = (*Memory)(nil)
)

// Memory that has changed is noticed, and no byte of it handed out.
func TestMemoryIsSealed(t *testing.T) {
	m := NewMemory(MemoryConfig{})
	h, err := m.Put(context.Background(), []byte("nobody else's business"))
	if err != nil {
		t.Fatal(err)
	}
	sealed := m.blobs[h]
	for i := range sealed {
		sealed[i] ^= 1
		if got, err := m.Get([]byte("dst"), h); !errors.Is(err, ErrCorrupt) || string(got) != "dst" {
			t.Fatalf("byte %d changed: %q, %v", i, got, err)
		}
		sealed[i] ^= 1
	}
}
