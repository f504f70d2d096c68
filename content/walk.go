package content

import (
	"context"
	"errors"
	"fmt"

	"github.com/seigr/sttnode/stc"
)

// MaxDepth is how deep directories may be nested. It bounds what a hostile manifest can make anybody's stack hold, and is more
// than the paths of any system allow.
const MaxDepth = 1024

// walker visits the blobs of contents, each node once however many paths lead to it: a manifest of a few blobs can have more
// paths than anybody can walk.
type walker struct {
	store *Store
	seen  map[stc.Hash]struct{} // nodes
	// visit is called for each blob: before those below it, or behind them if last.
	visit func(h stc.Hash) error
	last  bool
	// unreadable is called for a node that is not here or damaged; what is below it is passed over if it returns nil, and the
	// node is looked for once more if it returns errLookAgain.
	unreadable func(h stc.Hash, err error) error
}

var errLookAgain = errors.New("look again")

// walk visits what is here of the content under root.
func (w *walker) walk(ctx context.Context, root stc.Hash) error {
	return w.node(ctx, root, 0, DecodeRoot)
}

func (w *walker) node(ctx context.Context, h stc.Hash, depth int, decode func([]byte) (*Node, error)) error {
	if _, ok := w.seen[h]; ok {
		return nil
	}
	w.seen[h] = struct{}{}
	if depth > MaxDepth+2*maxLevel {
		return fmt.Errorf("%w: nested too deep", ErrManifest)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if !w.last {
		if err := w.visit(h); err != nil {
			return err
		}
	}
	blob, err := w.read(h)
	if err != nil {
		return err
	}
	// A blob that is no node has nothing below it.
	if n, err := decode(blob); blob != nil && err == nil {
		for i := range n.Len() {
			ref := n.Child(i)
			if ref.Kind == KindChunk {
				err = w.visit(ref.Hash)
			} else {
				err = w.node(ctx, ref.Hash, depth+1, ref.Decode)
			}
			if err != nil {
				return err
			}
		}
	}
	if w.last {
		return w.visit(h)
	}
	return nil
}

// read returns a node's bytes, or nil if it is unreadable and that is no reason to stop.
func (w *walker) read(h stc.Hash) ([]byte, error) {
	for again := false; ; again = true {
		blob, err := w.store.get(nil, h)
		if err == nil {
			return blob, nil
		}
		if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrCorrupt) {
			return nil, err
		}
		if cause := w.unreadable(h, err); cause != errLookAgain {
			return nil, cause
		} else if again {
			return nil, err
		}
	}
}
