package swarm

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// about reports whether got is want to a twentieth.
func about(got, want float64) bool { return got > want*0.95 && got < want*1.05 }

// limitedSwarm is a seeder of 24 MiB with a limiter, and fetchers that come as
// they are asked for, on lines of 50 MB/s.
type limitedSwarm struct {
	t       *testing.T
	net     *testNet
	server  *Server
	limiter *Limiter
	seed    *memStore
	fetches map[byte]fetchCase
	cancel  context.CancelFunc
	ctx     context.Context
	wg      sync.WaitGroup
}

func newLimitedSwarm(t *testing.T, limits Limits) *limitedSwarm {
	s := &limitedSwarm{t: t, net: newTestNet(t, 50e6, 5*time.Millisecond), limiter: NewLimiter(limits), seed: newMemStore(), fetches: make(map[byte]fetchCase)}
	root := s.seed.putFile(randomBytes(21, 24<<20), 14, true).hash
	s.seed.pin(root)
	s.server = NewServer(s.seed, ServerConfig{Limiter: s.limiter})
	s.ctx, s.cancel = context.WithCancel(t.Context())
	for i := byte(1); i <= 2; i++ {
		s.fetches[i] = newFetch(t, root, nil)
	}
	return s
}

// fetch lets a peer fetch, over some streams at once.
func (s *limitedSwarm) fetch(peer byte, streams int) {
	f := s.fetches[peer]
	for i := range streams {
		f.AddPeer(peerHash(100+byte(i)), "", s.net.dialerTo(peer, func(ctx context.Context, conn net.Conn) {
			s.server.Serve(ctx, conn, peerHash(peer))
		}))
	}
	s.wg.Go(func() { f.Run(s.ctx) })
}

// over returns what each peer was given in some time, in bytes per second.
func (s *limitedSwarm) over(d time.Duration) (one, two float64) {
	got := func(peer byte) uint64 { p := s.fetches[peer].Progress(); return p.Fetched + p.Duplicate }
	one0, two0 := got(1), got(2)
	time.Sleep(d)
	return float64(got(1)-one0) / d.Seconds(), float64(got(2)-two0) / d.Seconds()
}

func (s *limitedSwarm) close() {
	s.cancel()
	s.wg.Wait()
	s.net.close()
}

// What is sent keeps to the limit of all and that of each peer, and peers share
// the former evenly, however many streams they have.
func TestLimitUp(t *testing.T) {
	for _, c := range []struct {
		name     string
		rates    Rates
		one, two float64
	}{
		{"all", Rates{Up: 2e6}, 1e6, 1e6},
		{"each", Rates{Peer: 5e5}, 5e5, 5e5},
		{"both", Rates{Up: 2e6, Peer: 6e5}, 6e5, 6e5},
		{"little", Rates{Up: 1e5}, 5e4, 5e4},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newLimitedSwarm(t, Limits{Rates: c.rates})
				defer s.close()
				s.fetch(1, 1)
				s.fetch(2, 8)
				s.over(2 * time.Second)
				one, two := s.over(100 * time.Second / time.Duration(c.one/5e4))
				if !about(one, c.one) || !about(two, c.two) {
					t.Errorf("%.0f and %.0f bytes per second, want %.0f and %.0f", one, two, c.one, c.two)
				}
				if s.server.Stats().Limited == 0 {
					t.Error("nothing has waited for the limit")
				}
			})
		})
	}
}

// Limits change while streams wait for them: by Set, and by their timetable.
// The bubble begins on Saturday, 1 January 2000, at midnight.
func TestLimitChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if !time.Now().Equal(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)) {
			t.Fatal("the bubble begins elsewhere")
		}
		minute := func(d time.Duration) string { return time.Now().Add(d).Format("15:04") }
		s := newLimitedSwarm(t, Limits{
			Rates:   Rates{Up: MinRate},
			Periods: periods(t, minute(2*time.Minute)+"-"+minute(3*time.Minute)+" up 100k"),
		})
		defer s.close()
		start := time.Now()
		s.fetch(1, 2)
		served := func() float64 { return float64(s.server.Stats().Bytes) }
		time.Sleep(2*time.Minute - time.Since(start))
		if got := served(); got > 3*60*float64(MinRate) {
			t.Errorf("%.0f bytes in two minutes at 1 KiB/s", got)
		}
		before := served()
		time.Sleep(time.Minute)
		if got := served() - before; got < 0.8*60*(100<<10) || got > 1.2*60*(100<<10) {
			t.Errorf("%.0f bytes in a minute at 100 KiB/s", got)
		}
		before = served()
		time.Sleep(time.Minute)
		if got := served() - before; got > 1<<20 {
			t.Errorf("%.0f bytes in a minute at 1 KiB/s", got)
		}
		if got := s.limiter.Rates(); got != (Rates{Up: MinRate}) {
			t.Errorf("the rates are %v", got)
		}
		// What waits at the low rate goes on at once.
		s.limiter.Set(Limits{})
		s.wg.Wait()
		if p := s.fetches[1].Progress(); !p.Complete || time.Since(start) > 4*time.Minute+5*time.Second {
			t.Errorf("complete %v %v after the start", p.Complete, time.Since(start))
		}
	})
}

