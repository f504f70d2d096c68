package content

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/seigr/sttnode/stc"
)

// ImportOptions configures an import. The zero value is good.
type ImportOptions struct {
	// Name is the suggested name that the root carries, and that of the pin. The default is the last element of the path, and
	// none for ImportReader. Contents that differ in name only differ in their root and share everything below.
	Name string
	// Chunker says how files are cut. The default is ChunkerRamp.
	Chunker Chunker
	// ChunkSize is the length of chunks in bytes, for ChunkerCDC their average: a power of two from 1 KiB to MaxBlobSize, and to a
	// quarter of that for ChunkerCDC. The default is the constant ChunkSize.
	ChunkSize int
	// ChunkerKey decides where ChunkerCDC cuts; it comes from stc.Keyring.ChunkerKey. Only those who use the same key get the same
	// chunks from the same bytes.
	ChunkerKey [32]byte
	// Exclude are patterns of what to leave out of a directory tree, with everything below it. They follow those of gitignore:
	//
	//	name       anything of this name, at any depth
	//	a/b, /a    what has this path from the root of the tree: a pattern with a slash that is not its last character
	//	name/      directories only, and no links to directories
	//	a/**/b     ** stands for any number of names, also for none, but at the end of a pattern for one at least
	//
	// and each name is one of path.Match, with [!a-z] for [^a-z] as well: *, ? and classes, none of which match a slash. A dot at
	// the beginning of a name is like any other character, and so are capitals. What is excluded can't be included again by a
	// later pattern. The root itself is never excluded. Errors: ErrPattern.
	Exclude []string
	// InPlace leaves the bytes where they are: the store notes where in the files the chunks lie, and keeps copies only of chunks of
	// up to 16 KiB, of which such a note is not much shorter, and of what it had before. A file that changes afterwards makes
	// what has changed unavailable. It does not apply to ImportReader.
	InPlace bool
	// Rehash reads every file. Otherwise those are not read again whose size, times and inode are as they were when they were
	// imported last, if all that came of them is in the store.
	Rehash bool
	// Progress is called now and then, by one goroutine at a time.
	Progress func(ImportProgress)
}

// ImportProgress tells how far an import is.
type ImportProgress struct {
	Files uint64 // finished
	Bytes uint64 // hashed and on their way to the disk
	Total uint64 // bytes of all that is imported; 0 while nobody knows, which for readers is always
}

// Imported is what an import has stored.
type Imported struct {
	Root               stc.Hash
	Name               string // the suggested name
	Size               uint64 // bytes of all files
	Unread             uint64 // bytes of those files among them that were not read again
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
		if opts.Progress != nil && info.IsDir() {
			defer im.measureBeside(ctx, abs)()
		}
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
	store    *Store
	opts     ImportOptions
	rootInfo *RootInfo
	path     string // of what is imported, real and absolute; of the producer until the end
	exclude  exclusion
	chunking chunking
	gear     *gear         // of ChunkerCDC
	total    atomic.Uint64 // of bytes, when it is known
	keep     *keeper
	puts     *putGroup
	work     chan *unit
	units    chan *unit
	result   Imported // of the assembler

	// Of the producer.
	buffers chan []byte // not in use; any worker puts them back
	made    int         // buffers
	zero    *chunk      // in a hole; nil until there was one

	mu   sync.Mutex
	open map[*source]struct{} // large files being read
}

// chunk is one chunk of a file.
type chunk struct {
	hash stc.Hash
	size int
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
	free   func()     // called when data is not needed any more
	sizes  []int      // of its chunks: with data that was cut already, or once done
	hashes []stc.Hash // of its chunks, once done
}

// unitSize is the least number of bytes in a unit that is not the last of a large file, chunks of 256 KiB or less given.
const unitSize = 1 << 20

// unitFiles is the largest number of small files in a unit.
const unitFiles = 64

func (im *importer) unitSize() int { return max(unitSize, 4*im.chunking.longest()) }

// Check reports what an import with these options would refuse whatever it is of: ErrName, ErrChunking, ErrPattern. A key that
// is missing is not among it.
func (o ImportOptions) Check() error {
	_, err := o.parse()
	return err
}

// parse makes an importer of what the options say.
func (o ImportOptions) parse() (*importer, error) {
	if o.ChunkSize == 0 {
		o.ChunkSize = ChunkSize
	}
	if o.Chunker == 0 {
		o.Chunker = ChunkerRamp
	}
	c := chunking{o.Chunker, uint8(bits.Len(uint(o.ChunkSize)) - 1), defaultFanOutLog}
	if c.chunkLog <= rampLog {
		c = c.behind() // they are short enough
	}
	if o.ChunkSize != 1<<c.chunkLog || !c.valid() {
		return nil, fmt.Errorf("%w: %d bytes by the %v chunker", ErrChunking, o.ChunkSize, o.Chunker)
	}
	if o.Name != "" {
		if err := CheckName(o.Name); err != nil {
			return nil, err
		}
	}
	exclude, err := newExclusion(o.Exclude)
	return &importer{opts: o, exclude: exclude, chunking: c}, err
}

