package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/stc"
	"github.com/seigr/sttnode/swarm"
)

// ByteRange is a part of a file, as HTTP writes it (RFC 9110 section 14.1.2):
// from the byte First to the byte Last, which is in it, or to the end if Last
// is negative; with a negative First, the last -First bytes of the file.
type ByteRange struct{ First, Last int64 }

// ParseByteRange reads A-B, A- or -N. Errors wrap ErrRange.
func ParseByteRange(s string) (ByteRange, error) {
	first, last, ok := strings.Cut(s, "-")
	a, errA := strconv.ParseUint(first, 10, 63)
	b, errB := strconv.ParseUint(last, 10, 63)
	switch {
	case ok && first == "" && errB == nil && b > 0:
		return ByteRange{First: -int64(b)}, nil
	case ok && errA == nil && last == "":
		return ByteRange{First: int64(a), Last: -1}, nil
	case ok && errA == nil && errB == nil && a <= b:
		return ByteRange{First: int64(a), Last: int64(b)}, nil
	}
	return ByteRange{}, fmt.Errorf("%w: %q is not of the form A-B, A- or -N, in bytes", ErrRange, s)
}

// of returns the part of a file of size bytes.
func (r ByteRange) of(size int64) (offset, length int64, err error) {
	end := size
	switch {
	case r.First < 0:
		offset = max(0, size+r.First)
	case r.Last >= 0:
		offset, end = r.First, min(size, r.Last+1)
	default:
		offset = r.First
	}
	if offset >= end {
		return 0, 0, fmt.Errorf("%w: the file has %d bytes", ErrRange, size)
	}
	return offset, end - offset, nil
}

// fetchRange is Fetch for a part of a file.
func (n *Node) fetchRange(ctx context.Context, root stc.Hash, opts FetchOptions) (FetchResult, error) {
	if opts.InPlace {
		return FetchResult{}, fmt.Errorf("%w: not in place", ErrRange)
	}
	start := time.Now()
	selected := opts
	opts.Include, opts.Exclude = nil, nil
	inner := opts
	inner.Output, inner.Writer = "", nil // they would get all of the file
	out, err := newOutput(n.store, root, opts)
	if err != nil {
		return FetchResult{}, err
	}
	path, err := n.onlyFile(ctx, root, selected)
	if err != nil {
		return FetchResult{}, err
	}
	file, err := n.open(ctx, root, inner, OpenOptions{Path: path})
	if err != nil {
		return FetchResult{}, err
	}
	defer file.Close()
	stop := sync.OnceFunc(file.f.reportProgress())
	defer stop()
	offset, length, err := opts.Range.of(file.size)
	if err != nil {
		return FetchResult{}, err
	}
	file.end = offset + length
	file.f.goal.Store(uint64(length))
	section := io.NewSectionReader(file, offset, length)
	switch {
	case opts.Writer != nil:
		err = copyOut(opts.Writer, section, &file.f.copied)
	case out.target != "" || out.dir != "":
		err = out.writeSection(file.Name(), root, section, &file.f.copied)
	}
	if err != nil {
		return FetchResult{}, err
	}
	stop()
	if err := file.Close(); err != nil { // so that everything is counted
		return FetchResult{}, err
	}
	file.f.announce(ctx)
	result := file.f.result(time.Since(start))
	result.Bytes, result.Path = uint64(length), out.written
	return result, nil
}

// onlyFile returns the path of the one file of a tree that opts select, after
// the directories have been fetched; none if nothing is selected.
func (n *Node) onlyFile(ctx context.Context, root stc.Hash, opts FetchOptions) (path string, err error) {
	if !opts.selective() {
		return "", nil
	}
	l, err := n.List(ctx, root, opts, func(p content.Placed) error {
		if p.Type == content.TypeFile {
			path = p.Path
		}
		return nil
	})
	switch {
	case err != nil:
		return "", err
	case !l.Directory:
		return "", fmt.Errorf("%w: the content is a single file", ErrSelection)
	case l.Files != 1:
		return "", fmt.Errorf("%w: a range is of one file, %d are selected", ErrSelection, l.Files)
	}
	return path, nil
}

