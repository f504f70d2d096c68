package content

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"iter"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

// The first bytes of every node. The last of the magic is the version of the format.
const (
	nodeMagic = "STM\x01"
	typeFile  = 1
	typeDir   = 2
	flagRoot  = 1
)

// RootInfo is what only the root of a content carries.
type RootInfo struct {
	// Name is the suggested name of the file or directory, empty for none.
	Name string
	// Mode holds the permission bits of the file or directory itself.
	Mode fs.FileMode
}

// Node is a decoded manifest node. It is immutable; it keeps the blob that it was decoded from, which must not be changed.
type Node struct {
	// Kind is KindFile or KindDirectory.
	Kind Kind
	// Root is nil for all but the root of a content.
	Root *RootInfo
	// Level is the height above the leaves: a node of level 0 lists chunks or entries, one above lists nodes.
	Level uint8
	// Size and Chunks count the data bytes and data chunks below.
	Size, Chunks uint64
	// Chunker says how a file was cut into chunks. 0 for directories.
	Chunker Chunker
	// ChunkSize is the length in bytes of the chunks of a file, its last excepted, or the average that was aimed at if the content
	// defines them: only the references know the sizes then. 0 for directories.
	ChunkSize uint32
	// EntryCount is the number of entries of the directory below this node, not counting those of directories in it. 0 for
	// files.
	EntryCount uint64

	chunking chunking // of a file
	more     bool     // of a file: it goes on behind this node
	hashes   []byte   // of a file: those of the children, one behind the other
	ends     []uint64 // of a file: where the children end, if the content defines that
	entries  []Entry  // of a leaf of a directory
	children []Ref    // of a directory, in ordinal order
	first    []uint64
}

// EntryType says what an entry of a directory is.
type EntryType uint8

const (
	TypeFile      EntryType = 1
	TypeDirectory EntryType = 2
	TypeSymlink   EntryType = 3
)

// Entry is one name in a directory.
type Entry struct {
	Name string
	Type EntryType
	// Mode holds the nine permission bits of a file or directory; 0 for a symbolic link.
	Mode fs.FileMode
	// Target is where a symbolic link points, as it was found.
	Target string
	// Ref is a chunk for a file of one chunk, a file node for a longer one, a directory node for a directory, and zero for an
	// empty file or a symbolic link.
	Ref Ref
}

// Len returns the number of references in the node.
func (n *Node) Len() int {
	if n.Kind == KindFile {
		return len(n.hashes) / stc.HashSize
	}
	return len(n.children)
}

// Child returns reference i, 0 ≤ i < Len, in ordinal order.
func (n *Node) Child(i int) Ref {
	if n.Kind != KindFile {
		return n.children[i]
	}
	return n.fileChild(i)
}

// Children returns the references of the node in ordinal order: everything directly below that has bytes. They can be a
// few thousand; Child and Find do without the slice.
func (n *Node) Children() []Ref {
	refs := make([]Ref, n.Len())
	for i := range refs {
		refs[i] = n.Child(i)
	}
	return refs
}

// All iterates over the references with the ordinal, counted from this node's first chunk, at which each begins.
func (n *Node) All() iter.Seq2[uint64, Ref] {
	return func(yield func(uint64, Ref) bool) {
		at := uint64(0)
		for i := range n.Len() {
			ref := n.Child(i)
			if !yield(at, ref) {
				return
			}
			at += ref.Chunks
		}
	}
}