// newImporter checks the options.
func (s *Store) newImporter(opts ImportOptions) (*importer, error) {
	im, err := opts.parse()
	if err != nil {
		return nil, err
	}
	im.store, im.puts = s, newPutGroup()
	im.work, im.units = make(chan *unit), make(chan *unit, 4*runtime.GOMAXPROCS(0))
	im.buffers = make(chan []byte, importWorkers()+2)
	im.open = make(map[*source]struct{})
	if im.chunking.chunker == ChunkerCDC {
		if opts.ChunkerKey == [32]byte{} {
			return nil, fmt.Errorf("%w: %v without a key", ErrChunking, im.chunking.chunker)
		}
		im.gear = newGear(opts.ChunkerKey, im.chunking)
	}
	return im, nil
}

func importWorkers() int { return runtime.GOMAXPROCS(0) + 1 }

// cut returns the length of the first chunk of b, which holds all of the longest possible one unless the file ends with it. It
// begins at off in the file; of a file that ends with it that is 0 only if the whole is b.
func (im *importer) cut(b []byte, off int64) int {
	if im.gear != nil {
		return im.gear.cut(b)
	}
	if off == 0 && len(b) <= 1<<im.chunking.chunkLog {
		return len(b)
	}
	return min(len(b), im.chunking.next(off))
}

// runImport runs the stages. info is that of the root, nil for a stream.
func (s *Store) runImport(ctx context.Context, opts ImportOptions, info fs.FileInfo,
	produce func(context.Context, *importer) error) (*Imported, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.exit()
	im, err := s.newImporter(opts)
	if err != nil {
		return nil, err
	}
	if opts.InPlace {
		if err := s.upgradeFormat(); err != nil {
			return nil, err
		}
	}
	im.keep = s.newKeeper()
	defer s.dropKeeper(im.keep)
	im.rootInfo = &RootInfo{Name: opts.Name, Mode: 0o644}
	if info != nil {
		im.rootInfo.Mode = info.Mode().Perm()
		if !info.IsDir() {
			im.total.Store(uint64(info.Size()))
			if err := s.fits(uint64(info.Size())); err != nil && !opts.InPlace {
				return nil, err
			}
		}
	}
	stages, sctx := errgroup.WithContext(ctx)
	stages.Go(func() error {
		defer close(im.work)
		defer close(im.units)
		return produce(sctx, im)
	})
	for range importWorkers() {
		stages.Go(func() error { return im.worker(sctx) })
	}
	var ref Ref
	stages.Go(func() (err error) {
		ref, err = im.assemble(sctx)
		return err
	})
	err = stages.Wait()
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
	w.chunks = w.chunks[:0]
	if w.buf == nil && u.reads[0].data == nil {
		w.buf = make([]byte, im.unitSize()+1)
	}
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
		w.cut(im, r, data)
	}
	hashes := w.hash()
	chunks := w.chunks
	for _, r := range u.reads {
		n := len(r.sizes)
		r.hashes, hashes = hashes[:n:n], hashes[n:]
		if err := im.put(ctx, r, chunks[:n]); err != nil {
			return err
		}
		chunks = chunks[n:]
		if r.free != nil {
			r.free()
		}
	}
	return nil
}

// hash hashes the chunks. The longest are begun first: four are hashed side by side, and one that is still under way when the
// others have ended takes as long as four.
func (w *importWorker) hash() []stc.Hash {
	hashes := make([]stc.Hash, len(w.chunks))
	longer := func(a, b []byte) int { return len(b) - len(a) }
	if slices.IsSortedFunc(w.chunks, longer) {
		stc.SumMany(hashes, w.chunks)
		return hashes
	}
	order := make([]int, len(w.chunks))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return longer(w.chunks[a], w.chunks[b]) })
	sorted, sums := make([][]byte, len(order)), make([]stc.Hash, len(order))
	for to, from := range order {
		sorted[to] = w.chunks[from]
	}
	stc.SumMany(sums, sorted)
	for from, to := range order {
		hashes[to] = sums[from]
	}
	return hashes
}

// cut cuts what was read, unless that has been done.
func (w *importWorker) cut(im *importer, r *reading, data []byte) {
	if r.sizes == nil {
		for done := 0; done < len(data); {
			n := im.cut(data[done:], r.off+int64(done))
			r.sizes, done = append(r.sizes, n), done+n
		}
	}
	for _, n := range r.sizes {
		w.chunks = append(w.chunks, data[:n])
		data = data[n:]
	}
}

// putNode stores a node of the manifest.
func (im *importer) putNode(ctx context.Context) func([]byte) (stc.Hash, error) {
	return func(node []byte) (stc.Hash, error) {
		h := stc.Sum(node)
		return h, im.store.submit(ctx, im.puts, im.keep, []stc.Hash{h}, [][]byte{node})
	}
}
