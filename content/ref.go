package content

import (
	"fmt"

	"github.com/seigr/sttnode/stc"
)

// MaxBlobSize is the length in bytes of the longest blob: chunk or manifest node.
const MaxBlobSize = 1 << 20

// ChunkSize is the length in bytes of a file's chunks, the first ones and the last excepted, unless an import asks for another.
const ChunkSize = 256 << 10

// Kind says what a reference points to, and so how the blob is to be read. The zero Kind points to nothing.
type Kind uint8

const (
	KindChunk     Kind = 1 // bytes of a file
	KindFile      Kind = 2 // node of a file's manifest
	KindDirectory Kind = 3 // node of a directory's manifest
)

// String returns the kind's name.
func (k Kind) String() string {
	switch k {
	case KindChunk:
		return "chunk"
	case KindFile:
		return "file"
	case KindDirectory:
		return "directory"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Ref is a reference from one manifest node to a blob below it. The zero Ref is the reference of what has no bytes: empty
// files and symbolic links.
//
// Size and Chunks count what lies below: for a chunk its own length and 1; for a node all data chunks of the tree under it,
// each as often as it occurs. They give every data chunk of a content an ordinal, 0 to Chunks−1 of the root, in the order of
// the bytes of files and of the names of directories, depth first.
type Ref struct {
	Kind   Kind
	Hash   stc.Hash
	Size   uint64 // bytes
	Chunks uint64

	// What the referring node says of the shape of the node below.
	inner    bool      // the node is not the top of its tree: its siblings decide the rest
	more     bool      // the file goes on behind an inner node of a file
	level    uint8     // of an inner node
	chunking chunking  // of an inner node of a file
	entries  uint64    // below an inner node of a directory
	names    nameRange // of an inner node of a directory
}

// nameRange bounds the names of an inner directory node: the first is exactly first, all are below limit. The empty limit
// is none.
type nameRange struct{ first, limit string }

// Chunker says how a file is cut into chunks.
type Chunker uint8

const (
	// ChunkerFixed cuts chunks of one size; the last of a file may be shorter.
	ChunkerFixed Chunker = 1
	// ChunkerCDC cuts where the content says so, by FastCDC with a key, so that files which share parts share chunks. A chunk has
	// a quarter of the average size at least, the last of a file excepted, and four times the average at most.
	ChunkerCDC Chunker = 2
	// ChunkerRamp cuts like ChunkerFixed, but what would be the first of several chunks becomes a ramp: one of 4 KiB, another, and
	// from there on each twice as long as the one before. A chunk is verified with its last byte, and a fresh session doubles what it
	// sends from round trip to round trip; so who begins to read waits for 4 KiB, and the chunks grow as the path opens.
	ChunkerRamp Chunker = 3
)

// String returns the name by which people choose the chunker.
func (c Chunker) String() string {
	switch c {
	case ChunkerFixed:
		return "fixed"
	case ChunkerCDC:
		return "cdc"
	case ChunkerRamp:
		return "ramp"
	}
	return fmt.Sprintf("chunker(%d)", uint8(c))
}

// chunking is how a file was cut, and how wide its tree is: both sizes as powers of two. Of a file with a ramp the nodes that begin
// the file say so; all others are those of ChunkerFixed.
type chunking struct {
	chunker   Chunker
	chunkLog  uint8 // chunks of 1<<chunkLog bytes, or so many on average
	fanOutLog uint8 // up to 1<<fanOutLog children in a node
}

const (
	minChunkLog  = 10
	maxChunkLog  = 20 // MaxBlobSize
	spreadLog    = 2  // the shortest and the longest chunk of ChunkerCDC are average >> spreadLog and average << spreadLog
	minFanOutLog = 1
	maxFanOutLog = 14 // 512 KiB of hashes

	// rampLog is that of the first chunk of a ramp: with the nodes above it, it fits into what a fresh session may send at once, ten
	// datagrams of 1,200 bytes.
	rampLog = 12
	// rampFanOutLog is the least of a tree that begins with a ramp: its first leaf holds all of it, 9 chunks at most, and more.
	rampFanOutLog = 4

	// A leaf of the default fan-out lists 16 MiB in 2 KiB of hashes, and 64 of them make 1 GiB: the nodes that lead to any chunk are
	// short enough to come with it.
	defaultFanOutLog = 6

	// dirFanOut is the number of entries in a full leaf of a directory, and of children in a full inner node. The longest
	// possible entries still leave a leaf below MaxBlobSize.
	dirFanOut    = 1 << dirFanOutLog
	dirFanOutLog = 9

	maxLevel = 15

	// maxTotal bounds sizes, counts and their sums, so that additions never wrap.
	maxTotal = 1<<62 - 1
)

// valid reports whether there is such a chunking.
func (c chunking) valid() bool {
	switch c.chunker {
	case ChunkerFixed, ChunkerCDC:
	case ChunkerRamp:
		if c.chunkLog <= rampLog || c.fanOutLog < rampFanOutLog {
			return false
		}
	default:
		return false
	}
	return c.chunkLog >= minChunkLog && c.chunkLog <= maxChunkLog && c.longest() <= MaxBlobSize &&
		c.fanOutLog >= minFanOutLog && c.fanOutLog <= maxFanOutLog
}

// longest returns the length in bytes of the longest chunk.
func (c chunking) longest() int {
	if c.chunker == ChunkerCDC {
		return 1 << (c.chunkLog + spreadLog)
	}
	return 1 << c.chunkLog
}

// shortest returns the length in bytes of the shortest chunk that the content defines, the last of a file excepted.
func (c chunking) shortest() int { return 1 << (c.chunkLog - spreadLog) }

// fits reports whether so many chunks that the content defines can have size bytes together; tail says that they end the file.
func (c chunking) fits(size, chunks uint64, tail bool) bool {
	most, least := uint64(c.longest()), uint64(c.shortest())
	if size == 0 || (size-1)/most+1 > chunks {
		return false
	}
	if tail {
		return (size-1)/least >= chunks-1
	}
	return size/least >= chunks
}

// ramp returns by how many chunks a ramp is more than the one in whose place it stands, 0 without a ramp.
func (c chunking) ramp() uint64 {
	if c.chunker != ChunkerRamp {
		return 0
	}
	return uint64(c.chunkLog - rampLog)
}

// behind returns the chunking of the nodes of the same file that do not begin it.
func (c chunking) behind() chunking {
	if c.chunker == ChunkerRamp {
		c.chunker = ChunkerFixed
	}
	return c
}

// chunks returns the number of chunks in size bytes of a file from a node's first on, if the content does not define them.
func (c chunking) chunks(size uint64) uint64 {
	return size>>c.chunkLog + min(1, size&(1<<c.chunkLog-1)) + c.ramp()
}

// start returns the offset in bytes at which a chunk begins, both counted from a node's first, if the content does not define it. The
// ramp's chunks begin at 0 and at the powers of two.
func (c chunking) start(ordinal uint64) uint64 {
	ramp := c.ramp()
	switch {
	case ordinal == 0:
		return 0
	case ordinal <= ramp:
		return 1 << (rampLog - 1 + ordinal)
	}
	return (ordinal - ramp) << c.chunkLog
}

// next returns the length of the chunk that begins at an offset of a file which goes on for at least so long.
func (c chunking) next(off int64) int {
	switch {
	case c.chunker != ChunkerRamp || off >= 1<<c.chunkLog:
		return 1 << c.chunkLog
	case off == 0:
		return 1 << rampLog
	}
	return int(off) // as much as all chunks before it
}

// span returns how many chunks a full node of the given level covers, at most maxTotal.
func (c chunking) span(level uint8) uint64 { return spanOf(c.fanOutLog, level) }

// spanOf returns the leaves' items under a full node of the given level in a tree of this fan-out, at most maxTotal.
func spanOf(fanOutLog, level uint8) uint64 {
	if bits := uint(fanOutLog) * (uint(level) + 1); bits < 62 {
		return 1 << bits
	}
	return maxTotal
}

// treeLevel returns the level of the top of a tree over n items: the lowest that covers them.
func treeLevel(fanOutLog uint8, n uint64) uint8 {
	level := uint8(0)
	for spanOf(fanOutLog, level) < n {
		level++
	}
	return level
}
