package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/stc"
	"github.com/seigr/sttnode/swarm"
)

// FetchOptions say what to do with a content. The zero value keeps it in the
// store and waits at most the default times.
type FetchOptions struct {
	// Output is the path to write to. One that ends in a separator is the
	// directory to put the content into, under its suggested name or else its
	// hash. Nothing that exists is overwritten. The output appears when it is
	// complete. Empty: none.
	Output string
	// Writer gets the bytes of a file in order, as they come. It is an error
	// for a directory.
	Writer io.Writer
	// InPlace makes the output the store's own copy of the content, so that it
	// takes room once: it is served from there, and checked for change. While
	// the output is written, at most 64 MiB are on the disk twice. It needs an
	// Output.
	InPlace bool

	// Range fetches and writes only this part of a file. It needs an Output or a
	// Writer. Of a directory, Include and Exclude must select one file.
	Range *ByteRange
	// Include and Exclude fetch and write only the entries of a tree that a
	// pattern of Include fits, all if there is none, and no pattern of Exclude.
	// Patterns are those of [content.ImportOptions].Exclude; one that fits a
	// directory is for everything in it. Not with InPlace.
	Include, Exclude []string

	// Peers are asked for the content first, beside whom the DHT names; with
	// them a node needs no bootstrap address. At most 64.
	Peers []Address

	// SearchTimeout is for how long somebody is looked for who has the content
	// before the fetch fails. 10 s.
	SearchTimeout time.Duration
	// StallTimeout is for how long nothing may arrive before the fetch fails.
	// 60 s.
	StallTimeout time.Duration
	// Cache leaves the content unpinned, unless it is pinned already: it is
	// kept as long as the store has room, see [content.PinInfo].Cached.
	Cache bool
	// Provide keeps the node a provider of the content once it is complete,
	// until Unprovide or Stop.
	Provide bool

	// OnProgress, if not nil, is called about ten times a second, and at the
	// end of each phase, by one goroutine at a time.
	OnProgress func(FetchProgress)
	// OnStored, if not nil, is called after every batch of blobs that was
	// fetched, verified and stored, with their bytes in this fetch so far, one
	// call at a time. The fetch waits for it, so it can hold the fetch back. It
	// must not call Stop of the same node, which waits for the fetch.
	OnStored func(bytes uint64)
}

// Phase is what a fetch is doing.
type Phase uint8

// The phases of a fetch, in their order.
const (
	PhaseSearching Phase = iota // for somebody who has the content
	PhaseFetching               // from peers
	PhaseWriting                // to the output
)

// String returns the phase's name.
func (p Phase) String() string {
	switch p {
	case PhaseSearching:
		return "searching"
	case PhaseFetching:
		return "fetching"
	case PhaseWriting:
		return "writing"
	}
	return fmt.Sprintf("phase(%d)", uint8(p))
}

// FetchProgress says how far a fetch is.
type FetchProgress struct {
	Root         stc.Hash
	Phase        Phase
	Bytes, Total uint64  // of the content's data; Total is 0 until the root is here
	Peers        int     // being drawn from
	Providers    int     // known, connected peers included
	Tried        int     // of them, those that a stream was opened to, or was tried to
	Rate         float64 // bytes per second that came in the last few seconds
	// Left is how long the rest takes at this rate; 0 while nobody can tell.
	Left time.Duration
	// Limit is what keeps the fetch from being faster.
	Limit swarm.Limit
	// WastedBytes are those of blobs that came and were of no use.
	WastedBytes uint64
}

// Source is a peer that content came from.
type Source struct {
	Node  stc.Hash
	Addr  string
	Bytes uint64 // verified and stored
}

// FetchResult is the account of a fetch that is complete.
type FetchResult struct {
	Root           stc.Hash
	Name           string // suggested by who seeded it; may be empty
	Path           string // what was written; empty if nothing was
	Directory      bool
	Bytes, Chunks  uint64   // of the content's data
	FetchedBytes   uint64   // from peers, manifests included
	ResumedBytes   uint64   // that were here before, manifests included
	DuplicateBytes uint64   // of blobs that another peer had delivered already
	LateBytes      uint64   // of them, on requests that were cancelled or overdue
	BadBytes       uint64   // of blobs that did not match their hash
	WastedBytes    uint64   // that came and were of no use: duplicate, bad, no longer wanted, or a blob of which the rest did not come
	Sources        []Source // that at least a byte came from
	Duration       time.Duration
}

