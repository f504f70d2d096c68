package swarm

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/stc"
)

// deaf is a peer that asks for everything over many streams and takes nothing
// of it, or almost nothing.
type deaf struct {
	conns []*testConn
	sip   int // bytes that it takes every 100 ms
	wg    sync.WaitGroup
}

func (d *deaf) open(t *testing.T, s *Server, peer stc.Hash, root stc.Hash, chunks []stc.Hash, streams int) {
	for range streams {
		client, server := newTestPipe(0, time.Millisecond)
		client.in.buffer = 64 << 10
		d.conns = append(d.conns, client)
		d.wg.Go(func() { s.Serve(t.Context(), server, peer) })
		d.wg.Go(func() {
			hello := appendOpen(nil, root)
			for id, chunk := range chunks {
				hello = appendWant(hello, uint32(id), chunk)
			}
			client.Write(hello)
		})
		if d.sip > 0 {
			d.wg.Go(func() {
				b := make([]byte, d.sip)
				for err := error(nil); err == nil; time.Sleep(100 * time.Millisecond) {
					_, err = io.ReadFull(client, b)
				}
			})
		}
	}
}

func (d *deaf) close() {
	for _, c := range d.conns {
		c.Close()
	}
	d.wg.Wait()
}

// Peers that let the server read for them and take nothing, or hardly anything,
// do not keep others from being served: some do not even slow them down, and so
// many that they would hold all its memory give it back.
func TestServerDeafPeers(t *testing.T) {
	for _, c := range []struct {
		name    string
		peers   int
		streams int // of all together
		sip     int
		parked  bool
	}{
		{"a few", 4, 240, 0, false},
		{"so many that they would hold everything", 80, 240, 0, true},
		{"more still", 240, 240, 0, true},
		{"who take a little", 80, 240, 1 << 10, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newTestNet(t, 10e6, 5*time.Millisecond)
				defer n.close()
				store := newMemStore()
				data := randomBytes(41, 16<<20)
				root := store.putFile(data, 18, true).hash
				store.pin(root)
				var chunks []stc.Hash
				for i := range 64 {
					chunks = append(chunks, stc.Sum(data[i<<18:(i+1)<<18]))
				}
				s := NewServer(store, ServerConfig{Cache: -1})
				d := deaf{sip: c.sip}
				defer d.close()
				for i := range c.peers {
					d.open(t, s, stc.Hash{66, byte(i)}, root, chunks, c.streams/c.peers)
				}
				time.Sleep(time.Second)
				s.ahead.mu.Lock()
				used := s.ahead.used
				s.ahead.mu.Unlock()
				if used > s.ahead.limit {
					t.Errorf("%d bytes between store and streams, %d are the limit", used, s.ahead.limit)
				}
				f := newFetch(t, root, nil)
				f.AddPeer(peerHash(1), "", n.dialer(1, s))
				start := time.Now()
				f.mustComplete(t, store)
				// Who comes first may have to wait until it is known who is slow.
				if took, alone := time.Since(start), seconds(16<<20/n.rate); took > alone*125/100+parkAfter {
					t.Errorf("took %v, alone %v", took, alone)
				}
				if parked := s.Stats().Parked; (parked > 0) != c.parked {
					t.Errorf("%d batches were parked", parked)
				}
				if ended := s.Stats().Ended; ended > 0 {
					t.Errorf("%d streams had to make room", ended)
				}
			})
		})
	}
}

