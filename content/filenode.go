package content

import (
	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

// file reads the body of a file's node.
func (d *decoder) file(n *Node) {
	if chunker := d.byte(); d.err == nil && chunker != chunkFixed {
		d.fail("unknown chunker %d", chunker)
	}
	c := chunking{chunkLog: d.byte(), fanOutLog: d.byte()}
	if d.err == nil && (c.chunkLog < minChunkLog || c.chunkLog > maxChunkLog || c.fanOutLog < minFanOutLog || c.fanOutLog > maxFanOutLog) {
		d.fail("chunks of 2^%d bytes, 2^%d in a node", c.chunkLog, c.fanOutLog)
	}
	n.Size = d.varint()
	if d.err != nil {
		return
	}
	n.fixed, n.ChunkSize, n.Chunks = c, 1<<c.chunkLog, c.chunks(n.Size)
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
	if children*stc.HashSize != uint64(len(d.rest)) {
		d.fail("%d children in %d bytes", children, len(d.rest))
		return
	}
	n.hashes = d.bytes(len(d.rest))
}

// fileTree builds the manifest of one file from the hashes of its chunks, in order, keeping one unfinished node a level.
// put stores a node.
type fileTree struct {
	fixed  chunking
	put    func(node []byte) (stc.Hash, error)
	size   uint64
	levels []fileLevel // unfinished nodes, leaves first
}

type fileLevel struct {
	hashes []byte
	done   uint64 // bytes of the file under the nodes of this level that are finished
}

// add appends a chunk of size bytes; all but the last must be as long as the chunking says.
func (t *fileTree) add(h stc.Hash, size int) error {
	if err := t.push(0, h); err != nil {
		return err
	}
	t.size += uint64(size)
	return nil
}

// push appends a child to the unfinished node of a level, which is finished first if it is full.
func (t *fileTree) push(level int, h stc.Hash) error {
	if level == len(t.levels) {
		t.levels = append(t.levels, fileLevel{})
	}
	if len(t.levels[level].hashes) == stc.HashSize<<t.fixed.fanOutLog {
		full := t.fixed.span(uint8(level)) << t.fixed.chunkLog
		if err := t.finish(level, full); err != nil {
			return err
		}
	}
	l := &t.levels[level]
	l.hashes = append(l.hashes, h[:]...)
	return nil
}

// finish stores the unfinished node of a level, which covers size bytes, and hands it to the level above.
func (t *fileTree) finish(level int, size uint64) error {
	h, err := t.put(t.encode(uint8(level), nil, size, t.levels[level].hashes))
	if err != nil {
		return err
	}
	t.levels[level].hashes = t.levels[level].hashes[:0]
	t.levels[level].done += size
	return t.push(level+1, h)
}

// close stores what is unfinished and returns the reference to the file: as the root of a content if root is not nil, else
// as an entry of a directory, which is the chunk itself for a file of one chunk. The tree must not be used afterwards.
func (t *fileTree) close(root *RootInfo) (Ref, error) {
	ref := Ref{Kind: KindFile, Size: t.size, Chunks: t.fixed.chunks(t.size)}
	if root == nil {
		switch ref.Chunks {
		case 0:
			return Ref{}, nil
		case 1:
			ref.Kind, ref.Hash = KindChunk, stc.Hash(t.levels[0].hashes)
			return ref, nil
		}
	}
	var top []byte
	level := 0
	for ; level < len(t.levels); level++ {
		l := &t.levels[level]
		if level == len(t.levels)-1 && l.done == 0 {
			top = l.hashes
			break
		}
		if err := t.finish(level, t.size-l.done); err != nil {
			return Ref{}, err
		}
	}
	var err error
	ref.Hash, err = t.put(t.encode(uint8(level), root, t.size, top))
	return ref, err
}

func (t *fileTree) encode(level uint8, root *RootInfo, size uint64, hashes []byte) []byte {
	dst := make([]byte, 0, 300+len(hashes))
	dst = appendHeader(dst, typeFile, level, root)
	dst = append(dst, chunkFixed, t.fixed.chunkLog, t.fixed.fanOutLog)
	dst = frame.AppendVarint(dst, size)
	return append(dst, hashes...)
}
