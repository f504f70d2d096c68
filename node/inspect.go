package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	crand "crypto/rand"

	"github.com/seigr/sttnode/dht"
	"github.com/seigr/sttnode/stc"
)

// FoundNode is a node and how it is reached.
type FoundNode struct {
	Peer stc.Hash
	Addr string        // as Connect takes it, without the peer
	RTT  time.Duration // of a PING over UDP; 0 if it was not asked or has not answered
}

func found(c dht.Contact) FoundNode { return FoundNode{Peer: c.ID, Addr: routeTo(c).String()} }

// LookUp looks for the providers of key, tells of each, at each of its
// addresses, as it is found, and says how the lookup went. Errors: those of Join
// and dht.Search.Result.
func (n *Node) LookUp(ctx context.Context, key stc.Hash, provider func(FoundNode)) (dht.LookupStats, error) {
	ctx, end, err := n.begin(ctx)
	if err != nil {
		return dht.LookupStats{}, err
	}
	defer end()
	if err := n.Join(ctx); err != nil {
		return dht.LookupStats{}, err
	}
	search := n.dht.FindProviders(ctx, key)
	for c := range search.Providers() {
		provider(found(c))
	}
	return search.Result()
}

// FindNode returns where a node is, and measures how far: the node itself must
// answer a lookup, or have announced its ID. Errors: ErrNotFound, those of Join,
// ctx's cause.
func (n *Node) FindNode(ctx context.Context, id stc.Hash) (FoundNode, error) {
	ctx, end, err := n.begin(ctx)
	if err != nil {
		return FoundNode{}, err
	}
	defer end()
	if err := n.Join(ctx); err != nil {
		return FoundNode{}, err
	}
	closest, _, _ := n.dht.FindNode(ctx, id) // what it has found counts; findNode says what is wrong
	if i := slices.IndexFunc(closest, func(c dht.Contact) bool { return c.ID == id }); i >= 0 {
		f := found(closest[i])
		f.RTT, err = n.dht.Ping(ctx, closest[i])
		if errors.Is(err, dht.ErrNoAnswer) {
			err = nil
		}
		return f, err
	}
	if ctx.Err() != nil {
		return FoundNode{}, context.Cause(ctx)
	}
	r, err := n.findNode(ctx, id)
	return FoundNode{Peer: id, Addr: r.String()}, err
}

// Survey looks up our own ID and a few others, which fills the routing table and
// gives an estimate of the network's size, and returns what the DHT counts then.
// Errors as of LookUp.
func (n *Node) Survey(ctx context.Context) (dht.Stats, error) {
	ctx, end, err := n.begin(ctx)
	if err != nil {
		return dht.Stats{}, err
	}
	defer end()
	if err := n.Join(ctx); err != nil {
		return dht.Stats{}, err
	}
	target := n.ID()
	for range surveyLookups {
		if _, _, err := n.dht.FindNode(ctx, target); err != nil {
			return dht.Stats{}, err
		}
		crand.Read(target[:]) // never fails
	}
	return n.dht.Stats(), nil
}

const (
	surveyLookups = 8
	crawlLookups  = 8 // at a time
)

// CrawlStats says what a crawl did.
type CrawlStats struct {
	Nodes      int // that have answered
	Lookups    int
	Incomplete int // lookups that could not ask everybody they had to: the crawl may have missed nodes
}

// Crawl walks through the whole network and tells of every node that answers,
// once: it looks up an ID in each part of the space of IDs, and halves the parts
// that hold more nodes than a lookup returns. That takes about two lookups for
// every 20 nodes, each of some 30 datagrams. Of a public /24 or /48 with many nodes it
// may miss some, since nodes tell of few of them at a time. node is called by one
// goroutine at a time. Errors as of LookUp.
func (n *Node) Crawl(ctx context.Context, node func(FoundNode)) (CrawlStats, error) {
	ctx, end, err := n.begin(ctx)
	if err != nil {
		return CrawlStats{}, err
	}
	defer end()
	if err := n.Join(ctx); err != nil {
		return CrawlStats{}, err
	}
	c := crawl{n: n, node: node, seen: map[stc.Hash]bool{n.ID(): true}, slots: make(chan struct{}, crawlLookups)}
	c.wg.Go(func() { c.part(ctx, stc.Hash{}, 0) })
	c.wg.Wait()
	if ctx.Err() != nil {
		return c.stats, context.Cause(ctx)
	}
	if c.stats.Nodes == 0 {
		return c.stats, fmt.Errorf("crawl: %w", dht.ErrNoAnswer)
	}
	return c.stats, nil
}

// crawl is one crawl under way.
type crawl struct {
	n     *Node
	wg    sync.WaitGroup
	slots chan struct{} // one for each lookup under way

	mu    sync.Mutex
	node  func(FoundNode)
	seen  map[stc.Hash]bool
	stats CrawlStats
}

// part finds the nodes whose IDs share the first bits of prefix.
func (c *crawl) part(ctx context.Context, prefix stc.Hash, bits int) {
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return
	}
	target := randomWithin(prefix, bits)
	closest, stats, err := c.n.dht.FindNode(ctx, target)
	<-c.slots
	c.mu.Lock()
	c.stats.Lookups++
	if err != nil || !stats.Complete {
		c.stats.Incomplete++
	}
	for _, x := range closest {
		if !c.seen[x.ID] {
			c.seen[x.ID] = true
			c.stats.Nodes++
			c.node(found(x))
		}
	}
	c.mu.Unlock()
	// All nodes are known that are closer to target than the farthest of these;
	// fewer than a lookup returns are all there are.
	if len(closest) < lookupReturns || commonBits(target, closest[len(closest)-1].ID) < bits {
		return
	}
	for half := range byte(2) {
		next := prefix
		next[bits/8] |= half << (7 - bits%8)
		c.wg.Go(func() { c.part(ctx, next, bits+1) })
	}
}

// lookupReturns is how many nodes a lookup of the DHT returns at most.
const lookupReturns = 20

// randomWithin returns a random ID that begins with the first bits of prefix.
func randomWithin(prefix stc.Hash, bits int) stc.Hash {
	var id stc.Hash
	crand.Read(id[:]) // never fails
	for i := range id {
		keep := byte(0xFF)
		if free := 8*(i+1) - bits; free > 0 {
			keep <<= min(free, 8)
		}
		id[i] = prefix[i]&keep | id[i]&^keep
	}
	return id
}

// commonBits returns how many leading bits two IDs share.
func commonBits(a, b stc.Hash) int {
	for i := range a {
		if x := a[i] ^ b[i]; x != 0 {
			n := 8 * i
			for ; x&0x80 == 0; x <<= 1 {
				n++
			}
			return n
		}
	}
	return 8 * stc.HashSize
}