// copyOut copies to w and counts.
func copyOut(w io.Writer, r io.Reader, copied interface{ Add(uint64) uint64 }) error {
	buf := make([]byte, content.ChunkSize)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return fmt.Errorf("output: %w", err)
			}
			copied.Add(uint64(n))
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// writeSection writes part of a file to the output, which appears when it is
// complete.
func (o *output) writeSection(name string, root stc.Hash, r io.Reader, copied interface{ Add(uint64) uint64 }) (err error) {
	if o.target == "" {
		if name == "" {
			name = root.String()
		}
		if err := o.setTarget(root, filepath.Join(o.dir, name)); err != nil {
			return err
		}
	}
	if info, err := os.Lstat(o.target); o.exists || err == nil && info.IsDir() {
		return fmt.Errorf("%w: %s", ErrExists, o.target)
	}
	part, err := os.CreateTemp(filepath.Dir(o.target), ".sttnode-*.part")
	if err != nil {
		return fmt.Errorf("%w: %w", content.ErrTarget, err)
	}
	defer os.Remove(part.Name())
	err = copyOut(part, r, copied)
	if err == nil {
		err = part.Chmod(0o644)
	}
	if err == nil {
		err = part.Sync()
	}
	if err = errors.Join(err, part.Close()); err != nil {
		return err
	}
	if err := os.Rename(part.Name(), o.target); err != nil {
		return fmt.Errorf("%w: %w", content.ErrTarget, err)
	}
	o.written = o.target
	return nil
}

// selective reports whether only some entries of a tree are wanted.
func (o *FetchOptions) selective() bool { return len(o.Include)+len(o.Exclude) > 0 }

// Listing is what a content is, as far as the manifests of its directories
// tell.
type Listing struct {
	Root      stc.Hash
	Name      string // suggested by who seeded it; may be empty
	Directory bool
	// Bytes and Files count what is wanted of it.
	Bytes, Files uint64
}

// List looks at a content without fetching it: only the root and the manifests
// of directories come over, and are kept until they are collected. entry, if
// not nil, is called for everything in it that opts asks for; its error ends
// the call. Of opts count Include, Exclude, Peers, the times and OnProgress.
// Errors are those of Fetch.
func (n *Node) List(ctx context.Context, root stc.Hash, opts FetchOptions, entry func(content.Placed) error) (Listing, error) {
	ctx, end, err := n.beginStore(ctx)
	if err != nil {
		return Listing{}, err
	}
	defer end()
	f, err := n.newFetch(root, FetchOptions{
		Include: opts.Include, Exclude: opts.Exclude, Peers: opts.Peers,
		SearchTimeout: opts.SearchTimeout, StallTimeout: opts.StallTimeout, OnProgress: opts.OnProgress,
	})
	if err != nil {
		return Listing{}, err
	}
	f.partial, f.looking = true, true
	defer n.store.Hold(root)()
	stop := f.reportProgress()
	defer stop()
	n.transfers.begin(f)
	err = f.directories(ctx)
	n.transfers.end(f, err)
	if err != nil {
		return Listing{}, err
	}
	l := Listing{Root: root, Name: f.rootNode().Root.Name, Directory: f.rootNode().Kind == content.KindDirectory}
	err = f.selected(ctx, func(p content.Placed) error {
		if p.Type == content.TypeFile {
			l.Files++
			l.Bytes += p.Ref.Size
		}
		if entry == nil {
			return nil
		}
		return entry(p)
	})
	return l, err
}

// directories fetches the manifests of directories.
func (f *fetch) directories(ctx context.Context) error {
	if err := f.lookAtLocalRoot(ctx); err != nil {
		return err
	}
	return f.fromPeers(ctx, &swarm.Part{Directories: true})
}

// selected calls visit for what is wanted of a tree whose directories are here.
func (f *fetch) selected(ctx context.Context, visit func(content.Placed) error) error {
	sel := f.output.selection
	skip := func(p content.Placed) bool { return sel.Excludes(p.Path, p.Type == content.TypeDirectory) }
	for p, err := range f.n.store.Tree(ctx, f.root, skip) {
		if err == nil && sel.Includes(p.Path, p.Type == content.TypeDirectory) {
			err = visit(p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fromPeersSelected fetches the entries of a tree that are wanted.
func (f *fetch) fromPeersSelected(ctx context.Context) error {
	if err := f.directories(ctx); err != nil {
		return err
	}
	if f.rootNode().Kind != content.KindDirectory {
		return fmt.Errorf("%w: the content is a single file", ErrSelection)
	}
	part := swarm.Part{Ranges: []swarm.Range{}}
	f.goalChunks = 0
	bytes, any := uint64(0), false
	err := f.selected(ctx, func(p content.Placed) error {
		any = true
		if p.Type != content.TypeFile || p.Ref.Size == 0 {
			return nil
		}
		bytes += p.Ref.Size
		f.goalChunks += p.Ref.Chunks
		if n := len(part.Ranges); n > 0 && part.Ranges[n-1].Offset+part.Ranges[n-1].Length == p.Offset {
			part.Ranges[n-1].Length += p.Ref.Size
		} else {
			part.Ranges = append(part.Ranges, swarm.Range{Offset: p.Offset, Length: p.Ref.Size})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !any {
		return fmt.Errorf("%w: nothing in the content fits", ErrSelection)
	}
	f.goal.Store(bytes)
	return f.fromPeers(ctx, &part)
}
