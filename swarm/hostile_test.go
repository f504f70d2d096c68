package swarm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/stc"
)

// message is one message as it is on the wire.
type message struct {
	t    msgType
	body []byte
}

func (m message) want() (uint32, stc.Hash) { return parseWant(m.body) }

// readMessage reads one message, whichever side sent it.
func readMessage(r io.Reader) (m message, err error) {
	head := make([]byte, headerSize)
	if _, err := io.ReadFull(r, head); err != nil {
		return m, err
	}
	t, n, err := parseHeader(head)
	if err != nil {
		return m, err
	}
	m = message{t, make([]byte, n)}
	_, err = io.ReadFull(r, m.body)
	return m, err
}

func appendBlob(dst []byte, request uint32, blob []byte) []byte {
	return append(appendBlobHeader(dst, request, len(blob)), blob...)
}

// impostor is a peer that announces everything and lets answer say what it
// sends for each request; nil sends nothing.
func impostor(answer func(request uint32, h stc.Hash) []byte) func(context.Context, net.Conn) {
	return func(ctx context.Context, conn net.Conn) {
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		if m, err := readMessage(conn); err != nil || m.t != msgOpen {
			return
		}
		conn.Write(appendHaveComplete(nil))
		for {
			m, err := readMessage(conn)
			if err != nil {
				return
			}
			if m.t != msgWant && m.t != msgFollow {
				continue
			}
			if b := answer(m.want()); b != nil {
				if _, err := conn.Write(b); err != nil {
					return
				}
			}
		}
	}
}

// hostileCase is a fetch of 8 MiB from one honest peer at 1 MB/s beside a
// hostile one on a faster line.
type hostileCase struct {
	net  *testNet
	seed *memStore
	root stc.Hash
}

func newHostileCase(t *testing.T) hostileCase {
	n := newTestNet(t, 1e6, 10*time.Millisecond)
	seed := newMemStore()
	root := seed.putFile(randomBytes(11, 8<<20), 16, true).hash
	seed.pin(root)
	return hostileCase{n, seed, root}
}

// run fetches beside a hostile peer. It must end whole, and hardly later than
// without that peer.
func (c hostileCase) run(t *testing.T, rate float64, hostile func(context.Context, net.Conn)) Progress {
	t.Helper()
	f := newFetch(t, c.root, nil)
	f.AddPeer(peerHash(66), "hostile", c.net.dialerAt(66, rate, 10*time.Millisecond, hostile))
	f.AddPeer(peerHash(1), "honest", c.net.dialer(1, NewServer(c.seed, ServerConfig{})))
	start := time.Now()
	p := f.mustComplete(t, c.seed)
	if took, alone := time.Since(start), seconds(float64(8<<20)/c.net.rate); took > alone*125/100 {
		t.Errorf("took %v, the honest peer alone needs %v", took, alone)
	}
	return p
}

