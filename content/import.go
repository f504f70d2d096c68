package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/seigr/sttnode/stc"
)

// ImportOptions configures an import. The zero value is good.
type ImportOptions struct {
	// Name is the suggested name that the root carries, and that of the pin. The default is the last element of the path, and
	// none for ImportReader. Contents that differ in name only differ in their root and share everything below.
	Name string
	// ChunkSize is the length of chunks in bytes, a power of two from 1 KiB to MaxBlobSize. The default is the constant ChunkSize.
	ChunkSize int
	// InPlace leaves the bytes where they are: the store notes where in the files the chunks lie, and keeps copies only of chunks of
	// up to 16 KiB, of which such a note is not much shorter, and of what it had before. A file that changes afterwards makes
	// what has changed unavailable. It does not apply to ImportReader.
	InPlace bool
	// Progress is called now and then, by one goroutine at a time.
	Progress func(ImportProgress)
}

// ImportProgress tells how far an import is.
type ImportProgress struct {
	Files uint64 // finished
	Bytes uint64 // hashed and on their way to the disk
	Total uint64 // bytes of the file that is imported; 0 where nobody knows: trees and readers
}

// Imported is what an import has stored.
type Imported struct {
	Root               stc.Hash
	Name               string // the suggested name
	Size               uint64 // bytes of all files
	Chunks             uint64
	Files, Directories uint64
	Links              uint64
	// Escaping are the first symbolic links, by their path from the root, that lead out of the tree. They are kept as they are,
	// and an export of the content refuses them.
	Escaping      []string
	EscapingCount uint64
}

const maxEscapingListed = 100

// Import stores a file or a directory tree and pins it as complete. When it returns, all is durable. The same tree gives the
// same root, whatever its times and owners.
//
// Symbolic links are stored as links, but a path that is one is followed. Errors: ErrName for names that manifests can't hold,
// ErrFileType for sockets, devices, pipes and the store itself, ErrChanged when a file changed while it was read, each with the path;
// ErrDiskFull. After an error, and when ctx ends, what was stored is left to GC.
func (s *Store) Import(ctx context.Context, path string, opts ImportOptions) (*Imported, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if base := filepath.Base(abs); opts.Name == "" && CheckName(base) == nil {
		opts.Name = base
	}
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		return nil, err
	}
	info, err := os.Lstat(abs)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s", ErrFileType, path)
	}
	return s.runImport(ctx, opts, info, func(ctx context.Context, im *importer) error {
		im.path = abs
		sc := &scanner{importer: im}
		if err := sc.root(ctx, abs, info); err != nil {
			return err
		}
		return sc.flush(ctx)
	})
}

// ImportReader stores what it reads from r as a file with mode 0644, and pins it as complete.
func (s *Store) ImportReader(ctx context.Context, r io.Reader, opts ImportOptions) (*Imported, error) {
	opts.InPlace = false
	return s.runImport(ctx, opts, nil, func(ctx context.Context, im *importer) error {
		return im.stream(ctx, r)
	})
}

// importer turns files into blobs and a manifest in three stages, joined by two channels:
//
//	produce    one goroutine walks the tree in order and cuts it into units of about 1 MiB: a part of a large file or several
//	           small ones
//	workers    take units in any order: read, hash four chunks at a time, submit to the store
//	assemble   takes the same units in their order, waits for the worker, and builds the manifest
//
// So memory depends on the number of workers alone, whatever the size of files and directories.
type importer struct {
	store  *Store
	opts   ImportOptions
	path   string // of what is imported, real and absolute; of the producer until the end
	fixed  chunking
	total  uint64
	keep   *keeper
	puts   *putGroup
	work   chan *unit
	units  chan *unit
	result Imported // of the assembler

	mu   sync.Mutex
	open map[*source]struct{} // large files being read
}

// unit is what one worker does at a time, and what the assembler makes of it.
type unit struct {
	reads []*reading
	steps []step
	done  chan struct{} // closed by the worker when the hashes are there
}

// reading is a range of a file that a worker reads, or bytes that are there already.
type reading struct {
	source *source
	off    int64
	size   int
	whole  bool // all of the file
	data   []byte
	hashes []stc.Hash // of its chunks, once done
}

// unitSize is the least number of bytes in a unit that is not the last of a large file, chunks of 256 KiB or less given.
const unitSize = 1 << 20

// unitFiles is the largest number of small files in a unit.
const unitFiles = 64

func (im *importer) unitSize() int { return max(unitSize, 4<<im.fixed.chunkLog) }

