package swarm

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/stc"
)

// A server says what the streams that it serves wait for.
func TestServerWaiting(t *testing.T) {
	store := newMemStore()
	data := randomBytes(61, 4<<20)
	root := store.putFile(data, 18, true).hash
	store.pin(root)
	var chunks []stc.Hash
	for at := 0; at < len(data); at += 1 << 18 {
		chunks = append(chunks, stc.Sum(data[at:at+1<<18]))
	}
	for _, c := range []struct {
		want   Limit
		peers  byte
		chunks int
		takes  time.Duration // of the store for a blob
		up     Rate
	}{
		{want: LimitNone},
		{want: LimitPeer, peers: 2},
		{want: LimitNetwork, peers: 2, chunks: 16},
		{want: LimitRate, peers: 2, chunks: 16, up: 1 << 10},
		{want: LimitDisk, peers: 2, chunks: 16, takes: time.Hour},
		{want: LimitMemory, peers: 30, chunks: 16},
	} {
		t.Run(c.want.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := NewServer(slowStore{store, c.takes}, ServerConfig{
					ReadAhead: minReadAhead, Limiter: NewLimiter(Limits{Rates: Rates{Up: c.up}}),
				})
				var d deaf
				defer d.close()
				for i := range c.peers {
					d.open(t, s, peerHash(i), root, chunks[:c.chunks], 1)
				}
				time.Sleep(10 * time.Millisecond)
				if w := s.Stats().Waiting; w.Limit() != c.want {
					t.Errorf("limited by %v, want %v: %v", w.Limit(), c.want, w)
				}
			})
		})
	}
}
