package content

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/seigr/sttnode/stc"
)

// ExportOptions configures an export. The zero value is good.
type ExportOptions struct {
	// NoSync leaves it to the system when what was written reaches the disk.
	NoSync bool
	// InPlace makes the exported files the store's own copy of all chunks of more than 16 KiB: they are served from there, and
	// checked for change, like those of an import in place, and what room the store's copies took is given back as the export
	// goes on. The content must be pinned, and no file is replaced. What an interrupted export has written stays and is gone on with; NoSync does not
	// apply.
	InPlace bool
	// Select, if not nil, says which entries of a tree are exported, with the directories that lead to them; of the others
	// nothing need be here. Not with InPlace, and not for a content that is a file.
	Select *Selection
	// Progress is called now and then, by one goroutine at a time.
	Progress func(ExportProgress)
}

// ExportProgress tells how far an export is.
type ExportProgress struct {
	Bytes, Total uint64 // written, of all
}

// Exported is what an export has written.
type Exported struct {
	Size                      uint64
	Files, Directories, Links uint64
}

// Export writes the content under root, all of which must be here, to target: a path that doesn't exist, a regular file, which
// is replaced, or an empty directory. It writes beside the target and renames when everything is there, with modes set, so the
// target is never seen half written; what an interrupted export has left is removed by the next one. Files have holes where
// there are whole blocks of 64 KiB of zeros.
//
// No name or link of a manifest leads out of the target: what would is ErrName, and nothing is left of the export. Other
// errors: ErrNotFound and ErrCorrupt for blobs, ErrTarget, ErrDiskFull.
func (s *Store) Export(ctx context.Context, root stc.Hash, target string, opts ExportOptions) (*Exported, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.exit()
	node, err := s.root(root)
	if err != nil {
		return nil, err
	}
	if opts.Select != nil && (opts.InPlace || node.Kind == KindFile) {
		return nil, fmt.Errorf("%w: a selection is of a tree, and not in place", ErrTarget)
	}
	p, err := beginPart(target, root, node, opts.InPlace)
	if err != nil {
		return nil, err
	}
	defer p.discard()
	e := newExporter(s, node, opts)
	if err := e.export(ctx, p, root, node); err != nil {
		p.keep = p.keep && !errors.Is(err, ErrName) && !errors.Is(err, ErrManifest)
		return nil, mapError(err)
	}
	if err := p.commit(opts.InPlace || !opts.NoSync); err != nil {
		return nil, mapError(err)
	}
	if opts.InPlace {
		err = errors.Join(s.setOrigin(ctx, origin{root: root, path: p.target}), s.dropEmpty())
	}
	return &e.result, err
}

// beginPart checks the target of an export and makes the part for it.
func beginPart(target string, root stc.Hash, node *Node, inPlace bool) (*part, error) {
	if err := CheckTarget(target); err != nil {
		return nil, err
	}
	target, err := filepath.Abs(target)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(target)
	exists := err == nil
	if exists && info.IsDir() != (node.Kind == KindDirectory) {
		return nil, fmt.Errorf("%w: %s and the content are not both a directory", ErrTarget, target)
	}
	if exists && !info.IsDir() && inPlace {
		return nil, fmt.Errorf("%w: %s exists, and may be what the store has in place", ErrTarget, target)
	}
	return newPart(target, root, node.Kind == KindDirectory, inPlace)
}

// export writes a content into a part.
func (e *exporter) export(ctx context.Context, p *part, root stc.Hash, node *Node) (err error) {
	if e.opts.InPlace {
		if e.mover, err = e.newMover(ctx, root, p); err != nil {
			return err
		}
		defer e.mover.closeFiles()
	}
	switch {
	case node.Kind == KindDirectory:
		return e.tree(ctx, p, node)
	case e.mover != nil:
		err = e.mover.file(ctx, p.file, "", node.Root.Mode, node.Size, node.Range(0, node.Size, e.store.node), false)
		return errors.Join(err, e.mover.finish(ctx))
	}
	return e.rootFile(ctx, p, node)
}

// rootFile writes a content that is a file.
func (e *exporter) rootFile(ctx context.Context, p *part, node *Node) error {
	return e.run(ctx, func(ctx context.Context) error {
		f := &outFile{file: p.file, mode: node.Root.Mode, size: node.Size, keepOpen: true}
		return e.file(ctx, f, node)
	})
}

// root reads and decodes the root of a content that is going to be used.
func (s *Store) root(h stc.Hash) (*Node, error) {
	blob, err := s.Get(nil, h)
	if err != nil {
		return nil, err
	}
	s.Use(h)
	return DecodeRoot(blob)
}

// node reads and decodes what a reference promises.
func (s *Store) node(ref Ref) (*Node, error) {
	blob, err := s.Get(nil, ref.Hash)
	if err != nil {
		return nil, err
	}
	return ref.Decode(blob)
}

// exporter writes files with a few workers, to which one goroutine that walks the manifest hands jobs.
type exporter struct {
	store  *Store
	opts   ExportOptions
	total  uint64
	mover  *mover  // of an export in place, which has no jobs
	skip   extents // of the only file: what is written already
	jobs   chan job
	result Exported // of the walking goroutine

	mu      sync.Mutex
	written uint64
}

func newExporter(s *Store, node *Node, opts ExportOptions) *exporter {
	return &exporter{
		store: s, opts: opts, total: node.Size,
		jobs: make(chan job, 2*runtime.GOMAXPROCS(0)), result: Exported{Size: node.Size},
	}
}

// job is a range of a file to be written.
type job struct {
	out  *outFile
	off  int64
	refs []Ref // of chunks
}