func TestHostilePeers(t *testing.T) {
	wrong := bytes.Repeat([]byte{1}, 1<<16)
	for _, c := range []struct {
		name   string
		rate   float64
		answer func(seed *memStore) func(request uint32, h stc.Hash) []byte
		state  SourceState
		err    error
	}{
		{"wrong bytes", 50e6, func(*memStore) func(uint32, stc.Hash) []byte {
			return func(r uint32, _ stc.Hash) []byte { return appendBlob(nil, r, wrong) }
		}, SourceBanned, ErrBadBlob},
		{"wrong length", 50e6, func(seed *memStore) func(uint32, stc.Hash) []byte {
			return func(r uint32, h stc.Hash) []byte {
				b, _ := seed.Get(nil, h)
				return appendBlob(nil, r, b[:len(b)-1])
			}
		}, SourceBanned, ErrBadBlob},
		{"a megabyte for everything", 500e6, func(*memStore) func(uint32, stc.Hash) []byte {
			return func(r uint32, _ stc.Hash) []byte { return appendBlob(nil, r, make([]byte, maxBlob)) }
		}, SourceBanned, ErrBadBlob},
		{"empty blobs", 50e6, func(*memStore) func(uint32, stc.Hash) []byte {
			return func(r uint32, _ stc.Hash) []byte { return appendBlob(nil, r, nil) }
		}, SourceBanned, ErrBadBlob},
		{"mute", 50e6, func(*memStore) func(uint32, stc.Hash) []byte {
			return func(uint32, stc.Hash) []byte { return nil }
		}, SourceServing, nil},
		{"denies everything", 50e6, func(*memStore) func(uint32, stc.Hash) []byte {
			return func(r uint32, _ stc.Hash) []byte { return appendRequest(nil, msgMissing, r) }
		}, SourceBanned, ErrUseless},
		{"cancels by itself", 50e6, func(*memStore) func(uint32, stc.Hash) []byte {
			return func(r uint32, _ stc.Hash) []byte { return appendRequest(nil, msgCancelled, r) }
		}, SourceBanned, ErrProtocol},
		{"answers twice", 50e6, func(seed *memStore) func(uint32, stc.Hash) []byte {
			return func(r uint32, h stc.Hash) []byte {
				b, _ := seed.Get(nil, h)
				return appendBlob(appendBlob(nil, r, b), r, b)
			}
		}, SourceBanned, ErrProtocol},
		{"other requests", 50e6, func(seed *memStore) func(uint32, stc.Hash) []byte {
			return func(r uint32, h stc.Hash) []byte { return appendBlob(nil, r+5000, nil) }
		}, SourceBanned, ErrProtocol},
		{"garbage", 50e6, func(*memStore) func(uint32, stc.Hash) []byte {
			return func(uint32, stc.Hash) []byte { return randomBytes(3, 1000) }
		}, SourceBanned, ErrProtocol},
		{"messages of the other side", 50e6, func(*memStore) func(uint32, stc.Hash) []byte {
			return func(r uint32, h stc.Hash) []byte { return appendWant(nil, r, h) }
		}, SourceBanned, ErrProtocol},
		{"trickle", 1000, func(seed *memStore) func(uint32, stc.Hash) []byte {
			return func(r uint32, h stc.Hash) []byte {
				b, _ := seed.Get(nil, h)
				return appendBlob(nil, r, b)
			}
		}, SourceServing, nil},
		{"trickle of wrong bytes", 1000, func(*memStore) func(uint32, stc.Hash) []byte {
			return func(r uint32, _ stc.Hash) []byte { return appendBlob(nil, r, wrong) }
		}, SourceServing, nil},
		{"flood of HAVE", 10e6, func(*memStore) func(uint32, stc.Hash) []byte {
			return func(uint32, stc.Hash) []byte { return bytes.Repeat(appendHave(nil, nil), 1000) }
		}, SourceBanned, ErrProtocol},
		{"HAVE without end", 1e6, func(*memStore) func(uint32, stc.Hash) []byte {
			return func(uint32, stc.Hash) []byte {
				var spans []span
				for i := range uint64(20_000) {
					spans = append(spans, span{i * 3, i*3 + 1})
				}
				return appendHave(nil, spans)
			}
		}, SourceServing, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHostileCase(t)
				defer h.net.close()
				p := h.run(t, c.rate, impostor(c.answer(h.seed)))
				s := p.Sources[0]
				if s.State != c.state || !errors.Is(s.Err, c.err) {
					t.Errorf("hostile peer is %v: %v; want %v: %v", s.State, s.Err, c.state, c.err)
				}
				if errors.Is(c.err, ErrBadBlob) && p.Bad > 2<<20 {
					t.Errorf("%d bad bytes", p.Bad)
				}
				if want := 1; c.state == SourceBanned && h.net.dials[66] != want {
					t.Errorf("%d streams to a banned peer", h.net.dials[66])
				}
			})
		})
	}
}

