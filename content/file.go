package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/seigr/sttnode/stc"
)

// File reads the bytes of a file that is stored, in order or from any place, each verified as Get does. It is an
// io.ReadSeekCloser, an io.ReaderAt, an io.WriterTo and an fs.File.
//
// It reads the manifest nodes and the chunks that it needs and no others, and keeps at most four nodes and one chunk, whatever
// the size of the file. ReadAt and Stat may be called by many goroutines at once; Read, Seek and WriteTo share a position and
// take turns. What fails because a blob is missing or damaged is ErrNotFound or ErrCorrupt; behind the store's Close it is
// ErrClosed, behind the file's own fs.ErrClosed.
type File struct {
	store  *Store
	info   entryInfo
	nodes  nodeCache
	closed atomic.Bool

	turn sync.Mutex // guards pos
	pos  int64

	mu    sync.Mutex // guards what follows
	chunk Ref        // read last because a part of it was asked for
	data  []byte     // its bytes
}

const fileNodes = 4 // of the tree, from the top down, deep enough for 4 PiB by default

// OpenFile opens the file under root. A root that is a directory is ErrFileType; see FS. Other errors: ErrNotFound, ErrCorrupt,
// ErrManifest.
func (s *Store) OpenFile(root stc.Hash) (*File, error) {
	node, err := s.root(root)
	if err != nil {
		return nil, err
	}
	if node.Kind != KindFile {
		return nil, fmt.Errorf("%w: %v is a directory", ErrFileType, root)
	}
	return s.newFile(rootFile(root, node)), nil
}

// Ref returns the reference that leads to the file; of the content itself, one of its root.
func (f *File) Ref() Ref { return f.info.entry.Ref }

func (s *Store) newFile(info entryInfo) *File {
	return &File{store: s, info: info, nodes: newNodeCache(s, fileNodes)}
}

// pieces iterates over the chunks of a range.
func (f *File) pieces(off, length uint64) iter.Seq2[Piece, error] {
	return func(yield func(Piece, error) bool) {
		ref := f.info.entry.Ref
		switch {
		case ref.Kind == KindChunk && off < ref.Size && length > 0:
			yield(Piece{ref, 0}, nil)
		case ref.Kind == KindFile:
			top, err := f.nodes.top(f.info)
			if err != nil {
				yield(Piece{}, err)
				return
			}
			top.Range(off, length, f.nodes.load)(yield)
		}
	}
}

