package dht

import (
	"time"
)

// snapshot returns the counters with the sizes of now.
func (m *machine) snapshot(now time.Time) Stats {
	s := m.stats
	s.LookupsActive = len(m.searches)
	s.CallsPending = len(m.calls.byTx)
	s.Table = m.table.stats(now)
	s.Network = m.estimate.nodes()
	s.Peers = m.peers.lru.len()
	s.RTT = m.peers.rtt.smoothed
	s.Records, s.RecordKeys = m.records.total, len(m.records.byKey)
	s.Provided = len(m.publisher.list)
	s.SignedRecords, s.KeptRecords = len(m.signed.byName), len(m.keeper.list)
	return s
}

// close ends everything that somebody waits for with ErrClosed.
func (m *machine) close(now time.Time) {
	m.publisher.close()
	m.keeper.close()
	m.upkeep.close()
	for len(m.searches) > 0 {
		m.searches[0].cancel(now, ErrClosed)
	}
}
