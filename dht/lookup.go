package dht

import (
	"net/netip"
	"slices"

	"github.com/seigr/sttnode/stc"
)

// lookup finds the k nodes closest to a target: the iterative lookup of
// Kademlia as a pure state machine. It is told of nodes and of what became of
// calls, and says whom to call; it knows no clock, network or randomness.
//
// Each node that it hears of is a candidate:
//
//	waiting ──next──▶ asked ──stalled──▶ stalled ──failed──▶ failed
//	                    │                   │                  │
//	                    └────────answered───┴───────▶ answered ◀ (late)
//
// The targets are the k closest candidates that have neither failed nor stalled;
// of one /24 or /48 no more than a few, as long as others are known. At most
// alpha of them are asked at a time. A stalled call frees its slot and its place
// at once, so a silent node costs a moment's patience and not a timeout, and its
// answer counts whenever it comes, even after it was given up. While fewer than
// k others are known, stalled nodes are waited for.
//
// Once two nodes have answered of which one is among the targets still, we have
// found the neighbourhood. All others are asked in one go then, and some beyond them
// in place of those that will turn out to be dead: more if there are targets that
// nobody has told us of, though those who answered should know them.
//
// The lookup is done when every target has answered, which makes them its
// result, or when it has asked as many nodes as it may. It stays usable after
// that: a late answer may still add to the result.
type lookup struct {
	target stc.Hash
	cfg    lookupConfig

	byID   map[stc.Hash]*lookupNode
	sorted []*lookupNode // by distance to target
	asked  map[netip.AddrPort]int

	inFlight int // nodes in state lookupAsked
	silent   int // nodes that somebody told of and that did not answer in time
	stats    lookupCounts

	first         []*lookupNode // asked before the others until somebody answers
	alive, chosen []*lookupNode // scratch of targets
}

// lookupConfig bounds a lookup; no field is zero.
type lookupConfig struct {
	self      stc.Hash
	k         int
	alpha     int
	spare     int // nodes beyond the k closest that are asked with them at least
	maxAsked  int // nodes that are asked at all
	perSubnet int // targets of one /24 or /48; <0: no limit
}

// lookupCounts says what a lookup did.
type lookupCounts struct {
	asked, answered, failed int
	hops                    int // the longest chain of nodes that answered, each told of by the one before
}

type lookupState uint8

const (
	lookupWaiting  lookupState = iota // not asked yet
	lookupAsked                       // asked, occupies a slot
	lookupStalled                     // asked, slower than was expected of it
	lookupAnswered                    // has answered
	lookupFailed                      // did not answer in time
)

type lookupNode struct {
	Contact
	state lookupState
	told  bool // some node that answered has told of it
	depth int  // 1 if known at the start, else one more than who told us
}

// Bounds on what a lookup remembers and does.
const (
	// lookupRemembers times k candidates are kept, the closest ones, besides
	// those that have failed.
	lookupRemembers = 8
	// lookupPerAddress: nodes behind one address that are asked. One socket
	// is one node, but its ID may have changed since the last we heard.
	lookupPerAddress = 2
)

func newLookup(target stc.Hash, cfg lookupConfig) *lookup {
	return &lookup{
		target: target,
		cfg:    cfg,
		byID:   make(map[stc.Hash]*lookupNode),
		asked:  make(map[netip.AddrPort]int),
	}
}

// add adds nodes known at the start, or later ones if none of those answers. It
// reports whether there is a new one among them.
func (l *lookup) add(contacts []Contact) bool { return l.learn(contacts, 0) }

// knows reports whether id is a candidate.
func (l *lookup) knows(id stc.Hash) bool { return l.byID[id] != nil }

// lost reports whether nobody has answered and all that are known were asked in
// vain so far.
func (l *lookup) lost() bool {
	return l.stats.answered == 0 && l.inFlight == 0 && l.stats.asked < l.cfg.maxAsked
}

