package swarm

import (
	"time"

	"github.com/seigr/sttnode/stc"
)

// Progress is a snapshot of a download, at most 250 ms old while it runs. Its
// slices are not changed any more and must not be.
type Progress struct {
	// Size and Chunks are the data bytes and chunks of the whole content, 0
	// until its root is known.
	Size, Chunks uint64
	// DoneSize and DoneChunks are how many of them are stored.
	DoneSize, DoneChunks uint64

	// Fetched and FetchedBlobs are the bytes and the number of blobs that were
	// fetched from peers, verified and stored: chunks and manifest nodes.
	Fetched, FetchedBlobs uint64
	// Reused and ReusedBlobs are those that the store had already.
	Reused, ReusedBlobs uint64

	// Duplicate counts the bytes of blobs that came although another peer had
	// delivered them already; Late is the part of them that came on requests
	// that were cancelled or overdue.
	Duplicate, Late uint64
	// Unwanted counts the bytes of blobs that came after a reader had gone
	// elsewhere, or after their peer had been given up.
	Unwanted uint64
	// Partial counts the bytes of blobs of which the rest has not come: yet, or
	// because the stream has ended.
	Partial uint64
	// Bad counts the bytes of blobs that did not match their hash.
	Bad uint64

	// Rate is what was fetched in the last few seconds, in bytes per second.
	Rate float64
	// InFlight is how many bytes are asked for, Held how many are here and
	// being verified, or on their way to the store.
	InFlight, Held int
	// Serving is how many peers are being drawn from.
	Serving int
	// Limited tells that the Limiter keeps the download from asking for more.
	Limited bool
	// Limit is what limited the download in the last second or so.
	Limit Limit
	// Complete tells that everything is stored.
	Complete bool

	// Sources lists all peers that were added, in that order.
	Sources []Source
}

// Wasted returns how many bytes of blobs came and were of no use: duplicate,
// unwanted, bad, and those of blobs that are not whole.
func (p *Progress) Wasted() uint64 { return p.Duplicate + p.Unwanted + p.Bad + p.Partial }

// Source is one peer of a download.
type Source struct {
	Node stc.Hash
	Addr string
	// State tells what the peer is doing.
	State SourceState
	// Bytes and Blobs count what came from it, was verified and stored; Bad
	// the bytes that did not match their hash.
	Bytes, Blobs, Bad uint64
	// Rate is what it delivers, in bytes per second, and Latency what a single
	// request takes at least. Both are 0 until it has delivered something.
	Rate    float64
	Latency time.Duration
	// Err is why its last stream ended, nil if none did.
	Err error
}

// SourceState is the state of a peer of a download.
type SourceState uint8

// States of a peer. It begins in reserve; a stream that ends leads to waiting,
// failed or banned.
const (
	SourceReserve  SourceState = iota // known, no stream tried yet
	SourceDialling                    // being connected
	SourceServing                     // being drawn from
	SourceWaiting                     // failed, to be tried again
	SourceFailed                      // failed too often
	SourceBanned                      // sent wrong bytes or broke the protocol; not asked again
)

// String returns the state in one word.
func (s SourceState) String() string {
	switch s {
	case SourceReserve:
		return "reserve"
	case SourceDialling:
		return "dialling"
	case SourceServing:
		return "serving"
	case SourceWaiting:
		return "waiting"
	case SourceFailed:
		return "failed"
	case SourceBanned:
		return "banned"
	}
	return "unknown"
}

// Progress returns the latest snapshot. After Run has returned it is the final
// one, the account of the download.
func (d *Download) Progress() Progress { return *d.progress.Load() }

// snapshotInterval is how old a snapshot may become while things happen.
const snapshotInterval = 100 * time.Millisecond

// meter measures a rate over the last few seconds.
type meter struct {
	at    time.Time
	total uint64
	rate  float64
}

// meterWeight is how much of the rate is new after one second.
const meterWeight = 0.5

// update takes the running total. It is to be called every 100 ms or so.
func (m *meter) update(now time.Time, total uint64) {
	if m.at.IsZero() {
		m.at, m.total = now, total
		return
	}
	d := now.Sub(m.at).Seconds()
	if d <= 0 {
		return
	}
	rate := float64(total-m.total) / d
	w := min(1, d*meterWeight)
	if m.rate == 0 {
		w = 1
	}
	m.rate += w * (rate - m.rate)
	m.at, m.total = now, total
}
