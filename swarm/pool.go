package swarm

import (
	"math/bits"
	"sync"
)

// bufferPool keeps buffers for blobs to be used again: fresh memory costs a
// page fault for every 4 KiB, which at a gigabyte a second is most of the
// work. It keeps at most limit bytes; what is in use is bounded by its users.
// It is safe for concurrent use.
type bufferPool struct {
	limit int

	mu   sync.Mutex
	kept int
	free [poolClasses][][]byte // by size, from 4 KiB to 2 MiB in powers of two
}

const (
	minPoolShift = 12
	maxPoolShift = 21
	poolClasses  = maxPoolShift - minPoolShift + 1
)

func poolClass(n int) int {
	return max(bits.Len(uint(max(n, 1)-1)), minPoolShift) - minPoolShift
}

// get returns a buffer of length n, whose contents are undefined.
func (p *bufferPool) get(n int) []byte {
	class := poolClass(n)
	if class >= poolClasses {
		return make([]byte, n)
	}
	p.mu.Lock()
	if k := len(p.free[class]); k > 0 {
		b := p.free[class][k-1]
		p.free[class] = p.free[class][:k-1]
		p.kept -= cap(b)
		p.mu.Unlock()
		return b[:n]
	}
	p.mu.Unlock()
	return make([]byte, n, 1<<(class+minPoolShift))
}

// put takes back a buffer that nobody uses any more. Buffers of other sizes
// than get makes are left to the garbage collector.
func (p *bufferPool) put(b []byte) {
	class := poolClass(cap(b))
	if class >= poolClasses || cap(b) != 1<<(class+minPoolShift) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kept+cap(b) <= p.limit {
		p.kept += cap(b)
		p.free[class] = append(p.free[class], b)
	}
}
