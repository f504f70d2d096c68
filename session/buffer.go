package session

import "sync"

// blockSize is the unit in which stream buffers take memory.
const blockSize = 16 << 10

type block [blockSize]byte

var blocks = sync.Pool{New: func() any { return new(block) }}

// buffer holds the bytes of one direction of a stream between two offsets,
// in blocks from a pool. Bytes below the base are gone; writing beyond the
// end makes room. The caller bounds it by flow control and says which of the
// bytes mean anything. The zero value is empty at offset 0.
type buffer struct {
	base   uint64 // first offset that can be read
	end    uint64 // offset behind the last byte written
	first  uint64 // offset of blocks[0], a multiple of blockSize
	blocks []*block
}

// reset empties the buffer and moves it to an offset.
func (b *buffer) reset(offset uint64) {
	b.release(len(b.blocks))
	b.base, b.end, b.first = offset, offset, offset-offset%blockSize
}

// release gives the first n blocks back.
func (b *buffer) release(n int) {
	for i := range n {
		if b.blocks[i] != nil {
			blocks.Put(b.blocks[i])
			b.blocks[i] = nil
		}
	}
	b.blocks = b.blocks[:copy(b.blocks, b.blocks[n:])]
	b.first += uint64(n) * blockSize
	if len(b.blocks) == 0 && cap(b.blocks) > 128 {
		b.blocks = nil
	}
}

// writeAt stores p at offset; what lies below the base is dropped.
func (b *buffer) writeAt(p []byte, offset uint64) {
	if offset < b.base {
		skip := b.base - offset
		if skip >= uint64(len(p)) {
			return
		}
		p, offset = p[skip:], b.base
	}
	b.end = max(b.end, offset+uint64(len(p)))
	for len(p) > 0 {
		i := int((offset - b.first) / blockSize)
		for i >= len(b.blocks) {
			b.blocks = append(b.blocks, nil)
		}
		if b.blocks[i] == nil {
			b.blocks[i] = blocks.Get().(*block)
		}
		n := copy(b.blocks[i][(offset-b.first)%blockSize:], p)
		p, offset = p[n:], offset+uint64(n)
	}
}

// readAt copies len(p) bytes from offset; the caller knows that they have
// been written and not discarded.
func (b *buffer) readAt(p []byte, offset uint64) {
	for len(p) > 0 {
		i := (offset - b.first) / blockSize
		n := copy(p, b.blocks[i][(offset-b.first)%blockSize:])
		p, offset = p[n:], offset+uint64(n)
	}
}

// discard gives up all bytes below offset.
func (b *buffer) discard(offset uint64) {
	if offset <= b.base {
		return
	}
	b.base = offset
	b.end = max(b.end, offset)
	if b.base == b.end {
		// Nothing left: an idle stream holds no memory.
		b.reset(offset)
		return
	}
	if n := int((offset - b.first) / blockSize); n > 0 {
		b.release(n)
	}
}
