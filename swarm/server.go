package swarm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/stc"
)

// ServerStore is what a server needs of the blob store; *content.Store is one.
// It is used by several goroutines at once.
type ServerStore interface {
	// Has reports whether the blob is here.
	Has(h stc.Hash) (bool, error)
	// Get appends the blob to dst. Any error is answered with MISSING.
	Get(dst []byte, h stc.Hash) ([]byte, error)
	// PinInfo tells whether the content is pinned, and whether all of it is
	// here.
	PinInfo(root stc.Hash) (info content.PinInfo, ok bool, err error)
	// Use notes that the content is in use.
	Use(root stc.Hash)
}

// ServerConfig configures a Server. The zero value has working defaults.
type ServerConfig struct {
	// MaxStreams is how many streams are served at once. Default 256.
	MaxStreams int
	// MaxStreamsPerPeer is how many of them one peer may have. Default 16.
	MaxStreamsPerPeer int
	// ReadAhead bounds the bytes of all buffers between store and streams.
	// Default 32 MiB, at least 4 MiB.
	ReadAhead int
	// Cache bounds the bytes of blobs that are kept because several peers ask
	// for them. Default 16 MiB; negative keeps none.
	Cache int
	// Readers is how many blobs are read from the store at the same time.
	// Default GOMAXPROCS, at most 8.
	Readers int
	// HaveInterval is the least time between two HAVE messages on a stream.
	// Default 100 ms.
	HaveInterval time.Duration
	// WriteTimeout is how long a stream may take nothing before it is closed.
	// Default 60 s. OpenTimeout bounds the wait for the first message. Default
	// 15 s.
	WriteTimeout, OpenTimeout time.Duration
	// Limiter bounds the rate at which blobs are sent, to all peers and to each.
	// Default: no limit.
	Limiter *Limiter
	// Logger takes what happens to streams. Default: nowhere.
	Logger *slog.Logger
}

const minReadAhead = 4 << 20

