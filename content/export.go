package content

import (
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
	// Sparse leaves holes where there are 64 KiB of zeros.
	Sparse bool
	// NoSync leaves it to the system when what was written reaches the disk.
	NoSync bool
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
// target is never seen half written; what an interrupted export has left is removed by the next one.
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
	if err := CheckTarget(target); err != nil {
		return nil, err
	}
	target, err = filepath.Abs(target)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(target)
	exists := err == nil
	if exists && info.IsDir() != (node.Kind == KindDirectory) {
		return nil, fmt.Errorf("%w: %s and the content are not both a directory", ErrTarget, target)
	}
	p, err := newPart(target, root, node.Kind == KindDirectory)
	if err != nil {
		return nil, err
	}
	defer p.discard()
	e := &exporter{store: s, opts: opts, total: node.Size, jobs: make(chan job, 2*runtime.GOMAXPROCS(0))}
	if node.Kind == KindFile {
		err = e.run(ctx, func(ctx context.Context) error {
			f := &outFile{file: p.file, mode: node.Root.Mode, size: node.Size, keepOpen: true}
			return e.file(ctx, f, node)
		})
	} else {
		err = e.tree(ctx, p, node)
	}
	if err != nil {
		return nil, mapError(err)
	}
	if err := p.commit(!opts.NoSync, exists); err != nil {
		return nil, mapError(err)
	}
	e.result.Size = node.Size
	return &e.result, nil
}

// root reads and decodes the root of a content.
func (s *Store) root(h stc.Hash) (*Node, error) {
	blob, err := s.Get(nil, h)
	if err != nil {
		return nil, err
	}
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
	jobs   chan job
	result Exported // of the walking goroutine

	mu      sync.Mutex
	written uint64
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
	var refs []Ref
	var off, size int64
	flush := func() error {
		if len(refs) == 0 {
			return nil
		}
		out.pending.Add(1)
		select {
		case e.jobs <- job{out, off, refs}:
		case <-ctx.Done():
			return ctx.Err()
		}
		off, size, refs = off+size, 0, nil
		return nil
	}
	err := e.store.eachChunk(ctx, node, func(ref Ref) error {
		refs = append(refs, ref)
		if size += int64(ref.Size); size < unitSize {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return err
	}
	return out.done()
}

// eachChunk calls visit for the chunks of a file in their order.
func (s *Store) eachChunk(ctx context.Context, node *Node, visit func(Ref) error) error {
	for i := range node.Len() {
		ref := node.Child(i)
		if ref.Kind == KindChunk {
			if err := visit(ref); err != nil {
				return err
			}
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		child, err := s.node(ref)
		if err != nil {
			return err
		}
		if err := s.eachChunk(ctx, child, visit); err != nil {
			return err
		}
	}
	return nil
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
	}
	buf = buf[:0]
	for _, ref := range j.refs {
		var err error
		if buf, err = e.store.chunk(buf, ref); err != nil {
			j.out.abandon()
			return buf, err
		}
	}
	if err := e.writeAt(j.out.file, buf, j.off); err != nil {
		j.out.abandon()
		return buf, err
	}
	if err := j.out.done(); err != nil {
		return buf, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.written += uint64(len(buf))
	if e.opts.Progress != nil {
		e.opts.Progress(ExportProgress{Bytes: e.written, Total: e.total})
	}
	return buf, nil
}

// holeSize is the least run of zeros for which a hole is left.
const holeSize = 64 << 10

var zeros [holeSize]byte

// writeAt writes, but for holes, which are there already.
func (e *exporter) writeAt(f *os.File, b []byte, off int64) error {
	if !e.opts.Sparse {
		_, err := f.WriteAt(b, off)
		return err
	}
	for len(b) > 0 {
		n := min(len(b), holeSize)
		if string(b[:n]) != string(zeros[:n]) {
			if _, err := f.WriteAt(b[:n], off); err != nil {
				return err
			}
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
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
