package event

import (
	"context"
	"fmt"
	"iter"
	"runtime/debug"
	"slices"
	"sync/atomic"
)

// Overflow says what a subscription loses when its queue is full.
type Overflow uint8

// The policies of a full queue.
const (
	DropNewest Overflow = iota // the new event
	DropOldest                 // what has waited longest
	End                        // everything from now on: it ends with ErrOverrun, behind what is queued
)

const (
	// DefaultQueue is the length of a subscription's queue, in events, unless its
	// options say otherwise.
	DefaultQueue = 64
	// MaxQueue is the longest queue that a subscription can have, in events. The
	// memory for a queue is taken when it begins: 64 bytes an event.
	MaxQueue = 1 << 20
)

// Options say what a subscription wants. The zero value is every event, in a
// queue of DefaultQueue events which loses the newest.
type Options struct {
	Names    []string // empty: all
	Queue    int      // events, up to MaxQueue; 0 is DefaultQueue
	Overflow Overflow
}

func (o *Options) check() error {
	if o.Queue < 0 || o.Queue > MaxQueue {
		return fmt.Errorf("%w: a queue of %d events; possible are 1 to %d, and 0 for %d", ErrOptions, o.Queue, MaxQueue, DefaultQueue)
	}
	if o.Overflow > End {
		return fmt.Errorf("%w: overflow policy %d is unknown", ErrOptions, o.Overflow)
	}
	return nil
}

// Subscription gets the events of an emitter from its beginning until it is
// stopped, is overrun (see [End]), or the emitter is closed.
type Subscription struct {
	e        *Emitter
	names    []string // without repetitions
	overflow Overflow
	queue    chan Event // sent to and closed under e.mu
	number   uint64     // of the last event; guarded by e.mu
	ended    bool       // the queue is closed; guarded by e.mu
	err      error      // why; guarded by e.mu

	dropped atomic.Uint64

	// Of a subscription with a handler: what it is called with until it shall get
	// nothing more.
	ctx     context.Context
	cancel  context.CancelFunc
	handled chan struct{} // closed when it has returned for good; nil without
}

// newSubscription makes a subscription of options that have been checked.
func newSubscription(e *Emitter, opts Options) *Subscription {
	if opts.Queue == 0 {
		opts.Queue = DefaultQueue
	}
	names := slices.Clone(opts.Names)
	slices.Sort(names)
	return &Subscription{e: e, names: slices.Compact(names), overflow: opts.Overflow, queue: make(chan Event, opts.Queue)}
}

// C returns the events as a channel, which is closed when the subscription has
// ended. What had been queued by then can still be read. Not for one with a handler, which
// would share the events with the reader.
func (s *Subscription) C() <-chan Event { return s.queue }

// All yields the events until the subscription or ctx ends. It may be called
// again, and goes on where the last loop ended. As C, it is not for one with a
// handler.
func (s *Subscription) All(ctx context.Context) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		for ctx.Err() == nil {
			select {
			case ev, ok := <-s.queue:
				if !ok || !yield(ev) {
					return
				}
			case <-ctx.Done():
			}
		}
	}
}

// Stop ends the subscription. A handler's context ends, what is queued for it is
// dropped, and no call of it begins any more; one may still be running, which
// Done tells. Stop may be called by the handler, and more than once.
func (s *Subscription) Stop() {
	s.e.mu.Lock()
	s.endLocked(nil)
	s.e.mu.Unlock()
	if s.cancel != nil {
		s.cancel()
	}
}

// Done returns a channel that is closed when the handler has returned and will
// not be called again. Without a handler it is nil.
func (s *Subscription) Done() <-chan struct{} { return s.handled }

// Err says why the subscription has ended: ErrOverrun, ErrClosed, or nil if it has
// been stopped or goes on.
func (s *Subscription) Err() error {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	return s.err
}

// Dropped returns how many events this subscription has lost by being behind, or
// by an [Emitter.Close] that could not wait for its handler.
func (s *Subscription) Dropped() uint64 { return s.dropped.Load() }

// put queues an event, or what the policy makes of it. e.mu is held, so nobody
// else sends.
func (s *Subscription) put(ev Event) {
	s.number++
	ev.Number = s.number
	for {
		select {
		case s.queue <- ev:
			return
		default:
		}
		switch s.overflow {
		case DropOldest:
			select {
			case <-s.queue:
				s.lose()
			default: // the subscriber has taken one meanwhile
			}
		case End:
			s.lose()
			s.endLocked(ErrOverrun)
			return
		default:
			s.lose()
			return
		}
	}
}

func (s *Subscription) lose() {
	s.dropped.Add(1)
	s.e.dropped.Add(1)
}

// endLocked closes the queue and takes the subscription out of its emitter. e.mu
// is held.
func (s *Subscription) endLocked(why error) {
	if s.ended {
		return
	}
	s.ended, s.err = true, why
	close(s.queue)
	s.e.removeLocked(s)
}

// run is the goroutine of a handler.
func (s *Subscription) run(handler func(context.Context, Event)) {
	over := false
	defer func() {
		if !over { // the handler has ended this goroutine
			go s.run(handler)
			return
		}
		s.cancel()
		s.e.mu.Lock()
		delete(s.e.handlers, s)
		s.e.mu.Unlock()
		close(s.handled)
	}()
	for ev := range s.queue {
		if s.ctx.Err() == nil {
			s.call(handler, ev)
		} else if s.Err() != nil { // nobody has asked to lose it, as by Stop
			s.lose()
		}
	}
	over = true
}

func (s *Subscription) call(handler func(context.Context, Event), ev Event) {
	returned := false
	defer func() {
		if returned {
			return
		}
		v := recover()
		if v == nil {
			v = "it has ended its goroutine"
		}
		s.e.panics.Add(1)
		s.e.log("event handler panicked", "event", ev.Name, "panic", v, "stack", string(debug.Stack()))
	}()
	handler(s.ctx, ev)
	returned = true
}
