package node

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seigr/sttnode/stc"
)

// EventKind says what happened.
type EventKind uint8

const (
	EventState            EventKind = iota + 1 // State is set
	EventJoined                                // a bootstrap node answered: Peer, Addr
	EventJoinFailed                            // a bootstrap address failed: Addr, Err
	EventPeerConnected                         // Peer, Addr; the peer's first session
	EventPeerDisconnected                      // Peer; its last session
	EventProviding                             // Root was announced; Count nodes hold the record
	EventProvideFailed                         // Root, Err; it is tried again
	EventFetchStarted                          // Root
	EventFetchDone                             // Root, Err nil for a complete fetch
	EventBadPeer                               // Peer sent what it must not: Err
	EventFileChanged                           // Path is served in place and has changed, or is gone: Err
)

// String returns the kind's name.
func (k EventKind) String() string {
	names := [...]string{"", "state", "joined", "join failed", "peer connected", "peer disconnected",
		"providing", "provide failed", "fetch started", "fetch done", "bad peer", "file changed"}
	if k > 0 && int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("event(%d)", uint8(k))
}

// Event is something that a program or a person may want to know. Fields that
// the kind does not mention are zero.
type Event struct {
	Time  time.Time
	Kind  EventKind
	State State
	Peer  stc.Hash
	Addr  string
	Root  stc.Hash
	Path  string
	Count int
	Err   error
}

// maxSubscribers bounds the subscriptions of a node.
const maxSubscribers = 64

// events hands events to subscribers without ever waiting for one.
type events struct {
	mu     sync.Mutex
	subs   map[*subscription]struct{} // nil once closed; guarded by mu
	missed atomic.Uint64
}

type subscription struct{ ch chan Event }

// Subscribe returns the events from now on, and a function that ends the
// subscription and closes the channel. A subscriber that leaves more than
// buffer events (at least 1) unread loses the newer ones; Stats counts them.
// The channel is closed when the node stops. Beyond 64 subscriptions the
// channel is closed at once.
func (n *Node) Subscribe(buffer int) (<-chan Event, func()) {
	s := &subscription{ch: make(chan Event, max(buffer, 1))}
	e := &n.events
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.subs == nil || len(e.subs) >= maxSubscribers {
		close(s.ch)
		return s.ch, func() {}
	}
	e.subs[s] = struct{}{}
	return s.ch, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if _, ok := e.subs[s]; ok {
			delete(e.subs, s)
			close(s.ch)
		}
	}
}

func (e *events) emit(ev Event) {
	ev.Time = time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	for s := range e.subs {
		select {
		case s.ch <- ev:
		default:
			e.missed.Add(1)
		}
	}
}

// close ends all subscriptions.
func (e *events) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for s := range e.subs {
		close(s.ch)
	}
	e.subs = nil
}