// runImport runs the stages. info is that of the root, nil for a stream.
func (s *Store) runImport(ctx context.Context, opts ImportOptions, info fs.FileInfo,
	produce func(context.Context, *importer) error) (*Imported, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.exit()
	if opts.ChunkSize == 0 {
		opts.ChunkSize = ChunkSize
	}
	log := bits.TrailingZeros(uint(opts.ChunkSize))
	if opts.ChunkSize != 1<<log || log < minChunkLog || log > maxChunkLog {
		return nil, fmt.Errorf("content: chunks of %d bytes are not possible", opts.ChunkSize)
	}
	if opts.Name != "" {
		if err := CheckName(opts.Name); err != nil {
			return nil, err
		}
	}
	if opts.InPlace {
		if err := s.upgradeFormat(); err != nil {
			return nil, err
		}
	}
	root := &RootInfo{Name: opts.Name, Mode: 0o644}
	im := &importer{
		store: s, opts: opts, fixed: chunking{uint8(log), defaultFanOutLog},
		puts: newPutGroup(), keep: s.newKeeper(),
		work: make(chan *unit), units: make(chan *unit, 4*runtime.GOMAXPROCS(0)),
		open: make(map[*source]struct{}),
	}
	defer s.dropKeeper(im.keep)
	if info != nil {
		root.Mode = info.Mode().Perm()
		if !info.IsDir() {
			im.total = uint64(info.Size())
		}
	}
	stages, sctx := errgroup.WithContext(ctx)
	stages.Go(func() error {
		defer close(im.work)
		defer close(im.units)
		return produce(sctx, im)
	})
	for range runtime.GOMAXPROCS(0) + 1 {
		stages.Go(func() error { return im.worker(sctx) })
	}
	var ref Ref
	stages.Go(func() (err error) {
		ref, err = im.assemble(sctx, root)
		return err
	})
	err := stages.Wait()
	for src := range im.open {
		src.close()
	}
	if err != nil {
		return nil, err
	}
	if err := im.puts.wait(ctx); err != nil {
		return nil, err
	}
	im.result.Root, im.result.Size, im.result.Chunks, im.result.Name = ref.Hash, ref.Size, ref.Chunks, opts.Name
	err = s.pinWith(ctx, ref.Hash, PinInfo{Name: opts.Name, State: PinComplete, Size: ref.Size}, im.origins(ref.Hash)...)
	return &im.result, err
}

// opened and closed keep track of large files, so that an import that fails closes them.
func (im *importer) opened(src *source) {
	im.mu.Lock()
	im.open[src] = struct{}{}
	im.mu.Unlock()
}

func (im *importer) closed(src *source) {
	im.mu.Lock()
	delete(im.open, src)
	im.mu.Unlock()
	src.close()
}

// emit hands a unit to a worker and to the assembler.
func (im *importer) emit(ctx context.Context, u *unit) error {
	u.done = make(chan struct{})
	if len(u.reads) == 0 {
		close(u.done)
	} else {
		select {
		case im.work <- u:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	select {
	case im.units <- u:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// worker reads and hashes units.
func (im *importer) worker(ctx context.Context) error {
	var w importWorker
	for u := range im.work {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.do(ctx, im, u); err != nil {
			return err
		}
		close(u.done)
	}
	return nil
}

// importWorker keeps what a worker uses again.
type importWorker struct {
	buf    []byte
	chunks [][]byte
}

func (w *importWorker) do(ctx context.Context, im *importer, u *unit) error {
	if w.buf == nil {
		w.buf = make([]byte, im.unitSize()+1)
	}
	w.chunks = w.chunks[:0]
	space := w.buf
	for _, r := range u.reads {
		data := r.data
		if data == nil {
			var err error
			if data, err = r.source.read(space, r); err != nil {
				return err
			}
			space = space[len(data):]
		}
		for len(data) > 0 {
			n := min(len(data), 1<<im.fixed.chunkLog)
			w.chunks = append(w.chunks, data[:n])
			data = data[n:]
		}
	}
	hashes := make([]stc.Hash, len(w.chunks))
	stc.SumMany(hashes, w.chunks)
	chunks := w.chunks
	for _, r := range u.reads {
		n := im.fixed.chunks(uint64(r.size))
		r.hashes, hashes = hashes[:n:n], hashes[n:]
		if err := im.put(ctx, r, chunks[:n]); err != nil {
			return err
		}
		chunks = chunks[n:]
	}
	return nil
}

// putNode stores a node of the manifest.
func (im *importer) putNode(ctx context.Context) func([]byte) (stc.Hash, error) {
	return func(node []byte) (stc.Hash, error) {
		h := stc.Sum(node)
		return h, im.store.submit(ctx, im.puts, im.keep, []stc.Hash{h}, [][]byte{node})
	}
}

// stream is the producer for readers.
func (im *importer) stream(ctx context.Context, r io.Reader) error {
	free := make(chan []byte, cap(im.units)+runtime.GOMAXPROCS(0)+4)
	if err := im.emit(ctx, &unit{steps: []step{{kind: stepBegin}}}); err != nil {
		return err
	}
	for {
		var buf []byte
		select {
		case buf = <-free:
		default:
			buf = make([]byte, im.unitSize())
		}
		n, err := io.ReadFull(r, buf)
		if err != nil && err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		if n > 0 {
			part := &reading{data: buf[:n], size: n}
			u := &unit{reads: []*reading{part}, steps: []step{{kind: stepPart, part: part, free: func() {
				select {
				case free <- buf:
				default:
				}
			}}}}
			if err := im.emit(ctx, u); err != nil {
				return err
			}
		}
		if err != nil {
			return im.emit(ctx, &unit{steps: []step{{kind: stepEnd}}})
		}
	}
}
