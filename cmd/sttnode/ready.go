package main

import (
	"encoding/json"
	"fmt"
)

// readyInfo is the content of a ready file. What the node does not offer is an
// empty string.
type readyInfo struct {
	NodeID  string `json:"node_id"`
	UDP     string `json:"udp"`
	WS      string `json:"ws"`
	Metrics string `json:"metrics"`
	Gateway string `json:"gateway"`
	Control string `json:"control"`
}

// writeReady writes the ready file, whole or not at all, for whoever waits for
// it to appear.
func writeReady(path string, info readyInfo) error {
	b, err := json.Marshal(info)
	if err != nil {
		return err
	}
	if err := writeFileAtomic(path, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	return nil
}