// On a slow uplink everybody takes long, and nobody has to make room. What has
// been parked goes on where it was.
func TestServerSlowUplink(t *testing.T) {
	for _, c := range []struct {
		name     string
		chunkLog int
		peers    byte
		cache    int
	}{
		{"chunks", 18, 24, -1},
		{"large chunks", 20, 16, -1},
		{"from the cache", 18, 16, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const rate, size = 2e6, 2 << 20
				n := newTestNet(t, 0, 5*time.Millisecond)
				defer n.close()
				store := newMemStore()
				root := store.putFile(randomBytes(42, size), c.chunkLog, true).hash
				store.pin(root)
				s := NewServer(store, ServerConfig{Cache: c.cache, ReadAhead: minReadAhead})
				uplink := &uplink{rate: rate}
				start := time.Now()
				var wg sync.WaitGroup
				for i := range c.peers {
					f := newFetch(t, root, func(c *Config) { c.PeerTimeout = 5 * time.Minute })
					f.AddPeer(peerHash(1), "", func(context.Context) (net.Conn, error) {
						client, server := newTestPipe(0, 5*time.Millisecond)
						client.in.buffer = 64 << 10
						client.in.shared = uplink
						n.wg.Go(func() { s.Serve(n.ctx, server, peerHash(100+i)) })
						return client, nil
					})
					wg.Go(func() {
						if err := f.Run(t.Context()); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if took, ideal := time.Since(start), seconds(size/rate*float64(c.peers)); took > ideal*11/10 {
					t.Errorf("took %v, which the uplink carries in %v", took, ideal)
				}
				if st := s.Stats(); st.Ended > 0 || st.Refused > 0 || st.Parked == 0 {
					t.Errorf("%d streams had to make room, %d found none, %d batches were parked", st.Ended, st.Refused, st.Parked)
				}
			})
		})
	}
}

// When all places are taken, who has none gets one of those who have most.
func TestServerPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemStore()
		root := store.putFile([]byte("x"), 16, true).hash
		store.pin(root)
		s := NewServer(store, ServerConfig{MaxStreams: 5})
		open := func(peer byte) talk {
			k := newTalk(t, s, peer)
			k.say(appendOpen(nil, root))
			k.expect(appendHaveComplete(nil))
			time.Sleep(time.Second) // between the beginnings
			return k
		}
		busy := func(k talk) {
			t.Helper()
			k.expect(appendClose(nil, closeBusy))
			if err := <-k.done; !errors.Is(err, ErrBusy) {
				t.Error(err)
			}
		}
		first := open(1)
		second := open(1)
		other := open(2)
		// A place is a place before the first message, too.
		third := newTalk(t, s, 1)
		time.Sleep(time.Second)
		fourth := open(1)
		busy(newTalk(t, s, 2)) // has one
		p3 := open(3)
		busy(fourth)
		p4 := open(4)
		busy(third)
		p5 := open(5)
		busy(second)
		busy(newTalk(t, s, 6)) // all have one
		if st := s.Stats(); st.Streams != 5 || st.Peers != 5 || st.Ended != 3 || st.Refused != 2 {
			t.Errorf("%+v", st)
		}
		for _, k := range []talk{first, other, p3, p4, p5} {
			k.say(appendWant(nil, 1, root))
			if m := k.hear(); m.t != msgBlob {
				t.Errorf("a stream that was left in peace hears %v", m.t)
			}
			k.Close()
			<-k.done
		}
	})
}

// Requests that are cancelled at once by a peer that does not read what becomes
// of them cost no more than others.
func TestServerCancelFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemStore()
		data := randomBytes(43, 1<<20)
		root := store.putFile(data, 18, true).hash
		store.pin(root)
		s := NewServer(store, ServerConfig{})
		client, server := newTestPipe(0, time.Millisecond)
		client.in.buffer, client.out.buffer = 4<<10, 4<<10
		done := make(chan error, 1)
		go func() { done <- s.Serve(t.Context(), server, peerHash(66)) }()
		var wg sync.WaitGroup
		pairs := 0
		wg.Go(func() {
			client.Write(appendOpen(nil, root))
			for id := uint32(0); ; id++ {
				if _, err := client.Write(appendRequest(appendWant(nil, id, stc.Sum(data[:1<<18])), msgCancel, id)); err != nil {
					return
				}
				pairs++
			}
		})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if pairs < 100 || pairs > maxOpenRequests+(4<<10)/(headerSize+requestLen)+(8<<10)/(wantSize+headerSize+requestLen)+16 {
			t.Errorf("the server took %d requests that were cancelled", pairs)
		}
		client.Close()
		wg.Wait()
		<-done
	})
}
