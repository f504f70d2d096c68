package swarm

import (
	"fmt"
	"slices"
	"sort"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/stc"
)

// step is a reference that the frontier hands out: a chunk, or a node that
// must be read before what lies below it is known.
type step struct {
	ref    content.Ref
	root   bool   // the root of the content; ref holds nothing but its hash
	first  uint64 // ordinal of the first chunk below
	offset uint64 // in the content's data, of its first byte
	// repeated marks a node that was handed out before, where its first chunk
	// was origin. What lies below it is on its way already.
	repeated bool
	origin   uint64
	memory   int // what the frontier has set aside for the node
}

// node reports whether the reference has an inside.
func (s step) node() bool { return s.root || s.ref.Kind != content.KindChunk }

// place returns the ordinals of the chunks below.
func (s step) place() span { return span{s.first, s.first + s.ref.Chunks} }

// repeat returns what a repeated node means for who has what.
func (s step) repeat() repeat {
	return repeat{span{s.origin, s.origin + s.ref.Chunks}, s.first}
}

// decode reads the node that the step refers to from its verified bytes, which
// the node keeps.
func (s step) decode(blob []byte) (n *content.Node, err error) {
	if s.root {
		n, err = content.DecodeRoot(blob)
	} else {
		n, err = s.ref.Decode(blob)
	}
	if err != nil {
		return nil, fmt.Errorf("%w %v: %w", ErrBadManifest, s.ref.Hash, err)
	}
	return n, nil
}

// expectedSize returns the length in bytes of the blob: exactly, for a chunk,
// and a guess for a node.
func (s step) expectedSize() int {
	switch s.ref.Kind {
	case content.KindChunk:
		return int(min(s.ref.Size, content.MaxBlobSize))
	case content.KindFile:
		return int(64 + stc.HashSize*min(s.ref.Chunks, 4096))
	}
	return int(64 + 80*min(max(s.ref.Chunks, 16), 512))
}

const (
	// frontierMemory is what decoded nodes that are not used up, and nodes that
	// were handed out, may take together before no further node is handed out.
	frontierMemory = 8 << 20
	// frontierLimit is the most that they may ever take. Only directories nested
	// in each other beyond all reason come near it.
	frontierLimit = 64 << 20
	// frontierNodes is how many nodes may be handed out and not come back.
	frontierNodes = 512
	// repeatMemory is how many nodes are remembered to recognise their
	// repetition.
	repeatMemory = 4096
)

// frontier walks the manifests of a content: it hands out references and takes
// the nodes that were read. It is pure, and bounded at any content size: it
// holds only the nodes whose references are not all handed out.
//
// References come in the order of their ordinals, except that a node which has
// not been read yet does not hold up those behind it. While nodes are on their
// way, nodes further on are handed out too, so that a tree of small
// directories does not cost a round trip each.
type frontier struct {
	part     selection
	open     []*cursor                           // ascending by ordinal
	memory   int                                 // of open, estimated bytes
	awaiting int                                 // nodes handed out and not come back
	awaited  int                                 // their estimated memory
	expanded int                                 // nodes that came back
	dirSize  int                                 // a decaying maximum of the memory of directories so far
	seen     *simplelru.LRU[content.Ref, uint64] // nodes handed out, with their first ordinal
}

// cursor is a decoded node with the reference that comes next in it.
type cursor struct {
	node   *content.Node
	next   int
	at     uint64 // ordinal of the first chunk below that reference
	offset uint64 // in the content's data, of its first byte
	memory int
}

func newFrontier(part selection) *frontier {
	seen, err := simplelru.NewLRU[content.Ref, uint64](repeatMemory, nil)
	if err != nil {
		panic(err) // the size is positive
	}
	return &frontier{part: part, seen: seen}
}

// begin hands out the root.
func (f *frontier) begin(root stc.Hash) step {
	f.awaiting++
	return step{ref: content.Ref{Hash: root}, root: true}
}

// take appends up to limit references to dst.
func (f *frontier) take(dst []step, limit int) []step {
	for i := 0; i < len(f.open) && limit > 0; {
		c := f.open[i]
		ref := c.node.Child(c.next)
		s := step{ref: ref, first: c.at, offset: c.offset}
		choice := f.part.choose(s)
		if choice == notYet {
			i++
			continue
		}
		if choice != notChosen {
			if s.node() && !f.handOut(&s, choice == chosen) {
				i++
				continue
			}
			dst = append(dst, s)
			limit--
		}
		c.next++
		c.at += ref.Chunks
		c.offset += ref.Size
		if c.next == c.node.Len() {
			f.memory -= c.memory
			f.open = slices.Delete(f.open, i, i+1)
		}
	}
	return dst
}

// handOut counts a node, and reports false if it has to wait. whole says that
// all of what is below it is wanted: only then a repetition brings nothing new.
func (f *frontier) handOut(s *step, whole bool) bool {
	s.memory = f.guess(s.ref)
	if whole {
		if s.origin, s.repeated = f.seen.Get(s.ref); s.repeated {
			s.memory = 0
			return true
		}
	}
	if !f.admits(s.memory) {
		return false
	}
	if whole {
		f.seen.Add(s.ref, s.first)
	}
	f.awaiting++
	f.awaited += s.memory
	return true
}

// waits reports whether all that is left lies behind the part's limit.
func (f *frontier) waits() bool {
	for _, c := range f.open {
		if f.part.choose(step{ref: c.node.Child(c.next), offset: c.offset}) != notYet {
			return false
		}
	}
	return f.awaiting == 0
}

// admits reports whether one more node may be handed out. One always may when
// none is on its way, or nothing would go on.
func (f *frontier) admits(memory int) bool {
	if f.awaiting == 0 {
		return true
	}
	return f.awaiting < min(frontierNodes, 32+4*f.expanded) && f.memory+f.awaited+memory <= frontierMemory
}

// guess estimates the memory of a node that has not been read.
func (f *frontier) guess(ref content.Ref) int {
	if ref.Kind == content.KindFile {
		return nodeMemory + childMemory*int(min(ref.Chunks, 4096))
	}
	return max(nodeMemory, f.dirSize)
}

// nodeMemory, childMemory and entryMemory estimate what a node, a child of a
// file's node and an entry of a directory take when decoded, in bytes.
const (
	nodeMemory  = 512
	childMemory = stc.HashSize + 12 // with its size, encoded and decoded
	entryMemory = 512
)

// expand takes a node that was handed out. It fails when the nodes that are
// open take more memory than any reasonable content needs.
func (f *frontier) expand(s step, n *content.Node) error {
	f.awaiting--
	f.expanded++
	f.awaited -= s.memory
	memory := nodeMemory
	if n.Kind == content.KindFile {
		memory += childMemory * n.Len()
	} else {
		memory += entryMemory * max(n.Len(), len(n.Entries()))
		f.dirSize = max(memory, f.dirSize-f.dirSize/8)
	}
	if n.Len() == 0 {
		return nil
	}
	if f.memory += memory; f.memory > frontierLimit {
		return fmt.Errorf("%w: directories nested too deeply", ErrBadManifest)
	}
	i := sort.Search(len(f.open), func(i int) bool { return f.open[i].at >= s.first })
	f.open = slices.Insert(f.open, i, &cursor{node: n, at: s.first, offset: s.offset, memory: memory})
	return nil
}

// abandon takes back a node that was handed out and cannot be read.
func (f *frontier) abandon(s step) {
	f.awaiting--
	f.awaited -= s.memory
}

// done reports whether every reference of the content has been handed out.
func (f *frontier) done() bool {
	return f.awaiting == 0 && len(f.open) == 0
}
