package swarm

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/stc"
)

// treeOf stores a file of chunks of 1 KiB with nodes of 16 references on three
// levels, and returns the blobs on the way to its chunk i, from the root down to
// the chunk itself.
func treeOf(s *memStore, chunks int) (root stc.Hash, path func(i int) [][]byte, data []byte) {
	data = randomBytes(5, chunks<<10)
	root = s.putFile(data, 10, true).hash
	s.pin(root)
	path = func(i int) (blobs [][]byte) {
		front := newFrontier(selection{partial: true, bytes: rangeSet{[]span{{uint64(i) << 10, uint64(i)<<10 + 1}}}})
		for steps := []step{front.begin(root)}; len(steps) > 0; steps = front.take(steps[:0], 9) {
			blob := s.blobs[steps[0].ref.Hash]
			blobs = append(blobs, blob)
			if n, err := steps[0].decode(blob); err == nil {
				front.expand(steps[0], n)
			}
		}
		return blobs
	}
	return root, path, data
}

// What follows a node is what lies on the way to an offset, and ends where it
// should.
func TestServerFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemStore()
		root, path, data := treeOf(store, 1000)
		chunk := func(i int) []byte { return data[i<<10 : (i+1)<<10] }
		lost := stc.Sum(chunk(700))
		delete(store.blobs, lost)
		leaf := stc.Sum(path(600)[2])
		empty := store.putDir(nil, false).hash
		for name, c := range map[string]struct {
			node   stc.Hash
			follow followRequest
			want   [][]byte // what follows the node
		}{
			"the begin":                    {root, followRequest{0, 1 << 20, 2}, append(path(0)[1:], chunk(1))},
			"a middle":                     {root, followRequest{555<<10 + 7, 1 << 20, 1}, path(555)[1:]},
			"over a leaf's end":            {root, followRequest{15 << 10, 1 << 20, 2}, append(path(15)[1:], path(16)[2:]...)},
			"from a leaf":                  {leaf, followRequest{600 % 16 << 10, 1 << 20, 3}, [][]byte{chunk(600), chunk(601), chunk(602)}},
			"the end":                      {root, followRequest{999 << 10, 1 << 20, 9}, path(999)[1:]},
			"behind the end":               {root, followRequest{1000 << 10, 1 << 20, 9}, nil},
			"far behind the end":           {root, followRequest{^uint64(0), 1 << 20, 9}, nil},
			"no chunk":                     {root, followRequest{0, 1 << 20, 0}, path(0)[1:3]},
			"bytes for a chunk":            {root, followRequest{0, uint32(len(path(0)[1]) + len(path(0)[2]) + 2047), 9}, path(0)[1:]},
			"bytes for a node":             {root, followRequest{0, uint32(len(path(0)[1])), 9}, path(0)[1:2]},
			"not for a node":               {root, followRequest{0, uint32(len(path(0)[1]) - 1), 9}, nil},
			"16 blobs":                     {root, followRequest{0, 1 << 20, 255}, slices.Concat(path(0)[1:], dataChunks(data, 1, 14))},
			"a chunk is not here":          {root, followRequest{699 << 10, 1 << 20, 9}, path(699)[1:]},
			"of a chunk":                   {stc.Sum(chunk(3)), followRequest{0, 1 << 20, 9}, nil},
			"of a directory without files": {empty, followRequest{0, 1 << 20, 9}, nil},
		} {
			for _, cache := range []int{-1, 0} {
				k := newTalk(t, NewServer(store, ServerConfig{Cache: cache}), 1)
				k.say(appendOpen(nil, root))
				k.expect(appendHaveComplete(nil))
				for range 3 { // the cache keeps what is asked for again
					k.say(appendFollow(nil, 7, c.node, c.follow), appendWant(nil, 99, root))
					k.expect(appendBlob(nil, 7, store.blobs[c.node]))
					for i, b := range c.want {
						k.expect(appendBlob(nil, uint32(8+i), b))
					}
					k.expect(appendRequest(nil, msgCancelled, uint32(8+len(c.want))))
					k.expect(appendBlob(nil, 99, store.blobs[root]))
				}
				k.Close()
				if err := <-k.done; err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		// Without the node nothing follows.
		k := newTalk(t, NewServer(store, ServerConfig{}), 1)
		k.say(appendOpen(nil, root))
		k.expect(appendHaveComplete(nil))
		k.say(appendFollow(nil, 7, lost, followRequest{0, 1 << 20, 9}), appendWant(nil, 8, root))
		k.expect(appendRequest(nil, msgMissing, 7))
		k.expect(appendBlob(nil, 8, store.blobs[root]))
		k.Close()
		<-k.done
	})
}

func dataChunks(data []byte, from, to int) (list [][]byte) {
	for i := from; i < to; i++ {
		list = append(list, data[i<<10:(i+1)<<10])
	}
	return list
}

