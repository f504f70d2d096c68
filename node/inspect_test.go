package node

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/session/transport/memory"
	"github.com/seigr/sttnode/stc"
)

// A crawl finds each node that can be called once, in a network of several times
// what one lookup returns; and what is asked for one by one is found as well.
func TestCrawl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, memory.Link{Delay: 5 * time.Millisecond})
		boot := w.start(w.config("boot"))
		want := map[stc.Hash]string{boot.ID(): boot.Addr().String()}
		for i := range 70 {
			cfg := w.config(fmt.Sprintf("n%d", i), addressOf(boot))
			cfg.Dir = ""
			n := w.start(cfg)
			want[n.ID()] = n.Addr().String()
		}
		cfg := w.config("operator", addressOf(boot))
		cfg.Dir, cfg.DialOnly = "", true
		op := w.start(cfg)
		time.Sleep(time.Hour) // until all of them, who came at once, have found out that they can be called

		got := make(map[stc.Hash]string)
		stats, err := op.Crawl(t.Context(), func(f FoundNode) {
			if _, twice := got[f.Peer]; twice {
				t.Errorf("%v is told of twice", f.Peer)
			}
			got[f.Peer] = f.Addr
		})
		if err != nil || stats.Nodes != len(got) || stats.Incomplete > 0 || stats.Lookups < 4 || stats.Lookups > 40 {
			t.Errorf("%+v, %v", stats, err)
		}
		for id, addr := range want {
			if got[id] != addr {
				t.Errorf("%v at %s is found at %q", id, addr, got[id])
			}
		}
		if len(got) != len(want) {
			t.Errorf("%d nodes of %d", len(got), len(want))
		}

		f, err := op.FindNode(t.Context(), boot.ID())
		if err != nil || f.Addr != boot.Addr().String() || f.RTT < 10*time.Millisecond || f.RTT > 12*time.Millisecond {
			t.Errorf("%+v, %v", f, err)
		}
		if _, err := op.FindNode(t.Context(), stc.Hash{1}); !errors.Is(err, ErrNotFound) {
			t.Errorf("a node that is not there: %v", err)
		}
		root := stc.Sum([]byte("film"))
		if _, err := boot.Provide(t.Context(), root); err != nil {
			t.Fatal(err)
		}
		var providers []FoundNode
		s, err := op.LookUp(t.Context(), root, func(f FoundNode) { providers = append(providers, f) })
		if err != nil || len(providers) != 1 || providers[0].Peer != boot.ID() || !s.Complete {
			t.Errorf("%+v, %+v, %v", providers, s, err)
		}
		survey, err := op.Survey(t.Context())
		if err != nil || survey.Table.Good < 60 || survey.Network < 35 || survey.Network > 140 {
			t.Errorf("%+v, %d nodes, %v", survey.Table, survey.Network, err)
		}
	})
}

func TestRandomWithin(t *testing.T) {
	prefix := stc.Sum([]byte("prefix"))
	for bits := range 257 {
		id := randomWithin(prefix, bits)
		if got := commonBits(prefix, id); got < bits || got > bits+60 && bits < 190 {
			t.Errorf("%d bits: %d are common", bits, got)
		}
	}
}
