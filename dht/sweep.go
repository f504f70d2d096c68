package dht

import (
	"container/heap"
	"math/bits"
	"net/netip"
	"slices"
	"time"

	"github.com/seigr/sttnode/stc"
)

// regionRun publishes many keys that lie close together: one search finds all
// nodes of their region, and each node gets, with many keys in a datagram, those
// that it is among the K closest to. So the cost of very many keys is one search
// a region, of which a network has as many as its nodes fill, and not one a key.
//
// Its keys stay scheduled meanwhile, for the next time.
type regionRun struct {
	p      *publisher
	keys   []stc.Hash
	stored map[stc.Hash]int
	open   int // batches without a result
	heard  bool
	began  time.Time // when they were sent out
	next   time.Time // when its keys are to be published again, all together
}

const (
	// regionNodes times K nodes are looked for: in any part of the ID space
	// that halving leaves with no more nodes than that, all keys have their K
	// closest among them, nearly always.
	regionNodes = 3
	// sweepKeys is how many keys must be due in a region to make a sweep of it
	// cheaper than as many publishes.
	sweepKeys = 8
	// sweepEarly: a sweep takes along keys that would be due within this part
	// of their interval.
	sweepEarly = 10
	// maxWaitingBatches: no sweep begins while more batches than this wait.
	maxWaitingBatches = 1024
	// sweepWait is for how long a key is put off in whose region a sweep has
	// begun: that most likely takes it along.
	sweepWait = time.Second
)

// crowded reports whether enough keys are due in the region of key.
func (p *publisher) crowded(now time.Time, key stc.Hash) bool {
	prefix, ok := p.regionBits()
	if !ok || len(p.queue) < sweepKeys-1 {
		return false
	}
	due := 1
	for _, k := range p.list {
		if k.run == nil && !k.swept && p.early(now, k) && k.key != key && commonPrefix(key, k.key) >= prefix {
			if due++; due >= sweepKeys {
				return true
			}
		}
	}
	return false
}

// regionBits returns how many leading bits the keys of a region share; ok is
// false before anything is known of the size of the network.
func (p *publisher) regionBits() (n int, ok bool) {
	nodes := p.m.estimate.nodes()
	return bits.Len(uint(nodes / (regionNodes * p.m.cfg.K))), nodes > 0
}

// sweeping reports whether the nodes of the region of key are being looked for.
func (p *publisher) sweeping(key stc.Hash) bool {
	prefix, _ := p.regionBits()
	return slices.ContainsFunc(p.sweeps, func(target stc.Hash) bool { return commonPrefix(target, key) >= prefix })
}

// early reports whether a sweep would take k along.
func (p *publisher) early(now time.Time, k *providedKey) bool {
	return !k.next.After(now.Add(p.interval() / sweepEarly))
}

// sweep publishes k, which has just left the queue, and what is due around it.
func (p *publisher) sweep(now time.Time, k *providedKey) {
	p.running++
	k.next, k.swept = now.Add(p.interval()), true
	heap.Push(&p.queue, k)
	target := k.key
	p.sweeps = append(p.sweeps, target)
	p.m.startSearchOf(now, PurposePublish, target, regionNodes*p.m.cfg.K, nil, func(now time.Time, r searchResult) {
		p.sweeps = slices.DeleteFunc(p.sweeps, func(x stc.Hash) bool { return x == target })
		p.spread(now, target, r)
	})
}

// spread sends out the keys of the region around target that a search has found.
func (p *publisher) spread(now time.Time, target stc.Hash, r searchResult) {
	interval := p.interval()
	p.paced = interval
	run := &regionRun{p: p, began: now, stored: make(map[stc.Hash]int), heard: r.stats.Answered > 0,
		next: now.Add(interval - time.Duration(p.m.rng.Int64N(int64(interval/republishSpread)+1)))}
	// Keys that share more than this with target have their closest nodes among
	// those found. If we know of no others, these are all.
	beyond := -1
	if len(r.closest) > 0 && p.m.table.len() > len(r.closest) {
		beyond = commonPrefix(target, r.closest[len(r.closest)-1].ID)
	}
	nodes := make([]*Contact, len(r.closest))
	keys := make([][]stc.Hash, len(r.closest))
	for i := range r.closest {
		nodes[i] = &r.closest[i]
	}
	for _, k := range p.list {
		if k.run != nil || k.key != target && (k.swept || !p.early(now, k) || commonPrefix(target, k.key) <= beyond) {
			continue
		}
		run.keys = append(run.keys, k.key)
		k.next, k.swept = run.next, true
		heap.Fix(&p.queue, k.index)
		closest := newNearest[int](k.key, 2*p.m.cfg.K)
		for i := range nodes {
			closest.take(&nodes[i].ID, i)
		}
		for _, x := range diverse(nil, closest.list, p.m.cfg.K, p.m.answerPerSubnet(), func(x near[int]) netip.AddrPort { return nodes[x.value].Addr }) {
			keys[x.value] = append(keys[x.value], k.key)
		}
	}
	for i, c := range nodes {
		for len(keys[i]) > 0 {
			n := min(len(keys[i]), maxKeys)
			run.open++
			p.batches = append(p.batches, batch{to: *c, keys: keys[i][:n:n], ttl: p.ttl(), onDone: func(sent []stc.Hash, stored uint32, ok bool) {
				run.heard = run.heard || ok
				p.offered(c, sent, stored)
				for j, key := range sent {
					if stored>>j&1 != 0 {
						run.stored[key]++
					}
				}
				if run.open--; run.open == 0 {
					run.end(r.err)
				}
			}})
			keys[i] = keys[i][n:]
		}
	}
	if run.open == 0 {
		run.end(r.err)
	}
}

// end tells who waits how it went. What nobody stored is tried again, and of
// what was taken back meanwhile nobody is told.
func (run *regionRun) end(err error) {
	p := run.p
	p.running--
	for _, key := range run.keys {
		k := p.keys[key]
		if k == nil || k.run != nil {
			continue
		}
		k.swept = false
		if n := run.stored[key]; n > 0 {
			k.fails = 0
			p.m.stats.Published++
			k.finish(n, nil)
			continue
		}
		p.m.stats.PublishFail++
		k.next = run.began.Add(p.backOff(k))
		heap.Fix(&p.queue, k.index)
		switch {
		case err != nil:
			k.finish(0, err)
		case run.heard:
			k.finish(0, ErrRefused)
		default:
			k.finish(0, ErrNoAnswer)
		}
	}
}
