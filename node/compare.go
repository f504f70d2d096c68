package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/stc"
)

// sameContent reports whether a file or directory tree is the content under
// root, all of which is in the store: names, kinds, permissions, targets of
// links and bytes. Errors are those of the store and of ctx; a path that cannot
// be read is not the same.
func sameContent(ctx context.Context, store *content.Store, root stc.Hash, path string) (bool, error) {
	blob, err := store.Get(nil, root)
	if err != nil {
		return false, err
	}
	node, err := content.DecodeRoot(blob)
	if err != nil {
		return false, err
	}
	c := &comparison{ctx: ctx, store: store}
	if node.Kind == content.KindDirectory {
		err = c.directory(node, path, node.Root.Mode)
	} else {
		err = c.file(node, path, node.Root.Mode, node.Size)
	}
	if errors.Is(err, errDiffers) {
		return false, nil
	}
	return err == nil, err
}

// errDiffers ends a comparison: the path is not the content.
var errDiffers = errors.New("differs")

type comparison struct {
	ctx          context.Context
	store        *content.Store
	chunk, there []byte // memory to use again
}

// node reads the node that a reference promises.
func (c *comparison) node(ref content.Ref) (*content.Node, error) {
	if err := c.ctx.Err(); err != nil {
		return nil, context.Cause(c.ctx)
	}
	blob, err := c.store.Get(nil, ref.Hash)
	if err != nil {
		return nil, err
	}
	return ref.Decode(blob)
}

// kind compares what is at path with what should be.
func (c *comparison) kind(path string, want, mode fs.FileMode) (fs.FileInfo, error) {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != want {
		return nil, errDiffers
	}
	if want != fs.ModeSymlink && runtime.GOOS != "windows" && info.Mode().Perm() != mode.Perm() {
		return nil, errDiffers
	}
	return info, nil
}

// directory compares a directory with all entries below node, its top.
func (c *comparison) directory(node *content.Node, path string, mode fs.FileMode) error {
	if _, err := c.kind(path, fs.ModeDir, mode); err != nil {
		return err
	}
	names, err := os.ReadDir(path)
	if err != nil || uint64(len(names)) != node.EntryCount {
		return errDiffers
	}
	return c.entries(node, path)
}

func (c *comparison) entries(node *content.Node, path string) error {
	if node.Level > 0 {
		for _, ref := range node.All() {
			child, err := c.node(ref)
			if err != nil {
				return err
			}
			if err := c.entries(child, path); err != nil {
				return err
			}
		}
		return nil
	}
	for _, e := range node.Entries() {
		if err := c.entry(e, filepath.Join(path, e.Name)); err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) entry(e content.Entry, path string) error {
	switch {
	case e.Type == content.TypeSymlink:
		if _, err := c.kind(path, fs.ModeSymlink, 0); err != nil {
			return err
		}
		if target, err := os.Readlink(path); err != nil || target != e.Target {
			return errDiffers
		}
		return nil
	case e.Type == content.TypeDirectory:
		node, err := c.node(e.Ref)
		if err != nil {
			return err
		}
		return c.directory(node, path, e.Mode)
	case e.Ref.Kind == content.KindFile:
		node, err := c.node(e.Ref)
		if err != nil {
			return err
		}
		return c.file(node, path, e.Mode, e.Ref.Size)
	}
	// An empty file, or one of a single chunk.
	return c.open(path, e.Mode, e.Ref.Size, func(f *os.File) error {
		if e.Ref.Kind == content.KindChunk {
			return c.sameChunk(e.Ref, f)
		}
		return nil
	})
}

// file compares a file with the chunks below node, its top.
func (c *comparison) file(node *content.Node, path string, mode fs.FileMode, size uint64) error {
	return c.open(path, mode, size, func(f *os.File) error { return c.chunks(node, f) })
}

// open opens a file that has the right size and mode.
func (c *comparison) open(path string, mode fs.FileMode, size uint64, compare func(*os.File) error) error {
	info, err := c.kind(path, 0, mode)
	if err != nil {
		return err
	}
	if uint64(info.Size()) != size {
		return errDiffers
	}
	f, err := os.Open(path)
	if err != nil {
		return errDiffers
	}
	defer f.Close()
	return compare(f)
}

func (c *comparison) chunks(node *content.Node, f *os.File) error {
	for piece, err := range node.Range(0, node.Size, c.node) {
		if err == nil {
			err = c.sameChunk(piece.Ref, f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sameChunk compares a chunk with the next bytes of f.
func (c *comparison) sameChunk(ref content.Ref, f *os.File) (err error) {
	if c.chunk, err = c.store.Get(c.chunk[:0], ref.Hash); err != nil {
		return err
	}
	if cap(c.there) < len(c.chunk) {
		c.there = make([]byte, len(c.chunk), content.MaxBlobSize)
	}
	c.there = c.there[:len(c.chunk)]
	if _, err := io.ReadFull(f, c.there); err != nil || !bytes.Equal(c.chunk, c.there) {
		return errDiffers
	}
	return nil
}
