package content

import (
	"sort"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

// file reads the body of a file's node.
func (d *decoder) file(n *Node) {
	c := chunking{Chunker(d.byte()), d.byte(), d.byte()}
	if d.err == nil && !c.valid() {
		d.fail("chunker %d, chunks of 2^%d bytes, 2^%d in a node", c.chunker, c.chunkLog, c.fanOutLog)
	}
	n.Size = d.varint()
	if d.err != nil {
		return
	}
	n.chunking, n.Chunker, n.ChunkSize = c, c.chunker, 1<<c.chunkLog
	switch n.Chunks = c.chunks(n.Size); {
	case c.chunker == ChunkerCDC:
		n.Chunks = d.varint()
	case c.chunker == ChunkerRamp && n.Size <= 1<<c.chunkLog:
		d.fail("ramp in a file of %d bytes", n.Size)
		return
	}
	if n.Chunks > c.span(n.Level) {
		d.fail("%d chunks under a node of level %d", n.Chunks, n.Level)
		return
	}
	if n.Chunks == 0 && (n.Root == nil || n.Level > 0) {
		d.fail("node of an empty file that is not a root")
		return
	}
	children := n.Chunks
	if n.Level > 0 {
		full := c.span(n.Level - 1)
		children = (n.Chunks + full - 1) / full
	}
	if c.chunker == ChunkerCDC {
		d.fileSizes(n, int(children))
	}
	if children*stc.HashSize != uint64(len(d.rest)) {
		d.fail("%d children in %d bytes", children, len(d.rest))
		return
	}
	n.hashes = d.bytes(len(d.rest))
}

// fileSizes reads the sizes of the children of a node whose chunks the content defines.
func (d *decoder) fileSizes(n *Node, children int) {
	if len(d.rest) < children*(1+stc.HashSize) {
		d.fail("%d children in %d bytes", children, len(d.rest))
		return
	}
	n.ends = make([]uint64, children)
	end := uint64(0)
	for i := range n.ends {
		size := d.varint()
		end += size
		n.ends[i] = end
		if last := i == children-1; d.err == nil && (end > n.Size || !n.chunking.fits(size, n.childChunks(i), last)) {
			d.fail("child of %d bytes in %d chunks", size, n.childChunks(i))
		}
		if d.err != nil {
			return
		}
	}
	if end != n.Size {
		d.fail("children have %d bytes, the node says %d", end, n.Size)
	}
}

// childChunks returns the number of chunks below child i of a file's node.
func (n *Node) childChunks(i int) uint64 {
	full := n.childSpan()
	return min(full, n.Chunks-uint64(i)*full)
}

// childSpan returns how many chunks lie below each child of a file's node but the last of its level.
func (n *Node) childSpan() uint64 {
	if n.Level == 0 {
		return 1
	}
	return n.chunking.span(n.Level - 1)
}

// fileChild is Child of a file's node.
func (n *Node) fileChild(i int) Ref {
	ref := Ref{Kind: KindChunk, Hash: stc.Hash(n.hashes[i*stc.HashSize:]), Chunks: n.childChunks(i)}
	if n.Level > 0 {
		ref.Kind, ref.inner, ref.level, ref.chunking = KindFile, true, n.Level-1, n.chunking
		if i > 0 {
			ref.chunking = n.chunking.behind()
		}
		ref.more = n.more || i < n.Len()-1
	}
	begin, end := n.childStart(i), n.Size
	if i < n.Len()-1 {
		end = n.childStart(i + 1)
	}
	ref.Size = end - begin
	return ref
}

// childStart returns the offset in bytes at which child i begins.
func (n *Node) childStart(i int) uint64 {
	switch {
	case i == 0:
		return 0
	case n.ends != nil:
		return n.ends[i-1]
	}
	return n.chunking.start(uint64(i) * n.childSpan())
}

// findOffset returns the reference of a file's node below which the byte at off lies, counted from the node's first, and the
// offset at which that reference begins. off must be below Size.
func (n *Node) findOffset(off uint64) (i int, start uint64) {
	i = sort.Search(n.Len()-1, func(i int) bool { return n.childStart(i+1) > off })
	return i, n.childStart(i)
}

// fileTree builds the manifest of one file from the hashes of its chunks, in order, keeping one unfinished node a level.
// put stores a node.
type fileTree struct {
	chunking chunking
	put      func(node []byte) (stc.Hash, error)
	levels   []fileLevel // unfinished nodes, leaves first
}

// fileLevel is an unfinished node.
type fileLevel struct {
	hashes, sizes []byte // of the children; sizes are there only if the content defines them
	size, chunks  uint64 // below
	finished      bool   // a node of this level has been handed to the level above
}

// add appends a chunk of size bytes, which must be one that the chunking allows.
func (t *fileTree) add(h stc.Hash, size int) error { return t.push(0, h, uint64(size), 1) }

// push appends a child to the unfinished node of a level, which is finished first if it is full.
func (t *fileTree) push(level int, h stc.Hash, size, chunks uint64) error {
	if level == len(t.levels) {
		t.levels = append(t.levels, fileLevel{})
	}
	if len(t.levels[level].hashes) == stc.HashSize<<t.chunking.fanOutLog {
		if err := t.finish(level); err != nil {
			return err
		}
	}
	l := &t.levels[level]
	l.hashes = append(l.hashes, h[:]...)
	if t.chunking.chunker == ChunkerCDC {
		l.sizes = frame.AppendVarint(l.sizes, size)
	}
	l.size += size
	l.chunks += chunks
	return nil
}

// finish stores the unfinished node of a level and hands it to the level above.
func (t *fileTree) finish(level int) error {
	l := t.levels[level]
	h, err := t.put(t.encode(uint8(level), nil, &l))
	if err != nil {
		return err
	}
	t.levels[level] = fileLevel{hashes: l.hashes[:0], sizes: l.sizes[:0], finished: true}
	return t.push(level+1, h, l.size, l.chunks)
}

// close stores what is unfinished and returns the reference to the file: as the root of a content if root is not nil, else
// as an entry of a directory, which is the chunk itself for a file of one chunk. The tree must not be used afterwards.
func (t *fileTree) close(root *RootInfo) (Ref, error) {
	if len(t.levels) == 0 {
		if root == nil {
			return Ref{}, nil
		}
		t.levels = append(t.levels, fileLevel{})
	}
	for level := 0; ; level++ {
		l := &t.levels[level]
		if level < len(t.levels)-1 || l.finished {
			if err := t.finish(level); err != nil {
				return Ref{}, err
			}
			continue
		}
		ref := Ref{Kind: KindFile, Size: l.size, Chunks: l.chunks}
		if root == nil && l.chunks == 1 {
			ref.Kind, ref.Hash = KindChunk, stc.Hash(l.hashes)
			return ref, nil
		}
		var err error
		ref.Hash, err = t.put(t.encode(uint8(level), root, l))
		return ref, err
	}
}

func (t *fileTree) encode(level uint8, root *RootInfo, l *fileLevel) []byte {
	dst := make([]byte, 0, 320+len(l.sizes)+len(l.hashes))
	dst = appendHeader(dst, typeFile, level, root)
	c := t.chunking
	if l.finished || l.size <= 1<<c.chunkLog {
		c = c.behind()
	}
	dst = append(dst, byte(c.chunker), c.chunkLog, c.fanOutLog)
	dst = frame.AppendVarint(dst, l.size)
	if c.chunker == ChunkerCDC {
		dst = frame.AppendVarint(dst, l.chunks)
		dst = append(dst, l.sizes...)
	}
	return append(dst, l.hashes...)
}
