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
	inner   bool      // the node is not the top of its tree: fixed or its siblings decide the rest
	level   uint8     // of an inner node
	fixed   chunking  // of an inner node of a file
	entries uint64    // below an inner node of a directory
	names   nameRange // of an inner node of a directory
}

// nameRange bounds the names of an inner directory node: the first is exactly first, all are below limit. The empty limit
// is none.
type nameRange struct{ first, limit string }

// chunking is how a file was cut, and how wide its tree is: both sizes as powers of two.
type chunking struct {
	chunkLog  uint8 // chunks of 1<<chunkLog bytes
	fanOutLog uint8 // up to 1<<fanOutLog children in a node
}

const (
	minChunkLog  = 10
	maxChunkLog  = 20 // MaxBlobSize
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

// chunks returns the number of chunks in a file of size bytes.
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