// Find returns the reference under which the chunk with this ordinal lies, counted from this node's first chunk, and the
// ordinal at which that reference begins. ordinal must be below Chunks.
func (n *Node) Find(ordinal uint64) (i int, first uint64) {
	if n.Kind == KindFile {
		full := n.childSpan()
		return int(ordinal / full), ordinal / full * full
	}
	// The last reference that begins at or below the ordinal; references without chunks are never the answer.
	lo, hi := 0, len(n.children)
	for lo < hi {
		if mid := (lo + hi) / 2; n.first[mid]+n.children[mid].Chunks <= ordinal {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, n.first[lo]
}

// Entries returns the entries of a directory's leaf, sorted by the bytes of their names. It is empty for every other node.
// The caller must not change them.
func (n *Node) Entries() []Entry { return n.entries }

// DecodeRoot decodes the root of a content, whose hash the caller has verified. Everything that the encoder would not have
// written is ErrManifest. The node keeps blob.
func DecodeRoot(blob []byte) (*Node, error) {
	n, err := decodeNode(blob)
	if err != nil {
		return nil, err
	}
	if n.Root == nil {
		return nil, fmt.Errorf("%w: not the root of a content", ErrManifest)
	}
	return n, n.checkTop()
}

// DecodeNode decodes a node by itself, whose hash the caller has verified. That it is what the node above promises is not checked;
// who has the reference uses its Decode. The node keeps blob.
func DecodeNode(blob []byte) (*Node, error) { return decodeNode(blob) }

// Decode decodes the node that r refers to and compares it with everything that the referring node promised. The caller has
// verified the blob's hash. A chunk has no inside: ErrManifest. The node keeps blob.
func (r Ref) Decode(blob []byte) (*Node, error) {
	if r.Kind != KindFile && r.Kind != KindDirectory {
		return nil, fmt.Errorf("%w: a %v has no inside", ErrManifest, r.Kind)
	}
	n, err := decodeNode(blob)
	switch {
	case err != nil:
		return nil, err
	case n.Root != nil:
		return nil, fmt.Errorf("%w: root of a content inside another", ErrManifest)
	case n.Kind != r.Kind || n.Size != r.Size || n.Chunks != r.Chunks:
		return nil, fmt.Errorf("%w: %v of %d bytes in %d chunks where a %v of %d in %d was promised",
			ErrManifest, n.Kind, n.Size, n.Chunks, r.Kind, r.Size, r.Chunks)
	case !r.inner:
		if n.Kind == KindFile && n.Chunks < 2 {
			return nil, fmt.Errorf("%w: node for a file of %d chunks", ErrManifest, n.Chunks)
		}
		return n, n.checkTop()
	case n.Level != r.level || n.chunking != r.chunking || n.EntryCount != r.entries:
		return nil, fmt.Errorf("%w: node of another shape than promised", ErrManifest)
	case n.Kind == KindDirectory && !n.within(r.names):
		return nil, fmt.Errorf("%w: names outside the range promised", ErrManifest)
	}
	if n.more = r.more; n.more && n.Chunker == ChunkerCDC {
		if last := n.Child(n.Len() - 1); !n.chunking.fits(last.Size, last.Chunks, false) {
			return nil, fmt.Errorf("%w: short chunk in the middle of a file", ErrManifest)
		}
	}
	return n, nil
}

// checkTop reports a tree that is higher than what it holds needs.
func (n *Node) checkTop() error {
	log, items := n.chunking.fanOutLog, n.Chunks
	if n.Kind == KindDirectory {
		log, items = dirFanOutLog, n.EntryCount
	}
	if n.Level != treeLevel(log, items) {
		return fmt.Errorf("%w: top of level %d over %d items", ErrManifest, n.Level, items)
	}
	return nil
}

// decoder reads a node's bytes. After an error it stays failed, and what it returns is zero.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: "+format, append([]any{ErrManifest}, args...)...)
	}
	d.rest = nil
}

func (d *decoder) bytes(n int) []byte {
	if len(d.rest) < n {
		d.fail("ends too soon")
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) byte() byte {
	if b := d.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uint16() uint16 {
	if b := d.bytes(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) varint() uint64 {
	if d.err != nil {
		return 0
	}
	v, n, err := frame.ConsumeVarint(d.rest)
	if err != nil {
		d.fail("integer %v", err)
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) hash() stc.Hash {
	if b := d.bytes(stc.HashSize); b != nil {
		return stc.Hash(b)
	}
	return stc.Hash{}
}

func (d *decoder) name() string {
	name := string(d.bytes(int(d.byte())))
	if d.err == nil {
		if err := CheckName(name); err != nil {
			d.fail("%w", err)
		}
	}
	return name
}

func (d *decoder) mode() fs.FileMode {
	mode := fs.FileMode(d.uint16())
	if err := checkMode(mode); err != nil {
		d.fail("%w", err)
	}
	return mode
}

// decodeNode reads a node by itself, without what the node above says of it.
func decodeNode(blob []byte) (*Node, error) {
	if len(blob) > MaxBlobSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrManifest, len(blob))
	}
	d := &decoder{rest: blob}
	if string(d.bytes(len(nodeMagic))) != nodeMagic {
		return nil, fmt.Errorf("%w: not a manifest of this version", ErrManifest)
	}
	n := new(Node)
	typ, flags := d.byte(), d.byte()
	n.Level = d.byte()
	if n.Level > maxLevel {
		d.fail("level %d", n.Level)
	}
	switch flags {
	case 0:
	case flagRoot:
		n.Root = &RootInfo{Mode: d.mode()}
		if len(d.rest) > 0 && d.rest[0] == 0 {
			d.byte() // no name
		} else {
			n.Root.Name = d.name()
		}
	default:
		d.fail("flags %#x", flags)
	}
	switch typ {
	case typeFile:
		n.Kind = KindFile
		d.file(n)
	case typeDir:
		n.Kind = KindDirectory
		d.directory(n)
	default:
		d.fail("type %d", typ)
	}
	if d.err == nil && len(d.rest) > 0 {
		d.fail("%d bytes behind the end", len(d.rest))
	}
	if d.err != nil {
		return nil, d.err
	}
	return n, nil
}

// appendHeader begins the encoding of a node.
func appendHeader(dst []byte, typ, level byte, root *RootInfo) []byte {
	dst = append(dst, nodeMagic...)
	if root == nil {
		return append(dst, typ, 0, level)
	}
	dst = append(dst, typ, flagRoot, level)
	dst = binary.BigEndian.AppendUint16(dst, uint16(root.Mode))
	dst = append(dst, byte(len(root.Name)))
	return append(dst, root.Name...)
}
