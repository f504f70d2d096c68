package content

import (
	"context"
	"crypto/rand"
	"fmt"
	"iter"
	"sync"

	"github.com/seigr/sttnode/stc"
)

// MemoryConfig configures a Memory. The zero value is good.
type MemoryConfig struct {
	// MaxBytes bounds the bytes of all blobs; each takes about 150 more. Beyond it Put fails with ErrLimit. 0 is no limit.
	MaxBytes uint64
}

// Memory is a Storage that leaves nothing on the disk. What it holds is sealed under a key that nobody else knows, so that a page of memory
// that is swapped out tells nothing, and one that has changed is ErrCorrupt.
type Memory struct {
	cipher *stc.StoreCipher
	limit  uint64

	mu    sync.RWMutex        // guards what follows
	blobs map[stc.Hash][]byte // sealed, never changed; nil once closed
	bytes uint64              // of the blobs, unsealed
}

// NewMemory returns an empty Memory.
func NewMemory(cfg MemoryConfig) *Memory {
	var key [32]byte
	rand.Read(key[:]) // never fails since Go 1.24: it ends the program instead
	defer clear(key[:])
	return &Memory{cipher: stc.NewStoreCipher(key), limit: cfg.MaxBytes, blobs: make(map[stc.Hash][]byte)}
}

// Put implements [Storage].
func (m *Memory) Put(ctx context.Context, data []byte) (stc.Hash, error) {
	if len(data) > MaxBlobSize {
		return stc.Hash{}, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(data))
	}
	if err := ctx.Err(); err != nil {
		return stc.Hash{}, err
	}
	h := stc.Sum(data)
	if here, err := m.Has(h); here || err != nil {
		return h, err
	}
	sealed := m.cipher.Seal(make([]byte, 0, len(data)+stc.StoreOverhead), data, h[:])
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.blobs == nil {
		return h, ErrClosed
	}
	if _, here := m.blobs[h]; here {
		return h, nil
	}
	if n := uint64(len(data)); m.limit > 0 && n > m.limit-m.bytes {
		return h, &LimitError{Limit: m.limit, Fixed: m.bytes, Need: n}
	}
	m.blobs[h] = sealed
	m.bytes += uint64(len(data))
	return h, nil
}

// Get implements [Storage].
func (m *Memory) Get(dst []byte, h stc.Hash) ([]byte, error) {
	m.mu.RLock()
	sealed, here := m.blobs[h]
	closed := m.blobs == nil
	m.mu.RUnlock()
	switch {
	case closed:
		return dst, ErrClosed
	case !here:
		return dst, fmt.Errorf("%w: %v", ErrNotFound, h)
	}
	out, err := m.cipher.Open(dst, sealed, h[:])
	if err != nil {
		return dst, fmt.Errorf("%w: %v: %w", ErrCorrupt, h, err)
	}
	return out, nil
}

// Has implements [Storage].
func (m *Memory) Has(h stc.Hash) (bool, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.blobs == nil {
		return false, ErrClosed
	}
	_, here := m.blobs[h]
	return here, nil
}

// Delete implements [Storage].
func (m *Memory) Delete(ctx context.Context, hashes ...stc.Hash) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.blobs == nil {
		return ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, h := range hashes {
		if sealed, here := m.blobs[h]; here {
			m.bytes -= uint64(len(sealed) - stc.StoreOverhead)
			delete(m.blobs, h)
		}
	}
	return nil
}

// All implements [Storage].
func (m *Memory) All(ctx context.Context) iter.Seq2[BlobInfo, error] {
	return func(yield func(BlobInfo, error) bool) {
		m.mu.RLock()
		closed := m.blobs == nil
		all := make([]BlobInfo, 0, len(m.blobs))
		for h, sealed := range m.blobs {
			all = append(all, BlobInfo{Hash: h, Size: len(sealed) - stc.StoreOverhead})
		}
		m.mu.RUnlock()
		if closed {
			yield(BlobInfo{}, ErrClosed)
			return
		}
		for _, b := range all {
			if err := ctx.Err(); err != nil {
				yield(BlobInfo{}, err)
				return
			}
			if !yield(b, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(BlobInfo{}, err)
		}
	}
}

// Close implements [Storage].
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.blobs == nil {
		return ErrClosed
	}
	m.blobs, m.bytes = nil, 0
	return nil
}
