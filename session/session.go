package session

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

// State is where a session stands in its life: Handshake → Active → Closing
// → Closed.
type State int32

// The states of a session.
const (
	StateHandshake State = iota // the peer has not yet confirmed the keys; data may already flow
	StateActive                 // both ends have proven themselves
	StateClosing                // one end has said CLOSE; only it is repeated
	StateClosed                 // over; resources are freed
)

// String returns the state's name.
func (s State) String() string {
	return [...]string{"Handshake", "Active", "Closing", "Closed"}[s]
}

// Session is an encrypted connection between two nodes. Its methods may be
// called concurrently. It ends by Close, by the peer, by silence, or by a
// fault of either; Done tells, Err says why.
//
// The session's loop owns the protocol's state; what is here is what others
// share with it.
type Session struct {
	ep         *Endpoint
	link       *link
	cfg        *Config
	id         frame.SessionID
	initiator  bool
	peerKey    stc.PublicKey
	peerID     stc.Hash
	peerParams params
	created    time.Time

	streams    streamTable
	user       userChannel
	inbox      inbox
	strand     strand        // asked when there is something for the loop
	done       chan struct{} // closed when the session has ended
	sendBuffer atomic.Int64  // bytes that a stream may hold unacknowledged
	consumed   atomic.Uint64 // bytes that readers have taken, or dropped
	creditAt   atomic.Uint64 // consumed from which on the peer should get credit
	credit     *account      // of what streams hold; the loop's until the session has ended
	state      atomic.Int32

	mu       sync.Mutex // guards what follows
	dirty    []*Stream  // streams that want the loop's attention
	closing  *closeRequest
	remote   netip.AddrPort
	observed netip.AddrPort
	reset    resetToken // proves that the peer has forgotten the session; zero until it has told
	// forgotten is when the peer has proven that; zero while the loop has
	// nothing to look into.
	forgotten time.Time
	err       error
	stats     Stats
}

// closeRequest asks the loop to end the session.
type closeRequest struct {
	code   uint64
	reason string
	gone   error     // there is nobody to tell: end with this error
	flush  bool      // first deliver what has been written
	by     time.Time // end of the wait for that
}

// Stats is a snapshot of a session's counters.
type Stats struct {
	ID                                 frame.SessionID
	Peer                               stc.Hash
	State                              State
	Created, LastActive                time.Time // LastActive: last frame received
	BytesSent, BytesReceived           uint64    // whole frames
	MessagesSent, MessagesReceived     uint64    // frames
	Streams                            int       // open now
	RTT, MinRTT                        time.Duration
	CongestionWindow, InFlight         int // bytes
	PacketsLost, PacketsSpurious       uint64
	DatagramSize                       int // bytes, found by the path search
	SendEpoch, ReceiveEpoch            uint32
	DuplicatesReceived, ForgedReceived uint64
	ProbeTimeouts                      uint64
	Unread                             uint64 // bytes that wait for readers, or for bytes before them
	Credit                             uint64 // bytes that the peer has been allowed beyond what has been read
}

// ID returns the session's ID, the same at both ends.
func (s *Session) ID() frame.SessionID { return s.id }

// PeerID returns the node ID that the peer has proven.
func (s *Session) PeerID() stc.Hash { return s.peerID }

// PeerKey returns the public key that the peer has proven.
func (s *Session) PeerKey() stc.PublicKey { return s.peerKey }

// Initiator reports whether this side dialled.
func (s *Session) Initiator() bool { return s.initiator }

// RemoteAddr returns the peer's present address.
func (s *Session) RemoteAddr() netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remote
}

// ObservedAddr returns our address as the peer sees it, or the zero value
// while it has not told. Only the side that dialled is told.
func (s *Session) ObservedAddr() netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.observed
}

// State returns where the session stands.
func (s *Session) State() State { return State(s.state.Load()) }

// Done is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err says why the session has ended: [ErrIdleTimeout], a [*CloseError] or
// another error; nil while it has not.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Stats returns the counters as of the loop's last round.
func (s *Session) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.State = s.State()
	st.Streams = s.streams.count()
	return st
}

