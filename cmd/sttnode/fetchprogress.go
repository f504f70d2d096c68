package main

import (
	"fmt"

	"github.com/seigr/sttnode/node"
)

// progressEvent comes about twice a second while a fetch runs.
type progressEvent struct {
	Event     string  `json:"event"`
	Phase     string  `json:"phase"`
	Bytes     uint64  `json:"bytes"`
	Total     uint64  `json:"total"`
	Peers     int     `json:"peers"`
	Tried     int     `json:"tried"`
	Providers int     `json:"providers"`
	Rate      float64 `json:"rate"`
	Left      float64 `json:"left,omitempty"`
	Limit     string  `json:"limit"`
	Wasted    uint64  `json:"wasted_bytes"`
}

func newProgressEvent(p node.FetchProgress) progressEvent {
	return progressEvent{
		Event: "progress", Phase: p.Phase.String(), Bytes: p.Bytes, Total: p.Total, Peers: p.Peers, Tried: p.Tried,
		Providers: p.Providers, Rate: p.Rate, Left: p.Left.Seconds(), Limit: p.Limit.String(), Wasted: p.WastedBytes,
	}
}

// why is what a person is told of a fetch behind its bar: who is drawn from,
// and what limits it.
func why(p node.FetchProgress) string {
	switch p.Phase {
	case node.PhaseSearching:
		if p.Providers == 0 {
			return "nobody found yet"
		}
		return fmt.Sprintf("trying %d of %s", p.Tried, plural(p.Providers, "provider"))
	case node.PhaseWriting:
		return ""
	}
	peers := plural(p.Peers, "peer")
	if p.Providers > p.Peers {
		peers = fmt.Sprintf("%d of %s", p.Peers, plural(p.Providers, "peer"))
	}
	switch p.Limit {
	case node.LimitNone, node.LimitReader:
		return peers
	case node.LimitPeer:
		return peers + ", waiting for peers"
	}
	return fmt.Sprintf("%s, limited by the %v", peers, p.Limit)
}
