package simnet

import "net/netip"

// event is something that happens: a function runs, a host wakes up, or a
// datagram arrives.
type event struct {
	run      func()
	wakes    *Host
	from, to netip.AddrPort
	datagram []byte
}

// queue orders events by time, those of one time by the order in which they
// were pushed. It is a heap with four children a node, which for the many
// events of a simulation is faster than one with two.
type queue struct {
	items []queued
	order uint64
}

type queued struct {
	at    int64 // Unix time in nanoseconds
	order uint64
	event *event
}

func (a *queued) before(b *queued) bool { return a.at < b.at || a.at == b.at && a.order < b.order }

const heapWidth = 4

func (q *queue) push(at int64, e *event) {
	q.order++
	x := queued{at, q.order, e}
	q.items = append(q.items, x)
	i := len(q.items) - 1
	for i > 0 {
		parent := (i - 1) / heapWidth
		if !x.before(&q.items[parent]) {
			break
		}
		q.items[i] = q.items[parent]
		i = parent
	}
	q.items[i] = x
}

// popUntil takes the first event out, if it is not later than end.
func (q *queue) popUntil(end int64) (at int64, e *event, ok bool) {
	if len(q.items) == 0 || q.items[0].at > end {
		return 0, nil, false
	}
	first := q.items[0]
	last := len(q.items) - 1
	x := q.items[last]
	q.items[last] = queued{}
	q.items = q.items[:last]
	if last > 0 {
		q.sink(x)
	}
	return first.at, first.event, true
}

// sink puts x where it belongs, beginning at the top, which is free.
func (q *queue) sink(x queued) {
	i := 0
	for {
		first := heapWidth*i + 1
		if first >= len(q.items) {
			break
		}
		least := first
		for j := first + 1; j < min(first+heapWidth, len(q.items)); j++ {
			if q.items[j].before(&q.items[least]) {
				least = j
			}
		}
		if !q.items[least].before(&x) {
			break
		}
		q.items[i] = q.items[least]
		i = least
	}
	q.items[i] = x
}