const (
	defaultSearchTimeout = 10 * time.Second
	progressInterval     = 100 * time.Millisecond
	// maxGivenPeers bounds the peers that a caller names.
	maxGivenPeers = 64
	// maxRepairs is how often a fetch goes back to the network because bytes
	// that were stored turn out to be damaged when they are written out.
	maxRepairs = 2
	// announceSize is from how many bytes of data on a content is announced as
	// soon as its root is here: the few datagrams are nothing beside it, and who
	// fetches it at the same time is found before all have asked for all.
	announceSize = 16 << 20
	// announceAfter is how long the fetch of a smaller one runs before it tells
	// the network that it has a part of it. Shorter ones are over before others
	// ask.
	announceAfter = time.Second
	// announceCheck is how often it looks from then on whether it has one.
	announceCheck = 500 * time.Millisecond
)

// fetch is one fetch under way.
type fetch struct {
	n          *Node
	root       stc.Hash
	opts       FetchOptions
	output     *output
	sources    *sources
	partial    bool          // not all of the content is wanted
	looking    bool          // at manifests only; the content is not entered into the store's list
	goal       atomic.Uint64 // bytes of data that are wanted; 0 for all
	copied     atomic.Uint64 // of a range
	goalChunks uint64        // of a selection
	store      *fetchStore

	phase    atomic.Int32
	download atomic.Pointer[swarm.Download]

	mu   sync.Mutex
	node *content.Node    // the root once it is here; guarded by mu
	past []swarm.Progress // of downloads that have ended; guarded by mu
}

// Fetch brings a content into the store, from everybody who has some of it, and
// writes it out. It returns nil only when all of it is here, verified, and
// written. What was verified before an error is kept, and the next Fetch goes
// on from there. Errors: *NoProviderError, ErrStalled, ErrVerification,
// ErrExists, ErrDirectoryStream, ErrRange, ErrSelection, ErrAddress, content.ErrTarget, content.ErrDiskFull,
// content.ErrLimit, those of Join, and the cause of ctx.
func (n *Node) Fetch(ctx context.Context, root stc.Hash, opts FetchOptions) (FetchResult, error) {
	ctx, end, err := n.beginStore(ctx)
	if err != nil {
		return FetchResult{}, err
	}
	defer end()
	if opts.Range != nil {
		return n.fetchRange(ctx, root, opts)
	}
	f, err := n.newFetch(root, opts)
	if err != nil {
		return FetchResult{}, err
	}
	f.partial = opts.selective()
	defer n.store.Hold(root)()
	defer f.output.discard()
	start := time.Now()
	n.transfers.begin(f)
	n.emit(EventFetchStarted, Event{Root: root})
	err = f.run(ctx)
	if ctx.Err() != nil && err != nil {
		err = context.Cause(ctx)
	}
	n.transfers.end(f, err)
	n.emit(EventFetchDone, Event{Root: root, Err: err})
	if err != nil {
		return FetchResult{}, err
	}
	return f.result(time.Since(start)), nil
}

// newFetch returns a fetch that has not begun.
func (n *Node) newFetch(root stc.Hash, opts FetchOptions) (f *fetch, err error) {
	if len(opts.Peers) > maxGivenPeers {
		return nil, fmt.Errorf("%w: %d peers given, of at most %d", ErrAddress, len(opts.Peers), maxGivenPeers)
	}
	if opts.SearchTimeout == 0 {
		opts.SearchTimeout = defaultSearchTimeout
	}
	f = &fetch{n: n, root: root, opts: opts, sources: newSources(n)}
	f.store = newFetchStore(f)
	f.output, err = newOutput(n.store, root, opts)
	return f, err
}

