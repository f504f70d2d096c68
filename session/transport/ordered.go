package transport

import "net/netip"

// Ordered carries whole frames to and from one peer over something that
// delivers all of them, in order, or breaks: a WebSocket. Loss recovery and
// congestion control are its own matter.
//
// Its methods may be called concurrently; Receive has one caller at a time.
type Ordered interface {
	// Send queues a copy of a frame and does not wait. The caller looks at
	// Queued to bound what waits. An error is final.
	Send(frame []byte) error

	// Queued returns how many bytes wait to be written.
	Queued() int

	// Receive returns the next frame: in buf, if it fits, else in new
	// memory, never more than a frame may have. An error is final.
	Receive(buf []byte) ([]byte, error)

	// Admit lets frames be as long as they may. Before, as long as nobody
	// has proven anything, they may have MaxBatch bytes, so that none needs
	// memory beside a buffer of that size. From then on drained is called
	// each time that something which was queued has been written, by the
	// goroutine that writes: it must not wait.
	Admit(drained func())

	// RemoteAddr is the address at the other end of the connection, which
	// may be a proxy's, or invalid if there is none to tell.
	RemoteAddr() netip.AddrPort

	// Close writes what is queued, if that is quick, and releases
	// everything. It is idempotent.
	Close() error
}
