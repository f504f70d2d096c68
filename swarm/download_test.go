package swarm

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/stc"
)

// fetchCase is a download with its store, ready to run.
type fetchCase struct {
	*Download
	store *memStore
}

func newFetch(t testing.TB, root stc.Hash, change func(*Config)) fetchCase {
	t.Helper()
	store := newMemStore()
	cfg := Config{Root: root, Store: store, Seed: testSeed(t)}
	if change != nil {
		change(&cfg)
	}
	if s, ok := cfg.Store.(*memStore); ok {
		store = s
	}
	d, err := NewDownload(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return fetchCase{d, store}
}

// mustComplete runs the download and compares what it stored.
func (f fetchCase) mustComplete(t testing.TB, from *memStore) Progress {
	t.Helper()
	if err := f.Run(t.Context()); err != nil {
		t.Fatalf("Run: %v\n%+v", err, f.Progress())
	}
	if err := f.store.covers(from); err != nil {
		t.Fatal(err)
	}
	p := f.Progress()
	if !p.Complete || p.DoneSize != p.Size || p.DoneChunks != p.Chunks {
		t.Errorf("progress at the end: %+v", p)
	}
	return p
}

// A file with a tree of manifest nodes comes over from three peers, and each
// serves its share.
func TestFetchFromThree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 12.5e6, 10*time.Millisecond)
		defer n.close()
		seed := newMemStore()
		root := seed.putFile(randomBytes(1, 24<<20+77), 18, true).hash
		seed.pin(root)
		f := newFetch(t, root, nil)
		for i := byte(1); i <= 3; i++ {
			f.AddPeer(peerHash(i), "addr", n.dialer(i, NewServer(seed, ServerConfig{})))
		}
		start := time.Now()
		p := f.mustComplete(t, seed)
		took := time.Since(start)
		if p.Chunks != 97 || p.Size != 24<<20+77 {
			t.Errorf("content of %d bytes in %d chunks", p.Size, p.Chunks)
		}
		sum := uint64(0)
		for _, s := range p.Sources {
			sum += s.Bytes
			if s.Bytes*10 < p.Fetched*2 {
				t.Errorf("a source served %d of %d bytes", s.Bytes, p.Fetched)
			}
		}
		if sum != p.Fetched || p.Bad != 0 || p.Reused != 0 || p.Duplicate*50 > p.Fetched {
			t.Errorf("accounts: %d from sources, %+v", sum, p)
		}
		if ideal := seconds(float64(p.Fetched) / (3 * n.rate)); took > ideal*12/10 {
			t.Errorf("took %v, the lines need %v", took, ideal)
		}
	})
}

// A tree of many small files, half of them with a manifest of their own, costs
// few round trips.
func TestFetchManySmallFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 0, 25*time.Millisecond)
		defer n.close()
		seed := newMemStore()
		var dirs []testRef
		for d := range 20 {
			var files []testRef
			for f := range 250 {
				data := randomBytes(uint64(d*1000+f), 4<<10+f%2*100)
				files = append(files, seed.putFile(data, 12, false))
			}
			dirs = append(dirs, seed.putDir(files, false))
		}
		root := seed.putDir(dirs, true).hash
		seed.pin(root)
		f := newFetch(t, root, nil)
		f.AddPeer(peerHash(1), "", n.dialer(1, NewServer(seed, ServerConfig{})))
		start := time.Now()
		p := f.mustComplete(t, seed)
		if took, rtt := time.Since(start), 50*time.Millisecond; took > 40*rtt {
			t.Errorf("%d blobs took %v, that is %d round trips", p.FetchedBlobs, took, took/rtt)
		}
	})
}

// What the store has is never fetched again, be it after a run that was
// interrupted at any point.
func TestFetchResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 10e6, 5*time.Millisecond)
		defer n.close()
		seed := newMemStore()
		root := seed.putFile(randomBytes(2, 8<<20), 16, true).hash
		seed.pin(root)
		total := uint64(0)
		for _, b := range seed.blobs {
			total += uint64(len(b))
		}
		store := newMemStore()
		store.syncTime = 3 * time.Millisecond
		fetched := uint64(0)
		runs := 0
		for ; ; runs++ {
			f := newFetch(t, root, func(c *Config) { c.Store = store })
			f.AddPeer(peerHash(1), "", n.dialer(1, NewServer(seed, ServerConfig{})))
			ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
			err := f.Run(ctx)
			cancel()
			p := f.Progress()
			fetched += p.Fetched
			if held := uint64(len(store.blobs)); p.FetchedBlobs+p.ReusedBlobs > held {
				t.Errorf("%d blobs fetched and %d reused, %d in the store", p.FetchedBlobs, p.ReusedBlobs, held)
			}
			if err == nil {
				break
			}
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
		}
		if runs < 3 {
			t.Errorf("%d runs were interrupted", runs)
		}
		if fetched != total {
			t.Errorf("%d bytes fetched in all runs for a content of %d with its manifests", fetched, total)
		}
		if err := store.covers(seed); err != nil {
			t.Error(err)
		}
		// Everything is here: no peer is needed.
		f := newFetch(t, root, func(c *Config) { c.Store = store })
		if p := f.mustComplete(t, seed); p.Fetched != 0 || p.Reused != 8<<20 {
			t.Errorf("%d bytes fetched and %d reused of a complete content", p.Fetched, p.Reused)
		}
	})
}