// run takes the fetch through its phases.
func (f *fetch) run(ctx context.Context) error {
	stop := f.reportProgress()
	defer stop()
	if err := f.lookAtLocalRoot(ctx); err != nil {
		return err
	}
	var streaming streamer
	if f.opts.Writer != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		streaming.start(ctx, f)
	}
	for repairs := 0; ; repairs++ {
		var err error
		if f.partial {
			err = f.fromPeersSelected(ctx)
		} else {
			err = f.fromPeers(ctx, nil)
		}
		if err == nil {
			f.store.finish(nil)
			f.setPhase(PhaseWriting)
			// First, so that a crash behind the writing leaves an output that
			// is recognised.
			if !f.partial {
				err = f.pin(ctx, content.PinComplete)
			}
		}
		if err == nil {
			err = f.output.write(ctx, f.root)
		}
		if err == nil {
			err = streaming.wait()
		}
		switch {
		case err == nil:
			f.announce(ctx)
			return nil
		case errors.Is(err, content.ErrCorrupt) && repairs < maxRepairs && f.opts.Writer == nil:
			f.n.log.Warn("stored bytes are damaged and are fetched again", "root", f.root, "err", err)
		default:
			f.store.finish(err)
			return errors.Join(err, streaming.abandon(err))
		}
	}
}

// fromPeers fetches what is not in the store, of all of the content or of a
// part. It searches for peers all the while.
func (f *fetch) fromPeers(ctx context.Context, part *swarm.Part) error {
	f.setPhase(PhaseFetching)
	d, err := swarm.NewDownload(swarm.Config{
		Root:         f.root,
		Self:         f.n.ID(),
		Store:        f.store,
		Output:       f.output,
		Part:         part,
		Budget:       f.n.cfg.FetchMemory,
		Limiter:      f.n.limiter,
		Sequential:   f.opts.Writer != nil,
		StallTimeout: f.opts.StallTimeout,
		Logger:       f.n.log,
	})
	if err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	f.download.Store(d)
	if part != nil && part.Follow {
		close(f.store.follows)
	}

	runCtx, cancel := context.WithCancelCause(ctx)
	var background sync.WaitGroup
	search := &search{
		f: f, d: d, patient: part != nil && part.Follow, again: make(chan struct{}, 1), giveUp: func() { cancel(errNobody) },
	}
	defer f.n.server.Share(d, search.addAsker)()
	background.Go(func() { search.run(runCtx) })
	background.Go(func() { f.announcePart(runCtx, search) })
	runErr := d.Run(runCtx)
	cancel(nil)
	background.Wait()
	f.mu.Lock()
	f.past = append(f.past, d.Progress())
	f.mu.Unlock()
	f.download.Store(nil)
	f.reportBadPeers(d.Progress())
	return f.explain(runErr, search, d.Progress())
}

// explain turns the swarm's error into what it means to who fetches.
func (f *fetch) explain(err error, s *search, p swarm.Progress) error {
	switch refusal := f.store.refusal(); {
	case err == nil:
		return nil
	case refusal != nil:
		return refusal
	case errors.Is(err, swarm.ErrBadManifest):
		return fmt.Errorf("%w: %w", ErrVerification, err)
	case errors.Is(err, errNobody), errors.Is(err, swarm.ErrNoPeers) && p.Fetched == 0 && p.Bad == 0:
		return s.nobody(p)
	case errors.Is(err, swarm.ErrBadBlob):
		return fmt.Errorf("%w: the peers that are left send wrong bytes: %w", ErrVerification, err)
	case errors.Is(err, swarm.ErrNoPeers), errors.Is(err, swarm.ErrStalled):
		return fmt.Errorf("%w: %w", ErrStalled, err)
	}
	return err
}

