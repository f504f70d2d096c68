package swarm

import (
	"slices"

	"github.com/seigr/sttnode/content"
)

// tail is what a stream still sends because of a FOLLOW: blobs below the node
// that was asked for, as if each had been asked for.
type tail struct {
	limit followRequest
	walk  descent
	next  uint32 // request number
	left  int    // blobs
	ended bool   // nothing is left to be said
}

// maxFollowed is how many blobs may come behind the node of a FOLLOW.
const maxFollowed = 16

// pop returns the request that is to be answered next: what a FOLLOW implies, or
// else the oldest in the queue. ok is false when there is none, and wait is
// false or the stream ends.
func (st *serverStream) pop(wait bool) (r openRequest, ok bool) {
	if t := st.tail; t != nil && !t.ended {
		return t.request(), true
	}
	st.tail = nil
	return st.queue.pop(wait)
}

// request returns the next blob of the tail, or its end.
func (t *tail) request() (r openRequest) {
	r.id = t.next
	t.next++
	ref, ok := t.walk.next()
	chunk := ref.Kind == content.KindChunk
	if !ok || t.left == 0 || chunk && (t.limit.chunks == 0 || ref.Size > uint64(t.limit.bytes)) {
		r.ends, t.ended = true, true
		return r
	}
	t.left--
	if chunk {
		t.limit.chunks--
	}
	r.hash, r.node = ref.Hash, !chunk
	return r
}

// answered notes the answer to a request, nil if the blob is not here. It
// returns false if the blob is one that follows a node and is not here, or is
// more than may follow: then the tail ends in its place.
func (st *serverStream) answered(r openRequest, blob []byte) bool {
	switch {
	case r.follow != nil && blob != nil:
		st.tail = &tail{limit: *r.follow, walk: descent{offset: r.follow.offset}, next: r.id + 1, left: maxFollowed}
	case st.tail == nil:
		return true
	case blob == nil, uint64(len(blob)) > uint64(st.tail.limit.bytes):
		st.tail.ended = true
		return false
	default:
		st.tail.limit.bytes -= uint32(len(blob))
	}
	if r.follow != nil || r.node {
		// What is no node has nothing below it.
		if n, err := content.DecodeNode(slices.Clone(blob)); err == nil {
			st.tail.walk.enter(n)
		}
	}
	return true
}
