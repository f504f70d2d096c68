package content

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
)

// tree exports a directory into a part. All files are reached through an os.Root, which never leaves it.
func (e *exporter) tree(ctx context.Context, p *part, node *Node) error {
	root, err := os.OpenRoot(p.path)
	if err != nil {
		return err
	}
	defer root.Close()
	t := &treeWriter{exporter: e, root: root}
	t.modes = append(t.modes, dirMode{".", node.Root.Mode})
	if e.opts.Select != nil {
		e.result.Size = 0 // counted as it goes
	}
	if err := e.run(ctx, func(ctx context.Context) error { return t.directory(ctx, "", 0, node) }); err != nil {
		return err
	}
	if e.mover != nil {
		if err := e.mover.finish(ctx); err != nil {
			return err
		}
	}
	e.result.Directories = uint64(len(t.modes))
	// From the leaves up, and after everything else, for a directory may forbid its owner to write.
	for i := len(t.modes) - 1; i >= 0; i-- {
		if err := root.Chmod(t.modes[i].path, t.modes[i].mode); err != nil {
			return err
		}
	}
	return nil
}

// treeWriter is the walk that makes the directories and links and hands the files to the workers.
type treeWriter struct {
	*exporter
	root  *os.Root
	names int
	modes []dirMode // of directories, parents first
	// pending are directories, parents first, that are made when something
	// turns out to be selected in them.
	pending []dirMode
}

// maxExported is the largest number of names in an exported tree. A few nodes that refer to each other often enough describe
// more than any disk can hold, without a byte of data.
const maxExported = 1 << 26

type dirMode struct {
	path string
	mode fs.FileMode
}

// directory writes what is below a node of the directory dir, a path with slashes from the root.
func (t *treeWriter) directory(ctx context.Context, dir string, depth int, node *Node) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if depth > MaxDepth {
		return fmt.Errorf("%w: nested too deep", ErrManifest)
	}
	if node.Level > 0 {
		for i := range node.Len() {
			child, err := t.store.node(node.Child(i))
			if err != nil {
				return err
			}
			if err := t.directory(ctx, dir, depth, child); err != nil {
				return err
			}
		}
		return nil
	}
	for _, entry := range node.Entries() {
		if t.names++; t.names > maxExported {
			return fmt.Errorf("%w: more than %d names", ErrManifest, maxExported)
		}
		if err := checkLocal(entry.Name); err != nil {
			return err
		}
		name := path.Join(dir, entry.Name)
		dir := entry.Type == TypeDirectory
		if t.opts.Select.Excludes(name, dir) {
			continue
		}
		included := t.opts.Select.Includes(name, dir)
		if !included && !dir {
			continue
		}
		if included {
			if err := t.makePending(); err != nil {
				return err
			}
		}
		var err error
		switch entry.Type {
		case TypeDirectory:
			err = t.subdirectory(ctx, name, depth, entry, included)
		case TypeSymlink:
			err = t.link(name, depth, entry.Target)
		case TypeFile:
			err = t.file(ctx, name, entry)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// makePending makes the directories that lead to what comes next.
func (t *treeWriter) makePending() error {
	for _, d := range t.pending {
		if err := t.makeDirectory(d); err != nil {
			return err
		}
	}
	t.pending = t.pending[:0]
	return nil
}

func (t *treeWriter) makeDirectory(d dirMode) error {
	err := t.root.Mkdir(d.path, 0o700)
	if t.mover != nil && errors.Is(err, fs.ErrExist) {
		err = t.root.Chmod(d.path, 0o700)
	}
	if err == nil {
		t.modes = append(t.modes, d)
	}
	return err
}

func (t *treeWriter) subdirectory(ctx context.Context, name string, depth int, entry Entry, included bool) error {
	if made := (dirMode{name, entry.Mode}); included {
		if err := t.makeDirectory(made); err != nil {
			return err
		}
	} else {
		t.pending = append(t.pending, made)
		defer func() {
			if n := len(t.pending); n > 0 && t.pending[n-1] == made {
				t.pending = t.pending[:n-1]
			}
		}()
	}
	node, err := t.store.node(entry.Ref)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return t.directory(ctx, name, depth+1, node)
}

func (t *treeWriter) link(name string, depth int, target string) error {
	if linkEscapes(depth, target) {
		return fmt.Errorf("%w: link %s to %s leaves the directory", ErrName, name, target)
	}
	t.result.Links++
	if t.mover != nil {
		if err := t.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return t.root.Symlink(filepath.FromSlash(target), name)
}

func (t *treeWriter) file(ctx context.Context, name string, entry Entry) error {
	if t.mover != nil {
		return t.move(ctx, name, entry)
	}
	if t.opts.Select != nil {
		t.result.Size += entry.Ref.Size
	}
	out := &outFile{mode: entry.Mode, size: entry.Ref.Size, sync: !t.opts.NoSync && !syncsWhole}
	create := func() (*os.File, error) {
		return t.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if entry.Ref.Kind != KindFile {
		t.result.Files++
		out.create = create
		out.pending.Add(1)
		j := job{out: out}
		if entry.Ref.Kind == KindChunk {
			j.refs = []Ref{entry.Ref}
		}
		select {
		case t.jobs <- j:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	node, err := t.store.node(entry.Ref)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if out.file, err = create(); err != nil {
		return err
	}
	if err := t.exporter.file(ctx, out, node); err != nil {
		out.file.Close()
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// move is file for an export in place.
func (t *treeWriter) move(ctx context.Context, name string, entry Entry) error {
	pieces, err := t.mover.pieces(entry.Ref)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	f, err := t.mover.open(t.root, name)
	if err != nil {
		return err
	}
	return t.mover.file(ctx, f, name, entry.Mode, entry.Ref.Size, pieces, true)
}

// checkLocal reports, as ErrName, a name that this system takes for something else than a file in the directory.
func checkLocal(name string) error {
	if !filepath.IsLocal(name) || strings.ContainsRune(name, filepath.Separator) ||
		runtime.GOOS == "windows" && (strings.ContainsAny(name, `<>:"/\|?*`) || strings.TrimRight(name, ". ") != name) {
		return fmt.Errorf("%w: %q can't be a file on this system", ErrName, name)
	}
	return nil
}