// A stream that dies behind any message of the server is opened again, and
// nothing is lost.
func TestDisconnectAtEveryMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 0, time.Millisecond)
		defer n.close()
		seed := newMemStore()
		root := seed.putFile(randomBytes(12, 40<<10), 12, true).hash
		seed.pin(root)
		// The sizes of what the server sends: HAVE, then ten chunks and a root.
		at, cuts := int64(0), []int64{}
		add := func(n int) {
			cuts = append(cuts, at+1, at+int64(n)/2, at+int64(n)-1, at+int64(n))
			at += int64(n)
		}
		add(headerSize + 1)
		add(blobHeaderSize + len(seed.blobs[root]))
		for range 9 {
			add(blobHeaderSize + 4096)
		}
		for _, cut := range cuts {
			n.breaks[1] = cut
			// What came over the first streams is kept; when a stream dies so
			// early that none gets further, the peer is given up in the end.
			f := newFetch(t, root, func(c *Config) { c.MaxDials = 3 })
			f.AddPeer(peerHash(1), "", n.dialer(1, NewServer(seed, ServerConfig{})))
			f.NoMorePeers()
			switch err := f.Run(t.Context()); {
			case err == nil:
				if err := f.store.covers(seed); err != nil {
					t.Fatalf("cut at %d: %v", cut, err)
				}
			case !errors.Is(err, ErrNoPeers) || cut >= at/2:
				t.Fatalf("cut at %d of %d: %v", cut, at, err)
			}
		}
	})
}

// One of three peers dies in the middle and does not come back.
func TestPeerKilledMidway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 5e6, 10*time.Millisecond)
		defer n.close()
		seed := newMemStore()
		root := seed.putFile(randomBytes(13, 32<<20), 18, true).hash
		seed.pin(root)
		f := newFetch(t, root, nil)
		ctx, kill := context.WithCancel(n.ctx)
		doomed := n.dialerTo(1, func(_ context.Context, conn net.Conn) {
			NewServer(seed, ServerConfig{}).Serve(ctx, conn, peerHash(200))
		})
		f.AddPeer(peerHash(1), "", func(c context.Context) (net.Conn, error) {
			if ctx.Err() != nil {
				return nil, errors.New("connection refused")
			}
			return doomed(c)
		})
		for i := byte(2); i <= 3; i++ {
			f.AddPeer(peerHash(i), "", n.dialer(i, NewServer(seed, ServerConfig{})))
		}
		time.AfterFunc(time.Second, kill)
		start := time.Now()
		p := f.mustComplete(t, seed)
		ideal := time.Second + seconds((float64(32<<20)-3*5e6)/10e6)
		if took := time.Since(start); took > ideal*11/10 {
			t.Errorf("took %v, ideal is %v", took, ideal)
		}
		if p.Sources[0].State == SourceServing || p.Sources[0].Err == nil || p.Duplicate*50 > p.Fetched {
			t.Errorf("%+v", p)
		}
	})
}

// A peer without an honest one beside it: the fetch ends with an error that
// says why.
func TestOnlyLiars(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHostileCase(t)
		defer h.net.close()
		f := newFetch(t, h.root, nil)
		for i := byte(1); i <= 3; i++ {
			f.AddPeer(peerHash(i), "", h.net.dialerTo(i, impostor(func(r uint32, _ stc.Hash) []byte {
				return appendBlob(nil, r, []byte("not what you asked for"))
			})))
		}
		f.NoMorePeers()
		if err := f.Run(t.Context()); !errors.Is(err, ErrNoPeers) || !errors.Is(err, ErrBadBlob) {
			t.Error(err)
		}
		if len(f.store.blobs) != 0 {
			t.Errorf("%d blobs were stored", len(f.store.blobs))
		}

		// A dribble of wrong bytes is no progress for ever.
		f = newFetch(t, h.root, nil)
		f.AddPeer(peerHash(9), "", h.net.dialerAt(9, 100, 0, impostor(func(r uint32, _ stc.Hash) []byte {
			return appendBlob(nil, r, make([]byte, maxBlob))
		})))
		start := time.Now()
		if err := f.Run(t.Context()); !errors.Is(err, ErrStalled) && !errors.Is(err, ErrNoPeers) {
			t.Error(err)
		}
		if d := time.Since(start); d > 5*time.Minute {
			t.Errorf("gave up after %v", d)
		}
	})
}

