package swarm

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/stc"
)

// Whole swarms at random: honest peers that are together complete, on lines of
// all kinds, some of which tear, beside hostile ones. The fetch always ends
// whole, honest peers are never asked for what they don't have, and what is
// fetched is right.
func TestRandomSwarms(t *testing.T) {
	seed := testSeed(t)
	rounds := 25
	if testing.Short() {
		rounds = 10
	}
	for round := range rounds {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { wholeSwarm(t, seed+uint64(round)) })
		})
	}
}

func wholeSwarm(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 5))
	n := newTestNet(t, 0, 0)
	defer n.close()
	full, root := randomContent(rng, seed)

	peers := 1 + rng.IntN(6)
	honest := make([]*memStore, peers)
	for i := range honest {
		honest[i] = newMemStore()
	}
	owner := make(map[stc.Hash]int)
	for h := range full.blobs {
		// Nodes are everywhere: who announces a chunk has what is above it.
		if _, isChunk := full.chunks[h]; !isChunk {
			for _, s := range honest {
				s.blobs[h] = full.blobs[h]
			}
			continue
		}
		owner[h] = rng.IntN(peers)
		for i, s := range honest {
			if i == owner[h] || rng.IntN(3) == 0 {
				s.blobs[h] = full.blobs[h]
			}
		}
	}
	f := newFetch(t, root, func(c *Config) {
		c.Budget = minBudget + rng.IntN(8<<20)
		c.Window = minWindow << rng.IntN(8)
		c.MaxPeers = 2 + rng.IntN(8)
		c.MaxDials = 1000
		c.Sequential = rng.IntN(4) == 0
		c.StallTimeout = 10 * time.Minute
		c.Seed = seed
	})
	var servers []*Server
	id := byte(0)
	add := func(serve func(context.Context, net.Conn)) {
		id++
		rate := 20_000 * float64(int(1)<<rng.IntN(12))
		delay := time.Duration(rng.IntN(150_000)) * time.Microsecond
		if rng.IntN(4) == 0 {
			n.breaks[id] = 200_000 + rng.Int64N(1<<20)
		}
		peer, dial := id, n.dialerAt(id, rate, delay, serve)
		time.AfterFunc(time.Duration(rng.IntN(3000))*time.Millisecond, func() { f.AddPeer(peerHash(peer), "", dial) })
	}
	for _, s := range honest {
		server := NewServer(s, ServerConfig{})
		servers = append(servers, server)
		add(func(ctx context.Context, conn net.Conn) { server.Serve(ctx, conn, peerHash(200)) })
	}
	for range rng.IntN(4) {
		kind := rng.IntN(4)
		add(impostor(func(r uint32, h stc.Hash) []byte {
			switch kind {
			case 0:
				return appendBlob(nil, r, make([]byte, 10_000))
			case 1:
				return appendRequest(nil, msgMissing, r)
			case 2:
				return randomBytes(seed, 500)
			}
			return nil
		}))
	}
	if err := f.Run(t.Context()); err != nil {
		t.Fatalf("seed %d: %v\n%+v", seed, err, f.Progress())
	}
	if err := f.store.covers(full); err != nil {
		t.Errorf("seed %d: %v", seed, err)
	}
	for i, s := range servers {
		if st := s.Stats(); st.Missing > 0 {
			t.Errorf("seed %d: peer %d was asked %d times for what it did not announce", seed, i, st.Missing)
		}
	}
	p := f.Progress()
	if p.DoneSize != p.Size || p.DoneChunks != p.Chunks || p.FetchedBlobs != uint64(len(full.blobs)) {
		t.Errorf("seed %d: %d blobs fetched of %d; %+v", seed, p.FetchedBlobs, len(full.blobs), p)
	}
}

// randomContent makes a file or a tree.
func randomContent(rng *rand.Rand, seed uint64) (*memStore, stc.Hash) {
	s := newMemStore()
	file := func(top bool) testRef {
		chunkLog := 10 + rng.IntN(7)
		data := randomBytes(seed+uint64(rng.IntN(40)), rng.IntN(1<<(chunkLog+4)))
		if len(data) == 0 && !top {
			return testRef{}
		}
		return s.putFile(data, chunkLog, top)
	}
	if rng.IntN(3) == 0 {
		return s, file(true).hash
	}
	var dir func(depth int, top bool) testRef
	dir = func(depth int, top bool) testRef {
		var entries []testRef
		for range rng.IntN(12) {
			if depth > 0 && rng.IntN(3) == 0 {
				entries = append(entries, dir(depth-1, false))
			} else {
				entries = append(entries, file(false))
			}
		}
		return s.putDir(entries, top)
	}
	return s, dir(3, true).hash
}

// With all places taken by peers who trickle, those in reserve get their turn.
func TestReservePeersGetTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 5e6, 5*time.Millisecond)
		defer n.close()
		seed := newMemStore()
		root := seed.putFile(randomBytes(1, 8<<20), 16, true).hash
		seed.pin(root)
		s := NewServer(seed, ServerConfig{})
		f := newFetch(t, root, func(c *Config) { c.MaxPeers = 4 })
		for i := byte(1); i <= 6; i++ {
			f.AddPeer(peerHash(i), "", n.dialerAt(i, 1000, 0, func(ctx context.Context, conn net.Conn) { s.Serve(ctx, conn, peerHash(200)) }))
		}
		f.AddPeer(peerHash(9), "", n.dialer(9, s))
		start := time.Now()
		f.mustComplete(t, seed)
		if took := time.Since(start); took > time.Minute {
			t.Errorf("took %v", took)
		}
	})
}

// A tree with the same directory in two places, of which one partial peer
// announces the one and another fetcher meets the other first.
func TestRepetitionsAreAnnounced(t *testing.T) {
	var a availability
	a.add(span{2, 4})
	f := a.follow()
	a.repeat(repeat{span{0, 10}, 20})
	a.add(span{5, 12})
	spans, _ := f.take()
	var got rangeSet
	for _, s := range spans {
		got.add(s)
	}
	for _, want := range []span{{2, 4}, {5, 12}, {22, 24}, {25, 30}} {
		if !got.covers(want) {
			t.Errorf("%v is not announced: %v", want, got.spans)
		}
	}
	if got.len() != 16 {
		t.Errorf("announced %v", got.spans)
	}
	for range 2 * maxRepeats {
		a.repeat(repeat{span{0, 1}, 100})
	}
	if len(a.repeats) > maxRepeats {
		t.Errorf("%d repetitions are kept", len(a.repeats))
	}
}
