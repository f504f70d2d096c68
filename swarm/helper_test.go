package swarm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

// testSeed returns the seed of a randomised test: STT_TEST_SEED, or a new one
// that is printed so that a failure can be repeated.
func testSeed(t testing.TB) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("STT_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("STT_TEST_SEED=%d", seed)
	return seed
}

// memStore is a blob store in memory.
type memStore struct {
	mu      sync.Mutex
	blobs   map[stc.Hash][]byte
	pins    map[stc.Hash]content.PinInfo
	corrupt map[stc.Hash]bool
	chunks  map[stc.Hash]struct{} // that putFile has cut

	fullTime time.Duration // what it takes until there is room for more
	syncTime time.Duration // from then until it is durable; syncs are shared
	putErr   error
	puts     int // groups that became durable, or failed to
	gets     int
}

func newMemStore() *memStore {
	return &memStore{
		blobs:   make(map[stc.Hash][]byte),
		pins:    make(map[stc.Hash]content.PinInfo),
		corrupt: make(map[stc.Hash]bool),
		chunks:  make(map[stc.Hash]struct{}),
	}
}

func (s *memStore) put(b []byte) stc.Hash {
	h := stc.Sum(b)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[h] = bytes.Clone(b)
	return h
}

func (s *memStore) Has(h stc.Hash) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.blobs[h]
	return ok && !s.corrupt[h], nil
}

func (s *memStore) Get(dst []byte, h stc.Hash) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets++
	b, ok := s.blobs[h]
	switch {
	case s.corrupt[h]:
		return dst, content.ErrCorrupt
	case !ok:
		return dst, content.ErrNotFound
	}
	return append(dst, b...), nil
}

func (s *memStore) Submit(_ context.Context, hashes []stc.Hash, blobs [][]byte) (func(context.Context) error, error) {
	if s.fullTime > 0 {
		time.Sleep(s.fullTime) // on the time of the bubble
	}
	due := time.Now().Add(s.syncTime)
	hashes, kept := slices.Clone(hashes), make([][]byte, len(blobs))
	for i, b := range blobs {
		kept[i] = bytes.Clone(b)
	}
	return func(context.Context) error {
		time.Sleep(time.Until(due))
		s.mu.Lock()
		defer s.mu.Unlock()
		s.puts++
		if s.putErr != nil {
			return s.putErr
		}
		for i, h := range hashes {
			if stc.Sum(kept[i]) != h {
				panic("a blob is stored under a wrong hash")
			}
			s.blobs[h] = kept[i]
			delete(s.corrupt, h)
		}
		return nil
	}, nil
}

func (s *memStore) Use(stc.Hash) {}

func (s *memStore) PinInfo(root stc.Hash) (content.PinInfo, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	info, ok := s.pins[root]
	return info, ok, nil
}

func (s *memStore) pin(root stc.Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pins[root] = content.PinInfo{State: content.PinComplete}
}

func (s *memStore) clone() *memStore {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := newMemStore()
	c.blobs, c.pins = maps.Clone(s.blobs), maps.Clone(s.pins)
	return c
}

// covers reports whether everything of other is in s.
func (s *memStore) covers(other *memStore) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	missing := 0
	for h, b := range other.blobs {
		if !bytes.Equal(s.blobs[h], b) {
			missing++
		}
	}
	if missing > 0 {
		return fmt.Errorf("%d of %d blobs are missing", missing, len(other.blobs))
	}
	return nil
}

// The manifests of the tests are written here by hand, from the drawing in
// package content, so that they can be wrong where a test wants that.

// testRef is what a directory says of a file or directory.
type testRef struct {
	dir    bool
	size   uint64
	chunks uint64
	hash   stc.Hash
}

func nodeHeader(typ byte, level byte, root bool) []byte {
	b := append([]byte("STM\x01"), typ, 0, level)
	if root {
		b[5] = 1
		b = binary.BigEndian.AppendUint16(b, 0o755)
		b = append(b, 0)
	}
	return b
}

const testFanOut = 4 // log2: 16 children, so that small files have trees

