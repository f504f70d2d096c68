package swarm

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/stc"
)

// chunksOf returns the hashes of data cut into chunks of 1<<log bytes.
func chunksOf(data []byte, log int) (all []stc.Hash) {
	for at := 0; at < len(data); at += 1 << log {
		all = append(all, stc.Sum(data[at:min(at+1<<log, len(data))]))
	}
	return all
}

// has reports whether a store has a blob.
func (s *memStore) has(h stc.Hash) bool {
	ok, _ := s.Has(h)
	return ok
}

// A part brings the chunks that hold any of its bytes, and no others.
func TestPartRanges(t *testing.T) {
	const log = 12
	seed := newMemStore()
	data := randomBytes(1, 3<<20+77)
	root := seed.putFile(data, log, true).hash
	seed.pin(root)
	hashes := chunksOf(data, log)
	rng := rand.New(rand.NewPCG(testSeed(t), 1))
	for range 10 {
		ranges := []Range{}
		wanted := make([]bool, len(hashes))
		at := uint64(0)
		for range rng.IntN(4) {
			at += rng.Uint64N(1 << 20)
			n := rng.Uint64N(1<<20) + 1
			ranges = append(ranges, Range{at, n})
			for i := range wanted {
				lo := uint64(i) << log
				wanted[i] = wanted[i] || lo < at+n && at < lo+1<<log
			}
			at += n
		}
		synctest.Test(t, func(t *testing.T) {
			n := newTestNet(t, 0, time.Millisecond)
			defer n.close()
			f := newFetch(t, root, func(c *Config) { c.Part = &Part{Ranges: ranges} })
			f.AddPeer(peerHash(1), "", n.dialer(1, NewServer(seed, ServerConfig{})))
			if err := f.Run(t.Context()); err != nil {
				t.Fatalf("%v: %v", ranges, err)
			}
			for i, h := range hashes {
				if f.store.has(h) != wanted[i] {
					t.Fatalf("%v: chunk %d is here: %v", ranges, i, f.store.has(h))
				}
			}
			if !f.store.has(root) || !f.Progress().Complete {
				t.Error("without the root, or not complete")
			}
		})
	}
}

func TestPartDirectories(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 0, time.Millisecond)
		defer n.close()
		seed := newMemStore()
		file := seed.putFile(randomBytes(1, 9<<10), 10, false)
		small := seed.putFile(randomBytes(2, 100), 10, false)
		empty := seed.putDir(nil, false)
		inner := seed.putDir([]testRef{small, empty}, false)
		root := seed.putDir([]testRef{file, inner, small, inner}, true)
		seed.pin(root.hash)
		f := newFetch(t, root.hash, func(c *Config) { c.Part = &Part{Directories: true} })
		f.AddPeer(peerHash(1), "", n.dialer(1, NewServer(seed, ServerConfig{})))
		if err := f.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(f.store.blobs) != 3 || !f.store.has(inner.hash) || !f.store.has(empty.hash) {
			t.Errorf("%d blobs are here, not the three directories", len(f.store.blobs))
		}
	})
}

func TestPartRefuses(t *testing.T) {
	for _, ranges := range [][]Range{{{10, 5}, {12, 1}}, {{10, 5}, {0, 1}}, {{1, ^uint64(0)}}} {
		if _, err := NewDownload(Config{Root: stc.Sum(nil), Store: newMemStore(), Part: &Part{Ranges: ranges}}); err == nil {
			t.Errorf("%v is taken", ranges)
		}
	}
}

// reading is a download that somebody reads along.
type reading struct {
	fetchCase
	t      *testing.T
	hashes []stc.Hash
	log    int
	done   chan error
}

func newReading(t *testing.T, seed *memStore, data []byte, log int) *reading {
	root := seed.putFile(data, log, true).hash
	seed.pin(root)
	f := newFetch(t, root, func(c *Config) { c.Part = &Part{Follow: true} })
	return &reading{f, t, chunksOf(data, log), log, make(chan error, 1)}
}

func (r *reading) run(ctx context.Context) {
	go func() { r.done <- r.Run(ctx) }()
}

// at reads at an offset and returns how long that took.
func (r *reading) at(offset, ahead int) time.Duration {
	r.t.Helper()
	start := time.Now()
	r.Read(uint64(offset), uint64(ahead))
	for !r.store.has(r.hashes[offset>>r.log]) {
		select {
		case err := <-r.done:
			r.t.Fatalf("download ended while somebody reads at %d: %v", offset, err)
		case <-time.After(100 * time.Microsecond):
		}
		if time.Since(start) > time.Minute {
			r.t.Fatalf("nothing came at %d: %+v", offset, r.Progress())
		}
	}
	return time.Since(start)
}

