package swarm

import (
	"fmt"
	"time"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/stc"
)

// A manifest node says what comes next, so that each level of a tree costs a
// round trip before the first chunk below it can be asked for. FOLLOW saves
// them: the peer sends the node and, unasked, what lies on the way from there to
// the bytes that are wanted first. Both sides walk the same way (descent), so
// we know which blob each of its answers must be as soon as the node above it
// has been verified, and treat it as asked for from then on. What comes before
// that waits here.

const (
	// readChunks and readBytes are how many chunks, and bytes of nodes and chunks,
	// may follow a node for somebody who reads: one chunk of the usual size with the
	// nodes that lead to it, and no more chunks than are asked of a peer that is not
	// proven. bulkChunks and bulkBytes are for all others: a small content is here
	// with its root, and of a large one it is not for all who begin at once to ask
	// the same peer for the same chunks.
	readChunks, readBytes = unprovenChunks, 320 << 10
	bulkChunks, bulkBytes = 1, 64 << 10
)

// following is a FOLLOW of ours whose answers are not all here. It belongs to
// the scheduler's peer.
type following struct {
	first       uint32 // number of the node; those of what follows come behind it
	next        uint32 // number of the next answer
	sent        time.Time
	delivered   int64                   // what the peer had delivered when it was sent
	bytes, most int                     // that have come behind the node, and may come
	sizes       [maxFollowed + 1]uint32 // of the blobs that have come, 0 for the node

	walk      descent
	limit     followRequest // what is left of it, by the walk
	names     []named       // in the order of their numbers, from first + 1 on
	awaits    stc.Hash      // the node that the walk waits for
	abandoned bool          // nothing that still comes is wanted
	over      bool          // nothing more comes

	early map[uint32][]byte // answers that nobody has named or wants yet
}

// named is what an answer must be.
type named struct {
	hash    stc.Hash
	claimed bool
}

// owns reports whether an answer with this number may still come of the FOLLOW.
func (f *following) owns(number uint32) bool {
	return f != nil && !f.over && number-f.first <= maxFollowed+1
}

// of reports whether the number is that of the FOLLOW's node.
func (f *following) of(number uint32) bool { return f != nil && f.first == number }

// free reports whether another FOLLOW may take its place.
func (f *following) free() bool { return f == nil || f.over && len(f.early) == 0 }

// enter goes on below a node, if it is the one that the walk waits for and the
// peer has sent it.
func (f *following) enter(h stc.Hash, n *content.Node) {
	behind := uint32(0)
	if f != nil {
		behind = uint32(len(f.names))
	}
	if f == nil || f.abandoned || f.awaits != h || f.next <= f.first+behind {
		return
	}
	f.limit.bytes -= min(f.limit.bytes, f.sizes[behind])
	f.awaits = stc.Hash{}
	f.walk.enter(n)
	for len(f.names) < maxFollowed {
		ref, ok := f.walk.next()
		chunk := ref.Kind == content.KindChunk
		if !ok || chunk && (f.limit.chunks == 0 || ref.Size > uint64(f.limit.bytes)) {
			return
		}
		f.names = append(f.names, named{hash: ref.Hash})
		if !chunk {
			f.awaits = ref.Hash
			return
		}
		f.limit.chunks--
		f.limit.bytes -= uint32(ref.Size)
	}
}

// claim returns the number under which a blob comes, which is wanted now.
func (f *following) claim(h stc.Hash) (number uint32, ok bool) {
	if f == nil || f.abandoned {
		return 0, false
	}
	for i := range f.names {
		if n := &f.names[i]; n.hash == h && !n.claimed {
			n.claimed = true
			return f.first + 1 + uint32(i), true
		}
	}
	return 0, false
}

// follow begins to expect what follows a node.
func (s *scheduler) follow(r *request) {
	r.peer.nextID = r.id + maxFollowed + 2
	r.peer.following = &following{
		first: r.id, next: r.id, sent: r.sent, delivered: r.delivered, awaits: r.item.hash,
		most: int(r.item.follow.bytes), limit: *r.item.follow, walk: descent{offset: r.item.follow.offset}, early: make(map[uint32][]byte),
	}
}