// rootArrived looks at the root manifest before anything below it is fetched.
// It may be called more than once.
func (f *fetch) rootArrived(ctx context.Context, blob []byte) error {
	node, err := content.DecodeRoot(blob)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrVerification, err)
	}
	if node.Kind == content.KindDirectory && f.opts.Writer != nil {
		return ErrDirectoryStream
	}
	if err := f.output.resolve(f.root, node); err != nil {
		return err
	}
	f.mu.Lock()
	f.node = node
	f.mu.Unlock()
	if info, ok, err := f.n.store.PinInfo(f.root); err != nil || f.looking || ok && info.State == content.PinComplete {
		return err
	}
	if !f.partial {
		if err := f.n.store.MakeRoom(ctx, f.root); err != nil {
			return err
		}
	}
	return f.pin(ctx, content.PinPartial)
}

// pin enters the content into the store's list, where it keeps the name and the
// time that it has.
func (f *fetch) pin(ctx context.Context, state content.PinState) error {
	info, known, err := f.n.store.PinInfo(f.root)
	if err != nil {
		return err
	}
	node := f.rootNode()
	if !known {
		info = content.PinInfo{Name: node.Root.Name, Added: time.Now(), Cached: true}
	}
	info.State, info.Size, info.Cached = state, node.Size, info.Cached && f.opts.Cache
	f.n.store.Use(f.root)
	return f.n.store.Pin(ctx, f.root, info)
}

// rootNode returns the root manifest, or nil while it is not here.
func (f *fetch) rootNode() *content.Node {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.node
}

// lookAtLocalRoot does what rootArrived does if the root is here from before.
func (f *fetch) lookAtLocalRoot(ctx context.Context) error {
	blob, err := f.n.store.Get(nil, f.root)
	if errors.Is(err, content.ErrNotFound) || errors.Is(err, content.ErrCorrupt) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := f.rootArrived(ctx, blob); err != nil {
		return err
	}
	f.store.look(nil)
	return nil
}

// announce makes the node a provider of what it has fetched, if it shall be. A
// failure is tried again by the DHT; the content is here either way.
func (f *fetch) announce(ctx context.Context) {
	if !f.opts.Provide {
		return
	}
	if _, err := f.n.provide(ctx, f.root); err != nil {
		f.n.log.Info("fetched content is not announced yet", "root", f.root, "err", err)
	}
}

// announcePart makes the node a provider of a content that it is still
// fetching, so that others who fetch it draw from here, too. Then it searches
// again: of two who have begun at the same moment, the one that is announced
// later finds the other, and that one learns of it when it is asked.
func (f *fetch) announcePart(ctx context.Context, s *search) {
	if slices.Contains(f.n.dht.Provided(), f.root) {
		return // seeded, or fetched before, by this node
	}
	if !f.awaitPart(ctx) {
		return
	}
	if _, err := f.n.provide(ctx, f.root); err != nil && ctx.Err() == nil {
		f.n.log.Debug("partial content is not announced yet", "root", f.root, "err", err)
	}
	s.hurry()
	<-ctx.Done()
	if f.opts.Provide {
		return
	}
	// The fetch is over, and its context with it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawTimeout)
	defer cancel()
	_, _ = f.n.dht.Unprovide(ctx, f.root)
}

// awaitPart returns true when it is worth telling others of this fetch, and
// false when it is over first.
func (f *fetch) awaitPart(ctx context.Context) bool {
	timer := time.NewTimer(announceAfter)
	defer timer.Stop()
	looked := f.store.looked
	for {
		select {
		case <-looked:
			looked = nil
			if node := f.rootNode(); node != nil && node.Size >= announceSize && !f.partial && !f.looking {
				return true
			}
		case <-timer.C:
			if f.rootNode() != nil && f.last().DoneSize > 0 {
				return true
			}
			timer.Reset(announceCheck)
		case <-ctx.Done():
			return false
		}
	}
}

func (f *fetch) reportBadPeers(p swarm.Progress) {
	for _, s := range p.Sources {
		if s.State == swarm.SourceBanned {
			f.n.log.Warn("peer dropped", "peer", s.Node, "addr", s.Addr, "bad_bytes", s.Bad, "err", s.Err)
			f.n.emit(EventBadPeer, Event{Peer: s.Node, Addr: s.Addr, Root: f.root, Err: s.Err})
		}
	}
}