func (c ServerConfig) withDefaults() ServerConfig {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.MaxStreams, 256)
	def(&c.MaxStreamsPerPeer, 16)
	def(&c.ReadAhead, 32<<20)
	def(&c.Cache, 16<<20)
	def(&c.Readers, min(runtime.GOMAXPROCS(0), 8))
	c.ReadAhead = max(c.ReadAhead, minReadAhead)
	for _, t := range []struct {
		v *time.Duration
		d time.Duration
	}{{&c.HaveInterval, 100 * time.Millisecond}, {&c.WriteTimeout, time.Minute}, {&c.OpenTimeout, 15 * time.Second}} {
		if *t.v <= 0 {
			*t.v = t.d
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// ServerStats counts what a server has done since it was made.
type ServerStats struct {
	Streams   int    // being served now
	Peers     int    // that have at least one of them
	Requests  uint64 // WANT messages
	Blobs     uint64 // sent
	Bytes     uint64 // in them
	Missing   uint64 // requests for what is not here, or damaged
	Cancelled uint64 // requests that were cancelled in time
	CacheHits uint64 // blobs that were sent from memory
	Refused   uint64 // streams for which there was no place
	Ended     uint64 // streams that had to make room for others
	Parked    uint64 // batches of which slow streams had to give the memory back
	// Limited is how long streams have waited for the Limiter's rates, all
	// together, with those of other servers that share it.
	Limited time.Duration
	// Waiting says what the streams wait for at this moment, and so what limits them.
	Waiting Waiting
}

// Server answers the streams of peers who fetch. All methods are safe for
// concurrent use.
//
// It is fair between peers, not streams: at most two blobs at a time are read
// for one peer, and all peers queue for the readers, so that a peer with many
// streams or a thousand open requests gets no more turns than another. When
// places or memory are short, who has least comes first; those who hold most
// make room, and those who take slowly what was read for them give it back.
type Server struct {
	store   ServerStore
	cfg     ServerConfig
	buffers *bufferPool
	cache   *blobCache          // nil for none
	readers *semaphore.Weighted // store reads under way; first come, first served
	ahead   readAhead
	surveys *semaphore.Weighted // walks through contents that are only partly here

	mu      sync.Mutex
	streams map[*serverStream]struct{}
	peers   map[stc.Hash]*servedPeer
	shared  map[stc.Hash]*sharedContent

	requests, blobs, bytes, missing, cancelled, cacheHits, refused, ended, parked atomic.Uint64
}

// servedPeer is what the streams of one peer have in common.
type servedPeer struct {
	streams   int                 // guarded by the server's mu
	ending    int                 // of them, those that make room for others; likewise
	slots     *semaphore.Weighted // blobs being read for it
	ahead     int64               // bytes of it between store and streams; guarded by readAhead
	aheadTime float64             // byte-seconds of it so far; likewise
	quick     bool                // did not hold its last ones for long; likewise
	limit     peerLimit
}

const readsPerPeer = 2

// NewServer returns a server that serves what is in the store.
func NewServer(store ServerStore, cfg ServerConfig) *Server {
	cfg = cfg.withDefaults()
	s := &Server{
		store:   store,
		cfg:     cfg,
		buffers: &bufferPool{limit: cfg.ReadAhead},
		readers: semaphore.NewWeighted(int64(cfg.Readers)),
		ahead:   readAhead{limit: int64(cfg.ReadAhead)},
		surveys: semaphore.NewWeighted(1),
		streams: make(map[*serverStream]struct{}),
		peers:   make(map[stc.Hash]*servedPeer),
		shared:  make(map[stc.Hash]*sharedContent),
	}
	if cfg.Cache > 0 {
		s.cache = newBlobCache(cfg.Cache, s.buffers)
	}
	return s
}

// Stats returns the counts so far.
func (s *Server) Stats() ServerStats {
	s.mu.Lock()
	streams, peers, waiting := len(s.streams), len(s.peers), s.waiting()
	s.mu.Unlock()
	return ServerStats{
		Streams:   streams,
		Peers:     peers,
		Requests:  s.requests.Load(),
		Blobs:     s.blobs.Load(),
		Bytes:     s.bytes.Load(),
		Missing:   s.missing.Load(),
		Cancelled: s.cancelled.Load(),
		CacheHits: s.cacheHits.Load(),
		Refused:   s.refused.Load(),
		Ended:     s.ended.Load(),
		Parked:    s.parked.Load(),
		Limited:   s.cfg.Limiter.Waited(),
		Waiting:   waiting,
	}
}

// Serve answers one stream of an authenticated peer until the peer ends it,
// ctx ends, or the peer breaks the protocol, and closes conn. It returns nil
// when the peer ended the stream. Serve waits for all goroutines that it
// started.
func (s *Server) Serve(ctx context.Context, conn net.Conn, peer stc.Hash) error {
	defer conn.Close()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	st := &serverStream{
		server:  s,
		conn:    conn,
		end:     end,
		begun:   time.Now(),
		batches: make(chan *batch),
		done:    make(chan struct{}, 1),
		say:     make(chan struct{}, 1),
	}
	st.reading.Store(uint32(LimitPeer))
	if err := s.enter(peer, st); err != nil {
		s.refused.Add(1)
		sayClose(conn, closeBusy)
		return err
	}
	defer s.leave(peer, st)
	err := st.serve(ctx, peer)
	if err != nil {
		s.cfg.Logger.Debug("stream ended", "peer", peer, "err", err)
	}
	return err
}

// closeTimeout is how long a last message may take.
const closeTimeout = time.Second

// sayClose writes CLOSE, as far as the other side takes it.
func sayClose(conn net.Conn, reason closeReason) {
	conn.SetWriteDeadline(time.Now().Add(closeTimeout))
	conn.Write(appendClose(nil, reason))
}

// read appends the blob to dst. Peers take turns here.
func (s *Server) read(ctx context.Context, p *servedPeer, dst []byte, h stc.Hash) ([]byte, error) {
	if err := p.slots.Acquire(ctx, 1); err != nil {
		return dst, err
	}
	defer p.slots.Release(1)
	if err := s.readers.Acquire(ctx, 1); err != nil {
		return dst, err
	}
	defer s.readers.Release(1)
	out, err := s.store.Get(dst, h)
	if err != nil {
		if !errors.Is(err, content.ErrNotFound) {
			s.cfg.Logger.Warn("blob can't be served", "hash", h, "err", err)
		}
		return dst, err
	}
	if n := len(out) - len(dst); n > maxBlob {
		return dst, fmt.Errorf("%w: blob of %d bytes", content.ErrTooLarge, n)
	}
	return out, nil
}

var _ ServerStore = (*content.Store)(nil)
