package dht

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/session/transport/memory"
)

func quietNet() *memory.Network {
	return memory.New(memory.Config{Seed: 1, Link: memory.Link{Delay: 20 * time.Millisecond}})
}

// The first provider comes as soon as somebody names it, not at the end of the
// search; and a caller that has enough ends the search.
func TestFirstProviderComesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := quietNet()
		all := hosts(t, net, 30, nil)
		defer stopAll(all)
		key := testKey(1)
		if _, err := all[3].Provide(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		// One of the closest nodes falls silent: the search has to wait for it.
		dead := all[0]
		for _, h := range all {
			if h != all[3] && h != all[20] && compareDistance(key, h.id.NodeID(), dead.id.NodeID()) < 0 {
				dead = h
			}
		}
		dead.stop()
		asker := all[20]

		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		search := asker.FindProviders(ctx, key)
		first := <-search.Providers()
		if took := time.Since(began); took > 100*time.Millisecond || first != all[3].contact() {
			t.Errorf("%v after %v", first.Addr, took)
		}
		cancel()
		stats, err := search.Result()
		if took := time.Since(began); took > 100*time.Millisecond || !errors.Is(err, context.Canceled) || stats.Complete || stats.Providers != 1 {
			t.Errorf("cancelled: %+v, %v after %v", stats, err, took)
		}
		if _, open := <-search.Providers(); open {
			t.Error("providers come after the end")
		}
		if s := asker.Stats(); s.LookupsActive != 0 || s.Lookups[PurposeProviders].Cancelled != 1 {
			t.Errorf("%+v", s.Lookups)
		}
	})
}

// One datagram in ten is lost, others come twice or out of order: whatever is
// provided is found.
func TestBadNetwork(t *testing.T) {
	seed := testSeed(t)
	synctest.Test(t, func(t *testing.T) {
		net := memory.New(memory.Config{Seed: seed, Link: memory.Link{
			Delay: 40 * time.Millisecond, Jitter: 30 * time.Millisecond, Loss: 0.1, Duplicate: 0.05, Reorder: 0.05, Corrupt: 0.01}})
		all := hosts(t, net, 40, nil)
		defer stopAll(all)
		for i := range 5 {
			if stored, err := all[i].Provide(t.Context(), testKey(i)); stored < 10 || err != nil {
				t.Errorf("stored at %d: %v", stored, err)
			}
		}
		for i, h := range all {
			found, stats, err := h.findAll(testKey(i % 5))
			if i%5 != i && !slices.Contains(found, all[i%5].contact()) {
				t.Errorf("node %d found %v: %+v, %v", i, found, stats, err)
			}
		}
	})
}

// Records live through 30 virtual hours and are gone when their provider has
// been for 48; goroutines, timers and cryptography as in production.
func TestLifeOfARecordInHosts(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector, which shorter tests serve as well")
	}
	synctest.Test(t, func(t *testing.T) {
		net := quietNet()
		all := hosts(t, net, 6, nil)
		defer stopAll(all)
		provider, asker := all[2], all[5]
		if _, err := provider.Provide(t.Context(), testKey(1)); err != nil {
			t.Fatal(err)
		}
		want := provider.contact()
		for _, age := range []time.Duration{time.Hour, 29 * time.Hour} {
			time.Sleep(age)
			if found, stats, err := asker.findAll(testKey(1)); !slices.Equal(found, []Contact{want}) || err != nil {
				t.Errorf("%v later: %v, %+v, %v", age, found, stats, err)
			}
		}
		provider.stop()
		time.Sleep(49 * time.Hour)
		if found, stats, err := asker.findAll(testKey(1)); len(found) != 0 || err != nil || !stats.Complete {
			t.Errorf("49 hours after the provider left: %v, %+v, %v", found, stats, err)
		}
	})
}

