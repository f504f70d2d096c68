package session

import (
	"container/heap"
	"context"
	"fmt"
	"sync"
)

const (
	// guaranteedStreams is how many streams a peer may open in a session
	// though Config.MaxTotalStreams is reached.
	guaranteedStreams = 8
	// maxRefused is how many refused streams a peer may leave open in a
	// session before that costs it the session.
	maxRefused = 256
)

// bases are the first offsets of a stream ID's next life. told is the highest
// limit that the peer was given in former ones: word of it may still be on its
// way, and holds then for the life that it finds.
type bases struct{ send, recv, told uint64 }

// streamTable knows which stream IDs are in use. The initiator opens odd
// IDs, the responder even ones. An ID whose both directions are done may be
// used again; it keeps the offsets that its next life starts from.
type streamTable struct {
	mu      sync.Mutex // guards what follows
	open    map[uint16]*Stream
	idle    map[uint16]bases
	free    idHeap // own IDs in idle, lowest first
	next    int    // lowest own ID that was never used
	maxOwn  int    // largest ID that we may open
	maxPeer int    // largest ID that the peer may open
	opened  []*Stream
	peers   int // open streams that the peer has begun
	refused int // of them
	err     error

	arrived chan struct{} // capacity 1: opened has grown
	freed   chan struct{} // capacity 1: an own ID has come free
}

func (t *streamTable) init(initiator bool, own, peer int) {
	t.open = make(map[uint16]*Stream)
	t.idle = make(map[uint16]bases)
	t.arrived, t.freed = make(chan struct{}, 1), make(chan struct{}, 1)
	// n streams of one parity need IDs up to 2n.
	t.next, t.maxOwn, t.maxPeer = 2, 2*own, 2*peer
	if initiator {
		t.next, t.maxOwn = 1, 2*own-1
	} else {
		t.maxPeer = 2*peer - 1
	}
}

// create opens a stream of ours, or returns nil while no ID is free.
func (t *streamTable) create(s *Session) (*Stream, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return nil, t.err
	}
	var id uint16
	switch {
	case len(t.free) > 0:
		id = heap.Pop(&t.free).(uint16)
	case t.next <= t.maxOwn:
		id = uint16(t.next)
		t.next += 2
	default:
		return nil, nil
	}
	b := t.idle[id]
	delete(t.idle, id)
	st := newStream(s, id, true, b)
	t.open[id] = st
	if len(t.free) > 0 || t.next <= t.maxOwn {
		signal(t.freed)
	}
	return st, nil
}

// accept returns a stream that the peer has opened, or nil.
func (t *streamTable) accept() (*Stream, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.opened) > 0 {
		st := t.opened[0]
		t.opened[0] = nil
		t.opened = t.opened[1:]
		if len(t.opened) > 0 {
			signal(t.arrived)
		} else {
			t.opened = nil
		}
		return st, nil
	}
	return nil, t.err
}

// own reports whether id is one of those that this side opens.
func (t *streamTable) own(id uint16) bool { return int(id)%2 == t.maxOwn%2 }

// get returns the open stream of an ID.
func (t *streamTable) get(id uint16) *Stream {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open[id]
}

// base returns the offsets that the next life of an ID which is not open
// starts from.
func (t *streamTable) base(id uint16) bases {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.idle[id]
}

// openPeer opens a stream for the peer and queues it for accept; or refuses
// it, so that it only lives until the peer knows. Nobody accepts streams once
// the session is closing, but their bytes have to be counted as any other's.
func (t *streamTable) openPeer(s *Session, id uint16) *Stream {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.idle[id]
	delete(t.idle, id)
	st := newStream(s, id, false, b)
	st.out.announced = true // the peer knows of it
	t.open[id] = st
	t.peers++
	if n := s.ep.peerStreams.Add(1); t.err != nil || n > int64(s.cfg.MaxTotalStreams) && t.peers-t.refused > guaranteedStreams {
		s.ep.counters.refusedStreams.Add(1)
		st.refused = true
		t.refused++
		st.in.stop(CodeRefused)
		st.out.abort(CodeRefused)
		return st
	}
	t.opened = append(t.opened, st)
	signal(t.arrived)
	return st
}

// release takes a stream whose both directions are done out of the table.
func (t *streamTable) release(st *Stream, b bases) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open[st.id] != st {
		return
	}
	delete(t.open, st.id)
	if !st.local {
		st.s.ep.peerStreams.Add(-1)
		t.peers--
	}
	if st.refused {
		t.refused--
	}
	t.idle[st.id] = b
	if st.local {
		heap.Push(&t.free, st.id)
		signal(t.freed)
	}
}

// count returns the number of open streams.
func (t *streamTable) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.open)
}

// leave counts the peer's streams of an ended session out of its endpoint's.
func (t *streamTable) leave(e *Endpoint) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e.peerStreams.Add(-int64(t.peers))
}

// flooded reports whether the peer opens streams faster than it lets go of
// those that are refused.
func (t *streamTable) flooded() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.refused > maxRefused
}

// all returns the open streams, in no order.
func (t *streamTable) all() []*Stream {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]*Stream, 0, len(t.open))
	for _, st := range t.open {
		out = append(out, st)
	}
	return out
}

// close refuses new streams from now on; those that wait in accept are still
// handed out.
func (t *streamTable) close(err error) {
	t.mu.Lock()
	if t.err == nil {
		t.err = err
	}
	t.mu.Unlock()
	signal(t.arrived)
	signal(t.freed)
}

// OpenStream opens a stream. The peer learns of it with the first bytes, or
// when Read is called. While all IDs that the peer allows are in use it
// waits for one; ctx's end then gives [ErrTooManyStreams].
func (s *Session) OpenStream(ctx context.Context) (*Stream, error) {
	for {
		st, err := s.streams.create(s)
		if st != nil || err != nil {
			return st, err
		}
		select {
		case <-s.streams.freed:
		case <-s.done:
			return nil, s.Err()
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrTooManyStreams, context.Cause(ctx))
		}
	}
}

// AcceptStream returns the next stream that the peer has opened. After the
// session's end it returns those that are left, then the session's error.
func (s *Session) AcceptStream(ctx context.Context) (*Stream, error) {
	for {
		st, err := s.streams.accept()
		if st != nil || err != nil {
			return st, err
		}
		s.strand.help()
		select {
		case <-s.streams.arrived:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

type idHeap []uint16

func (h idHeap) Len() int           { return len(h) }
func (h idHeap) Less(i, j int) bool { return h[i] < h[j] }
func (h idHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *idHeap) Push(x any)        { *h = append(*h, x.(uint16)) }
func (h *idHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}