// Who waits at the end of a long queue learns soon that the limit has gone,
// whoever took it away, a call or the timetable.
func TestLimiterWakes(t *testing.T) {
	for name, byTimetable := range map[string]bool{"Set": false, "timetable": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				limits := Limits{Rates: Rates{Up: MinRate}}
				if byTimetable {
					limits.Periods = periods(t, time.Now().Add(time.Minute).Format("15:04")+"-24:00 none")
				}
				l := NewLimiter(limits)
				start := time.Now()
				var wg sync.WaitGroup
				for range 200 { // the last of them would wait for minutes
					wg.Go(func() { l.waitUp(t.Context(), new(peerLimit), 1<<20) })
				}
				if !byTimetable {
					time.AfterFunc(time.Minute, func() { l.Set(Limits{}) })
				}
				wg.Wait()
				if d := time.Since(start); d < time.Minute || d > time.Minute+2*time.Second {
					t.Errorf("the last one waited %v, and the limit was there for a minute", d)
				}
			})
		})
	}
}

// A stream that waits for a limit ends at once when the server does.
func TestLimitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLimitedSwarm(t, Limits{Rates: Rates{Up: MinRate}})
		s.fetch(1, 4)
		s.fetch(2, 4)
		time.Sleep(20 * time.Second)
		start := time.Now()
		s.close()
		if d := time.Since(start); d > 2*closeTimeout {
			t.Errorf("it took %v", d)
		}
	})
}

// A fetch keeps to its limit by asking for less: it never takes its peers for
// slow, cancels nothing, and holds less in memory than it may.
func TestLimitDown(t *testing.T) {
	for _, c := range []struct {
		name  string
		rate  Rate
		bytes int
	}{
		{"fast", 8 << 20, 64 << 20},
		{"slow", 256 << 10, 8 << 20},
		{"far less than a chunk a second", 4 << 10, 1 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newTestNet(t, 50e6, 20*time.Millisecond)
				defer n.close()
				seed := newMemStore()
				root := seed.putFile(randomBytes(22, c.bytes), 18, true).hash
				seed.pin(root)
				f := newFetch(t, root, func(cfg *Config) { cfg.Limiter = NewLimiter(Limits{Rates: Rates{Down: c.rate}}) })
				var servers []*Server
				for i := byte(1); i <= 4; i++ {
					s := NewServer(seed, ServerConfig{})
					servers = append(servers, s)
					f.AddPeer(peerHash(i), "", n.dialer(i, s))
				}
				start := time.Now()
				watch, stop := context.WithCancel(t.Context())
				var watching sync.WaitGroup
				most, limited := 0, false
				watching.Go(func() {
					for watch.Err() == nil {
						p := f.Progress()
						most, limited = max(most, p.InFlight+p.Held), limited || p.Limited
						time.Sleep(10 * time.Millisecond)
					}
				})
				p := f.mustComplete(t, seed)
				stop()
				watching.Wait()
				// The last chunk is asked for as soon as those before it have been paid.
				want := float64(c.bytes) / float64(c.rate)
				if got := time.Since(start).Seconds(); got > want*1.1+1 || got < (float64(c.bytes-1<<18)/float64(c.rate))*0.85 {
					t.Errorf("it took %.1f s, want %.1f", got, want)
				}
				if p.Duplicate+p.Late > 0 {
					t.Errorf("%d bytes came twice", p.Duplicate)
				}
				for i, s := range servers {
					if st := s.Stats(); st.Cancelled > 0 {
						t.Errorf("%d requests to peer %d were cancelled", st.Cancelled, i)
					}
					if src := p.Sources[i]; src.Err != nil || src.Bytes == 0 && c.bytes > 1<<20 {
						t.Errorf("peer %d gave %d bytes and ended with %v", i, src.Bytes, src.Err)
					}
				}
				if !limited {
					t.Error("it does not say that the limit holds it back")
				}
				if most > 8<<20 {
					t.Errorf("%d bytes were asked for or held", most)
				}
			})
		})
	}
}

// Downloads that share a limiter get the same, and more when one ends; a limit
// that goes is felt at once.
func TestLimitDownShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 50e6, 20*time.Millisecond)
		defer n.close()
		limiter := NewLimiter(Limits{Rates: Rates{Down: 1 << 20}})
		seed := newMemStore()
		var all []fetchCase
		for i, size := range []int{8 << 20, 64 << 20} {
			root := seed.putFile(randomBytes(uint64(30+i), size), 18, true).hash
			seed.pin(root)
			f := newFetch(t, root, func(c *Config) { c.Limiter = limiter })
			for k := range byte(1 + 3*i) {
				f.AddPeer(peerHash(k+1), "", n.dialer(k+1, NewServer(seed, ServerConfig{})))
			}
			all = append(all, f)
		}
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := all[1].Run(t.Context()); err != nil {
				t.Error(err)
			}
		})
		if err := all[0].Run(t.Context()); err != nil {
			t.Error(err)
		}
		if got := time.Since(start).Seconds(); !about(got, 16) {
			t.Errorf("half of 1 MiB/s took %.1f s for 8 MiB", got)
		}
		if got := float64(all[1].Progress().Fetched); got < 7<<20 || got > 9<<20 {
			t.Errorf("the other one got %.0f bytes meanwhile", got)
		}
		limiter.Set(Limits{})
		wg.Wait()
		if got := time.Since(start).Seconds(); got > 20 {
			t.Errorf("done after %.1f s, although the limit had gone", got)
		}
	})
}