// A server whose own copy is damaged says so, and the chunk comes from
// another.
func TestServerWithDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHostileCase(t)
		defer h.net.close()
		damaged := h.seed.clone()
		for hash, b := range damaged.blobs {
			if len(b) == 1<<16 && hash[0] < 60 {
				damaged.corrupt[hash] = true
			}
		}
		server := NewServer(damaged, ServerConfig{})
		p := h.run(t, 50e6, func(ctx context.Context, conn net.Conn) { server.Serve(ctx, conn, peerHash(200)) })
		if st := server.Stats(); p.Bad != 0 || st.Missing == 0 || st.Missing > uint64(len(damaged.corrupt)) {
			t.Errorf("%d bad bytes, %d MISSING for %d damaged chunks", p.Bad, st.Missing, len(damaged.corrupt))
		}
	})
}

// A slow disk holds back the peers instead of filling memory.
func TestBudgetHolds(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector, which shorter tests serve as well")
	}
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 0, time.Millisecond)
		defer n.close()
		seed := newMemStore()
		root := seed.putFile(randomBytes(14, 64<<20), 18, true).hash
		seed.pin(root)
		const budget = 6 << 20
		f := newFetch(t, root, func(c *Config) { c.Budget = budget })
		f.store.fullTime = 200 * time.Millisecond
		for i := byte(1); i <= 3; i++ {
			f.AddPeer(peerHash(i), "", n.dialer(i, NewServer(seed, ServerConfig{})))
		}
		watch, stop := context.WithCancel(t.Context())
		most := 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			for watch.Err() == nil {
				p := f.Progress()
				most = max(most, p.InFlight+p.Held)
				time.Sleep(10 * time.Millisecond)
			}
		}()
		f.mustComplete(t, seed)
		stop()
		<-done
		if most > budget || most < budget/2 {
			t.Errorf("%d bytes asked for or held with a budget of %d", most, budget)
		}
		if f.store.puts > 64 {
			t.Errorf("%d groups for 256 chunks", f.store.puts)
		}
	})
}

// A disk that takes long to sync, but much at once, does not hold back anything: memory is free when the store has the bytes.
func TestSyncsAreNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size, rate, budget = 32 << 20, 64 << 20, 4 << 20
		n := newTestNet(t, rate, time.Millisecond)
		defer n.close()
		seed := newMemStore()
		root := seed.putFile(randomBytes(15, size), 18, true).hash
		seed.pin(root)
		f := newFetch(t, root, func(c *Config) { c.Budget = budget })
		f.store.syncTime = 300 * time.Millisecond
		f.AddPeer(peerHash(1), "", n.dialer(1, NewServer(seed, ServerConfig{})))
		start := time.Now()
		f.mustComplete(t, seed)
		if took, most := time.Since(start), 600*time.Millisecond+f.store.syncTime; took > most {
			t.Errorf("took %v, the link takes 500 ms and the last sync 300", took)
		}
	})
}

// A store that fails in the middle ends the fetch with its error, whatever the
// peers do.
func TestStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHostileCase(t)
		defer h.net.close()
		f := newFetch(t, h.root, nil)
		f.AddPeer(peerHash(1), "", h.net.dialer(1, NewServer(h.seed, ServerConfig{})))
		time.AfterFunc(2*time.Second, func() {
			f.store.mu.Lock()
			defer f.store.mu.Unlock()
			f.store.putErr = fmt.Errorf("write: %w", content.ErrDiskFull)
		})
		if err := f.Run(t.Context()); !errors.Is(err, content.ErrDiskFull) {
			t.Error(err)
		}
		f.store.putErr = nil
		kept := f.Progress().FetchedBlobs
		if kept == 0 || kept != uint64(len(f.store.blobs)) {
			t.Errorf("%d blobs counted, %d stored", kept, len(f.store.blobs))
		}
	})
}