// outFile is a file being written.
type outFile struct {
	create   func() (*os.File, error) // called by the worker if file is nil; then there is one job
	file     *os.File
	mode     fs.FileMode
	size     uint64
	keepOpen bool
	sync     bool

	pending atomic.Int64 // jobs, and the walker while it makes them
}

// run calls walk, which makes jobs, beside the workers that do them.
func (e *exporter) run(ctx context.Context, walk func(context.Context) error) error {
	stages, ctx := errgroup.WithContext(ctx)
	stages.Go(func() error {
		defer close(e.jobs)
		return walk(ctx)
	})
	for range runtime.GOMAXPROCS(0) {
		stages.Go(func() error {
			var buf []byte
			for j := range e.jobs {
				if err := ctx.Err(); err != nil {
					return err
				}
				var err error
				if buf, err = e.write(j, buf); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return stages.Wait()
}

// file makes the jobs of a file that is open.
func (e *exporter) file(ctx context.Context, out *outFile, node *Node) error {
	e.result.Files++
	out.pending.Add(1)
	if err := out.file.Truncate(int64(out.size)); err != nil {
		return err
	}
	j := job{out: out}
	var size uint64
	flush := func() error {
		if len(j.refs) == 0 {
			return nil
		}
		out.pending.Add(1)
		select {
		case e.jobs <- j:
		case <-ctx.Done():
			return ctx.Err()
		}
		j.refs, size = nil, 0
		return nil
	}
	for piece, err := range node.Range(0, node.Size, e.store.node) {
		if err != nil {
			return err
		}
		if e.skip.contains(piece.Offset) {
			if err := flush(); err != nil {
				return err
			}
			continue
		}
		if len(j.refs) == 0 {
			j.off = int64(piece.Offset)
		}
		j.refs = append(j.refs, piece.Ref)
		if size += piece.Size; size >= unitSize {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	return out.done()
}

// chunk appends the chunk that a reference promises to dst.
func (s *Store) chunk(dst []byte, ref Ref) ([]byte, error) {
	out, err := s.Get(dst, ref.Hash)
	if err != nil {
		return dst, err
	}
	if uint64(len(out)-len(dst)) != ref.Size {
		return dst, fmt.Errorf("%w: chunk %v is not of %d bytes", ErrManifest, ref.Hash, ref.Size)
	}
	return out, nil
}

// write does a job. buf is used again by the same worker.
func (e *exporter) write(j job, buf []byte) ([]byte, error) {
	if j.out.file == nil {
		f, err := j.out.create()
		if err != nil {
			return buf, err
		}
		j.out.file = f
		if j.out.size >= holeSize { // It may end in a hole.
			if err := f.Truncate(int64(j.out.size)); err != nil {
				j.out.abandon()
				return buf, err
			}
		}
	}
	buf = buf[:0]
	for _, ref := range j.refs {
		var err error
		if buf, err = e.store.chunk(buf, ref); err != nil {
			j.out.abandon()
			return buf, err
		}
	}
	if err := writeSparse(j.out.file, buf, j.off); err != nil {
		j.out.abandon()
		return buf, err
	}
	if err := j.out.done(); err != nil {
		return buf, err
	}
	e.progress(len(buf))
	return buf, nil
}

// progress counts n bytes that are written.
func (e *exporter) progress(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.written += uint64(n)
	if e.opts.Progress != nil {
		e.opts.Progress(ExportProgress{Bytes: e.written, Total: e.total})
	}
}

// holeSize is the length and the alignment in bytes of the zeros that are left out of a file.
const holeSize = 64 << 10

var zeros [holeSize]byte

// writeSparse writes b, but for whole blocks of zeros, where the file has a hole already.
func writeSparse(f *os.File, b []byte, off int64) error {
	from := 0 // what is before is written or a hole
	write := func(to int) error {
		if from == to {
			return nil
		}
		_, err := f.WriteAt(b[from:to], off+int64(from))
		return err
	}
	for at := 0; at < len(b); {
		n := int(holeSize - (off+int64(at))%holeSize)
		if n == holeSize && len(b)-at >= n && bytes.Equal(b[at:at+n], zeros[:]) {
			if err := write(at); err != nil {
				return err
			}
			from = at + n
		}
		at += n
	}
	return write(len(b))
}

// done ends a job, and finishes the file with the last one.
func (o *outFile) done() error {
	if o.pending.Add(-1) > 0 {
		return nil
	}
	err := o.file.Chmod(o.mode)
	if err == nil && o.sync {
		err = o.file.Sync()
	}
	if !o.keepOpen {
		if cerr := o.file.Close(); err == nil {
			err = cerr
		}
	}
	return err
}

// abandon closes a file that only this worker has.
func (o *outFile) abandon() {
	if o.create != nil {
		o.file.Close()
	}
}

// CheckTarget reports, as ErrTarget, why an export could not write to path: so that a fetch can refuse before it has fetched
// anything. It leaves nothing behind.
func CheckTarget(path string) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrTarget, err)
	}
	info, err := os.Stat(abs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("%w: %w", ErrTarget, err)
	case info.IsDir():
		d, err := os.Open(abs)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrTarget, err)
		}
		names, _ := d.Readdirnames(1)
		d.Close()
		if len(names) > 0 {
			return fmt.Errorf("%w: %s exists and is not empty", ErrTarget, path)
		}
	case !info.Mode().IsRegular():
		return fmt.Errorf("%w: %s is not a regular file", ErrTarget, path)
	}
	probe, err := os.CreateTemp(filepath.Dir(abs), partPrefix+"*"+partSuffix)
	if err != nil {
		err = mapError(err)
		return fmt.Errorf("%w: %w", ErrTarget, err)
	}
	probe.Close()
	if err := os.Remove(probe.Name()); err != nil {
		return fmt.Errorf("%w: %w", ErrTarget, err)
	}
	return nil
}
