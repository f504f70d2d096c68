package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// scanner is the producer for files and trees.
type scanner struct {
	*importer
	unit  *unit // being filled
	bytes int   // in it
}

// root scans what an import was asked for. The first step of a tree opens its root; a file's name and mode are the root's.
func (sc *scanner) root(ctx context.Context, path string, info fs.FileInfo) error {
	if info.IsDir() {
		return sc.directory(ctx, path, "", info, 0)
	}
	return sc.file(ctx, path, "", info)
}

// add puts a step into the unit.
func (sc *scanner) add(st step) {
	if sc.unit == nil {
		sc.unit = &unit{}
	}
	sc.unit.steps = append(sc.unit.steps, st)
}

// flush emits the unit.
func (sc *scanner) flush(ctx context.Context) error {
	u := sc.unit
	sc.unit, sc.bytes = nil, 0
	if u == nil {
		return nil
	}
	return sc.emit(ctx, u)
}

// directory scans a directory. rel is its path from the root, with slashes, "" for the root.
func (sc *scanner) directory(ctx context.Context, path, rel string, info fs.FileInfo, depth int) error {
	if depth > MaxDepth {
		return fmt.Errorf("%w: %s is nested too deep", ErrName, path)
	}
	if own, err := os.Stat(sc.store.dir); err == nil && os.SameFile(own, info) {
		return fmt.Errorf("%w: %s is the store itself", ErrFileType, path)
	}
	for after, more, opened := "", true, false; more; {
		var names []string
		var err error
		if names, more, err = readNames(path, info, after, maxNames); err != nil {
			return err
		}
		if !opened {
			sc.add(step{kind: stepOpenDir, name: filepath.Base(path), mode: info.Mode().Perm()})
			opened = true
		}
		for _, name := range names {
			if err := sc.child(ctx, path, rel, name, depth); err != nil {
				return err
			}
			after = name
		}
	}
	sc.add(step{kind: stepCloseDir})
	return nil
}

// child scans what has a name in the directory path, which is rel from the root and lies so deep.
func (sc *scanner) child(ctx context.Context, path, rel, name string, depth int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	child, childRel := filepath.Join(path, name), name
	if rel != "" {
		childRel = rel + "/" + name
	}
	info, err := os.Lstat(child)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s is gone", ErrChanged, child)
	}
	if err != nil || sc.exclude.match(childRel, info.IsDir()) {
		return err
	}
	if err := CheckName(name); err != nil {
		return fmt.Errorf("%w, in %s", err, path)
	}
	switch {
	case info.IsDir():
		err = sc.directory(ctx, child, childRel, info, depth+1)
	case info.Mode().IsRegular():
		err = sc.file(ctx, child, name, info)
	case info.Mode()&fs.ModeSymlink != 0:
		err = sc.link(child, name, childRel, depth)
	default:
		err = fmt.Errorf("%w: %s", ErrFileType, child)
	}
	if err == nil && sc.unit != nil && len(sc.unit.steps) >= 4*unitFiles {
		err = sc.flush(ctx)
	}
	return err
}

// link scans a symbolic link in a directory of the given depth.
func (sc *scanner) link(path, name, rel string, depth int) error {
	target, err := os.Readlink(path)
	if err != nil {
		return err
	}
	if filepath.Separator != '/' {
		target = strings.ReplaceAll(target, string(filepath.Separator), "/")
	}
	if err := checkLink(target); err != nil {
		return fmt.Errorf("%w, in %s", err, path)
	}
	sc.add(step{kind: stepLink, name: name, target: target, escaping: linkEscapes(depth, target), path: rel})
	return nil
}

// file scans a file: into the unit with others if it is small, else in units of its own.
func (sc *scanner) file(ctx context.Context, path, name string, info fs.FileInfo) error {
	var root *RootInfo
	if name == "" {
		root = sc.rootInfo
	}
	if ref, ok, err := sc.known(ctx, path, info, root); err != nil {
		return err
	} else if ok {
		sc.add(step{kind: stepKnown, name: name, mode: info.Mode().Perm(), ref: ref})
		return nil
	}
	src, err := sc.source(path, info)
	if err != nil {
		return err
	}
	size := info.Size()
	if size > int64(sc.unitSize()) {
		if err := sc.flush(ctx); err != nil {
			return err
		}
		return sc.large(ctx, src, step{kind: stepEnd, name: name, mode: info.Mode().Perm(), source: src})
	}
	if sc.unit != nil && (sc.bytes+int(size) > sc.unitSize() || len(sc.unit.reads) >= unitFiles) {
		if err := sc.flush(ctx); err != nil {
			return err
		}
	}
	part := &reading{source: src, size: int(size), whole: true}
	sc.add(step{kind: stepFile, name: name, mode: info.Mode().Perm(), part: part})
	sc.unit.reads = append(sc.unit.reads, part)
	sc.bytes += int(size)
	return nil
}

