package swarm

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/stc"
)

// sinkStore serves from another store and forgets what is stored.
type sinkStore struct {
	mu   sync.Mutex
	have map[stc.Hash]struct{}
}

func (s *sinkStore) Has(h stc.Hash) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.have[h]
	return ok, nil
}

func (s *sinkStore) Get(dst []byte, _ stc.Hash) ([]byte, error) { return dst, content.ErrNotFound }

func (s *sinkStore) Submit(_ context.Context, hashes []stc.Hash, _ [][]byte) (func(context.Context) error, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range hashes {
		s.have[h] = struct{}{}
	}
	return func(context.Context) error { return nil }, nil
}

// tcpSeeder serves a store on loopback TCP.
func tcpSeeder(b testing.TB, s *Server) Dialer {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { s.Serve(ctx, conn, stc.Hash{1}) })
		}
	})
	b.Cleanup(func() {
		stop()
		l.Close()
		wg.Wait()
	})
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", l.Addr().String())
	}
}

// BenchmarkFetch fetches 256 MiB over loopback TCP, in clear, and throws it
// away: the cost of the swarm itself with verification, and everything in one
// process.
func BenchmarkFetch(b *testing.B) {
	seed := newMemStore()
	const size = 256 << 20
	root := seed.putFile(randomBytes(1, size), 18, true).hash
	seed.pin(root)
	for _, peers := range []int{1, 3} {
		b.Run(fmt.Sprintf("peers=%d", peers), func(b *testing.B) {
			var dialers []Dialer
			for range peers {
				dialers = append(dialers, tcpSeeder(b, NewServer(seed, ServerConfig{})))
			}
			b.SetBytes(size)
			b.ReportAllocs()
			least := 1.0
			for b.Loop() {
				d, err := NewDownload(Config{Root: root, Store: &sinkStore{have: make(map[stc.Hash]struct{})}})
				if err != nil {
					b.Fatal(err)
				}
				for i, dial := range dialers {
					d.AddPeer(peerHash(byte(i+1)), "", dial)
				}
				if err := d.Run(b.Context()); err != nil {
					b.Fatal(err)
				}
				p := d.Progress()
				for _, s := range p.Sources {
					least = min(least, float64(s.Bytes)/float64(p.Fetched))
				}
				if p.Duplicate*50 > p.Fetched {
					b.Errorf("%d bytes twice", p.Duplicate)
				}
			}
			b.ReportMetric(100*least, "%least-share")
		})
	}
}

// BenchmarkFetchSmallFiles fetches a tree of 10,000 files of 4 KiB likewise.
func BenchmarkFetchSmallFiles(b *testing.B) {
	seed := newMemStore()
	var dirs []testRef
	for d := range 40 {
		var files []testRef
		for f := range 250 {
			files = append(files, seed.putFile(randomBytes(uint64(d*1000+f), 4<<10), 18, false))
		}
		dirs = append(dirs, seed.putDir(files, false))
	}
	root := seed.putDir(dirs, true).hash
	seed.pin(root)
	dial := tcpSeeder(b, NewServer(seed, ServerConfig{}))
	b.ReportAllocs()
	for b.Loop() {
		d, err := NewDownload(Config{Root: root, Store: &sinkStore{have: make(map[stc.Hash]struct{})}})
		if err != nil {
			b.Fatal(err)
		}
		d.AddPeer(peerHash(1), "", dial)
		if err := d.Run(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(10_000*float64(b.N)/b.Elapsed().Seconds(), "files/s")
}

// BenchmarkFetchStored fetches the same from one encrypted store into
// another, to durable.
func BenchmarkFetchStored(b *testing.B) {
	const size = 256 << 20
	seed, err := content.Open(b.TempDir(), content.Config{Key: [32]byte{1}})
	if err != nil {
		b.Fatal(err)
	}
	defer seed.Close()
	mem := newMemStore()
	root := mem.putFile(randomBytes(1, size), 18, true).hash
	var blobs [][]byte
	for _, blob := range mem.blobs {
		blobs = append(blobs, blob)
	}
	if _, err := seed.PutMany(b.Context(), blobs); err != nil {
		b.Fatal(err)
	}
	if err := seed.Pin(b.Context(), root, content.PinInfo{State: content.PinComplete}); err != nil {
		b.Fatal(err)
	}
	dial := tcpSeeder(b, NewServer(seed, ServerConfig{}))
	b.SetBytes(size)
	for b.Loop() {
		b.StopTimer()
		store, err := content.Open(b.TempDir(), content.Config{Key: [32]byte{2}})
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		d, err := NewDownload(Config{Root: root, Store: store})
		if err != nil {
			b.Fatal(err)
		}
		d.AddPeer(peerHash(1), "", dial)
		if err := d.Run(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		store.Close()
		b.StartTimer()
	}
}