// putFile stores data in chunks of 1<<chunkLog bytes and the nodes above them.
func (s *memStore) putFile(data []byte, chunkLog int, root bool) testRef {
	ref := testRef{size: uint64(len(data))}
	var hashes []stc.Hash
	for part := range slices.Chunk(data, 1<<chunkLog) {
		hashes = append(hashes, s.put(part))
		s.chunks[hashes[len(hashes)-1]] = struct{}{}
	}
	ref.chunks = uint64(len(hashes))
	if len(hashes) == 1 && !root {
		ref.hash = hashes[0]
		return ref
	}
	left, full := uint64(len(data)), uint64(1)<<(chunkLog+testFanOut)
	for level := byte(0); ; level++ {
		top := len(hashes) <= 1<<testFanOut
		var nodes []stc.Hash
		rest := left
		for part := range slices.Chunk(hashes, 1<<testFanOut) {
			size := min(full, rest)
			rest -= size
			b := nodeHeader(1, level, root && top)
			b = append(b, 1, byte(chunkLog), testFanOut)
			b = frame.AppendVarint(b, size)
			for _, h := range part {
				b = append(b, h[:]...)
			}
			nodes = append(nodes, s.put(b))
		}
		if top {
			ref.hash = nodes[0]
			return ref
		}
		hashes, full = nodes, full<<testFanOut
	}
}

// putDir stores a directory of up to 512 entries, named by their number.
func (s *memStore) putDir(entries []testRef, root bool) testRef {
	ref := testRef{dir: true}
	var items []byte
	for i, e := range entries {
		name := fmt.Sprintf("%06d", i)
		items = append(items, byte(len(name)))
		items = append(items, name...)
		kind := byte(1)
		if e.dir {
			kind = 2
		}
		items = append(items, kind, 0x01, 0xed) // mode 0755
		items = frame.AppendVarint(items, e.size)
		if e.dir || e.size > 0 {
			items = frame.AppendVarint(items, e.chunks)
			items = append(items, e.hash[:]...)
		}
		ref.size += e.size
		ref.chunks += e.chunks
	}
	b := nodeHeader(2, 0, root)
	b = frame.AppendVarint(b, uint64(len(entries)))
	b = frame.AppendVarint(b, ref.size)
	b = frame.AppendVarint(b, ref.chunks)
	ref.hash = s.put(append(b, items...))
	return ref
}

func randomBytes(seed uint64, n int) []byte {
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b)
	return b
}

// testNet connects downloads with servers by streams in memory.
type testNet struct {
	t      testing.TB
	ctx    context.Context
	stop   context.CancelFunc
	wg     sync.WaitGroup
	rate   float64
	delay  time.Duration
	dials  map[byte]int
	mu     sync.Mutex
	breaks map[byte]int64 // streams to this peer tear after so many bytes
}

func newTestNet(t testing.TB, rate float64, delay time.Duration) *testNet {
	ctx, stop := context.WithCancel(t.Context())
	n := &testNet{t: t, ctx: ctx, stop: stop, rate: rate, delay: delay, dials: make(map[byte]int), breaks: make(map[byte]int64)}
	return n
}

// close ends all servers and waits for them.
func (n *testNet) close() {
	n.stop()
	n.wg.Wait()
}

func peerHash(b byte) stc.Hash { return stc.Hash{b, 31: b} }

// dialer connects to a server.
func (n *testNet) dialer(peer byte, s *Server) Dialer {
	return n.dialerTo(peer, func(ctx context.Context, conn net.Conn) { s.Serve(ctx, conn, peerHash(200)) })
}

// dialerTo connects to whatever serve does, over a stream of the net's rate.
func (n *testNet) dialerTo(peer byte, serve func(context.Context, net.Conn)) Dialer {
	return n.dialerAt(peer, n.rate, n.delay, serve)
}

func (n *testNet) dialerAt(peer byte, rate float64, delay time.Duration, serve func(context.Context, net.Conn)) Dialer {
	return func(context.Context) (net.Conn, error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.ctx.Err() != nil {
			return nil, errors.New("net is down")
		}
		n.dials[peer]++
		client, server := newTestPipe(rate, delay)
		server.out.breakAt = n.breaks[peer]
		n.wg.Go(func() {
			defer server.Close()
			serve(n.ctx, server)
		})
		return client, nil
	}
}
