package swarm

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// What limits a download is said while it runs.
func TestLimit(t *testing.T) {
	seed := newMemStore()
	root := seed.putFile(randomBytes(1, 64<<20), 18, true).hash
	seed.pin(root)
	for name, c := range map[string]struct {
		want   Limit
		rate   float64
		change func(*Config)
		peers  int
	}{
		"nobody is there": {want: LimitPeer},
		"a slow network":  {want: LimitNetwork, rate: 1e6, peers: 2},
		"a slow disk": {want: LimitDisk, rate: 1e9, peers: 1, change: func(c *Config) {
			c.Store.(*memStore).fullTime = 2 * time.Second
		}},
		"a limit of the rate": {want: LimitRate, rate: 1e9, peers: 1, change: func(c *Config) {
			c.Limiter = NewLimiter(Limits{Rates: Rates{Down: 1 << 20}})
		}},
		"a reader": {want: LimitReader, rate: 1e9, peers: 1, change: func(c *Config) { c.Part = &Part{Follow: true} }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newTestNet(t, c.rate, 5*time.Millisecond)
				defer n.close()
				f := newFetch(t, root, func(cfg *Config) {
					cfg.Store = newMemStore()
					if c.change != nil {
						c.change(cfg)
					}
				})
				for i := range c.peers {
					f.AddPeer(peerHash(byte(i)), "", n.dialer(byte(i), NewServer(seed, ServerConfig{})))
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() {
					defer close(done)
					_ = f.Run(ctx)
				}()
				time.Sleep(8 * time.Second)
				p := f.Progress()
				if p.Limit != c.want || p.Complete {
					t.Errorf("limited by the %v, not the %v: %+v", p.Limit, c.want, p)
				}
				cancel()
				<-done
			})
		})
	}
}

// Whatever comes over is counted, once: as what was fetched, or as wasted.
func TestEveryByteIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 4e6, 10*time.Millisecond)
		defer n.close()
		seed := newMemStore()
		root := seed.putFile(randomBytes(1, 24<<20), 18, true).hash
		seed.pin(root)
		n.breaks[2] = 1<<20 + 100_000 // in the middle of a chunk
		f := newFetch(t, root, nil)
		f.AddPeer(peerHash(1), "", n.dialer(1, NewServer(seed, ServerConfig{})))
		f.AddPeer(peerHash(2), "", n.dialer(2, NewServer(seed, ServerConfig{})))
		p := f.mustComplete(t, seed)
		if p.Partial == 0 {
			t.Errorf("streams tore in the middle of blobs: %+v", p)
		}
		if p.Wasted() != p.Duplicate+p.Partial || p.Wasted() > p.Fetched/4 {
			t.Errorf("%d bytes wasted: %+v", p.Wasted(), p)
		}
	})
}
