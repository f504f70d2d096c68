// Package transport carries datagrams for sessions. It has one small interface,
// Conn, and its members: UDP here, in the largest batches that the kernel and the
// path allow, and an in-memory network for tests in the package memory. Beside it
// is Ordered, for what delivers messages whole and in order: WebSocket.
//
//	Conn      Send(buf, size, to)    buf:  | datagram (size) | datagram (size) | … | the last, ≤ size |
//	          Receive(buf)                 the same, of one sender a call
//
//	          UDP        one system call a batch: UDP_SEGMENT and UDP_GRO, else sendmmsg and recvmmsg, else one each
//	          memory     loss, delay, reordering and rate from a seed, in virtual time
//
//	Ordered   WebSocket  one binary message a frame, ws:// or wss://
//
// Guarantees: a datagram arrives whole, or not at all; whether it is what was sent,
// the session finds out. That it arrives is nobody's promise but that of Ordered,
// whose end is then the end of everything.
// What the kernel or the path does not take is found out while running, for each
// destination, and done in a smaller way. Close ends what waits.
package transport

import "net/netip"

// MaxBatch is the most bytes that one call of Send or Receive moves. A
// receive buffer of this size never cuts a datagram.
const MaxBatch = 64 << 10

// MaxSegments is the most datagrams in one call of Send. Linux takes no more
// in one segmented write.
const MaxSegments = 64

// MaxSegmented is the most bytes of several datagrams that go to the kernel in
// one call where it segments. With the headers, a link's included, they have
// to stay below 64 KiB, the gso_max_size of most devices: Linux hands nothing
// on whole that reaches it, but cuts it at once, loopback too.
const MaxSegmented = MaxBatch - 128

// A Conn sends and receives datagrams on one local address.
//
// Send may be called concurrently with everything. Receive has one caller at
// a time. A Conn gives no guarantee that what is sent arrives.
type Conn interface {
	// Send sends buf as consecutive datagrams of size bytes, the last of
	// which may be shorter, to one address. At most [MaxSegments] datagrams
	// and [MaxBatch] bytes. An error that wraps net.ErrClosed is final; any
	// other concerns these datagrams only, and loss recovery deals with it.
	// One that wraps syscall.EMSGSIZE says that datagrams of size bytes do
	// not fit the first link, and will not: to the search for the path's MTU
	// it is the loss of a probe, known early.
	Send(buf []byte, size int, to netip.AddrPort) error

	// Receive blocks until datagrams of one sender arrive and stores them
	// in buf, which must hold [MaxBatch] bytes: n bytes in all, consecutive
	// datagrams of size bytes, the last of which may be shorter. It returns
	// an error only when the Conn is closed (wrapping net.ErrClosed) or
	// unusable.
	Receive(buf []byte) (n, size int, from netip.AddrPort, err error)

	// LocalAddr is the address that Receive listens on. Its IP may be
	// unspecified.
	LocalAddr() netip.AddrPort

	// Close unblocks Receive and releases the address. It is idempotent.
	Close() error
}
