package swarm

import (
	"slices"
	"sync"

	"github.com/seigr/sttnode/stc"
)

// openRequest is a WANT or FOLLOW that is not answered, or what a FOLLOW implies.
type openRequest struct {
	id     uint32
	hash   stc.Hash
	follow *followRequest // of a FOLLOW
	node   bool           // implied: a manifest node
	ends   bool           // implied: nothing more follows
}

// parseOpenRequest reads the body of a WANT or FOLLOW.
func parseOpenRequest(t msgType, body []byte) (r openRequest) {
	if t == msgFollow {
		r.follow = new(followRequest)
		r.id, r.hash, *r.follow = parseFollow(body)
	} else {
		r.id, r.hash = parseWant(body)
	}
	return r
}

// requestQueue holds the open requests of a stream, at most maxOpenRequests
// with those that were cancelled and whose peer has not been told. One side
// pushes and waits when it is full, the other pops and waits when it is empty.
type requestQueue struct {
	mu      sync.Mutex
	changed sync.Cond
	list    []openRequest // from next on
	next    int
	unsaid  int // cancelled, CANCELLED not yet written
	closed  bool
}

func (q *requestQueue) init() { q.changed.L = &q.mu }

// push returns false when the queue is closed.
func (q *requestQueue) push(r openRequest) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.list)-q.next+q.unsaid >= maxOpenRequests && !q.closed {
		q.changed.Wait()
	}
	if q.closed {
		return false
	}
	if q.next >= maxOpenRequests {
		q.list = slices.Delete(q.list, 0, q.next)
		q.next = 0
	}
	q.list = append(q.list, r)
	q.changed.Broadcast()
	return true
}

// pop returns the oldest request. ok is false when the queue is closed, or
// empty and wait is false.
func (q *requestQueue) pop(wait bool) (r openRequest, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for wait && q.next == len(q.list) && !q.closed {
		q.changed.Wait()
	}
	if q.closed || q.next == len(q.list) {
		return r, false
	}
	r = q.list[q.next]
	q.next++
	if q.next == len(q.list) {
		q.list, q.next = q.list[:0], 0
	}
	q.changed.Broadcast()
	return r, true
}

// cancel takes out a request and reports whether it was there. The caller then
// owes its answer.
func (q *requestQueue) cancel(id uint32) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := q.next; i < len(q.list); i++ {
		if q.list[i].id == id {
			q.list = slices.Delete(q.list, i, i+1)
			q.unsaid++
			return true
		}
	}
	return false
}

// said notes that n cancelled requests were answered.
func (q *requestQueue) said(n int) {
	q.mu.Lock()
	q.unsaid -= n
	q.mu.Unlock()
	q.changed.Broadcast()
}

func (q *requestQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.changed.Broadcast()
}
