package content

import (
	"encoding/binary"
	"fmt"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

// directory reads the body of a directory's node.
func (d *decoder) directory(n *Node) {
	n.EntryCount, n.Size, n.Chunks = d.varint(), d.varint(), d.varint()
	if d.err != nil {
		return
	}
	if n.EntryCount > spanOf(dirFanOutLog, n.Level) || n.EntryCount == 0 && n.Level > 0 {
		d.fail("%d entries under a node of level %d", n.EntryCount, n.Level)
		return
	}
	if n.Level == 0 {
		d.entries(n)
	} else {
		d.innerDirectory(n)
	}
	if d.err != nil {
		return
	}
	n.first = make([]uint64, len(n.children))
	var size, chunks uint64
	for i, ref := range n.children {
		n.first[i] = chunks
		size, chunks = size+ref.Size, chunks+ref.Chunks
		if size > maxTotal || chunks > maxTotal {
			d.fail("sum of sizes overflows")
			return
		}
	}
	if size != n.Size || chunks != n.Chunks {
		d.fail("children have %d bytes in %d chunks, the node says %d in %d", size, chunks, n.Size, n.Chunks)
	}
}

// entries reads a leaf.
func (d *decoder) entries(n *Node) {
	n.entries = make([]Entry, n.EntryCount)
	for i := range n.entries {
		e := &n.entries[i]
		e.Name, e.Type = d.name(), EntryType(d.byte())
		switch e.Type {
		case TypeFile:
			e.Mode, e.Ref = d.mode(), d.fileRef()
		case TypeDirectory:
			e.Mode = d.mode()
			e.Ref = d.nodeRef()
		case TypeSymlink:
			e.Target = string(d.bytes(int(d.uint16())))
			if d.err == nil {
				if err := checkLink(e.Target); err != nil {
					d.fail("%w", err)
				}
			}
		default:
			d.fail("entry of type %d", e.Type)
		}
		if d.err == nil && i > 0 && e.Name <= n.entries[i-1].Name {
			d.fail("%q behind %q", e.Name, n.entries[i-1].Name)
		}
		if d.err != nil {
			return
		}
		if e.Ref.Kind != 0 {
			n.children = append(n.children, e.Ref)
		}
	}
}

// fileRef reads the reference to the bytes of a file in a directory.
func (d *decoder) fileRef() Ref {
	ref := Ref{Size: d.varint()}
	if d.err != nil || ref.Size == 0 {
		return Ref{}
	}
	ref.Kind, ref.Chunks, ref.Hash = KindChunk, d.varint(), d.hash()
	if ref.Chunks == 0 {
		d.fail("file of %d bytes in no chunk", ref.Size)
	}
	if ref.Chunks > 1 {
		ref.Kind = KindFile
	}
	d.checkCounts(ref)
	return ref
}

// nodeRef reads the reference to a directory's node.
func (d *decoder) nodeRef() Ref {
	ref := Ref{Kind: KindDirectory, Size: d.varint(), Chunks: d.varint(), Hash: d.hash()}
	d.checkCounts(ref)
	return ref
}

// checkCounts refuses sizes that no division into chunks can give: a chunk has 1 to MaxBlobSize bytes.
func (d *decoder) checkCounts(r Ref) {
	if d.err == nil && (r.Chunks > r.Size || r.Chunks < (r.Size+MaxBlobSize-1)/MaxBlobSize) {
		d.fail("%d bytes in %d chunks", r.Size, r.Chunks)
	}
}

// innerDirectory reads a node above the leaves.
func (d *decoder) innerDirectory(n *Node) {
	full := spanOf(dirFanOutLog, n.Level-1)
	count := (n.EntryCount + full - 1) / full // at most dirFanOut
	n.children = make([]Ref, count)
	for i := range n.children {
		name := d.name()
		ref := d.nodeRef()
		ref.inner, ref.level = true, n.Level-1
		ref.entries = min(full, n.EntryCount-uint64(i)*full)
		ref.names.first = name
		n.children[i] = ref
		if i > 0 {
			if prev := &n.children[i-1]; d.err == nil && name <= prev.names.first {
				d.fail("%q behind %q", name, prev.names.first)
			} else {
				prev.names.limit = name
			}
		}
		if d.err != nil {
			return
		}
	}
}

// FirstName returns the first name of the directory below an inner reference of a directory's tree, and "" for every other
// reference. A name is below the last reference whose FirstName is not greater.
func (r Ref) FirstName() string { return r.names.first }

// within reports whether the names in a directory's node lie where the node above says. The last names of a node above the
// leaves are the leaves' concern: each of them is given its own range.
func (n *Node) within(r nameRange) bool {
	var first, last string
	if n.Level == 0 {
		first, last = n.entries[0].Name, n.entries[len(n.entries)-1].Name
	} else {
		first, last = n.children[0].names.first, n.children[len(n.children)-1].names.first
		n.children[len(n.children)-1].names.limit = r.limit
	}
	return first == r.first && (r.limit == "" || last < r.limit)
}

// dirTree builds the manifest of one directory from its entries, sorted by name, keeping one unfinished node a level. put
// stores a node.
type dirTree struct {
	put    func(node []byte) (stc.Hash, error)
	last   string
	levels []dirLevel // unfinished nodes, leaves first
}

// dirLevel is an unfinished node, and the count of what was finished before it.
type dirLevel struct {
	body         []byte
	items        int
	first        string
	entries      uint64
	size, chunks uint64
	finished     bool // a node of this level has been handed to the level above
}

// add appends an entry, whose name must be greater than the last one's. It is ErrName for names, links and modes that
// manifests can't hold.
func (t *dirTree) add(e Entry) error {
	if err := CheckName(e.Name); err != nil {
		return err
	}
	if err := checkMode(e.Mode); err != nil {
		return err
	}
	if t.last != "" && e.Name <= t.last {
		return fmt.Errorf("%w: %q behind %q", ErrName, e.Name, t.last)
	}
	t.last = e.Name
	item := append([]byte{byte(len(e.Name))}, e.Name...)
	item = append(item, byte(e.Type))
	switch e.Type {
	case TypeFile:
		item = binary.BigEndian.AppendUint16(item, uint16(e.Mode))
		item = frame.AppendVarint(item, e.Ref.Size)
		if e.Ref.Size > 0 {
			item = frame.AppendVarint(item, e.Ref.Chunks)
			item = append(item, e.Ref.Hash[:]...)
		}
	case TypeDirectory:
		item = binary.BigEndian.AppendUint16(item, uint16(e.Mode))
		item = appendNodeRef(item, e.Ref.Size, e.Ref.Chunks, e.Ref.Hash)
	case TypeSymlink:
		if err := checkLink(e.Target); err != nil {
			return err
		}
		item = binary.BigEndian.AppendUint16(item, uint16(len(e.Target)))
		item = append(item, e.Target...)
	default:
		return fmt.Errorf("%w: entry of type %d", ErrManifest, e.Type)
	}
	return t.push(0, item, e.Name, 1, e.Ref.Size, e.Ref.Chunks)
}

func appendNodeRef(dst []byte, size, chunks uint64, h stc.Hash) []byte {
	dst = frame.AppendVarint(dst, size)
	dst = frame.AppendVarint(dst, chunks)
	return append(dst, h[:]...)
}

// push appends an item to the unfinished node of a level, which is finished first if it is full.
func (t *dirTree) push(level int, item []byte, first string, entries, size, chunks uint64) error {
	if level == len(t.levels) {
		t.levels = append(t.levels, dirLevel{})
	}
	if t.levels[level].items == dirFanOut {
		if err := t.finish(level); err != nil {
			return err
		}
	}
	l := &t.levels[level]
	if l.items == 0 {
		l.first = first
	}
	l.body = append(l.body, item...)
	l.items++
	l.entries += entries
	l.size += size
	l.chunks += chunks
	if l.size > maxTotal || l.chunks > maxTotal {
		return fmt.Errorf("%w: directory too large", ErrManifest)
	}
	return nil
}

// finish stores the unfinished node of a level and hands it to the level above.
func (t *dirTree) finish(level int) error {
	l := t.levels[level]
	h, err := t.put(l.encode(uint8(level), nil))
	if err != nil {
		return err
	}
	t.levels[level] = dirLevel{body: l.body[:0], finished: true}
	item := append([]byte{byte(len(l.first))}, l.first...)
	item = appendNodeRef(item, l.size, l.chunks, h)
	return t.push(level+1, item, l.first, l.entries, l.size, l.chunks)
}

// close stores what is unfinished and returns the reference to the directory, as the root of a content if root is not nil.
// The tree must not be used afterwards.
func (t *dirTree) close(root *RootInfo) (Ref, error) {
	if len(t.levels) == 0 {
		t.levels = append(t.levels, dirLevel{})
	}
	for level := 0; ; level++ {
		if l := t.levels[level]; level == len(t.levels)-1 && !l.finished {
			h, err := t.put(l.encode(uint8(level), root))
			return Ref{Kind: KindDirectory, Hash: h, Size: l.size, Chunks: l.chunks}, err
		}
		if err := t.finish(level); err != nil {
			return Ref{}, err
		}
	}
}

func (l *dirLevel) encode(level uint8, root *RootInfo) []byte {
	dst := make([]byte, 0, 320+len(l.body))
	dst = appendHeader(dst, typeDir, level, root)
	dst = frame.AppendVarint(dst, l.entries)
	dst = frame.AppendVarint(dst, l.size)
	dst = frame.AppendVarint(dst, l.chunks)
	return append(dst, l.body...)
}