// A small content is here one round trip after the first provider is known, and
// is asked of it but once.
func TestSmallContentInARoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rtt = 100 * time.Millisecond
		n := newTestNet(t, 0, rtt/2)
		defer n.close()
		seed := newMemStore()
		file := seed.putFile(randomBytes(1, 4<<10), 18, false)
		root := seed.putDir([]testRef{seed.putDir([]testRef{file}, false)}, true).hash
		seed.pin(root)
		s := NewServer(seed, ServerConfig{})
		f := newFetch(t, root, nil)
		f.AddPeer(peerHash(1), "", n.dialer(1, s))
		start := time.Now()
		p := f.mustComplete(t, seed)
		if d := time.Since(start); d > rtt+rtt/10 {
			t.Errorf("it came after %v", d)
		}
		if p.Duplicate+p.Unwanted > 0 || s.Stats().Blobs != 3 {
			t.Errorf("%d blobs were sent: %+v", s.Stats().Blobs, p)
		}
	})
}

// What follows a node and is here already, or not wanted, is counted.
func TestFollowedInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rtt = 100 * time.Millisecond
		n := newTestNet(t, 0, rtt/2)
		defer n.close()
		seed := newMemStore()
		data := randomBytes(1, 64<<10)
		r := newReading(t, seed, data, 10)
		r.store.put(data[1<<10 : 2<<10])
		ctx, cancel := context.WithCancel(t.Context())
		r.run(ctx)
		r.AddPeer(peerHash(1), "", n.dialer(1, NewServer(seed, ServerConfig{})))
		time.Sleep(time.Second) // the root is here, and the three first chunks with it
		if d := r.at(0, 3<<10); d > rtt/10 {
			t.Errorf("the first byte came after %v more", d)
		}
		r.at(40<<10, 3<<10)
		cancel()
		<-r.done
		if p := r.Progress(); p.Unwanted != 1<<10 || p.Duplicate != 0 {
			t.Errorf("%d bytes are not wanted, and %d came twice", p.Unwanted, p.Duplicate)
		}
	})
}

// A peer that sends behind a node what does not belong there is dropped, and
// costs no more than it was allowed to send.
func TestHostileFollowers(t *testing.T) {
	for name, c := range map[string]struct {
		behind func(seed *memStore, first uint32, right [][]byte) []byte
		err    error
	}{
		"other blobs": {func(_ *memStore, first uint32, right [][]byte) []byte {
			return appendBlob(nil, first+1, randomBytes(1, len(right[0])))
		}, ErrBadBlob},
		"another order": {func(_ *memStore, first uint32, right [][]byte) []byte {
			return appendBlob(nil, first+2, right[0])
		}, ErrProtocol},
		"one twice": {func(_ *memStore, first uint32, right [][]byte) []byte {
			b := appendBlob(nil, first+1, right[0])
			return append(b, b...)
		}, ErrProtocol},
		"the node again": {func(_ *memStore, first uint32, right [][]byte) []byte {
			return appendBlob(nil, first, right[0])
		}, ErrProtocol},
		"more bytes": {func(_ *memStore, first uint32, right [][]byte) []byte {
			return appendBlob(nil, first+1, make([]byte, maxBlob))
		}, ErrProtocol},
		"more blobs": {func(_ *memStore, first uint32, right [][]byte) (b []byte) {
			for i := range uint32(50) {
				b = appendBlob(b, first+1+i, nil)
			}
			return b
		}, ErrProtocol},
		"behind the end": {func(_ *memStore, first uint32, right [][]byte) []byte {
			return appendBlob(appendRequest(nil, msgCancelled, first+1), first+2, right[0])
		}, ErrProtocol},
		"no end":  {func(_ *memStore, first uint32, right [][]byte) []byte { return appendBlob(nil, first+1, right[0]) }, nil},
		"nothing": {func(*memStore, uint32, [][]byte) []byte { return nil }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHostileCase(t)
				defer h.net.close()
				root := h.seed.blobs[h.root]
				hostile := func(ctx context.Context, conn net.Conn) {
					defer context.AfterFunc(ctx, func() { conn.Close() })()
					readMessage(conn)
					conn.Write(appendHaveComplete(nil))
					for {
						m, err := readMessage(conn)
						if err != nil {
							return
						}
						switch m.t {
						case msgFollow:
							id, _ := m.want()
							node := newFrontier(selection{}).begin(h.root)
							n, _ := node.decode(root)
							next := h.seed.blobs[n.Child(0).Hash]
							conn.Write(append(appendBlob(nil, id, root), c.behind(h.seed, id, [][]byte{next})...))
						case msgWant:
							id, hash := m.want()
							conn.Write(appendBlob(nil, id, h.seed.blobs[hash]))
						}
					}
				}
				f := newFetch(t, h.root, nil)
				f.AddPeer(peerHash(66), "hostile", h.net.dialerAt(66, 50e6, 10*time.Millisecond, hostile))
				time.AfterFunc(time.Second, func() {
					f.AddPeer(peerHash(1), "honest", h.net.dialer(1, NewServer(h.seed, ServerConfig{})))
				})
				p := f.mustComplete(t, h.seed)
				if s := p.Sources[0]; !errors.Is(s.Err, c.err) || (s.State == SourceBanned) != (c.err != nil) {
					t.Errorf("the hostile peer is %v: %v, want %v", s.State, s.Err, c.err)
				}
				if wasted := p.Bad + p.Unwanted + p.Duplicate; wasted > maxBlob+bulkBytes {
					t.Errorf("%d bytes are wasted", wasted)
				}
			})
		})
	}
}