func TestUnprovide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := quietNet()
		all := hosts(t, net, 10, nil)
		defer stopAll(all)
		time.Sleep(10 * time.Second) // until all know each other
		p := all[3]
		for i := range 4 {
			if stored, err := p.Provide(t.Context(), testKey(i)); stored != 9 || err != nil {
				t.Errorf("stored at %d: %v", stored, err)
			}
		}
		if n, err := p.Unprovide(t.Context(), testKey(0)); n != 9 || err != nil {
			t.Errorf("withdrawn from %d: %v", n, err)
		}
		if n, err := p.Unprovide(t.Context(), testKey(0)); n != 0 || err != nil {
			t.Errorf("withdrawn once more from %d: %v", n, err)
		}
		if found, _, _ := all[7].findAll(testKey(0)); len(found) != 0 {
			t.Errorf("found %v", found)
		}
		if keys := p.Provided(); len(keys) != 3 {
			t.Errorf("still provides %v", keys)
		}
		if n, err := p.UnprovideAll(t.Context()); n != 27 || err != nil {
			t.Errorf("withdrew %d records: %v", n, err)
		}
		for i, h := range all {
			if s := h.Stats(); s.Records != 0 {
				t.Errorf("node %d holds %d records", i, s.Records)
			}
		}
		if s := p.Stats(); s.Provided != 0 || s.Published != 4 {
			t.Errorf("%d provided, %d published", s.Provided, s.Published)
		}
	})
}

// Whoever waits is told when the DHT is closed, and later calls fail at once.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := quietNet()
		a := listen(t, net, testIdentity(t, 1, 1), testAddr(1), nil)
		ghost := testContact(testIdentity(t, 1, 2), testAddr(2))
		if err := a.AddContact(ghost); err != nil {
			t.Fatal(err)
		}
		calls := map[string]func() error{
			"Bootstrap": func() error { return a.Bootstrap(t.Context()) },
			"FindNode":  func() error { _, _, err := a.FindNode(t.Context(), testKey(1)); return err },
			"FindProviders": func() error {
				_, _, err := a.findAll(testKey(1))
				return err
			},
			"Provide": func() error { _, err := a.Provide(t.Context(), testKey(1)); return err },
			"Ping":    func() error { _, err := a.Ping(t.Context(), ghost); return err },
		}
		var wg sync.WaitGroup
		for name, call := range calls {
			wg.Go(func() {
				if err := call(); !errors.Is(err, ErrClosed) {
					t.Errorf("%s under way: %v", name, err)
				}
			})
		}
		time.Sleep(time.Millisecond)
		a.stop()
		wg.Wait()
		calls["Unprovide"] = func() error { _, err := a.Unprovide(t.Context(), testKey(1)); return err }
		calls["UnprovideAll"] = func() error { _, err := a.UnprovideAll(t.Context()); return err }
		calls["AddContact"] = func() error { return a.AddContact(ghost) }
		calls["MarshalTable"] = func() error { _, err := a.MarshalTable(); return err }
		calls["RestoreTable"] = func() error { _, err := a.RestoreTable(nil); return err }
		for name, call := range calls {
			if err := call(); !errors.Is(err, ErrClosed) {
				t.Errorf("%s afterwards: %v", name, err)
			}
		}
		a.HandleDatagram([]byte{6}, testAddr(9))
		if a.Contacts() != nil || a.Provided() != nil || a.Stats().RPC[MethodPing].Sent == 0 || a.Close() != nil {
			t.Error("a closed DHT has contacts, or no last statistics")
		}
	})
}