// What was verified when the fetch is interrupted is stored, though the store
// was busy just then.
func TestFetchInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 0, time.Millisecond)
		defer n.close()
		seed := newMemStore()
		root := seed.putFile(randomBytes(2, 8<<20), 16, true).hash
		seed.pin(root)
		f := newFetch(t, root, nil)
		f.store.syncTime = 2 * time.Second
		f.AddPeer(peerHash(1), "", n.dialer(1, NewServer(seed, ServerConfig{})))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := f.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if err := f.store.covers(seed); err != nil {
			t.Error(err)
		}
		if p := f.Progress(); p.FetchedBlobs != uint64(len(seed.blobs)) {
			t.Errorf("%d blobs counted, %d stored", p.FetchedBlobs, len(seed.blobs))
		}
	})
}

// One chunk damaged in the local store is fetched again; nothing else is.
func TestFetchRepairsDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 0, time.Millisecond)
		defer n.close()
		seed := newMemStore()
		data := randomBytes(3, 1<<20)
		root := seed.putFile(data, 16, true).hash
		seed.pin(root)
		store := seed.clone()
		store.corrupt[stc.Sum(data[:1<<16])] = true
		store.corrupt[root] = true
		f := newFetch(t, root, func(c *Config) { c.Store = store })
		f.AddPeer(peerHash(1), "", n.dialer(1, NewServer(seed, ServerConfig{})))
		if p := f.mustComplete(t, seed); p.FetchedBlobs != 2 {
			t.Errorf("%d blobs fetched to repair two", p.FetchedBlobs)
		}
	})
}

// The same chunk many times, the same directory many times: fetched once,
// counted as often as it occurs.
func TestFetchRepeatedContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 0, time.Millisecond)
		defer n.close()
		seed := newMemStore()
		zeros := seed.putFile(make([]byte, 3000<<12), 12, false)
		var mixed []byte
		for i := range 1000 { // two chunks in turn, too many places to note
			mixed = append(mixed, randomBytes(uint64(i%2), 1<<12)...)
		}
		inner := seed.putDir([]testRef{zeros, seed.putFile(mixed, 12, false), seed.putFile(randomBytes(9, 5), 12, false)}, false)
		for range 12 { // 4^12 directories
			inner = seed.putDir([]testRef{inner, inner, inner, inner}, false)
		}
		empty := seed.putDir(nil, false)
		root := seed.putDir([]testRef{inner, empty, empty}, true)
		seed.pin(root.hash)
		f := newFetch(t, root.hash, nil)
		f.AddPeer(peerHash(1), "", n.dialer(1, NewServer(seed, ServerConfig{})))
		p := f.mustComplete(t, seed)
		if p.FetchedBlobs != uint64(len(seed.blobs)) || p.Size != root.size || p.Duplicate != 0 {
			t.Errorf("%d blobs fetched of %d different ones; %+v", p.FetchedBlobs, len(seed.blobs), p)
		}
	})
}

// slowNodes makes what holds a manifest node durable slowly.
type slowNodes struct{ *memStore }

func (s slowNodes) Submit(ctx context.Context, hashes []stc.Hash, blobs [][]byte) (func(context.Context) error, error) {
	isNode := slices.ContainsFunc(blobs, func(b []byte) bool { return bytes.HasPrefix(b, []byte("STM\x01")) })
	durable, err := s.memStore.Submit(ctx, hashes, blobs)
	if !isNode {
		err = durable(ctx)
		return func(context.Context) error { return nil }, err
	}
	return func(ctx context.Context) error {
		time.Sleep(time.Second) // what a disk takes, on the time of the bubble
		return durable(ctx)
	}, err
}

