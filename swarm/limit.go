package swarm

import (
	"fmt"
	"time"
)

// Limit is what keeps a download, or a server, from being faster.
type Limit uint8

// What limits a download; in brackets, what that is on the serving side.
const (
	LimitNone    Limit = iota // nothing was seen to (nobody fetches)
	LimitPeer                 // nobody is there who has what is missing, or they send nothing (peers ask for nothing)
	LimitNetwork              // peers send, and so fast (they take, and so fast)
	LimitHash                 // blobs wait for the verifiers
	LimitDisk                 // verified blobs wait for the store (requests do)
	LimitRate                 // the Limiter
	LimitReader               // who reads: the window in front of him is here
	LimitMemory               // (others hold the room for what is read ahead)
	limits
)

// String returns the limit in a word or two.
func (l Limit) String() string {
	switch l {
	case LimitNone:
		return "nothing"
	case LimitPeer:
		return "peers"
	case LimitNetwork:
		return "network"
	case LimitHash:
		return "hash"
	case LimitDisk:
		return "disk"
	case LimitRate:
		return "rate limit"
	case LimitReader:
		return "reader"
	case LimitMemory:
		return "memory"
	}
	return fmt.Sprintf("limit(%d)", uint8(l))
}

// limiting finds out what limits, from what is seen at regular times. What was
// seen most often in the last second or so is it.
type limiting [limits]float64

// limitMemory is how much of what was seen counts still at the next look.
const limitMemory = 0.75

// see takes one look.
func (l *limiting) see(now Limit) {
	for i := range l {
		l[i] *= limitMemory
	}
	l[now]++
}

// most returns what was seen most.
func (l *limiting) most() (m Limit) {
	for i := range l {
		if l[i] > l[m] {
			m = Limit(i)
		}
	}
	return m
}

// bottleneck looks at what everything waits for at this moment: at the last
// stage that has more than it can take, since those before it only wait for it.
func (o *owner) bottleneck(now time.Time) Limit {
	p := &o.pipe
	switch {
	case p.committing && (len(p.verified) > 0 || !o.sched.affords()):
		return LimitDisk
	case p.verifying == o.cfg.Verifiers && len(p.gathered) >= lanes:
		return LimitHash
	case o.sched.allow.starved:
		return LimitRate
	case o.idle():
		return LimitReader
	case o.walk.done() && o.sched.size() == 0:
		return LimitNone
	}
	for _, sp := range o.sched.peers {
		if !sp.snubbed && len(sp.open) > 0 && sp.silent(now) < silentPeer {
			return LimitNetwork
		}
	}
	if o.sched.held > 0 || p.storing() {
		return LimitDisk // nothing is asked for, and something is being stored
	}
	return LimitPeer
}

// silentPeer is how long a peer may send nothing and still count as sending.
const silentPeer = 2 * time.Second
