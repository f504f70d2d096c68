package node

import (
	"sync"
)

// transfers keeps what the node's fetches, those under way and those that have
// ended, add up to.
type transfers struct {
	mu     sync.Mutex
	active map[*fetch]struct{}
	past   TransferTotals
}

// TransferTotals counts since Start what fetches came to. It covers those that
// are under way.
type TransferTotals struct {
	Active            int    // fetches under way
	Completed, Failed uint64 // fetches
	BytesFetched      uint64 // verified bytes that came from peers
	BytesResumed      uint64 // verified bytes that were here when a fetch began
	DuplicateBytes    uint64 // arrived a second time
	LateBytes         uint64 // of them, on requests that were cancelled or overdue
	BadBytes          uint64 // did not match their hash
	UnwantedBytes     uint64 // arrived when nobody wanted them any more
	PartialBytes      uint64 // of blobs of which the rest has not come
	ProvidersFound    uint64 // in the DHT, each address of each counted once a fetch
}

func (t *transfers) begin(f *fetch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.active == nil {
		t.active = make(map[*fetch]struct{})
	}
	t.active[f] = struct{}{}
}

// end moves what a fetch came to into the past.
func (t *transfers) end(f *fetch, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.active, f)
	f.addTo(&t.past)
	if err != nil {
		t.past.Failed++
	} else {
		t.past.Completed++
	}
}

func (t *transfers) totals() TransferTotals {
	t.mu.Lock()
	defer t.mu.Unlock()
	total := t.past
	total.Active = len(t.active)
	for f := range t.active {
		f.addTo(&total)
	}
	return total
}
