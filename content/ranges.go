package content

import "iter"

// Piece is a chunk of a file and the place in the file where it begins.
type Piece struct {
	Ref           // of the chunk
	Offset uint64 // of its first byte
}

// Range iterates, in order, over the chunks of a file that hold any of the length bytes from off on. What lies behind the end
// of the file is left out. load returns the node that a reference promises; it is called for the nodes that lead to these chunks
// and for no others, so a range of any file costs a path of its tree. The iteration ends with the first error.
//
// n is the top of the file's tree; offsets are counted from its first byte.
func (n *Node) Range(off, length uint64, load func(Ref) (*Node, error)) iter.Seq2[Piece, error] {
	return func(yield func(Piece, error) bool) {
		if off < n.Size && length > 0 {
			n.pieces(0, off, off+min(length, n.Size-off), load, yield)
		}
	}
}

// pieces is Range for a node that begins at base, of which something lies between off and end.
func (n *Node) pieces(base, off, end uint64, load func(Ref) (*Node, error), yield func(Piece, error) bool) bool {
	i, start := n.findOffset(max(off, base) - base)
	for at := base + start; i < n.Len() && at < end; i++ {
		ref := n.Child(i)
		if ref.Kind == KindChunk {
			if !yield(Piece{ref, at}, nil) {
				return false
			}
		} else {
			child, err := load(ref)
			if err != nil {
				yield(Piece{}, err)
				return false
			}
			if !child.pieces(at, off, end, load, yield) {
				return false
			}
		}
		at += ref.Size
	}
	return true
}
