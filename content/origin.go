package content

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/seigr/sttnode/content/internal/kv"
	"github.com/seigr/sttnode/stc"
)

// Origins returns the paths of the files and directories in which a pinned content lies in place, in no order; none for one
// that the store has a copy of. What is there now may be something else.
func (s *Store) Origins(root stc.Hash) ([]string, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.exit()
	var paths []string
	from, to := s.originRange(root)
	err := s.eachOrigin(from, to, func(o origin) error {
		if o.root == root {
			paths = append(paths, o.path)
		}
		return nil
	})
	return paths, err
}

// originRange returns the keys between which the origins of a root are.
func (s *Store) originRange(root stc.Hash) (from, to []byte) {
	k := s.seal.originKey(root, "")
	from = append([]byte{prefixOrigin}, k[:8]...)
	return from, append(append(to, from...), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
}

// eachOrigin visits the origins in a range of the index until visit returns an error.
func (s *Store) eachOrigin(from, to []byte, visit func(origin) error) error {
	var failed error
	err := s.index.Each(from, to, func(key, value []byte) bool {
		var o origin
		if o, failed = s.seal.openOrigin(key, value); failed == nil {
			failed = visit(o)
		}
		return failed == nil
	})
	return mapError(errors.Join(err, failed))
}

// originKeys returns the keys of the origins of a root, in the index or among the copies.
func (s *Store) originKeys(root stc.Hash) (keys [][]byte, err error) {
	from, to := s.originRange(root)
	for _, db := range []*kv.DB{s.index, s.small} {
		err := db.Each(from, to, func(key, _ []byte) bool {
			keys = append(keys, key)
			return true
		})
		if err != nil {
			return nil, mapError(err)
		}
	}
	return keys, nil
}

// partOf returns where a file is while the content that it belongs to is being written.
func (s *Store) partOf(f fileRecord) (string, error) {
	key := f.origin.key()
	value, err := s.index.Get(key)
	if err != nil {
		return "", mapError(err)
	}
	o, err := s.seal.openOrigin(key, value)
	if err != nil {
		return "", err
	}
	rel, err := filepath.Rel(o.path, f.path)
	if err != nil || o.part == "" || rel != "." && !filepath.IsLocal(rel) {
		return "", fmt.Errorf("%w: %s is not in %s", ErrCorrupt, f.path, o.path)
	}
	return filepath.Join(o.part, rel), nil
}

// restoreInPlace enters into an index that has been rebuilt where the chunks of contents in place lie, which follows from their
// origins and manifests. What is there now is not looked at: without a stamp, each chunk is hashed before it is served.
func (s *Store) restoreInPlace() error {
	if _, err := s.index.Get([]byte{prefixRestore}); err != nil {
		if errors.Is(err, kv.ErrNotFound) {
			return nil
		}
		return err
	}
	ctx := context.Background()
	g := newPutGroup()
	err := s.eachOrigin([]byte{prefixOrigin}, []byte{prefixOrigin + 1}, func(o origin) error {
		s.log.Warn("looking up again what is stored in place", "path", o.path)
		w := placeWalker{store: s, visit: func(path string, off int64, ref Ref) error { return s.restorePlace(ctx, g, o, path, off, ref) }}
		return w.walk(ctx, o.root, o.path)
	})
	if err = errors.Join(err, g.wait(ctx)); err != nil {
		return fmt.Errorf("content: restoring what is stored in place: %w", err)
	}
	return s.ledger.commit(&change{unset: [][]byte{{prefixRestore}}})
}

func (s *Store) restorePlace(ctx context.Context, g *putGroup, o origin, path string, off int64, ref Ref) error {
	if ref.Size <= maxSmall || ref.Size > MaxBlobSize {
		return nil
	}
	id, err := s.ledger.fileID(path)
	if err != nil {
		return err
	}
	at := &site{id: id, file: fileRecord{path: path}}
	if o.part != "" {
		at.file.origin = s.seal.originKey(o.root, o.path)
	}
	e := entry{hash: ref.Hash, size: int(ref.Size), place: place{inFile, id, off}}
	return s.submitPlace(ctx, g, nil, at, e, func(entry) bool { return true })
}

// placeWalker visits the chunks of a content's files with the paths that the files have below a base, as far as its nodes are
// here.
type placeWalker struct {
	store *Store
	visit func(path string, off int64, ref Ref) error
	names int
}

func (w *placeWalker) walk(ctx context.Context, root stc.Hash, base string) error {
	node, err := w.store.root(root)
	return w.node(ctx, node, err, base, 0)
}

// node visits what is below a node, unless err says that it can't be read.
func (w *placeWalker) node(ctx context.Context, node *Node, err error, path string, depth int) error {
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrManifest) {
		return nil
	}
	if err != nil {
		return err
	}
	if node.Kind == KindFile {
		return w.file(ctx, node, path)
	}
	if depth > MaxDepth+maxLevel {
		return fmt.Errorf("%w: nested too deep", ErrManifest)
	}
	for i := range node.Len() {
		if node.Level == 0 {
			break
		}
		child, err := w.store.node(node.Child(i))
		if err := w.node(ctx, child, err, path, depth+1); err != nil {
			return err
		}
	}
	for _, e := range node.Entries() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if w.names++; w.names > maxExported {
			return fmt.Errorf("%w: more than %d names", ErrManifest, maxExported)
		}
		name := filepath.Join(path, e.Name)
		switch e.Ref.Kind {
		case KindChunk:
			err = w.visit(name, 0, e.Ref)
		case KindFile, KindDirectory:
			child, cerr := w.store.node(e.Ref)
			err = w.node(ctx, child, cerr, name, depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// file visits the chunks of a file, up to a node that can't be read.
func (w *placeWalker) file(ctx context.Context, node *Node, path string) error {
	for piece, err := range node.Range(0, node.Size, w.store.node) {
		if errors.Is(err, ErrNotFound) || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrManifest) {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = w.visit(path, int64(piece.Offset), piece.Ref)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
