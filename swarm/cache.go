package swarm

import (
	"math"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/seigr/sttnode/stc"
)

// blobCache keeps the blobs that several peers ask for. A blob is taken in
// when it is read for the second time within the last cacheMemory reads: one
// peer that fetches a whole content does not wash out what others need. It is
// bounded in bytes and safe for concurrent use.
type blobCache struct {
	limit   int
	buffers *bufferPool

	mu   sync.Mutex
	size int
	hot  *simplelru.LRU[stc.Hash, *cachedBlob]
	once *simplelru.LRU[stc.Hash, struct{}] // read lately, but not kept
}

// cacheMemory is how many reads are remembered: with chunks of 256 KiB, the
// last 2 GiB.
const cacheMemory = 8192

// cachedBlob is a blob in the cache, or still being sent although it is there
// no more. Its buffer is used again when nobody refers to it.
type cachedBlob struct {
	data []byte
	refs atomic.Int32
}

func newBlobCache(limit int, buffers *bufferPool) *blobCache {
	c := &blobCache{limit: limit, buffers: buffers}
	var err error
	// Bytes are what limits; the number of blobs does not.
	c.hot, err = simplelru.NewLRU(math.MaxInt, func(_ stc.Hash, b *cachedBlob) {
		c.size -= cap(b.data)
		c.release(b)
	})
	if err == nil {
		c.once, err = simplelru.NewLRU[stc.Hash, struct{}](cacheMemory, nil)
	}
	if err != nil {
		panic(err) // the sizes are positive
	}
	return c
}

// get returns a blob, which the caller must release, or nil.
func (c *blobCache) get(h stc.Hash) *cachedBlob {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, ok := c.hot.Get(h)
	if !ok {
		return nil
	}
	b.refs.Add(1)
	return b
}

// release ends the use of a blob.
func (c *blobCache) release(b *cachedBlob) {
	if b.refs.Add(-1) == 0 {
		c.buffers.put(b.data)
	}
}

// offer tells that a blob was read from the store. It is copied if it is worth
// keeping.
func (c *blobCache) offer(h stc.Hash, blob []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.once.Contains(h) {
		c.once.Add(h, struct{}{})
		return
	}
	if c.hot.Contains(h) || len(blob) > c.limit/4 {
		return
	}
	c.once.Remove(h)
	b := &cachedBlob{data: c.buffers.get(len(blob))}
	copy(b.data, blob)
	b.refs.Store(1)
	c.size += cap(b.data)
	c.hot.Add(h, b)
	for c.size > c.limit {
		c.hot.RemoveOldest()
	}
}