// learn adds what a node at the given depth told of, and reports whether anybody
// is new.
func (l *lookup) learn(contacts []Contact, depth int) (news bool) {
	for _, c := range contacts {
		if c.ID == l.cfg.self {
			continue
		}
		if n := l.byID[c.ID]; n != nil {
			n.told = n.told || depth > 0
			// A node that moved is worth another try at its new address.
			if n.state == lookupFailed && n.Addr != c.Addr && l.asked[c.Addr] == 0 {
				n.Contact, n.state = c, lookupWaiting
			}
			continue
		}
		limit := lookupRemembers*l.cfg.k + l.stats.failed
		i, _ := slices.BinarySearchFunc(l.sorted, c.ID, func(n *lookupNode, id stc.Hash) int {
			return compareDistance(l.target, n.ID, id)
		})
		if i >= limit {
			continue
		}
		n := &lookupNode{Contact: c, told: depth > 0, depth: depth + 1}
		l.byID[c.ID] = n
		l.sorted = slices.Insert(l.sorted, i, n)
		news = true
		if len(l.sorted) > limit {
			l.dropFarthest()
		}
	}
	return news
}

// dropFarthest forgets the farthest candidate that no call is out to.
func (l *lookup) dropFarthest() {
	for i := len(l.sorted) - 1; i >= 0; i-- {
		if n := l.sorted[i]; n.state != lookupAsked && n.state != lookupStalled {
			delete(l.byID, n.ID)
			l.sorted = slices.Delete(l.sorted, i, i+1)
			return
		}
	}
}

// prefer has these nodes, as far as they are known, asked before all others
// until somebody has answered.
func (l *lookup) prefer(ids []stc.Hash) {
	for _, id := range ids {
		if n := l.byID[id]; n != nil {
			l.first = append(l.first, n)
		}
	}
}

// targets returns the k closest candidates that have not failed. Those that
// stall are among them only if there are no others. The result is valid until
// the next call.
func (l *lookup) targets(k int) []*lookupNode {
	l.alive = l.alive[:0]
	for _, n := range l.sorted {
		if n.state != lookupFailed && n.state != lookupStalled {
			l.alive = append(l.alive, n)
		}
	}
	if len(l.alive) < k {
		l.alive = l.alive[:0]
		for _, n := range l.sorted {
			if n.state != lookupFailed {
				l.alive = append(l.alive, n)
			}
		}
	}
	l.chosen = l.choose(l.chosen[:0], l.alive, k)
	return l.chosen
}

// doubtful counts the targets that have not answered and that nobody who has
// has told of.
func (l *lookup) doubtful() (n int) {
	for _, t := range l.targets(l.cfg.k) {
		if t.state != lookupAnswered && !t.told {
			n++
		}
	}
	return n
}

// arrived reports whether a node has answered that is among the targets.
func (l *lookup) arrived() bool {
	return slices.ContainsFunc(l.targets(l.cfg.k), func(n *lookupNode) bool { return n.state == lookupAnswered })
}

// toldOf reports whether a node has answered or was told of by one that has.
func (l *lookup) toldOf(id stc.Hash) bool {
	n := l.byID[id]
	return n != nil && (n.told || n.state == lookupAnswered)
}

// candidates returns the n closest candidates that have neither failed nor
// stalled, without those that skip names.
func (l *lookup) candidates(n int, skip func(stc.Hash) bool) []Contact {
	l.alive = l.alive[:0]
	for _, c := range l.sorted {
		if c.state != lookupFailed && c.state != lookupStalled && !skip(c.ID) {
			l.alive = append(l.alive, c)
		}
	}
	var contacts []Contact
	for _, c := range l.choose(nil, l.alive, n) {
		contacts = append(contacts, c.Contact)
	}
	return contacts
}

// choose appends to dst the k closest of nodes, of many subnets if it can be.
func (l *lookup) choose(dst, nodes []*lookupNode, k int) []*lookupNode {
	return diverse(dst, nodes, k, l.cfg.perSubnet, func(n *lookupNode) netip.AddrPort { return n.Addr })
}