// The first bytes are here one round trip after a stream to the first provider
// is open, and one after a seek, although the content is three levels deep.
func TestReadRoundTrips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rtt = 100 * time.Millisecond
		n := newTestNet(t, 0, rtt/2)
		defer n.close()
		seed := newMemStore()
		r := newReading(t, seed, randomBytes(1, 240<<10), 10) // 16 nodes of 16 chunks
		ctx, cancel := context.WithCancel(t.Context())
		r.Read(0, 16<<10)
		r.run(ctx)
		time.Sleep(time.Second)
		r.AddPeer(peerHash(1), "", n.dialer(1, NewServer(seed, ServerConfig{})))
		if d := r.at(0, 16<<10); d > rtt+rtt/10 {
			t.Errorf("the first bytes came after %v", d)
		}
		time.Sleep(time.Second)
		if got := r.Progress().Fetched; got > 20<<10 {
			t.Errorf("%d bytes were fetched for a window of 16 KiB", got)
		}
		for _, at := range []int{200 << 10, 100 << 10, 230 << 10} {
			if d := r.at(at, 1<<10); d > rtt+rtt/10 {
				t.Errorf("the bytes at %d came after %v", at, d)
			}
		}
		// Where the window was already, nothing is waited for.
		if d := r.at(5<<10, 1<<10); d > 0 {
			t.Errorf("what is here came after %v", d)
		}
		cancel()
		if err := <-r.done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// A seek does not wait for what is under way, even over a slow link.
func TestSeekGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rtt = 40 * time.Millisecond
		n := newTestNet(t, 1.25e6, rtt/2) // 10 Mbit/s
		defer n.close()
		seed := newMemStore()
		data := randomBytes(1, 64<<20)
		r := newReading(t, seed, data, 16)
		r.run(t.Context())
		r.AddPeer(peerHash(1), "", n.dialer(1, NewServer(seed, ServerConfig{})))
		r.at(0, 16<<20)
		time.Sleep(time.Second) // the rest of the window would take 12 s
		if d := r.at(40<<20, 16<<20); d > 1500*time.Millisecond {
			t.Errorf("the bytes at a seek came after %v", d)
		}
	})
}

// Whatever somebody reads comes, from peers of which one breaks off again and
// again, and one lies.
func TestReadAnywhere(t *testing.T) {
	seed := testSeed(t)
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 12.5e6, 5*time.Millisecond)
		defer n.close()
		store := newMemStore()
		data := randomBytes(1, 4<<20+5)
		r := newReading(t, store, data, 12)
		lying := store.clone()
		for h := range store.chunks {
			b := append([]byte(nil), lying.blobs[h]...)
			b[0] ^= 1
			lying.blobs[h] = b
		}
		n.breaks[2] = 300 << 10
		r.AddPeer(peerHash(1), "", n.dialer(1, NewServer(store, ServerConfig{})))
		r.AddPeer(peerHash(2), "", n.dialer(2, NewServer(store, ServerConfig{})))
		r.AddPeer(peerHash(3), "", n.dialer(3, NewServer(lying, ServerConfig{})))
		r.run(t.Context())
		rng := rand.New(rand.NewPCG(seed, 2))
		at := 0
		for range 300 {
			if rng.IntN(3) == 0 {
				at = rng.IntN(len(data))
			}
			r.at(at, rng.IntN(1<<20)+1)
			time.Sleep(time.Duration(rng.IntN(3)) * time.Millisecond)
			at = min(at+rng.IntN(64<<10), len(data)-1)
		}
		p := r.Progress()
		if p.Complete || p.Bad == 0 || p.Unwanted == 0 {
			t.Errorf("%+v", p)
		}
	})
}

// Nobody waits for anything: then a download has not stalled, however long
// that takes. Then somebody does.
func TestReaderPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 0, time.Millisecond)
		defer n.close()
		seed := newMemStore()
		r := newReading(t, seed, randomBytes(1, 1<<20), 12)
		r.run(t.Context())
		r.AddPeer(peerHash(1), "", n.dialer(1, NewServer(seed, ServerConfig{})))
		r.at(0, 4<<10)
		time.Sleep(time.Hour)
		r.at(512<<10, 4<<10)
		n.stop()
		r.NoMorePeers()
		r.Read(900<<10, 4<<10)
		if err := <-r.done; !errors.Is(err, ErrNoPeers) {
			t.Errorf("without a peer: %v", err)
		}
	})
}
