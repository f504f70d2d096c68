package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/stc"
	"github.com/seigr/sttnode/swarm"
)

// OpenOptions say how to open a content that may not be here. The zero value is
// good for a file.
type OpenOptions struct {
	// Path names a file in a content that is a directory, from its root, with
	// slashes. Empty for a content that is a file.
	Path string
	// ReadAhead is how many bytes in front of a reader are fetched before they
	// are asked for. 16 MiB, at least 1 MiB.
	ReadAhead int

	// Peers, SearchTimeout and StallTimeout are those of FetchOptions. A stall
	// counts only while somebody waits for bytes.
	Peers         []Address
	SearchTimeout time.Duration
	StallTimeout  time.Duration
}

const (
	defaultReadAhead = 16 << 20
	minReadAhead     = 1 << 20
)

// File reads a file of a content while it is fetched, in order or from any
// place: an io.ReadSeekCloser and io.ReaderAt. What is read is fetched, and a
// window in front of the last read; a seek moves the window and gives up what
// was under way elsewhere. Every byte is verified, and what was fetched stays in
// the store, cached. Memory is bounded by [Config].FetchMemory and a chunk.
//
// ReadAt may be called by many goroutines at once; of those that wait for bytes
// one at a time has the window. Read and Seek share a position and take turns.
type File struct {
	f     *fetch
	ctx   context.Context // until Close, the end of Open's context, or Stop
	close func()          // ends ctx and waits

	local     *content.File
	size      int64
	offset    uint64 // of the file in the content's data
	end       int64  // what is behind is not fetched ahead; the size, unless a range is read
	readAhead uint64
	waiting   chan struct{} // holds a token while somebody waits for bytes

	turn sync.Mutex // guards pos; held during Read
	pos  int64

	mu     sync.Mutex
	told   uint64 // where the download was last told that somebody reads; guarded by mu
	closed bool   // guarded by mu
}

// Open opens a content for reading before it is here. It returns when the root
// has come, of a directory the manifests of all directories, and goes on
// fetching what is read until Close, or until ctx ends. Errors, of Open and of
// reads: those of Fetch, fs.ErrNotExist for a Path that is not there,
// ErrDirectoryStream for what is no file. After an error of a fetch, such as
// ErrStalled, what is here can still be read.
func (n *Node) Open(ctx context.Context, root stc.Hash, opts OpenOptions) (*File, error) {
	return n.open(ctx, root, FetchOptions{
		Peers: opts.Peers, SearchTimeout: opts.SearchTimeout, StallTimeout: opts.StallTimeout, Cache: true,
	}, opts)
}

// open is Open by a fetch with options of its own.
func (n *Node) open(ctx context.Context, root stc.Hash, fetch FetchOptions, opts OpenOptions) (*File, error) {
	ctx, end, err := n.beginStore(ctx)
	if err != nil {
		return nil, err
	}
	f, err := n.newFetch(root, fetch)
	if err != nil {
		end()
		return nil, err
	}
	f.partial = true
	if opts.ReadAhead == 0 {
		opts.ReadAhead = defaultReadAhead
	}
	ctx, cancel := context.WithCancel(ctx)
	file := &File{f: f, ctx: ctx, readAhead: uint64(max(opts.ReadAhead, minReadAhead)), waiting: make(chan struct{}, 1)}
	release := n.store.Hold(root)
	var fetching sync.WaitGroup
	file.close = sync.OnceFunc(func() {
		cancel()
		fetching.Wait()
		release()
		end()
	})
	n.transfers.begin(f)
	n.emit(EventFetchStarted, Event{Root: root})
	ended := make(chan struct{})
	fetching.Go(func() {
		defer close(ended)
		err := f.follow(ctx, opts.Path != "")
		f.store.finish(err)
		if ctx.Err() != nil {
			err = nil // it was closed
		}
		n.transfers.end(f, err)
		n.emit(EventFetchDone, Event{Root: root, Err: err})
	})
	if err := file.begin(ctx, opts.Path, ended); err != nil {
		file.close()
		return nil, err
	}
	return file, nil
}

// follow fetches what is read until ctx ends; of a tree, all directories first.
func (f *fetch) follow(ctx context.Context, tree bool) error {
	if err := f.lookAtLocalRoot(ctx); err != nil {
		return err
	}
	if info, ok, err := f.n.store.PinInfo(f.root); err != nil || ok && info.State == content.PinComplete {
		close(f.store.follows)
		return err
	}
	if tree {
		if err := f.fromPeers(ctx, &swarm.Part{Directories: true}); err != nil {
			return err
		}
	}
	return f.fromPeers(ctx, &swarm.Part{Follow: true})
}