// A chunk that is stored before the node above it is announced only behind it.
func TestAnnouncedBehindNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 0, time.Millisecond)
		defer n.close()
		seed := newMemStore()
		data := randomBytes(10, 1<<16)
		root := seed.putFile(data, 16, true).hash
		seed.pin(root)
		store := newMemStore()
		f := newFetch(t, root, func(c *Config) { c.Store = slowNodes{store} })
		f.AddPeer(peerHash(1), "", n.dialer(1, NewServer(seed, ServerConfig{})))
		done := make(chan error)
		go func() { done <- f.Run(t.Context()) }()
		time.Sleep(500 * time.Millisecond)
		if here, _ := store.Has(stc.Sum(data)); !here {
			t.Error("the chunk waits for the node")
		}
		follower := f.have.follow()
		if spans, _ := follower.take(); len(spans) > 0 {
			t.Errorf("%v is announced before the root is stored", spans)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, complete := follower.take(); !complete {
			t.Error("the end is not announced")
		}
	})
}

// slowProbes takes 10 ms to say whether a blob is there.
type slowProbes struct{ *memStore }

func (s slowProbes) Has(h stc.Hash) (bool, error) {
	time.Sleep(10 * time.Millisecond) // what a disk takes, on the time of the bubble
	return s.memStore.Has(h)
}

// A chunk that is stored while a probe that found it missing is still out is
// not fetched again.
func TestProbeOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 0, 50*time.Millisecond)
		defer n.close()
		seed := newMemStore()
		var files []testRef
		for i := range 512 {
			files = append(files, seed.putFile(randomBytes(uint64(i%256), 100), 16, false))
		}
		root := seed.putDir(files, true).hash
		seed.pin(root)
		f := newFetch(t, root, nil)
		f.cfg.Store = slowProbes{f.store}
		f.AddPeer(peerHash(1), "", n.dialer(1, NewServer(seed, ServerConfig{})))
		if p := f.mustComplete(t, seed); p.FetchedBlobs != 257 || p.DoneChunks != 512 {
			t.Errorf("%d blobs fetched, 257 are different; %d chunks done of 512", p.FetchedBlobs, p.DoneChunks)
		}
	})
}

// A fetcher serves what it has while it fetches: a second one that knows only
// the first completes hardly later.
func TestServeWhileFetching(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 10e6, 5*time.Millisecond)
		defer n.close()
		seed := newMemStore()
		root := seed.putFile(randomBytes(4, 16<<20), 18, true).hash
		seed.pin(root)
		first := newFetch(t, root, nil)
		first.AddPeer(peerHash(1), "", n.dialer(1, NewServer(seed, ServerConfig{})))
		relay := NewServer(first.store, ServerConfig{})
		unshare := relay.Share(first.Download, nil)
		done := make(chan error)
		go func() { done <- first.Run(t.Context()); unshare() }()

		time.Sleep(100 * time.Millisecond) // the relay is in the middle of it
		second := newFetch(t, root, nil)
		second.AddPeer(peerHash(2), "", n.dialer(2, relay))
		start := time.Now()
		second.mustComplete(t, seed)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if ideal := seconds(float64(16<<20) / 10e6); time.Since(start) > ideal+time.Second {
			t.Errorf("the second fetch took %v, the first at least %v", time.Since(start), ideal)
		}
		if st := relay.Stats(); st.Missing > 0 {
			t.Errorf("%d requests for what was not there", st.Missing)
		}
	})
}

// Two peers with one half each are enough, and nobody is asked for what it
// doesn't have.
func TestFetchFromHalves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 10e6, 5*time.Millisecond)
		defer n.close()
		seed := newMemStore()
		data := randomBytes(5, 4<<20)
		root := seed.putFile(data, 16, true).hash
		halves := []*memStore{seed.clone(), seed.clone()}
		for i := range 64 {
			delete(halves[i%2].blobs, stc.Sum(data[i<<16:(i+1)<<16]))
		}
		f := newFetch(t, root, nil)
		servers := []*Server{NewServer(halves[0], ServerConfig{}), NewServer(halves[1], ServerConfig{})}
		for i, s := range servers {
			f.AddPeer(peerHash(byte(i+1)), "", n.dialer(byte(i+1), s))
		}
		f.mustComplete(t, seed)
		for i, s := range servers {
			if st := s.Stats(); st.Missing > 0 {
				t.Errorf("peer %d was asked for %d blobs that it did not announce", i, st.Missing)
			}
		}
	})
}

