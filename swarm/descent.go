package swarm

import "github.com/seigr/sttnode/content"

// descent is a walk through the manifests below a node, depth first, to what
// holds bytes from an offset on. Both sides of a FOLLOW make the same one, so
// that what is sent need not say what it is. It is pure.
type descent struct {
	offset uint64 // in the data below the first node
	path   []descentNode
}

// descentNode is a node that was entered, with the reference that comes next.
type descentNode struct {
	node  *content.Node
	next  int
	start uint64 // offset of that reference
}

// enter goes into a node: the first, or what next returned last.
func (d *descent) enter(n *content.Node) {
	start := uint64(0)
	if len(d.path) > 0 {
		above := &d.path[len(d.path)-1]
		start = above.start - above.node.Child(above.next-1).Size
	}
	d.path = append(d.path, descentNode{node: n, start: start})
}

// next returns the reference that comes next; ok is false at the end.
func (d *descent) next() (ref content.Ref, ok bool) {
	for len(d.path) > 0 {
		c := &d.path[len(d.path)-1]
		for c.next < c.node.Len() {
			ref = c.node.Child(c.next)
			c.next++
			c.start += ref.Size
			if ref.Size > 0 && c.start > d.offset {
				return ref, true
			}
		}
		d.path = d.path[:len(d.path)-1]
	}
	return ref, false
}
