package node

import (
	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/dht"
	"github.com/seigr/sttnode/event"
	"github.com/seigr/sttnode/session"
	"github.com/seigr/sttnode/stc"
	"github.com/seigr/sttnode/swarm"
)

// Stats is a snapshot of everything that the node counts. The parts are taken
// one after the other, not at one instant.
type Stats struct {
	ID       stc.Hash
	State    State
	Peers    PeerStats
	Sessions session.EndpointStats
	DHT      dht.Stats
	Store    content.Stats
	// FilesChanged counts the files that were served in place and were found to
	// have changed, or to be gone.
	FilesChanged uint64
	LAN          LANStats
	Serving      swarm.ServerStats
	Rates        Rates // the limits that hold now
	Fetching     TransferTotals
	Application  ApplicationStats
	Events       event.Stats
}

// PeerStats counts nodes that this one has sessions with.
type PeerStats struct {
	Connected           int    // now
	Dials, DialFailures uint64 // since Start
}

// Stats returns the counters of a node between Start and Stop; of any other,
// only ID and State are set.
func (n *Node) Stats() Stats {
	s := Stats{ID: n.ID(), State: n.State()}
	if n.active() != nil {
		return s
	}
	s.Peers = n.pool.stats()
	s.Sessions = n.endpoint.Stats()
	s.DHT = n.dht.Stats()
	s.Application = n.application()
	s.Fetching = n.transfers.totals()
	s.Events = n.events.Stats()
	if n.store != nil {
		s.Serving = n.server.Stats()
		s.Store = n.store.Stats()
	}
	s.Rates = n.Rates()
	s.LAN = n.lanStats()
	s.FilesChanged = n.filesChanged.Load()
	return s
}
