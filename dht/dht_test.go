package dht

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/seigr/sttnode/session/transport"
	"github.com/seigr/sttnode/session/transport/memory"
	"github.com/seigr/sttnode/stc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host is a DHT node on the in-memory network, with the read loop that the
// session endpoint has in a whole node. It seals for real.
type host struct {
	*DHT
	t    testing.TB
	id   *stc.Identity
	conn *memory.Conn
	wg   sync.WaitGroup
}

func listen(t testing.TB, net *memory.Network, id *stc.Identity, addr netip.AddrPort, change func(*Config)) *host {
	t.Helper()
	conn, err := net.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, id: id, conn: conn}
	cfg := Config{
		Identity: id,
		Keyring:  testKeyring(t, 's'),
		Send:     func(b []byte, to netip.AddrPort) error { return conn.Send(b, len(b), to) },
	}
	if change != nil {
		change(&cfg)
	}
	if h.DHT, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	h.wg.Go(func() {
		buf := make([]byte, transport.MaxBatch)
		for {
			n, size, from, err := conn.Receive(buf)
			if err != nil {
				return
			}
			for b := range slices.Chunk(buf[:n], size) {
				h.HandleDatagram(b, from)
			}
		}
	})
	return h
}

func (h *host) stop() {
	h.conn.Close()
	h.wg.Wait()
	h.Close()
}

func (h *host) contact() Contact { return testContact(h.id, h.conn.LocalAddr()) }

// join joins the network by another host, as after a session with it.
func (h *host) join(by *host) {
	h.t.Helper()
	if err := h.AddContact(by.contact()); err != nil {
		h.t.Fatal(err)
	}
	if err := h.Bootstrap(h.t.Context()); err != nil {
		h.t.Fatalf("bootstrap of %v: %v", h.conn.LocalAddr(), err)
	}
}

// findAll returns all providers of key that h finds.
func (h *host) findAll(key stc.Hash) ([]Contact, LookupStats, error) {
	search := h.FindProviders(h.t.Context(), key)
	var found []Contact
	for c := range search.Providers() {
		found = append(found, c)
	}
	stats, err := search.Result()
	return found, stats, err
}

// hosts starts n hosts that join by the first one, in turn.
func hosts(t testing.TB, net *memory.Network, n int, change func(*Config)) []*host {
	t.Helper()
	var all []*host
	for i := range n {
		h := listen(t, net, testIdentity(t, 1, i), testAddr(i+1), change)
		all = append(all, h)
		if i > 0 {
			h.join(all[0])
		}
	}
	return all
}

func stopAll(all []*host) {
	for _, h := range all {
		h.stop()
	}
}

// mostHolders is at how many nodes a record lies at the most. A publish stores
// before it knows all the K closest, so it is a few more than K; how many, its
// estimate of the network's size decides. It keeps track of 2 K.
const mostHolders = 40

// 200 nodes with a goroutine each, sealed datagrams, delays and jitter: every
// one finds every provider.
func Test200Nodes(t *testing.T) {
	seed, size := testSeed(t), 200
	if testing.Short() {
		size = 50
	}
	synctest.Test(t, func(t *testing.T) {
		net := memory.New(memory.Config{Seed: seed, Link: memory.Link{Delay: 40 * time.Millisecond, Jitter: 10 * time.Millisecond}})
		all := hosts(t, net, size, nil)
		defer stopAll(all)
		key := testKey(1)
		providers := []*host{all[17], all[size/2], all[size-20]}
		var want []Contact
		for _, p := range providers {
			stored, err := p.Provide(t.Context(), key)
			if stored < 20 || stored > mostHolders || err != nil {
				t.Errorf("stored at %d nodes: %v", stored, err)
			}
			want = append(want, p.contact())
		}
		for i, h := range all {
			found, stats, err := h.findAll(key)
			for _, c := range want {
				if c.ID != h.id.NodeID() && !slices.Contains(found, c) {
					t.Errorf("node %d did not find %v: %+v, %v", i, c.Addr, stats, err)
				}
			}
			if len(found) > len(want) {
				t.Errorf("node %d found %d providers", i, len(found))
			}
			if !stats.Complete || err != nil {
				t.Errorf("node %d: %+v, %v", i, stats, err)
			}
		}
		t.Logf("%+v", net.Stats())
	})
}

// One node alone finds nothing, and says so at once; its first neighbour gets
// what it provides.
func TestOneAndTwoNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := memory.New(memory.Config{Link: memory.Link{Delay: 10 * time.Millisecond}})
		a := listen(t, net, testIdentity(t, 1, 1), testAddr(1), nil)
		defer a.stop()
		began := time.Now()
		if err := a.Bootstrap(t.Context()); !errors.Is(err, ErrNoNodes) {
			t.Errorf("bootstrap without contacts: %v", err)
		}
		found, stats, err := a.findAll(testKey(1))
		if len(found) != 0 || stats.Asked != 0 || !errors.Is(err, ErrNoNodes) {
			t.Errorf("alone: found %v, %+v, %v", found, stats, err)
		}
		if stored, err := a.Provide(t.Context(), testKey(2)); stored != 0 || !errors.Is(err, ErrNoNodes) {
			t.Errorf("alone: stored at %d, %v", stored, err)
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("took %v", took)
		}

		b := listen(t, net, testIdentity(t, 1, 2), testAddr(2), nil)
		defer b.stop()
		b.join(a)
		found, stats, err = b.findAll(testKey(2))
		if !slices.Equal(found, []Contact{a.contact()}) || stats.Asked != 1 || stats.Answered != 1 || err != nil {
			t.Errorf("b found %v, %+v, %v", found, stats, err)
		}
		found, stats, err = b.findAll(testKey(3))
		if len(found) != 0 || stats.Asked != 1 || stats.Answered != 1 || !stats.Complete || err != nil {
			t.Errorf("what nobody has: %v, %+v, %v", found, stats, err)
		}
		time.Sleep(time.Second) // a has met b by now
		if s := b.Stats(); s.Records != 1 {
			t.Errorf("b holds %d records", s.Records)
		}
		if stored, err := b.Provide(t.Context(), testKey(4)); stored != 1 || err != nil {
			t.Errorf("b stored at %d, %v", stored, err)
		}
		found, _, err = a.findAll(testKey(4))
		if !slices.Equal(found, []Contact{b.contact()}) || err != nil {
			t.Errorf("a found %v, %v", found, err)
		}
	})
}
