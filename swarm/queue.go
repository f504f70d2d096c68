package swarm

import "github.com/seigr/sttnode/stc"

// itemState says where a blob of the window is on its way.
//
//	waiting --ask--> asked --receive--> held --hand over--> storing --stored--> done
//	   ^               |                  |
//	   +---- requeue --+------ reject ----+
type itemState uint8

const (
	itemWaiting   itemState = iota // in a queue; late requests for it may still be open
	itemAsked                      // one peer at least is expected to send it
	itemHeld                       // its bytes are here, not yet verified and given to the store
	itemStoring                    // the store has its bytes, which are not yet durable
	itemForgotten                  // not wanted any more; answers may still come
	itemDone                       // stored; requests may still be open whose answers nobody needs
)

// item is one blob of the window. The scheduler owns it.
type item struct {
	hash   stc.Hash
	size   int            // bytes; of a node what it is expected to have
	node   bool           // a manifest node: it opens the way to more items and goes first
	places []span         // the ordinals of the chunk, or those below the node
	offset uint64         // in the content's data, where the first of the places begins
	follow *followRequest // of a node: what is to be sent behind it, nil for nothing

	state    itemState
	partial  int        // peers with only part of the content that have it
	requests []*request // open and not cancelled
	missing  []peerID   // peers that said that they do not have it
	urgent   bool       // was asked before, in vain
	queue    int        // while waiting: which queue
	pos      int        // while waiting: where in it
}

// itemQueue holds waiting items in the order in which they came. Items leave
// from anywhere, so places may be empty; the queue is compacted when most are.
type itemQueue struct {
	items []*item
	live  int
}

func (q *itemQueue) push(it *item) {
	it.pos = len(q.items)
	q.items = append(q.items, it)
	q.live++
}

func (q *itemQueue) remove(it *item) {
	q.items[it.pos] = nil
	q.live--
}

// sparse reports whether compacting the queue is worth its cost. Between two
// compactions at least half of the places must have been emptied, so the cost
// per item is constant.
func (q *itemQueue) sparse() bool { return len(q.items) > 64 && q.live < len(q.items)/2 }

// compact closes the gaps. It returns, for each former position, how many
// items were before it, with one more entry for the end.
func (q *itemQueue) compact(moved []int) []int {
	moved = moved[:0]
	n := 0
	for _, it := range q.items {
		moved = append(moved, n)
		if it != nil {
			it.pos = n
			q.items[n] = it
			n++
		}
	}
	moved = append(moved, n)
	clear(q.items[n:])
	q.items = q.items[:n]
	return moved
}

// run is a short sequence of neighbours that a peer works through, so that
// disks on both sides see more than single chunks.
type run struct {
	queue, next, left int
}

// runLength is how many neighbouring chunks a peer is asked for before it
// goes to another random place: 4 MiB of chunks of 256 KiB.
const runLength = 16
