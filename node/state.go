package node

import "fmt"

// State is where a node is in its life. The transitions, each of which happens
// once, are
//
//	Created --Start--> Started --joined--> Running --Stop--> Stopped
//	                      \_____________________________Stop____/
//
// and Stop of a node that was only created.
type State uint8

const (
	// StateCreated: the node exists in memory and does not communicate.
	StateCreated State = iota
	// StateStarted: it listens, and tries to join the network.
	StateStarted
	// StateRunning: it has joined, that is, knows other nodes; or has nobody to
	// join, because it was given no bootstrap address.
	StateRunning
	// StateStopped: it has shut down. Nothing of it runs any more.
	StateStopped
)

// String returns the state's name in lower case.
func (s State) String() string {
	switch s {
	case StateCreated:
		return "created"
	case StateStarted:
		return "started"
	case StateRunning:
		return "running"
	case StateStopped:
		return "stopped"
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}
