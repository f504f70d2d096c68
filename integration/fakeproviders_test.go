package integration

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/seigr/sttnode/dht"
	"github.com/seigr/sttnode/stc"
)

// A thousand members announce a content that they do not have, each from an address where nobody answers, and after the one
// who has it, so that they fill all that a node holds of one content: a fetch finds that one all the same.
func TestThousandFakeProviders(t *testing.T) {
	const fakes = 1000
	c := newCluster(t)
	data := randomFile(t, random(t), filepath.Join(c.dir, "real.bin"), 200_000)
	seeder := c.member(t, "seeder")
	seeder.serve(t, "seed", data)
	hash := seeder.announced(t, data)[0]
	root, err := stc.ParseHash(hash)
	must(t, err)

	hostile := hostileNode(t, c)
	s, err := hostile.Connect(context.Background(), c.bootstrap.ready.UDP)
	must(t, err)
	boot := dht.NewContact(s.PeerKey(), s.RemoteAddr())
	seed, err := os.ReadFile(c.seed)
	must(t, err)
	keyring, err := stc.NewKeyring(decodeSeed(t, seed))
	must(t, err)
	work := make(chan uint64)
	var wg sync.WaitGroup
	var mu sync.Mutex
	stored := 0
	for range 128 { // most of it is waiting
		wg.Go(func() {
			for n := range work {
				if fakeProvider(t, keyring, n, boot, root) {
					mu.Lock()
					stored++
					mu.Unlock()
				}
			}
		})
	}
	for n := range uint64(fakes) {
		work <- n
	}
	close(work)
	wg.Wait()
	t.Logf("%d of %d fake providers are believed", stored, fakes)
	if stored < fakes*9/10 {
		t.Error("too few to be the attack that this is about")
	}

	fetcher := c.member(t, "fetcher")
	out := filepath.Join(c.dir, "got.bin")
	began := time.Now()
	e := fetcher.fetch(t, hash, out)
	t.Logf("all of it, with the start of the process, took %.2f s", time.Since(began).Seconds())
	if len(e.Sources) != 1 || e.Sources[0].Node != seeder.ready.NodeID {
		t.Errorf("fetched from %+v", e.Sources)
	}
	same(t, data, out)
}

// fakeProvider announces root under an identity and an address of its own, and leaves a socket there that answers nothing.
func fakeProvider(t *testing.T, keyring *stc.Keyring, n uint64, boot dht.Contact, root stc.Hash) bool {
	seed := stc.Sum(fmt.Appendf(nil, "fake %d", n))
	id, err := stc.NewIdentity(seed[:])
	if err != nil {
		t.Error(err)
		return false
	}
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Error(err)
		return false
	}
	t.Cleanup(func() { conn.Close() })
	d, err := dht.New(dht.Config{Identity: id, Keyring: keyring, ClientOnly: true, QueueLength: 16, Send: func(b []byte, to netip.AddrPort) error {
		_, err := conn.WriteToUDPAddrPort(b, to)
		return err
	}})
	if err != nil {
		t.Error(err)
		return false
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return // the deadline below
			}
			d.HandleDatagram(buf[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
		}
	})
	defer func() {
		_ = conn.SetReadDeadline(time.Unix(1, 0))
		wg.Wait()
		d.Close()
	}()
	if err := d.AddContact(boot); err != nil {
		t.Error(err)
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for range 5 { // whom nobody knows is heard only as far as there is room for strangers
		if stored, err := d.Provide(ctx, root); err == nil && stored > 0 {
			return true
		}
	}
	return false
}
