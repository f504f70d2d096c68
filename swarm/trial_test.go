package swarm

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/stc"
)

// Peers that are of no use, however many come before the one that is, hold
// their places but for a moment, and do not get them from peers that send.
func TestUselessCandidates(t *testing.T) {
	hang := func(ctx context.Context) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	for name, useless := range map[string]func(n *testNet) Dialer{
		"cannot be dialled": func(*testNet) Dialer { return hang },
		"say nothing": func(n *testNet) Dialer {
			return n.dialerTo(66, func(ctx context.Context, conn net.Conn) { <-ctx.Done() })
		},
		"send nothing": func(n *testNet) Dialer {
			return n.dialerTo(66, impostor(func(uint32, stc.Hash) []byte { return nil }))
		},
		"have nothing": func(n *testNet) Dialer {
			return n.dialerTo(66, func(ctx context.Context, conn net.Conn) {
				conn.Write(appendHave(nil, nil))
				<-ctx.Done()
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const many = 200
				n := newTestNet(t, 1e6, 10*time.Millisecond)
				defer n.close()
				seed := newMemStore()
				root := seed.putFile(randomBytes(1, 20<<20), 16, true).hash
				seed.pin(root)
				f := newFetch(t, root, nil)
				server := NewServer(seed, ServerConfig{})
				dial := useless(n)
				for i := range many {
					f.AddPeer(peerHash(byte(i)), "", dial)
				}
				f.AddPeer(peerHash(201), "", n.dialer(201, server))
				start := time.Now()
				p := f.mustComplete(t, seed)
				if took, most := time.Since(start), 20*time.Second*2+(many/32+1)*firstTrial; took > most {
					t.Errorf("took %v, more than %v", took, most)
				}
				if n.dials[201] != 1 {
					t.Errorf("the peer that sends was dialled %d times", n.dials[201])
				}
				if p.Duplicate > 1<<20 {
					t.Errorf("%d bytes came twice", p.Duplicate)
				}
			})
		})
	}
}