// ReadAt implements io.ReaderAt.
func (f *File) ReadAt(p []byte, off int64) (n int, err error) {
	switch {
	case f.closed.Load():
		return 0, f.fail("read", fs.ErrClosed)
	case off < 0:
		return 0, f.fail("read", fs.ErrInvalid)
	}
	for piece, err := range f.pieces(uint64(off), uint64(len(p))) {
		var got int
		if err == nil {
			got, err = f.readPiece(p[n:], piece, uint64(off)+uint64(n)-piece.Offset)
		}
		if err != nil {
			return n, f.fail("read", err)
		}
		n += got
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// readPiece copies what a piece has from skip on, and returns how much that was.
func (f *File) readPiece(p []byte, piece Piece, skip uint64) (int, error) {
	if skip == 0 && uint64(len(p)) >= piece.Size {
		data, err := f.store.chunk(p[:0:piece.Size], piece.Ref)
		return len(data), err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.chunk != piece.Ref {
		f.chunk = Ref{}
		data, err := f.store.chunk(f.data[:0], piece.Ref)
		if err != nil {
			return 0, err
		}
		f.chunk, f.data = piece.Ref, data
	}
	return copy(p, f.data[skip:]), nil
}

// Read implements io.Reader.
func (f *File) Read(p []byte) (n int, err error) {
	f.turn.Lock()
	defer f.turn.Unlock()
	if len(p) == 0 && !f.closed.Load() {
		return 0, nil
	}
	n, err = f.ReadAt(p, f.pos)
	f.pos += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

// Seek implements io.Seeker. A position behind the end is possible; there is nothing to read there.
func (f *File) Seek(offset int64, whence int) (int64, error) {
	f.turn.Lock()
	defer f.turn.Unlock()
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += f.pos
	case io.SeekEnd:
		offset += f.info.Size()
	default:
		offset = -1
	}
	switch {
	case f.closed.Load():
		return 0, f.fail("seek", fs.ErrClosed)
	case offset < 0:
		return 0, f.fail("seek", fs.ErrInvalid)
	}
	f.pos = offset
	return offset, nil
}

// WriteTo implements io.WriterTo: it writes from the position to the end, reading ahead on all processors.
func (f *File) WriteTo(w io.Writer) (int64, error) {
	f.turn.Lock()
	defer f.turn.Unlock()
	if f.closed.Load() {
		return 0, f.fail("read", fs.ErrClosed)
	}
	from := uint64(f.pos)
	n, err := f.store.stream(context.Background(), f.pieces(from, maxTotal), from, w, nil)
	f.pos += int64(n)
	if err != nil {
		err = f.fail("read", err)
	}
	return int64(n), err
}

// Stat implements fs.File. There are no times in a manifest: ModTime is the zero time.
func (f *File) Stat() (fs.FileInfo, error) {
	if f.closed.Load() {
		return nil, f.fail("stat", fs.ErrClosed)
	}
	return f.info, nil
}

// Close implements io.Closer.
func (f *File) Close() error {
	if f.closed.Swap(true) {
		return f.fail("close", fs.ErrClosed)
	}
	return nil
}

func (f *File) fail(op string, err error) error {
	return &fs.PathError{Op: op, Path: f.info.Name(), Err: err}
}

// nodeCache reads nodes and keeps the last ones. It is safe for concurrent use.
type nodeCache struct {
	store *Store
	nodes *lru.Cache[Ref, *Node]
}

func newNodeCache(s *Store, size int) nodeCache {
	nodes, err := lru.New[Ref, *Node](size)
	if err != nil {
		panic(err) // the size is positive
	}
	return nodeCache{s, nodes}
}

// load returns the node that a reference promises.
func (c nodeCache) load(ref Ref) (*Node, error) {
	if n, ok := c.nodes.Get(ref); ok {
		return n, nil
	}
	n, err := c.store.node(ref)
	if err == nil {
		c.nodes.Add(ref, n)
	}
	return n, err
}

// top returns the top node of a file or directory that has one.
func (c nodeCache) top(e entryInfo) (*Node, error) {
	if e.root != nil {
		return e.root, nil
	}
	return c.load(e.entry.Ref)
}

// entryInfo is an entry as io/fs knows it: an fs.FileInfo and an fs.DirEntry.
type entryInfo struct {
	entry Entry
	root  *Node // the root of the content, which no reference leads to, if this is it
}

// rootFile is the entry of a content that is a file: under its suggested name, or else its hash.
func rootFile(root stc.Hash, node *Node) entryInfo {
	name := node.Root.Name
	if name == "" {
		name = root.String()
	}
	ref := Ref{Kind: KindFile, Hash: root, Size: node.Size, Chunks: node.Chunks}
	return entryInfo{Entry{Name: name, Type: TypeFile, Mode: node.Root.Mode, Ref: ref}, node}
}

func (e entryInfo) Name() string               { return e.entry.Name }
func (e entryInfo) IsDir() bool                { return e.entry.Type == TypeDirectory }
func (e entryInfo) Type() fs.FileMode          { return e.Mode().Type() }
func (e entryInfo) Info() (fs.FileInfo, error) { return e, nil }
func (e entryInfo) ModTime() time.Time         { return time.Time{} }
func (e entryInfo) Sys() any                   { return nil }
func (e entryInfo) String() string             { return fs.FormatDirEntry(e) }

// Size is the length of a file in bytes, or that of a link's target, and 0 for a directory.
func (e entryInfo) Size() int64 {
	switch e.entry.Type {
	case TypeFile:
		return int64(e.entry.Ref.Size)
	case TypeSymlink:
		return int64(len(e.entry.Target))
	}
	return 0
}

func (e entryInfo) Mode() fs.FileMode {
	switch e.entry.Type {
	case TypeDirectory:
		return fs.ModeDir | e.entry.Mode
	case TypeSymlink:
		return fs.ModeSymlink | fs.ModePerm
	}
	return e.entry.Mode
}

var errNotDirectory = errors.New("not a directory")
