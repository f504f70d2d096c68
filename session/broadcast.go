package session

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// defaultWindow is that of a Broadcaster, in bytes.
	defaultWindow = 4 << 20
	// pieceCost is what a piece counts in the window beside its data, so that
	// empty ones are bounded as well.
	pieceCost = 64
)

// Broadcaster feeds one source of pieces to any number of subscribers, each as
// fast as it is itself.
//
//	         ├──────────── window ────────────┤
//	given up │ R  p  p  p  R  p  p  p  R  p  p │ ◄── Send
//	    ▲                              ▲     ▲
//	    └── too slow: goes on here ────┘     keeps up
//
// The pieces of the last moments, the window, are in memory once, for all; a
// subscriber is a place in it. One whose place has been given up before it came
// for it goes on at the newest piece that the application has marked as a
// restart: one that makes sense without those before it, such as a key frame of
// a video, or the whole of what the others change. New ones begin there, too. So
// nobody holds up the source or others, those who keep up lose nothing, and memory
// is the window, whoever is slow, and the piece that each subscriber is at.
//
//	var live session.Broadcaster
//	err := live.Send(p, isKeyFrame)             // the source
//
//	for p := range live.Pieces(ctx) {           // a subscriber, such as a node.Handler
//		if err := st.SendMessage(p.Data); err != nil { … }
//	}
//
// The zero value is ready, and must not be copied. It has no goroutines. Its methods may
// be called concurrently.
type Broadcaster struct {
	// Window bounds in bytes the pieces that are kept for those who are behind;
	// each counts 64 bytes more than its data. 4 MiB unless set before the first
	// use. It should hold some restarts: with none in it, who is behind waits for
	// the next.
	Window int

	subscribers                  atomic.Int64
	delivered, skipped, restarts atomic.Uint64

	mu      sync.RWMutex // guards what follows; never held while waiting
	log     []broadcastPiece
	first   uint64        // number of log[0], or of the next piece
	size    int           // of the log, in bytes
	restart uint64        // number of the newest restart; 0 if there was none
	sent    uint64        // bytes
	more    chan struct{} // closed and replaced by Send, closed by Close; nil until the first call
	closed  bool
}

// broadcastPiece is a piece in the window.
type broadcastPiece struct {
	data    []byte
	time    time.Time
	restart bool
}

func (p *broadcastPiece) cost() int { return len(p.data) + pieceCost }

// Piece is a piece of a Broadcaster's source, as a subscriber gets it.
type Piece struct {
	Data    []byte    // shared by all: not to be changed
	Number  uint64    // in the source, from 1
	Time    time.Time // of Send
	Restart bool      // a subscriber may begin here
	// Skipped is how many pieces before this one the subscriber has lost, having
	// been too slow. Restart is then set.
	Skipped uint64
}

// BroadcastStats are the counters of a Broadcaster. All but the gauges only grow.
type BroadcastStats struct {
	Subscribers   int // gauge
	WindowBytes   int // gauge: of pieces in memory
	Pieces, Bytes uint64
	Delivered     uint64 // pieces that subscribers have taken, each counted
	Skipped       uint64 // pieces that subscribers have lost, each counted
	Restarts      uint64 // how often a subscriber has lost some
}

// Send gives all subscribers a piece, which must not be changed any more. restart
// marks those that make sense without the ones before them; where all do, set it
// always. Send never waits. Errors: ErrMessageTooLong for a piece that the window
// cannot hold, ErrConfig for a window that cannot be, ErrClosed.
func (b *Broadcaster) Send(data []byte, restart bool) error {
	p := broadcastPiece{data: data, time: time.Now(), restart: restart}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.initLocked()
	switch {
	case b.closed:
		return ErrClosed
	case b.Window < 0:
		return fmt.Errorf("%w: a broadcaster's window of %d bytes", ErrConfig, b.Window)
	case p.cost() > b.Window:
		return fmt.Errorf("%w: %d bytes do not fit into the broadcaster's window of %d; raise it", ErrMessageTooLong, len(data), b.Window)
	}
	for b.size += p.cost(); b.size > b.Window; b.first++ {
		b.size -= b.log[0].cost()
		b.log[0] = broadcastPiece{} // its memory is not the log's any more
		b.log = b.log[1:]
	}
	b.log = append(b.log, p)
	b.sent += uint64(len(data))
	if restart {
		b.restart = b.first + uint64(len(b.log)) - 1
	}
	close(b.more)
	b.more = make(chan struct{})
	return nil
}