// large produces the units of a large file, which the step end finishes.
func (sc *scanner) large(ctx context.Context, src *source, end step) error {
	sc.opened(src)
	if src.sparse = isSparse(src.info); src.sparse || sc.gear != nil {
		if err := src.ready(); err != nil {
			return err
		}
	}
	if sc.gear != nil {
		q := &sequence{importer: sc.importer, source: src, r: src.from(0)}
		return q.file(ctx, end)
	}
	if err := sc.emit(ctx, &unit{steps: []step{{kind: stepBegin}}}); err != nil {
		return err
	}
	limit := int64(sc.unitSize())
	for off, size := int64(0), src.info.Size(); ; {
		skipped, err := sc.skipHole(ctx, src, off)
		if err != nil {
			return err
		}
		if off += skipped; off == size {
			return sc.emit(ctx, &unit{steps: []step{end}})
		}
		part := &reading{source: src, off: off, size: int(min(limit, size-off))}
		if err := sc.emit(ctx, &unit{reads: []*reading{part}, steps: []step{{kind: stepPart, part: part}}}); err != nil {
			return err
		}
		off += int64(part.size)
	}
}

// source is a file that is being imported. Workers may read it at the same time.
type source struct {
	path   string
	info   fs.FileInfo // as the scanner saw it
	stamp  stamp       // that it had then, if it had settled
	site   *site       // of an import in place
	sparse bool        // it may have holes, and is open

	open sync.Once
	file *os.File
	err  error
}

// ready opens the file, unless it is open, and makes sure that it is the one that was scanned.
func (s *source) ready() error {
	s.open.Do(func() {
		if s.file, s.err = os.Open(s.path); s.err == nil {
			s.err = s.unchanged()
		}
	})
	if errors.Is(s.err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s is gone", ErrChanged, s.path)
	}
	return s.err
}

// from returns what reads the file, which is ready, from off on, up to the size that was scanned.
func (s *source) from(off int64) io.Reader {
	return io.NewSectionReader(s.file, off, s.info.Size()-off)
}

// read reads a range into the start of space, which is longer than the range. What is read whole is closed again.
func (s *source) read(space []byte, r *reading) ([]byte, error) {
	err := s.ready()
	if r.whole {
		defer s.close()
	}
	if err != nil {
		return nil, err
	}
	want := space[:r.size]
	if r.whole {
		want = space[:r.size+1] // One byte more than there should be.
	}
	n, err := s.file.ReadAt(want, r.off)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if n != r.size {
		return nil, fmt.Errorf("%w: %s", ErrChanged, s.path)
	}
	if r.whole {
		if err := s.unchanged(); err != nil {
			return nil, err
		}
	}
	return space[:n], nil
}

// unchanged compares the open file with what the scanner saw.
func (s *source) unchanged() error {
	now, err := s.file.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(now, s.info) || now.Size() != s.info.Size() || !now.ModTime().Equal(s.info.ModTime()) {
		return fmt.Errorf("%w: %s", ErrChanged, s.path)
	}
	return nil
}

func (s *source) close() {
	if s.file != nil {
		s.file.Close() // opened for reading
	}
}

// linkEscapes reports whether a symbolic link may lead out of the tree, for a link that lies depth directories below its root.
// It allows up to depth ".." at the beginning and none behind a name: that name may be a link itself, and then what ".." means
// depends on where that one leads. Behind directories that we have made, and then only downwards, every link stays inside.
func linkEscapes(depth int, target string) bool {
	if strings.HasPrefix(target, "/") || strings.Contains(target, "\\") || filepath.VolumeName(target) != "" {
		return true
	}
	down := false
	for elem := range strings.SplitSeq(target, "/") {
		switch elem {
		case "", ".":
		case "..":
			if depth--; down || depth < 0 {
				return true
			}
		default:
			down = true
		}
	}
	return false
}
