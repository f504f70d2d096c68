package segment

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/seigr/sttnode/content/internal/vfs"
	"github.com/seigr/sttnode/stc"
)

// openFiles is how many segments are kept open for reading.
const openFiles = 64

// Files are the segments in a directory, by number from 1. Safe for concurrent use.
type Files struct {
	fsys   vfs.FS
	dir    string
	cipher *stc.StoreCipher

	mu   sync.Mutex
	open *simplelru.LRU[uint64, *handle]
}

// handle is a segment open for reading. It is closed when it has left the cache and its last user is done.
type handle struct {
	file    vfs.File
	users   int // guarded by Files.mu
	retired bool
}

// NewFiles returns the segments in dir, which must exist.
func NewFiles(fsys vfs.FS, dir string, c *stc.StoreCipher) *Files {
	f := &Files{fsys: fsys, dir: dir, cipher: c}
	f.open, _ = simplelru.NewLRU(openFiles, func(_ uint64, h *handle) { h.retire() }) // fails for sizes below 1 only
	return f
}

// retire is called with Files.mu held, when the handle leaves the cache.
func (h *handle) retire() {
	h.retired = true
	if h.users == 0 {
		h.file.Close() // opened for reading
	}
}

// Name returns the path of a segment.
func (f *Files) Name(id uint64) string { return filepath.Join(f.dir, fmt.Sprintf("%08d.seg", id)) }

// List returns the numbers of the segments in no order.
func (f *Files) List() ([]uint64, error) {
	names, err := f.fsys.ReadDir(f.dir)
	if err != nil {
		return nil, err
	}
	var ids []uint64
	for _, name := range names {
		digits, ok := strings.CutSuffix(name, ".seg")
		id, err := strconv.ParseUint(digits, 10, 64)
		if ok && err == nil && id > 0 && filepath.Base(f.Name(id)) == name {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// acquire returns a segment open for reading; release gives it back.
func (f *Files) acquire(id uint64) (*handle, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if h, ok := f.open.Get(id); ok {
		h.users++
		return h, nil
	}
	file, err := f.fsys.Open(f.Name(id))
	if err != nil {
		return nil, err
	}
	h := &handle{file: file, users: 1}
	f.open.Add(id, h)
	return h, nil
}

func (f *Files) release(h *handle) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h.users--
	if h.users == 0 && h.retired {
		h.file.Close()
	}
}

// ErrDamaged reports a record that is not what was written, or not there.
var ErrDamaged = errors.New("segment: record is damaged")

// Read appends the blob h, whose record lies at off, to dst. scratch is used for the record if it is long enough.
func (f *Files) Read(dst, scratch []byte, h stc.Hash, id uint64, off, size int64) ([]byte, error) {
	handle, err := f.acquire(id)
	if errors.Is(err, fs.ErrNotExist) {
		return dst, fmt.Errorf("%w: segment %d is missing", ErrDamaged, id)
	}
	if err != nil {
		return dst, err
	}
	defer f.release(handle)
	if int64(cap(scratch)) < size {
		scratch = make([]byte, size)
	}
	n, err := handle.file.ReadAt(scratch[:size], off)
	if int64(n) < size {
		if err != nil && !errors.Is(err, io.EOF) {
			return dst, err
		}
		return dst, fmt.Errorf("%w: segment %d ends at %d", ErrDamaged, id, off+int64(n))
	}
	out, err := Open(dst, f.cipher, h, scratch[:size])
	if err != nil {
		return dst, fmt.Errorf("%w: segment %d at %d: %w", ErrDamaged, id, off, err)
	}
	return out, nil
}

// Extent is where a record lies in its segment.
type Extent struct{ Off, Size int64 }

// Free gives the room of records back and makes sure that no Scan finds them again. It sorts records.
func (f *Files) Free(id uint64, records []Extent) error {
	file, err := f.fsys.OpenWrite(f.Name(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	end, err := file.Size()
	if err != nil {
		return err
	}
	slices.SortFunc(records, func(a, b Extent) int { return cmp.Compare(a.Off, b.Off) })
	for len(records) > 0 && records[0].Off < end {
		// Neighbours go together, with the pages that they share.
		hole, n := records[0], 1
		for ; n < len(records) && records[n].Off == hole.Off+hole.Size; n++ {
			hole.Size += records[n].Size
		}
		err := file.PunchHole(hole.Off, hole.Size)
		if errors.Is(err, errors.ErrUnsupported) {
			err = eraseHeaders(file, records[:n])
		}
		if err != nil {
			return err
		}
		records = records[n:]
	}
	return nil
}

// eraseHeaders is what there is instead of holes.
func eraseHeaders(file vfs.File, records []Extent) error {
	for _, r := range records {
		if _, err := file.WriteAt(make([]byte, headerSize), r.Off); err != nil {
			return err
		}
	}
	return nil
}

// Remove removes a segment, durably: one that came back would look like one whose records nobody has noted yet. Reads under way
// finish.
func (f *Files) Remove(id uint64) error {
	f.mu.Lock()
	f.open.Remove(id)
	f.mu.Unlock()
	err := f.fsys.Remove(f.Name(id))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return f.fsys.SyncDir(f.dir)
}

// Scan calls visit for the records of a segment at or behind off, see Scan.
func (f *Files) Scan(id uint64, off int64, maxBlob int, visit func(Record) error) error {
	return f.ScanFile(f.Name(id), off, maxBlob, visit)
}

// ScanFile is Scan for any file in which records may lie.
func (f *Files) ScanFile(name string, off int64, maxBlob int, visit func(Record) error) error {
	file, err := f.fsys.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	return Scan(file, f.cipher, off, maxBlob, visit)
}

// Size returns the length of a segment in bytes; a missing one has none.
func (f *Files) Size(id uint64) (int64, error) {
	file, err := f.fsys.Open(f.Name(id))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer file.Close()
	return file.Size()
}

// Truncate cuts a segment, and removes it if nothing is left.
func (f *Files) Truncate(id uint64, size int64) error {
	if size == 0 {
		return f.Remove(id)
	}
	file, err := f.fsys.OpenWrite(f.Name(id))
	if err != nil {
		return err
	}
	err = file.Truncate(size)
	if err == nil {
		err = file.Sync()
	}
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	return err
}

// Close closes what is open for reading.
func (f *Files) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open.Purge()
}