// claim looks whether a waiting item is on its way behind a node, and if so
// takes it as asked for. It returns the peer and the number.
func (s *scheduler) claim(it *item) (p *schedPeer, number uint32, ok bool) {
	for _, p := range s.peers {
		if f := p.following; f != nil && p.has(it) && s.affords() {
			if number, ok := f.claim(it.hash); ok {
				r := s.open(p, it, number, f.sent)
				r.delivered, r.implied = f.delivered, true
				return p, number, true
			}
		}
	}
	return nil, 0, false
}

// unsent takes back what was expected to follow a node, from a number on.
func (s *scheduler) unsent(p *schedPeer, from uint32, now time.Time) {
	for number := from; p.following.owns(number); number++ {
		r := p.byID[number]
		if r == nil || !r.implied {
			continue
		}
		it := r.item
		s.allow.giveBack(r.size)
		s.answered(p, r, now)
		s.requeue(it)
	}
}

// followFor returns what is to follow a node, nil for nothing: what is wanted
// first, if it lies below.
func (o *owner) followFor(st step) *followRequest {
	at, f := uint64(0), &followRequest{bytes: bulkBytes, chunks: bulkChunks}
	if o.cfg.Sequential {
		f.bytes, f.chunks = readBytes, readChunks
	}
	switch sel := &o.selection; {
	case o.follows():
		at = o.reading.at
	case sel.directories:
		return nil
	case sel.partial && len(sel.bytes.spans) == 0:
		return nil
	case sel.partial:
		at = sel.bytes.spans[0].lo
	}
	if at < st.offset || !st.root && at >= st.offset+st.ref.Size {
		return nil
	}
	f.offset = at - st.offset
	return f
}

// followed takes an answer that belongs to a FOLLOW. handled is false if it is
// also that of a request, and to be treated as such.
func (o *owner) followed(p *schedPeer, a answer, now time.Time) (handled bool, err error) {
	f := p.following
	if !f.owns(a.request) {
		return false, nil
	}
	behind := a.request != f.first
	if behind && a.kind == msgBlob {
		f.bytes += len(a.blob)
	}
	if a.request != f.next || f.bytes > f.most || a.kind == msgBlob && f.next-f.first > maxFollowed {
		return false, fmt.Errorf("%w: %v %d behind a node, %d bytes", ErrProtocol, a.kind, a.request-f.first, f.bytes)
	}
	if f.next++; behind && a.kind == msgBlob {
		f.sizes[a.request-f.first] = uint32(len(a.blob))
	}
	switch {
	case a.kind != msgBlob:
		if behind {
			o.sched.unsent(p, a.request, now)
		} else {
			f.abandoned = true
		}
		f.over = true
		return behind, nil
	case !behind || p.byID[a.request] != nil:
		return false, nil
	case f.abandoned:
		o.count.Unwanted += uint64(len(a.blob))
		o.discard(a)
	default:
		f.early[a.request] = a.blob
	}
	return true, nil
}

// claim asks nobody for a blob that is on its way behind a node already.
func (o *owner) claim(it *item, now time.Time) {
	p, number, ok := o.sched.claim(it)
	if !ok {
		return
	}
	if blob, here := p.following.early[number]; here {
		delete(p.following.early, number)
		if a := (answer{msgBlob, number, blob}); !o.settle(o.serving[p.id].conn, p, a, now) {
			o.discard(a)
		}
	}
}

// abandon gives up what follows a node and is not asked for.
func (o *owner) abandon(p *schedPeer) {
	f := p.following
	if f == nil {
		return
	}
	f.abandoned = true
	for _, blob := range f.early {
		o.count.Unwanted += uint64(len(blob))
		o.host.release(blob)
	}
	clear(f.early)
}

func (o *owner) abandonAll() {
	for _, p := range o.sched.peers {
		o.abandon(p)
	}
}
