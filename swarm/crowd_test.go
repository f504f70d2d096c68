package swarm

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/stc"
)

// One seeder and sixteen fetchers that start together and know each other, all
// at 50 Mbit/s: they feed each other, and the seeder sends the content hardly
// more than once.
func TestFlashCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, delay = 50e6 / 8, 10 * time.Millisecond
		fetchers, size := 16, 32<<20
		if testing.Short() {
			fetchers, size = 8, 16<<20
		}
		n := newTestNet(t, 0, 0)
		defer n.close()
		seed := newMemStore()
		data := randomBytes(1, size)
		root := seed.putFile(data, 16, true).hash
		seed.pin(root)

		hosts := make([]*uplink, fetchers+1) // 0 is the seeder
		servers := []*Server{NewServer(seed, ServerConfig{})}
		crowd := []fetchCase{{}}
		for i := range hosts {
			hosts[i] = &uplink{rate: rate}
			if i > 0 {
				f := newFetch(t, root, func(c *Config) { c.Seed, c.Self = uint64(i), peerHash(byte(100+i)) })
				crowd = append(crowd, f)
				servers = append(servers, NewServer(f.store, ServerConfig{}))
				servers[i].Share(f.Download, nil)
			}
		}
		dialer := func(to, from int) Dialer {
			return func(context.Context) (net.Conn, error) {
				client, server := newTestPipe(0, delay)
				client.in.buffer = 128 << 10
				client.in.shared, client.out.shared = hosts[to], hosts[from]
				n.wg.Go(func() { servers[to].Serve(n.ctx, server, peerHash(byte(100+from))) })
				return client, nil
			}
		}
		start := time.Now()
		var wg sync.WaitGroup
		for i := 1; i <= fetchers; i++ {
			for j := range hosts {
				if j != i {
					crowd[i].AddPeer(peerHash(byte(100+j)), "", dialer(j, i))
				}
			}
			wg.Go(func() {
				if err := crowd[i].Run(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		took, once := time.Since(start), seconds(float64(len(data))/rate)
		t.Logf("took %.2f of the time to send it once, the seeder sent it %.2f times", took.Seconds()/once.Seconds(), float64(hosts[0].sent)/float64(len(data)))
		if took > once*16/10 { // without each other, 16 times
			t.Errorf("took %v; to send it once takes %v", took, once)
		}
		if sent := hosts[0].sent; sent > int64(len(data))*13/10 {
			t.Errorf("the seeder sent %d bytes of %d", sent, len(data))
		}
		var fetched, twice uint64
		for _, f := range crowd[1:] {
			p := f.Progress()
			fetched, twice = fetched+p.Fetched, twice+p.Duplicate
		}
		if twice*50 > fetched {
			t.Errorf("%d of %d bytes came twice", twice, fetched)
		}
	})
}

// Everybody who knows all others deals alike: each chunk is of exactly one, and
// all get about the same. When one leaves, the others share its part.
func TestDeal(t *testing.T) {
	const fellows, chunks = 8, 2000
	var all []*scheduler
	var ids [][]peerID
	now := time.Unix(1e6, 0)
	for i := range fellows {
		s := newScheduler(schedulerConfig{budget: 32 << 20, timeout: time.Minute, self: lotKey(peerHash(byte(i + 1)))})
		s.peerHasAll(s.addPeer(now))
		var known []peerID
		for j := range fellows {
			id := s.addPeer(now)
			s.byID[id].key = lotKey(peerHash(byte(j + 1)))
			if j != i {
				s.peerHas(id, nil)
			} else {
				s.removePeer(id)
			}
			known = append(known, id)
		}
		for c := range chunks {
			s.add(simHash(c), 1<<16, false, span{uint64(c), uint64(c) + 1})
		}
		all, ids = append(all, s), append(ids, known)
	}
	check := func(all []*scheduler) {
		t.Helper()
		owners := make(map[stc.Hash]int)
		for i, s := range all {
			var out plan
			s.deal(&out)
			mine := 0
			for _, it := range s.queues[queueOurs].items {
				if it != nil {
					owners[it.hash]++
					mine++
				}
			}
			if fair := chunks / len(all); mine < fair*8/10 || mine > fair*12/10 {
				t.Errorf("fetcher %d of %d got %d of %d chunks", i, len(all), mine, chunks)
			}
		}
		for h, n := range owners {
			if n != 1 {
				t.Fatalf("chunk %v is of %d fetchers", h, n)
			}
		}
		if len(owners) != chunks {
			t.Errorf("%d of %d chunks are of anybody", len(owners), chunks)
		}
	}
	check(all)
	for i, s := range all[1:] {
		s.removePeer(ids[i+1][0])
	}
	check(all[1:])
	// Who is complete takes part no more.
	for i, s := range all[2:] {
		s.peerHasAll(ids[i+2][1])
	}
	check(all[2:])
}

// A fellow that gives little, or nothing at all, makes nobody wait for it: the
// fetch is as fast as without it.
func TestSlowFellow(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector, which shorter tests serve as well")
	}
	for _, c := range []struct {
		name string
		rate float64
	}{{"slow", 50e3}, {"has nothing", 10e6}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newTestNet(t, 10e6, 20*time.Millisecond)
				defer n.close()
				seed := newMemStore()
				root := seed.putFile(randomBytes(51, 32<<20), 18, true).hash
				seed.pin(root)
				part := newMemStore()
				if c.rate < 1e6 {
					part = seed.clone()
					for h := range part.blobs {
						if _, chunk := seed.chunks[h]; chunk && h[0] < 128 {
							delete(part.blobs, h)
						}
					}
					part.pins = nil
				} else {
					part.blobs[root] = seed.blobs[root]
				}
				f := newFetch(t, root, func(cfg *Config) { cfg.Self = peerHash(9) })
				f.AddPeer(peerHash(1), "", n.dialer(1, NewServer(seed, ServerConfig{})))
				other := NewServer(part, ServerConfig{})
				f.AddPeer(peerHash(2), "", n.dialerAt(2, c.rate, 20*time.Millisecond, func(ctx context.Context, conn net.Conn) {
					other.Serve(ctx, conn, peerHash(200))
				}))
				start := time.Now()
				p := f.mustComplete(t, seed)
				if took, alone := time.Since(start), seconds(32<<20/n.rate); took > alone*11/10 {
					t.Errorf("took %v, alone %v", took, alone)
				}
				if p.Duplicate*50 > p.Fetched {
					t.Errorf("%d of %d bytes came twice", p.Duplicate, p.Fetched)
				}
			})
		})
	}
}
