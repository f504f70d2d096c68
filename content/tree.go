package content

import (
	"context"
	"fmt"
	"iter"
	"path"

	"github.com/seigr/sttnode/stc"
)

// Placed is an entry of a tree and where it is: its path from the root, with slashes, and the place of its first byte in the
// content's data, which are those of all files, one behind the other in the order of the iteration.
type Placed struct {
	Path string
	Entry
	Offset uint64
}

// Tree iterates over the entries of the directory under root, each directory before what is in it, names in the order of their
// bytes. It reads the manifests of directories and nothing of files; a directory that is not here is ErrNotFound. What skip
// returns true for is left out, a directory with everything below it; skip may be nil. A content that is a file is one entry,
// with an empty path. The iteration ends with the first error, among them ctx's and ErrManifest.
func (s *Store) Tree(ctx context.Context, root stc.Hash, skip func(p Placed) bool) iter.Seq2[Placed, error] {
	return func(yield func(Placed, error) bool) {
		node, err := s.root(root)
		if err != nil {
			yield(Placed{}, err)
			return
		}
		if node.Kind == KindFile {
			yield(Placed{Entry: rootFile(root, node).entry}, nil)
			return
		}
		w := &treeWalk{ctx: ctx, store: s, skip: skip, yield: yield}
		if err := w.directory("", 0, node); err != nil && !w.stopped {
			yield(Placed{}, err)
		}
	}
}

// treeWalk is an iteration of Tree.
type treeWalk struct {
	ctx     context.Context
	store   *Store
	skip    func(Placed) bool
	yield   func(Placed, error) bool
	offset  uint64
	names   int
	stopped bool // by who iterates
}

// errStopped ends a walk whose iteration was left.
var errStopped = fmt.Errorf("content: iteration left")

func (w *treeWalk) directory(dir string, depth int, node *Node) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if depth > MaxDepth {
		return fmt.Errorf("%w: nested too deep", ErrManifest)
	}
	if node.Level > 0 {
		for i := range node.Len() {
			child, err := w.store.node(node.Child(i))
			if err == nil {
				err = w.directory(dir, depth, child)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	for _, entry := range node.Entries() {
		if w.names++; w.names > maxExported {
			return fmt.Errorf("%w: more than %d names", ErrManifest, maxExported)
		}
		p := Placed{path.Join(dir, entry.Name), entry, w.offset}
		if w.skip != nil && w.skip(p) {
			w.offset += entry.Ref.Size
			continue
		}
		if !w.yield(p, nil) {
			w.stopped = true
			return errStopped
		}
		if entry.Type != TypeDirectory {
			w.offset += entry.Ref.Size
			continue
		}
		child, err := w.store.node(entry.Ref)
		if err == nil {
			err = w.directory(p.Path, depth+1, child)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
