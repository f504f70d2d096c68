package swarm

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// One seeder and twelve fetchers that start together and know each other, all
// at 50 Mbit/s: they feed each other, and the seeder sends the content hardly
// more than once.
func TestFlashCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const fetchers, rate, delay = 12, 50e6 / 8, 10 * time.Millisecond
		n := newTestNet(t, 0, 0)
		defer n.close()
		seed := newMemStore()
		data := randomBytes(1, 16<<20)
		root := seed.putFile(data, 16, true).hash
		seed.pin(root)

		hosts := make([]*uplink, fetchers+1) // 0 is the seeder
		servers := []*Server{NewServer(seed, ServerConfig{})}
		crowd := []fetchCase{{}}
		for i := range hosts {
			hosts[i] = &uplink{rate: rate}
			if i > 0 {
				f := newFetch(t, root, func(c *Config) { c.Seed = uint64(i) })
				crowd = append(crowd, f)
				servers = append(servers, NewServer(f.store, ServerConfig{}))
				servers[i].Share(f.Download)
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
		if took > 3*once { // without each other, 12 times
			t.Errorf("took %v; to send it once takes %v", took, once)
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