// Close ends the source: loops end when they have had what is in the window.
func (b *Broadcaster) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.initLocked()
	if !b.closed {
		b.closed = true
		close(b.more)
	}
	return nil
}

// Pieces subscribes for the duration of the loop, which begins at the newest
// restart that is in the window then, or at the first one to come. It yields every
// piece from there on, in order, but for what Piece.Skipped says, and ends with ctx
// or behind Close. Who is so far behind at Close that no restart is left to go on
// at has lost the rest: the source's last piece should be a restart, or say itself
// that it is the last. What the loop does with a piece takes as long as it takes.
func (b *Broadcaster) Pieces(ctx context.Context) iter.Seq[Piece] {
	return func(yield func(Piece) bool) {
		c := b.subscribe()
		defer b.subscribers.Add(-1)
		for ctx.Err() == nil {
			p, ok, more := b.next(&c)
			switch {
			case ok:
				if !yield(p) {
					return
				}
			case more == nil:
				return
			default:
				select {
				case <-more:
				case <-ctx.Done():
				}
			}
		}
	}
}

// cursor is a subscriber's place.
type cursor struct {
	next  uint64 // number of the first piece that it has not had
	state cursorState
}

type cursorState uint8

const (
	cursorWaits cursorState = iota // for the first restart from next on
	cursorGoes                     // wants next
	cursorLost                     // next has been given up: goes on at the newest restart
)

// subscribe returns the place of a new subscriber.
func (b *Broadcaster) subscribe() cursor {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.initLocked()
	b.subscribers.Add(1)
	if b.restart >= b.first {
		return cursor{b.restart, cursorGoes}
	}
	return cursor{b.first + uint64(len(b.log)), cursorWaits}
}

// next returns the subscriber's next piece; or, if there is none yet, what will
// be closed when there may be, which is nil behind the end.
func (b *Broadcaster) next(c *cursor) (p Piece, ok bool, more <-chan struct{}) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	end := b.first + uint64(len(b.log))
	switch {
	case c.next < b.first:
		c.state = cursorLost
	case c.state == cursorWaits:
		for c.next < end && !b.log[c.next-b.first].restart {
			c.next++
		}
		if c.next < end {
			c.state = cursorGoes
		}
	}
	if c.state == cursorLost && b.restart >= max(c.next, b.first) {
		p.Skipped = b.restart - c.next
		b.skipped.Add(p.Skipped)
		b.restarts.Add(1)
		c.next, c.state = b.restart, cursorGoes
	}
	if c.state != cursorGoes || c.next == end {
		if !b.closed {
			return p, false, b.more
		}
		if c.state == cursorLost { // there is no restart to go on at
			b.skipped.Add(end - c.next)
			c.next, c.state = end, cursorGoes
		}
		return p, false, nil
	}
	stored := &b.log[c.next-b.first]
	p.Data, p.Number, p.Time, p.Restart = stored.data, c.next, stored.time, stored.restart
	c.next++
	b.delivered.Add(1)
	return p, true, nil
}

// Stats returns the counters.
func (b *Broadcaster) Stats() BroadcastStats {
	b.mu.RLock()
	defer b.mu.RUnlock()
	s := BroadcastStats{
		Subscribers: int(b.subscribers.Load()), WindowBytes: b.size, Bytes: b.sent,
		Delivered: b.delivered.Load(), Skipped: b.skipped.Load(), Restarts: b.restarts.Load(),
	}
	if b.more != nil {
		s.Pieces = b.first + uint64(len(b.log)) - 1
	}
	return s
}

func (b *Broadcaster) initLocked() {
	if b.more == nil {
		set(&b.Window, defaultWindow)
		b.first, b.more = 1, make(chan struct{})
	}
}
