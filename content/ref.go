package content

import (
	"fmt"

	"github.com/seigr/sttnode/stc"
)

// MaxBlobSize is the length in bytes of the longest blob: chunk or manifest node.
const MaxBlobSize = 1 << 20

// ChunkSize is the length in bytes of a file's chunks, its last excepted, unless an import asks for another.
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
)

// String returns the name by which people choose the chunker.
func (c Chunker) String() string {
	switch c {
	case ChunkerFixed:
		return "fixed"
	case ChunkerCDC:
		return "cdc"
	}
	return fmt.Sprintf("chunker(%d)", uint8(c))
}

// chunking is how a file was cut, and how wide its tree is: both sizes as powers of two.
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

	defaultFanOutLog = 12 // 1 GiB of 256 KiB chunks, 128 KiB of hashes

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
	if c.chunker != ChunkerFixed && c.chunker != ChunkerCDC {
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

// chunks returns the number of chunks of one size in a file of size bytes.
func (c chunking) chunks(size uint64) uint64 {
	return size>>c.chunkLog + min(1, size&(1<<c.chunkLog-1))
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