// next returns the nodes to be called now, which count as asked from here on.
// An empty result means to wait for what becomes of the calls that are out, or
// that the lookup is done.
func (l *lookup) next() []Contact {
	var calls []Contact
again:
	slots, wanted := l.cfg.alpha, l.cfg.k
	switch {
	case l.stats.answered >= 2 && l.arrived():
		wanted += l.cfg.spare + min(l.doubtful(), l.cfg.k/4)
		slots = wanted
	case l.stats.answered == 1: // a second opinion before all are asked
		slots++
	}
	targets := l.targets(wanted)
	if l.stats.answered == 0 && len(l.first) > 0 {
		targets = slices.Concat(l.first, targets)
	}
	for _, n := range targets {
		if l.inFlight >= slots || l.stats.asked >= l.cfg.maxAsked {
			break
		}
		if n.state != lookupWaiting {
			continue
		}
		if l.asked[n.Addr] >= lookupPerAddress {
			n.state = lookupFailed
			goto again
		}
		l.asked[n.Addr]++
		n.state = lookupAsked
		l.inFlight++
		l.stats.asked++
		calls = append(calls, n.Contact)
	}
	return calls
}

// answered takes note that a node has answered and told of others. It reports
// whether the answer was one to count.
func (l *lookup) answered(id stc.Hash, told []Contact) bool {
	n := l.byID[id]
	if n == nil || n.state == lookupWaiting || n.state == lookupAnswered {
		return false
	}
	switch n.state {
	case lookupAsked:
		l.inFlight--
	case lookupFailed:
		l.stats.failed--
	}
	n.state = lookupAnswered
	l.stats.answered++
	l.stats.hops = max(l.stats.hops, n.depth)
	l.learn(told, n.depth)
	return true
}

// stalled takes note that a node is slower than was expected of it.
func (l *lookup) stalled(id stc.Hash) {
	if n := l.byID[id]; n != nil && n.state == lookupAsked {
		n.state = lookupStalled
		l.inFlight--
		if n.told {
			l.silent++
		}
	}
}

// suspicious is how many nodes that others told of are silent by then: more than
// go by themselves. Somebody tells of nodes that do not exist.
const suspicious = 4

// widen has the lookup look for k nodes if there is reason to suspect that it is
// misled: the more have to agree, the less it matters who lies.
func (l *lookup) widen(k int) {
	if l.silent >= suspicious {
		l.cfg.k = max(l.cfg.k, k)
	}
}

// failed takes note that a node was given up.
func (l *lookup) failed(id stc.Hash) {
	n := l.byID[id]
	if n == nil {
		return
	}
	switch n.state {
	case lookupAsked:
		l.inFlight--
	case lookupStalled:
	default:
		return
	}
	n.state = lookupFailed
	l.stats.failed++
}

// done reports whether there is nobody left to ask or to wait for.
func (l *lookup) done() bool {
	for _, n := range l.targets(l.cfg.k) {
		switch n.state {
		case lookupAsked, lookupStalled:
			return false
		case lookupWaiting:
			if l.stats.asked < l.cfg.maxAsked {
				return false
			}
		}
	}
	return true
}

// complete reports whether all targets have answered, and at least one has.
func (l *lookup) complete() bool {
	for _, n := range l.targets(l.cfg.k) {
		if n.state != lookupAnswered {
			return false
		}
	}
	return l.stats.answered > 0
}

// result returns the closest nodes that have answered, at most k.
func (l *lookup) result() []Contact {
	var answered []*lookupNode
	for _, n := range l.sorted {
		if n.state == lookupAnswered {
			answered = append(answered, n)
		}
	}
	var result []Contact
	for _, n := range l.choose(nil, answered, l.cfg.k) {
		result = append(result, n.Contact)
	}
	return result
}
