package node

import (
	"github.com/seigr/sttnode/event"
	"github.com/seigr/sttnode/stc"
)

// EventKind is the name of an event of the node, and its topic.
type EventKind = event.Topic[Event]

// The events of a node, with the fields of Event that are set.
const (
	EventState            EventKind = "node.state"             // State
	EventJoined           EventKind = "node.joined"            // Peer, Addr: a bootstrap node answered
	EventJoinFailed       EventKind = "node.join-failed"       // Addr, Err: a bootstrap address failed
	EventPeerConnected    EventKind = "node.peer-connected"    // Peer, Addr: the peer's first session
	EventPeerDisconnected EventKind = "node.peer-disconnected" // Peer, Addr: its last session
	EventSeeded           EventKind = "node.seeded"            // Root, Path, Bytes: a content was imported; Path is empty for a reader's
	EventProviding        EventKind = "node.providing"         // Root, Count: it was announced to so many nodes
	EventProvideFailed    EventKind = "node.provide-failed"    // Root, Err: it is tried again
	EventFetchStarted     EventKind = "node.fetch-started"     // Root
	EventChunkVerified    EventKind = "node.chunk-verified"    // Root, Chunk, Bytes: a blob of a fetch matches its hash and is stored
	EventFetchDone        EventKind = "node.fetch-done"        // Root, Err: nil for a complete fetch
	EventBadPeer          EventKind = "node.bad-peer"          // Peer, Addr, Err, of a fetch Root: it sent what it must not
	EventFileChanged      EventKind = "node.file-changed"      // Path, Err: a file that is served in place has changed, or is gone
)

// Event is the payload of the node's events. Fields that the kind does not
// mention are zero.
type Event struct {
	Kind  EventKind
	State State
	Peer  stc.Hash
	Addr  string
	Root  stc.Hash
	Chunk stc.Hash
	Path  string
	Bytes uint64
	Count int
	Err   error
}

// Events returns the emitter of the node's events, from its creation to its
// stop. Applications subscribe to it:
//
//	node.EventPeerConnected.On(n.Events(), func(ctx context.Context, e node.Event) { … })
//	for e := range event.Payloads[node.Event](n.Events().All(ctx)) { … }
//
// and may emit events of their own by it, under names that do not begin with
// "node.". No subscriber holds up the node; one that is behind loses events, see
// [event.Options]. EventChunkVerified comes thousands of times a second in a
// quick fetch: who needs all of the others names them.
//
// Stop closes the emitter, once the node is stopped, and waits for handlers as
// long as for everything else. So a handler must not wait for Stop.
func (n *Node) Events() *event.Emitter { return &n.events }

func (n *Node) emit(kind EventKind, e Event) {
	e.Kind = kind
	kind.Emit(&n.events, e)
}