// Contexts end the waiting.
func TestContexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := quietNet()
		a := listen(t, net, testIdentity(t, 1, 1), testAddr(1), nil)
		defer a.stop()
		ghost := testContact(testIdentity(t, 1, 2), testAddr(2))
		if err := a.AddContact(ghost); err != nil {
			t.Fatal(err)
		}
		cause := errors.New("enough")
		for name, call := range map[string]func(ctx context.Context) error{
			"Bootstrap":     a.Bootstrap,
			"FindNode":      func(ctx context.Context) error { _, _, err := a.FindNode(ctx, testKey(1)); return err },
			"FindProviders": func(ctx context.Context) error { _, err := a.FindProviders(ctx, testKey(1)).Result(); return err },
			"Provide":       func(ctx context.Context) error { _, err := a.Provide(ctx, testKey(1)); return err },
			"Ping":          func(ctx context.Context) error { _, err := a.Ping(ctx, ghost); return err },
		} {
			ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Millisecond, cause)
			began := time.Now()
			if err := call(ctx); !errors.Is(err, cause) || time.Since(began) != 10*time.Millisecond {
				t.Errorf("%s: %v after %v", name, err, time.Since(began))
			}
			cancel()
		}
		// What was given up ends by itself.
		time.Sleep(time.Minute)
		if s := a.Stats(); s.LookupsActive != 0 {
			t.Errorf("%d lookups go on", s.LookupsActive)
		}
	})
}

func TestTooManyLookups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := quietNet()
		a := listen(t, net, testIdentity(t, 1, 1), testAddr(1), func(c *Config) { c.MaxLookups = 2 })
		defer a.stop()
		if err := a.AddContact(testContact(testIdentity(t, 1, 2), testAddr(2))); err != nil {
			t.Fatal(err)
		}
		first, second := a.FindProviders(t.Context(), testKey(1)), a.FindProviders(t.Context(), testKey(2))
		if _, _, err := a.FindNode(t.Context(), testKey(3)); !errors.Is(err, ErrBusy) {
			t.Errorf("the third: %v", err)
		}
		for _, s := range []*Search{first, second} {
			if _, err := s.Result(); !errors.Is(err, ErrNoAnswer) {
				t.Errorf("the others: %v", err)
			}
		}
		if _, _, err := a.FindNode(t.Context(), testKey(3)); errors.Is(err, ErrBusy) {
			t.Error("still busy")
		}
	})
}

// With another shared seed nobody answers, whoever asks.
func TestWrongSeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := quietNet()
		a := listen(t, net, testIdentity(t, 1, 1), testAddr(1), nil)
		defer a.stop()
		b := listen(t, net, testIdentity(t, 1, 2), testAddr(2), func(c *Config) { c.Keyring = testKeyring(t, 'x') })
		defer b.stop()
		if err := b.AddContact(a.contact()); err != nil {
			t.Fatal(err)
		}
		if err := b.Bootstrap(t.Context()); !errors.Is(err, ErrNoAnswer) {
			t.Errorf("bootstrap: %v", err)
		}
		if s := a.Stats(); s.Dropped[DropStranger] == 0 || s.DatagramsOut != 0 {
			t.Errorf("dropped %v, sent %d", s.Dropped, s.DatagramsOut)
		}
	})
}

func TestAddContactAndPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := quietNet()
		a := listen(t, net, testIdentity(t, 1, 1), testAddr(1), nil)
		defer a.stop()
		b := listen(t, net, testIdentity(t, 1, 2), testAddr(2), nil)
		defer b.stop()
		fake := b.contact()
		fake.ID = testKey(1)
		for name, c := range map[string]Contact{"ourselves": a.contact(), "nobody": {}, "somebody else's ID": fake} {
			if err := a.AddContact(c); !errors.Is(err, ErrBadContact) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if rtt, err := a.Ping(t.Context(), b.contact()); rtt != 40*time.Millisecond || err != nil {
			t.Errorf("ping: %v, %v", rtt, err)
		}
		if !slices.Equal(a.Contacts(), []Contact{b.contact()}) {
			t.Errorf("contacts %v", a.Contacts())
		}
		if _, err := a.Ping(t.Context(), testContact(testIdentity(t, 1, 3), testAddr(3))); !errors.Is(err, ErrNoAnswer) {
			t.Errorf("ping of nobody: %v", err)
		}
	})
}

func TestSavedTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := quietNet()
		all := hosts(t, net, 12, nil)
		defer func() { stopAll(all) }()
		time.Sleep(10 * time.Second)
		saved, err := all[5].MarshalTable()
		if err != nil {
			t.Fatal(err)
		}
		all[5].stop()
		all[0].stop() // the bootstrap node
		again := listen(t, net, all[5].id, testAddr(6), nil)
		all = append(all[1:5:5], append(all[6:], again)...)
		if n, err := again.RestoreTable(saved); n != 11 || err != nil {
			t.Errorf("restored %d: %v", n, err)
		}
		if err := again.Bootstrap(t.Context()); err != nil {
			t.Errorf("bootstrap without the bootstrap node: %v", err)
		}
		if s := again.Stats().Table; s.Good < 9 {
			t.Errorf("%+v", s)
		}

		for name, bad := range map[string][]byte{
			"nothing": nil, "cut": saved[:len(saved)-1], "longer": append(slices.Clone(saved), 0),
			"changed": append(append(slices.Clone(saved[:40]), saved[40]^1), saved[41:]...),
		} {
			if n, err := again.RestoreTable(bad); n != 0 || !errors.Is(err, ErrBadTable) {
				t.Errorf("%s: %d, %v", name, n, err)
			}
		}
	})
}

func TestBadConfig(t *testing.T) {
	id, kr := testIdentity(t, 1, 1), testKeyring(t, 's')
	good := Config{Identity: id, Keyring: kr, Send: newVictim(t, nil).cfg.Send}
	for name, change := range map[string]func(*Config){
		"no identity":      func(c *Config) { c.Identity = nil },
		"no keyring":       func(c *Config) { c.Keyring = nil },
		"no send":          func(c *Config) { c.Send = nil },
		"K of 21":          func(c *Config) { c.K = 21 },
		"K of -1":          func(c *Config) { c.K = -1 },
		"negative time":    func(c *Config) { c.CheckInterval = -1 },
		"negative rate":    func(c *Config) { c.RateAddress = -0.5 },
		"negative records": func(c *Config) { c.MaxRecords = -1 },
	} {
		cfg := good
		change(&cfg)
		if d, err := New(cfg); !errors.Is(err, ErrBadConfig) {
			t.Errorf("%s: %v", name, err)
			d.Close()
		}
	}
}

// The inbox is bounded and never blocks who fills it.
func TestFullInbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		a := listen(t, quietNet(), testIdentity(t, 1, 1), testAddr(1), func(c *Config) {
			send := c.Send
			c.Send = func(b []byte, to netip.AddrPort) error { <-block; return send(b, to) }
			c.QueueLength = 8
		})
		defer a.stop()
		if err := a.AddContact(testContact(testIdentity(t, 1, 2), testAddr(2))); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the owner hangs in Send
		for range 100 {
			a.HandleDatagram(make([]byte, 200), testAddr(5))
		}
		a.HandleDatagram(make([]byte, MaxDatagram+1), testAddr(5))
		close(block)
		synctest.Wait()
		if s := a.Stats(); s.Dropped[DropQueue] != 92 || s.Dropped[DropMalformed] != 9 {
			t.Errorf("dropped %v", s.Dropped)
		}
	})
}

// All methods at once, for the race detector.
func TestConcurrentUse(t *testing.T) {
	net := memory.New(memory.Config{})
	all := hosts(t, net, 5, nil)
	defer stopAll(all)
	var wg sync.WaitGroup
	for i := range 4 {
		h := all[i]
		for j := range 5 {
			key := testKey(10*i + j)
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				if _, err := h.Provide(ctx, key); err != nil {
					t.Errorf("provide: %v", err)
				}
				search := all[4].FindProviders(ctx, key)
				if found := <-search.Providers(); found != h.contact() {
					t.Errorf("found %v", found)
				}
				if _, err := search.Result(); err != nil {
					t.Errorf("search: %v", err)
				}
				h.Stats()
				h.Contacts()
				h.Provided()
				if _, err := h.MarshalTable(); err != nil {
					t.Errorf("marshal: %v", err)
				}
				if _, err := h.Unprovide(ctx, key); err != nil {
					t.Errorf("unprovide: %v", err)
				}
			})
		}
	}
	wg.Wait()
}
