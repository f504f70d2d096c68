package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/stc"
)

// output is where a fetch writes to. What can be said against the place is
// said before anything is fetched; what depends on the content, as soon as its
// root is here.
type output struct {
	store   *content.Store
	dir     string // to put the content into; empty if target is given
	target  string // empty while only dir is known, or without an output
	inPlace bool
	exists  bool // something is at target
	// selection is what of a tree is written; nil for all.
	selection *content.Selection
	written   string // target once it holds the content
	bytes     atomic.Uint64

	// assembly is the output of a file, begun when its root is here, so that
	// chunks are written as they come. nil for all others.
	assembly atomic.Pointer[content.Assembly]
}

// WriteChunk implements [swarm.Output].
func (o *output) WriteChunk(offset uint64, chunk []byte) {
	if a := o.assembly.Load(); a != nil {
		a.WriteChunk(offset, chunk)
	}
}

// discard removes what was not finished.
func (o *output) discard() {
	if a := o.assembly.Load(); a != nil {
		a.Discard()
	}
}

// newOutput checks that the output of a fetch of root can be written. Errors
// wrap content.ErrTarget.
func newOutput(store *content.Store, root stc.Hash, opts FetchOptions) (*output, error) {
	o := &output{store: store, inPlace: opts.InPlace}
	if opts.selective() {
		var err error
		if o.selection, err = content.NewSelection(opts.Include, opts.Exclude); err != nil {
			return nil, err
		}
		if opts.InPlace || opts.Writer != nil {
			return nil, fmt.Errorf("%w: what is selected of a tree is written to a directory, and not in place", ErrSelection)
		}
	}
	switch path := opts.Output; {
	case path == "" && opts.InPlace:
		return nil, fmt.Errorf("%w: what shall be served in place needs a path", content.ErrTarget)
	case path == "":
		return o, nil
	case os.IsPathSeparator(path[len(path)-1]):
		o.dir = path
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			return nil, fmt.Errorf("%w: there is no directory %s", content.ErrTarget, path)
		}
		return o, content.CheckTarget(filepath.Join(path, root.String()))
	default:
		return o, o.setTarget(root, path)
	}
}

// setTarget decides for a path. One that holds something is fine only if the
// store can tell that it is the content, which it can for one that is complete.
func (o *output) setTarget(root stc.Hash, path string) error {
	o.target = path
	exists, err := holdsSomething(path)
	if err != nil {
		return err
	}
	if o.exists = exists; !exists {
		return content.CheckTarget(path)
	}
	if o.selection != nil {
		return fmt.Errorf("%w: %s", ErrExists, path)
	}
	info, ok, err := o.store.PinInfo(root)
	if err != nil {
		return err
	}
	if !ok || info.State != content.PinComplete {
		return fmt.Errorf("%w: %s", ErrExists, path)
	}
	return nil
}

// holdsSomething reports whether anything but an empty directory is at path.
func holdsSomething(path string) (bool, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%w: %w", content.ErrTarget, err)
	}
	if !info.IsDir() {
		return true, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return false, fmt.Errorf("%w: %w", content.ErrTarget, err)
	}
	return len(entries) > 0, nil
}

// resolve takes note of the content's root. It may be called more than once.
func (o *output) resolve(root stc.Hash, node *content.Node) error {
	if o.target == "" && o.dir != "" {
		name := node.Root.Name
		if name == "" {
			name = root.String()
		}
		if err := o.setTarget(root, filepath.Join(o.dir, name)); err != nil {
			return err
		}
	}
	if o.target == "" || o.exists || node.Kind == content.KindDirectory {
		return nil
	}
	if info, err := os.Lstat(o.target); err == nil && info.IsDir() {
		return fmt.Errorf("%w: %s is a directory and the content is a file; a path that ends in %c is a directory to put it into",
			content.ErrTarget, o.target, filepath.Separator)
	}
	if o.inPlace || o.assembly.Load() != nil {
		return nil
	}
	a, err := o.store.Assemble(root, node, o.target)
	if err == nil {
		o.assembly.Store(a)
	}
	return err
}

// write brings the content, all of which is in the store, to its place, or
// finds that it is there. resolve has been called.
func (o *output) write(ctx context.Context, root stc.Hash) error {
	if o.target == "" {
		return nil
	}
	if o.exists {
		same, err := sameContent(ctx, o.store, root, o.target)
		if err != nil {
			return err
		}
		if !same {
			return fmt.Errorf("%w: %s", ErrExists, o.target)
		}
	} else if err := o.export(ctx, root); errors.Is(err, content.ErrName) || errors.Is(err, content.ErrManifest) {
		return fmt.Errorf("%w: %w", ErrVerification, err)
	} else if err != nil {
		return err
	}
	o.written = o.target
	return nil
}

// export makes the target, of which the assembly may have most already.
func (o *output) export(ctx context.Context, root stc.Hash) (err error) {
	progress := func(p content.ExportProgress) { o.bytes.Store(p.Bytes) }
	if a := o.assembly.Load(); a != nil {
		_, err = a.Finish(ctx, progress)
		return err
	}
	_, err = o.store.Export(ctx, root, o.target, content.ExportOptions{InPlace: o.inPlace, Select: o.selection, Progress: progress})
	return err
}
