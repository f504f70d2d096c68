package event

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Event is one event, as a subscription gets it.
type Event struct {
	Name    string
	Payload any       // shared by all subscribers: not to be changed
	Time    time.Time // of its emission
	// Number counts the events that were meant for this subscription, from 1. A
	// gap is what it has lost.
	Number uint64
}

// Emitter hands events to subscriptions. The zero value is ready, and must not
// be copied. Its methods may be called concurrently.
type Emitter struct {
	// Logger reports handlers that panic, and payloads that are not of their
	// topic's type. Discards if nil. Set it before the first use.
	Logger *slog.Logger

	mu     sync.Mutex // guards what follows; never held while waiting
	closed bool
	subs   map[*Subscription]struct{} // that have not ended
	every  []*Subscription            // those that want all names
	named  map[string][]*Subscription // those that want some; no entry is empty
	// Subscriptions, ended or not, whose handler has not returned for good.
	handlers map[*Subscription]struct{}
	cut      error // why a Close did not wait for all; nil otherwise

	emitted, dropped, panics, mismatched atomic.Uint64
}

// Stats are the counters of an emitter. All but the gauge only grow.
type Stats struct {
	Subscriptions int    // gauge
	Emitted       uint64 // events
	Dropped       uint64 // events that one subscription each has lost, being behind, or by a Close that could not wait
	Panics        uint64 // of handlers, and ends of their goroutine
	Mismatched    uint64 // payloads that were not of the type that a Topic's subscriber wants
}

// Emit hands an event to every subscription that wants its name. It never waits:
// see the package's guarantees. After Close it does nothing.
func (e *Emitter) Emit(name string, payload any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	e.emitted.Add(1)
	ev := Event{Name: name, Payload: payload, Time: time.Now()}
	for _, s := range e.named[name] {
		s.put(ev)
	}
	for _, s := range e.every {
		s.put(ev)
	}
}

// Subscribe begins a subscription, to be read by [Subscription.C] or
// [Subscription.All]. Stop it when done. One of an emitter that is closed has
// ended already. Errors: ErrOptions.
func (e *Emitter) Subscribe(opts Options) (*Subscription, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	return e.subscribe(opts), nil
}

func (e *Emitter) subscribe(opts Options) *Subscription {
	s := newSubscription(e, opts)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.addLocked(s)
	return s
}

// Handle begins a subscription whose events a handler gets, one at a time. ctx
// ends when the subscription is stopped. Once the emitter is closed, or the
// subscription overrun, the handler still gets what is queued. Errors: ErrOptions,
// also for a handler that is nil.
func (e *Emitter) Handle(handler func(ctx context.Context, ev Event), opts Options) (*Subscription, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	if handler == nil {
		return nil, fmt.Errorf("%w: no handler", ErrOptions)
	}
	return e.handle(handler, opts), nil
}

func (e *Emitter) handle(handler func(ctx context.Context, ev Event), opts Options) *Subscription {
	s := newSubscription(e, opts)
	s.handled = make(chan struct{})
	s.ctx, s.cancel = context.WithCancel(context.Background())
	e.mu.Lock()
	defer e.mu.Unlock()
	e.addLocked(s)
	if e.handlers == nil {
		e.handlers = make(map[*Subscription]struct{})
	}
	e.handlers[s] = struct{}{}
	go s.run(handler)
	return s
}

// On is Handle for the events of one name, with a queue of DefaultQueue events.
// It panics if the handler is nil.
func (e *Emitter) On(name string, handler func(ctx context.Context, ev Event)) *Subscription {
	if handler == nil {
		panic("event: no handler")
	}
	return e.handle(handler, Options{Names: []string{name}})
}

// All yields the events of these names, or of all if there are none, from the
// beginning of the loop until ctx ends or the emitter is closed. With a queue of
// 64, a loop that is further behind loses the newest. To miss nothing that is
// emitted before the loop, [Emitter.Subscribe] first.
func (e *Emitter) All(ctx context.Context, names ...string) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		s := e.subscribe(Options{Names: names})
		defer s.Stop()
		s.All(ctx)(yield)
	}
}

// Stats returns the emitter's counters.
func (e *Emitter) Stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	return Stats{
		Subscriptions: len(e.subs),
		Emitted:       e.emitted.Load(), Dropped: e.dropped.Load(),
		Panics: e.panics.Load(), Mismatched: e.mismatched.Load(),
	}
}

// Close ends the emitter and all subscriptions. Handlers get what is queued for
// them, and Close returns when they are done; channels and loops end behind what
// is queued. When ctx ends first, the handlers' contexts end, what is queued for
// them is dropped, and counted, and Close returns ctx's cause without waiting on, as
// every Close from then on: a handler that ignores its context can't be stopped. So a
// handler must not call Close, which would wait for it.
func (e *Emitter) Close(ctx context.Context) error {
	e.mu.Lock()
	e.closed = true
	for s := range e.subs {
		s.endLocked(ErrClosed)
	}
	running := slices.Collect(maps.Keys(e.handlers))
	e.mu.Unlock()
	for _, s := range running {
		select {
		case <-s.handled:
			continue
		default: // so that a ctx that has ended is no matter where nothing runs
		}
		select {
		case <-s.handled:
		case <-ctx.Done():
			return e.cutShort(context.Cause(ctx), running)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cut
}

// cutShort drops what is queued for handlers, and returns why that was done first.
func (e *Emitter) cutShort(why error, running []*Subscription) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cut == nil {
		e.cut = why
	}
	for _, s := range running {
		s.cancel()
	}
	return e.cut
}

func (e *Emitter) addLocked(s *Subscription) {
	if e.closed {
		s.endLocked(ErrClosed)
		return
	}
	if e.subs == nil {
		e.subs, e.named = make(map[*Subscription]struct{}), make(map[string][]*Subscription)
	}
	e.subs[s] = struct{}{}
	if len(s.names) == 0 {
		e.every = append(e.every, s)
	}
	for _, name := range s.names {
		e.named[name] = append(e.named[name], s)
	}
}

// removeLocked takes a subscription out, by lists that replace those that Emit
// may be going through.
func (e *Emitter) removeLocked(s *Subscription) {
	delete(e.subs, s)
	if len(s.names) == 0 {
		e.every = without(e.every, s)
	}
	for _, name := range s.names {
		if rest := without(e.named[name], s); len(rest) > 0 {
			e.named[name] = rest
		} else {
			delete(e.named, name)
		}
	}
}

// without returns the list without s, and leaves the one it was given as it is.
func without(list []*Subscription, s *Subscription) []*Subscription {
	i := slices.Index(list, s)
	if i < 0 {
		return list
	}
	return slices.Concat(list[:i], list[i+1:])
}

func (e *Emitter) log(msg string, args ...any) {
	if e.Logger != nil {
		e.Logger.Error(msg, args...)
	}
}