// begin waits for the manifests that it needs.
func (r *File) begin(ctx context.Context, path string, ended <-chan struct{}) (err error) {
	s := r.f.store
	for _, wait := range []<-chan struct{}{s.follows, s.looked} {
		select {
		case <-wait:
		case <-ended:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if _, over, err := s.changed(); over && err != nil {
		return err
	}
	if err := s.refusal(); err != nil {
		return err
	}
	store, root := r.f.n.store, r.f.root
	switch node := r.f.rootNode(); {
	case node == nil:
		return fmt.Errorf("%w: the root did not come", ErrStalled)
	case path == "" && node.Kind == content.KindDirectory:
		return ErrDirectoryStream
	case path == "":
		r.local, err = store.OpenFile(root)
	default:
		r.local, r.offset, err = openIn(ctx, store, root, path)
	}
	if err != nil {
		return err
	}
	info, err := r.local.Stat()
	if err == nil {
		r.size = info.Size()
		r.end = r.size
	}
	return err
}

// openIn opens a file in a tree whose directories are here, and returns where
// its data begin.
func openIn(ctx context.Context, store *content.Store, root stc.Hash, path string) (*content.File, uint64, error) {
	tree, err := store.FS(root)
	if err != nil {
		return nil, 0, err
	}
	// Links lead to where they lead; the place is that of what they lead to.
	opened, err := tree.Open(path)
	if err != nil {
		return nil, 0, err
	}
	file, ok := opened.(*content.File)
	if !ok {
		opened.Close()
		return nil, 0, ErrDirectoryStream
	}
	want := file.Ref()
	for p, err := range store.Tree(ctx, root, nil) {
		if err != nil {
			return nil, 0, err
		}
		if p.Type == content.TypeFile && p.Ref == want {
			return file, p.Offset, nil // the same bytes at another place do as well
		}
	}
	return nil, 0, fmt.Errorf("%w: %s", fs.ErrNotExist, path)
}

// Size returns the length of the file in bytes.
func (r *File) Size() int64 { return r.size }

// Name returns the file's name: in a directory that which it has there, else
// the suggested one, which may be empty.
func (r *File) Name() string {
	info, err := r.local.Stat()
	if err != nil {
		return ""
	}
	return info.Name()
}

// ReadAt implements io.ReaderAt. It waits until all of p is here, or its end.
func (r *File) ReadAt(p []byte, off int64) (n int, err error) { return r.read(p, off, len(p)) }

// Read implements io.Reader. It waits for the next bytes, and returns what of
// them is here.
func (r *File) Read(p []byte) (n int, err error) {
	r.turn.Lock()
	defer r.turn.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	n, err = r.read(p, r.pos, 1)
	r.pos += int64(n)
	if n > 0 {
		err = nil // it comes again
	}
	return n, err
}

// read returns once at least so many bytes are here, or fewer at the end.
func (r *File) read(p []byte, off int64, least int) (n int, err error) {
	if off < 0 {
		return 0, &fs.PathError{Op: "read", Path: r.Name(), Err: fs.ErrInvalid}
	}
	if r.ctx.Err() != nil {
		return 0, r.ended()
	}
	waits := false
	defer func() {
		if waits {
			<-r.waiting
		}
	}()
	for {
		// Asked before the store is, so that nothing is missed in between.
		changed, over, overErr := r.f.store.changed()
		got, err := r.local.ReadAt(p[n:], off+int64(n))
		n += got
		missing := errors.Is(err, content.ErrNotFound)
		switch {
		case !missing, n >= least:
			r.goOn(uint64(off)+uint64(n), waits)
			if missing {
				err = nil
			}
			return n, err
		case r.ctx.Err() != nil:
			return n, r.ended()
		case over && overErr != nil:
			return n, overErr
		case over:
			return n, err
		}
		if !waits {
			select {
			case r.waiting <- struct{}{}:
				waits = true
			case <-r.ctx.Done():
			}
			continue // it may have come meanwhile
		}
		r.fetchFrom(uint64(off) + uint64(n))
		select {
		case <-changed:
		case <-r.ctx.Done():
		}
	}
}

// fetchFrom moves the window to where somebody waits for bytes.
func (r *File) fetchFrom(at uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = at
	r.tell()
}

// goOn moves the window along with a reader who has waited, or who is in it
// while nobody else waits, from whom it would be taken.
func (r *File) goOn(at uint64, waited bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if waited || len(r.waiting) == 0 && at >= r.told+r.readAhead/16 && at <= r.told+r.readAhead {
		r.told = at
		r.tell()
	}
}

// tell says to the download where the window is; r.mu is held.
func (r *File) tell() {
	if d := r.f.download.Load(); d != nil && r.told < uint64(r.end) {
		d.Read(r.offset+r.told, min(r.readAhead, uint64(r.end)-r.told))
	}
}

// ended is why nothing can be read any more.
func (r *File) ended() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return &fs.PathError{Op: "read", Path: r.Name(), Err: fs.ErrClosed}
	}
	return context.Cause(r.ctx)
}

// Seek implements io.Seeker. It fetches nothing; the next Read does.
func (r *File) Seek(offset int64, whence int) (int64, error) {
	r.turn.Lock()
	defer r.turn.Unlock()
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += r.pos
	case io.SeekEnd:
		offset += r.size
	default:
		offset = -1
	}
	if offset < 0 {
		return 0, &fs.PathError{Op: "seek", Path: r.Name(), Err: fs.ErrInvalid}
	}
	r.pos = offset
	return offset, nil
}

// Close ends the fetch and waits for that. Reads that wait return with
// fs.ErrClosed.
func (r *File) Close() error {
	r.mu.Lock()
	again := r.closed
	r.closed = true
	r.mu.Unlock()
	if again {
		return &fs.PathError{Op: "close", Path: r.Name(), Err: fs.ErrClosed}
	}
	r.close()
	return r.local.Close()
}
