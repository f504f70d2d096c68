package swarm

import (
	"encoding/binary"

	"github.com/seigr/sttnode/stc"
)

// When many begin to fetch at once from few who have everything, what those can
// send is what all the others wait for: each chunk should leave them once, and
// go round among the fetchers from there. So fetchers deal the chunks that
// nobody but a complete peer has among themselves, without a word: for each
// chunk every fetcher draws a lot from its own name and that of the chunk, and
// the one with the highest asks for it first. The others come to it only when
// they have nothing else to ask the complete peer for, so that it is never
// idle, and nobody depends on what others do. Fetchers who know different peers
// deal differently, and some chunks go out twice; that is all.

// lot is what somebody draws for a blob.
func lot(h stc.Hash, key uint64) uint64 {
	x := binary.BigEndian.Uint64(h[:8]) ^ key
	// The finalizer of SplitMix64: every bit depends on all.
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// lotKey is the name by which a node draws its lots.
func lotKey(node stc.Hash) uint64 { return binary.BigEndian.Uint64(node[:8]) }

// fellow reports whether the peer is fetching, as far as it has told.
func (p *schedPeer) fellow() bool { return p.key != 0 && p.announced && !p.complete }

// ours reports whether it is for us to ask a complete peer for a chunk that
// nobody else has.
func (s *scheduler) ours(it *item) bool {
	if s.cfg.self == 0 || s.cfg.sequential {
		return true
	}
	own := lot(it.hash, s.cfg.self)
	for _, p := range s.peers {
		if p.fellow() && lot(it.hash, p.key) > own {
			return false
		}
	}
	return true
}

// deal looks again at the chunks that only complete peers have, since a fellow
// has come or gone. Those that are not ours any more are cancelled where they
// have only been asked for.
func (s *scheduler) deal(out *plan) {
	for _, p := range s.peers {
		for i := len(p.open) - 1; i > 0 && p.complete; i-- {
			r := p.open[i]
			if it := r.item; !r.implied && len(it.requests) == 1 && s.queueOf(it) == queueRarity {
				s.cancel(r, out)
				s.enqueue(it)
			}
		}
	}
	var moves []*item
	for _, q := range []int{queueOurs, queueRarity} {
		for _, it := range s.queues[q].items {
			if it != nil && s.queueOf(it) != q {
				moves = append(moves, it)
			}
		}
	}
	for _, it := range moves {
		s.dequeue(it)
		s.enqueue(it)
	}
}

// spared reports whether a complete peer is to be asked for one chunk at a time
// of what is not ours to ask it for: while fellows are giving us far more than
// it does, it is their source, too.
func (s *scheduler) spared(p *schedPeer) bool {
	if !p.complete {
		return false
	}
	enough, sum := sparedBy*p.est.bytesPerSecond(), 0.0
	for _, q := range s.peers {
		if q.fellow() && !q.snubbed && len(q.open) > 0 {
			sum += q.est.bytesPerSecond()
		}
	}
	return sum > enough
}

// sparedBy is how many times as much the fellows must give.
const sparedBy = 2