// errorNet is what the tests of failures begin with.
func errorNet(t *testing.T) (n *testNet, seed *memStore, root stc.Hash) {
	n = newTestNet(t, 0, time.Millisecond)
	seed = newMemStore()
	root = seed.putFile(randomBytes(6, 1<<20), 16, true).hash
	seed.pin(root)
	return n, seed, root
}

func TestFetchFromNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, root := errorNet(t)
		f := newFetch(t, root, nil)
		f.NoMorePeers()
		if err := f.Run(t.Context()); !errors.Is(err, ErrNoPeers) {
			t.Error(err)
		}
		if err := f.Run(t.Context()); err == nil {
			t.Error("Run twice")
		}

		// Somebody might still come.
		f = newFetch(t, root, func(c *Config) { c.StallTimeout = 5 * time.Second })
		start := time.Now()
		if err := f.Run(t.Context()); !errors.Is(err, ErrNoPeers) || time.Since(start) != 5*time.Second {
			t.Error(err, time.Since(start))
		}
	})
}

func TestFetchNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, seed, _ := errorNet(t)
		defer n.close()
		f := newFetch(t, peerHash(77), nil)
		f.AddPeer(peerHash(1), "", n.dialer(1, NewServer(seed, ServerConfig{})))
		f.NoMorePeers()
		start := time.Now()
		if err := f.Run(t.Context()); !errors.Is(err, ErrNoPeers) || !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		// Pauses of 250 ms, 500 ms, 1, 2 and 4 s.
		if d := time.Since(start); d < 7750*time.Millisecond || d > 8*time.Second {
			t.Errorf("gave up after %v", d)
		}
		if p := f.Progress(); p.Sources[0].State != SourceFailed || n.dials[1] != 6 {
			t.Errorf("%d dials, %+v", n.dials[1], p.Sources)
		}
	})
}

// One chunk that nobody has: everything else is stored, then the fetch gives
// up.
func TestFetchStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, seed, root := errorNet(t)
		defer n.close()
		part := seed.clone()
		delete(part.pins, root)
		for h, b := range part.blobs {
			if len(b) == 1<<16 {
				delete(part.blobs, h)
				break
			}
		}
		f := newFetch(t, root, nil)
		f.AddPeer(peerHash(1), "", n.dialer(1, NewServer(part, ServerConfig{})))
		f.NoMorePeers()
		start := time.Now()
		if err := f.Run(t.Context()); !errors.Is(err, ErrStalled) {
			t.Error(err)
		}
		if d := time.Since(start); d < time.Minute || d > 70*time.Second {
			t.Errorf("stalled after %v", d)
		}
		if err := f.store.covers(part); err != nil {
			t.Error(err)
		}
	})
}

func TestFetchDiskFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, seed, root := errorNet(t)
		defer n.close()
		store := newMemStore()
		store.putErr = content.ErrDiskFull
		f := newFetch(t, root, func(c *Config) { c.Store = store })
		f.AddPeer(peerHash(1), "", n.dialer(1, NewServer(seed, ServerConfig{})))
		if err := f.Run(t.Context()); !errors.Is(err, content.ErrDiskFull) {
			t.Error(err)
		}
	})
}

// Manifests whose hashes are right and whose contents are not: the content is
// broken, and no peer is to blame.
func TestFetchMalformedManifests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, bad, _ := errorNet(t)
		defer n.close()
		chunk := bad.putFile(randomBytes(7, 100), 16, false)
		wrongSize := chunk
		wrongSize.size = 99
		file := bad.putFile(randomBytes(8, 1<<17), 16, false)
		wrongFile := file
		wrongFile.size, wrongFile.chunks = 1<<18, 4
		for name, root := range map[string]stc.Hash{
			"no manifest":         bad.put([]byte("hello")),
			"chunk of other size": bad.putDir([]testRef{wrongSize}, true).hash,
			"one chunk two sizes": bad.putDir([]testRef{chunk, wrongSize}, true).hash,
			"file of other size":  bad.putDir([]testRef{wrongFile}, true).hash,
			"not a root":          bad.putDir([]testRef{file}, false).hash,
		} {
			bad.pin(root)
			f := newFetch(t, root, nil)
			f.AddPeer(peerHash(1), "", n.dialer(1, NewServer(bad, ServerConfig{})))
			if err := f.Run(t.Context()); !errors.Is(err, ErrBadManifest) {
				t.Errorf("%s: %v", name, err)
			}
			if p := f.Progress(); p.Bad != 0 {
				t.Errorf("%s: %d bytes held against the peer", name, p.Bad)
			}
		}
	})
}