// Close ends the session in order: no new streams, what has been written is
// delivered, then CLOSE. It waits for that, up to Config.Linger, and returns
// an error if something was left undelivered.
func (s *Session) Close() error {
	s.requestClose(closeRequest{flush: true, by: time.Now().Add(s.cfg.Linger)})
	<-s.done
	err := s.Err()
	var ce *CloseError
	if errors.As(err, &ce) && ce.Code == CodeNone && !errors.Is(err, ErrUnflushed) {
		return nil
	}
	return err
}

// CloseWithError ends the session at once with a code and a reason that the
// peer is told (at most [frame.MaxReason] bytes). Codes of applications
// start at [CodeApplication].
func (s *Session) CloseWithError(code uint64, reason string) error {
	s.requestClose(closeRequest{code: code, reason: reason})
	<-s.done
	return nil
}

func (s *Session) requestClose(r closeRequest) {
	s.mu.Lock()
	// An immediate close overrides one that still waits.
	if s.closing == nil || s.closing.flush && !r.flush {
		s.closing = &r
	}
	s.mu.Unlock()
	if r.gone == nil {
		s.streams.close(ErrClosed)
	}
	s.strand.ask()
}

// notify asks the loop to look at a stream.
func (s *Session) notify(st *Stream) {
	if !st.notified.CompareAndSwap(false, true) {
		return
	}
	s.mu.Lock()
	s.dirty = append(s.dirty, st)
	s.mu.Unlock()
	s.strand.ask()
}

// takeDirty returns the streams that want attention, in old's memory.
func (s *Session) takeDirty(old []*Stream) []*Stream {
	clear(old)
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.dirty
	s.dirty = old[:0]
	return out
}

// consume gives session credit back for n bytes that a reader is done with.
func (s *Session) consume(n uint64) {
	if n == 0 || s.consumed.Add(n) < s.creditAt.Load() {
		return
	}
	if s.State() == StateClosed {
		s.credit.keep(0) // the last unread byte
	}
	s.strand.ask()
}

// inbox is where the endpoint leaves datagrams for the loop.
type inbox struct {
	room  chan struct{} // capacity 1: put may succeed again
	total *atomic.Int64 // memory in all inboxes of the endpoint, in bytes

	mu    sync.Mutex // guards what follows
	runs  []run
	bytes int
	held  int64 // memory behind them, in bytes
	ended bool  // nobody will take any more
}

// run is some datagrams of one sender, consecutive in a buffer.
type run struct {
	buf  *packetBuffer
	data []byte // consecutive datagrams of size bytes, the last may be shorter
	size int
	from netip.AddrPort
	at   time.Time
	link *link
}

// maxInbox is how many bytes of datagrams wait for a session's loop. More
// are dropped, as by a socket buffer that is full.
const maxInbox = 4 << 20

// maxInboxes is the same for all sessions of an endpoint; those over ordered
// carriers, which must not drop and can wait, count but are not held to it.
// It counts whole buffers, and one that sessions share more than once.
const maxInboxes = 256 << 20

func (b *inbox) put(r run) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := int64(len(r.buf.data))
	if b.ended || b.bytes+len(r.data) > maxInbox || b.total.Load()+n > maxInboxes && r.link.ordered == nil {
		return false
	}
	b.total.Add(n)
	b.held += n
	b.bytes += len(r.data)
	b.runs = append(b.runs, r)
	return true
}

func (b *inbox) empty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.runs) == 0
}

// tidy gives up what the inbox holds for more to come.
func (b *inbox) tidy() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.runs) == 0 {
		b.runs = nil
	}
}

// end empties the inbox for good.
func (b *inbox) end() []run {
	b.mu.Lock()
	b.ended = true
	b.mu.Unlock()
	return b.take(nil)
}

// take empties the inbox into old's memory.
func (b *inbox) take(old []run) []run {
	clear(old)
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.runs
	if b.held > 0 {
		b.total.Add(-b.held)
	}
	b.runs, b.bytes, b.held = old[:0], 0, 0
	signal(b.room)
	return out
}
