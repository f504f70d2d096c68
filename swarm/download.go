package swarm

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/stc"
)

// Store is what a download needs of the blob store; *content.Store is one. It
// is used by several goroutines at once.
type Store interface {
	// Has reports whether the blob is here.
	Has(h stc.Hash) (bool, error)
	// Get appends the blob to dst. content.ErrNotFound and content.ErrCorrupt
	// mean that it has to be fetched (again).
	Get(dst []byte, h stc.Hash) ([]byte, error)
	// Submit begins to store blobs that match their hashes, and returns when it
	// has no more need of the slices. durable, called once, waits until what
	// was submitted survives a crash.
	Submit(ctx context.Context, hashes []stc.Hash, blobs [][]byte) (durable func(context.Context) error, err error)
}

// Output takes verified chunks at their places, in any order;
// *content.Assembly is one. It is used by several goroutines at once.
type Output interface {
	// WriteChunk takes a chunk that begins at byte offset of the content's
	// data. It does not keep the slice. The download waits for it, and does not
	// care whether it succeeds.
	WriteChunk(offset uint64, chunk []byte)
}

// Dialer opens a fresh stream to a peer, ready for the first message. It must
// return when ctx ends. The download closes the stream; Close must unblock
// reads and writes.
type Dialer func(ctx context.Context) (net.Conn, error)

// Config configures a Download. Root and Store are required.
type Config struct {
	// Root is the hash of the content's root manifest.
	Root stc.Hash
	// Self is the ID of this node, by which fetchers of the same content agree
	// on who asks for which chunk first. Zero: this one does not take part.
	Self stc.Hash
	// Store takes the blobs, and is asked what is there already.
	Store Store
	// Output, if not nil, is given chunks that were fetched and verified while
	// they are being stored. It gets each once at most, and neither those that
	// the store had nor all of those that stand at several places: what it was
	// not given is in the store when Run has returned nil.
	Output Output

	// Part, if not nil, says which part of the content is fetched.
	Part *Part

	// Budget bounds the bytes of blobs that are asked for or received and not
	// yet given to the store. Default 24 MiB, at least 4 MiB. Memory stays below it, plus
	// one blob a peer and about 16 MiB for manifests and bookkeeping.
	Budget int
	// Window is how many blobs are looked ahead in the manifests, and so among
	// how many the rarest are chosen. Default 4096, at least 16.
	Window int
	// Sequential asks for chunks in order, for somebody who reads along,
	// instead of the rarest first.
	Sequential bool

	// MaxPeers is how many peers are drawn from at once; more are kept in
	// reserve, up to 1024. Default 32.
	MaxPeers int
	// StallTimeout is how long a download may be without progress before it
	// fails. Default 60 s.
	StallTimeout time.Duration
	// PeerTimeout is how long a peer may be silent that owes us something
	// before its stream is given up. Default 30 s.
	PeerTimeout time.Duration
	// DialTimeout bounds a Dialer, and likewise the peer's first message.
	// Default 15 s.
	DialTimeout time.Duration
	// MaxDials is how often in a row a peer may fail before it is given up.
	// Default 6; the pauses between grow from 250 ms to 8 s.
	MaxDials int
	// Verifiers is how many goroutines hash, up to four blobs side by side
	// each. Default: half of GOMAXPROCS, at least 1, at most 4.
	Verifiers int

	// Limiter bounds the rate at which blobs are asked for, in all downloads
	// that share it. Default: no limit.
	Limiter *Limiter

	// Seed makes the random order of chunks repeatable. 0 chooses one.
	Seed uint64
	// Logger takes what happens to peers. Default: nowhere.
	Logger *slog.Logger
}

const (
	minBudget = 4 << 20
	minWindow = 16
	// maxCandidates is how many peers a download remembers.
	maxCandidates = 1024
)

func (c Config) withDefaults() (Config, error) {
	if c.Root.IsZero() {
		return c, errors.New("swarm: download without a root")
	}
	if _, err := newSelection(c.Part); err != nil {
		return c, err
	}
	if c.Store == nil {
		return c, errors.New("swarm: download without a store")
	}
	def := func(v *int, d, least int) {
		if *v == 0 {
			*v = d
		}
		*v = max(*v, least)
	}
	c.Sequential = c.Sequential || c.Part != nil && c.Part.Follow
	def(&c.Budget, 24<<20, minBudget)
	def(&c.Window, 4096, minWindow)
	def(&c.MaxPeers, 32, 1)
	def(&c.MaxDials, 6, 1)
	def(&c.Verifiers, min(runtime.GOMAXPROCS(0)/2, 4), 1)
	for _, t := range []struct {
		v *time.Duration
		d time.Duration
	}{{&c.StallTimeout, time.Minute}, {&c.PeerTimeout, 30 * time.Second}, {&c.DialTimeout, 15 * time.Second}} {
		if *t.v <= 0 {
			*t.v = t.d
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// Download fetches one content. Make it with NewDownload, add peers, before or
// during Run, and call Run once. All methods are safe for concurrent use.
type Download struct {
	cfg      Config
	progress atomic.Pointer[Progress]
	have     availability

	mu      sync.Mutex
	added   []*candidate // peers that the owner has not seen yet
	noMore  bool         // guarded by mu
	started bool         // guarded by mu
	reading window       // of Read; guarded by mu
	wake    chan struct{}
}

// NewDownload returns a download that does nothing before Run.
func NewDownload(cfg Config) (*Download, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	d := &Download{cfg: cfg, wake: make(chan struct{}, 1)}
	d.progress.Store(&Progress{})
	return d, nil
}

// Root returns the hash of the content.
func (d *Download) Root() stc.Hash { return d.cfg.Root }

// AddPeer adds a peer to draw from; addr is only shown in results. A peer that
// is known already is not added again, but if it could not be drawn from, it is
// tried again at once, even if it was given up. Beyond 1024 peers more are
// ignored.
func (d *Download) AddPeer(peer stc.Hash, addr string, dial Dialer) {
	d.mu.Lock()
	if len(d.added) < maxCandidates {
		d.added = append(d.added, &candidate{node: peer, addr: addr, dial: dial})
	}
	d.mu.Unlock()
	d.poke()
}

// NoMorePeers tells that the search for peers is over: from now on Run fails
// with ErrNoPeers as soon as all that were added have failed for good, instead
// of waiting for others until the stall timeout. Adding peers afterwards is
// still possible.
func (d *Download) NoMorePeers() {
	d.mu.Lock()
	d.noMore = true
	d.mu.Unlock()
	d.poke()
}

func (d *Download) poke() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Run fetches until everything below the root, or of the part, is in the store,
// and returns nil only then. It returns early when ctx ends, with its error, and with
//   - ErrNoPeers or ErrStalled when nobody is left or nothing moves; errors.Is
//     finds in them why the last peer failed, too, for instance ErrBadBlob;
//   - ErrBadManifest when the content itself is broken;
//   - the store's errors, such as content.ErrDiskFull.
//
// Whatever was verified by then is stored, and a new Download of the same root
// does not fetch it again. Run waits for all goroutines that it started.
func (d *Download) Run(ctx context.Context) error {
	d.mu.Lock()
	started := d.started
	d.started = true
	d.mu.Unlock()
	if started {
		return errors.New("swarm: download run twice")
	}
	return newOwner(ctx, d).run()
}

var (
	_ Store  = (*content.Store)(nil)
	_ Output = (*content.Assembly)(nil)
)
