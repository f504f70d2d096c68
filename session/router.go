package session

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/seigr/sttnode/frame"
)

// Overflow says what Route does for an endpoint whose queue is full.
type Overflow uint8

// The policies of a full queue.
const (
	OverflowError      Overflow = iota // fail with ErrQueueFull, for this endpoint alone
	OverflowDropOldest                 // give up what has waited longest
	OverflowBlock                      // wait for room: who routes goes at the endpoint's pace
)

// MaxQueue is the longest queue that an endpoint can have, in pieces. The memory
// for a queue is taken when it begins: 24 bytes a piece, beside the pieces.
const MaxQueue = 1 << 20

var (
	// ErrQueueFull reports an endpoint that is too far behind.
	ErrQueueFull = errors.New("session: the endpoint's queue is full")
	// ErrNoEndpoint reports a name that nobody has.
	ErrNoEndpoint = errors.New("session: no endpoint of that name")
	// ErrEndpointExists reports a name that is taken.
	ErrEndpointExists = errors.New("session: an endpoint of that name exists")
	// ErrSinkPanic reports a sink that has panicked, or ended its goroutine.
	ErrSinkPanic = errors.New("session: the endpoint's sink panicked")
)

// Sink takes what is routed to an endpoint, in order, one piece at a time: a
// function, a channel ([ChannelSink]), a session ([Session.FrameSink]) or a
// stream ([Stream.MessageSink]). An error is counted and kept (see RouteStats);
// the next piece comes all the same. So it is with a panic, or runtime.Goexit, which becomes an
// ErrSinkPanic. ctx ends when the endpoint is removed, or when Close cannot wait any
// longer.
type Sink func(ctx context.Context, p []byte) error

// RouteOptions configure one endpoint of an EndpointManager. The zero value
// queues 64 pieces, and then refuses more.
type RouteOptions struct {
	Queue    int // pieces, up to MaxQueue, beside the one that the sink has; 64
	Overflow Overflow
}

// RouteStats are the counters of one endpoint.
type RouteStats struct {
	Name      string
	Queued    int    // gauge
	Delivered uint64 // pieces that the sink has taken
	Dropped   uint64 // pieces that the queue had no room for
	Failed    uint64 // pieces that the sink has returned an error for
	LastErr   error  // the last of those errors
}

// EndpointManager routes bytes to named endpoints, each with a queue of its
// own, so that a slow one never delays another, unless it is asked to: Route
// waits for an endpoint of policy OverflowBlock, and who has called it routes
// nothing else meanwhile. What a name means, and what the bytes mean, is the application's matter.
//
//	var endpoints session.EndpointManager
//	err := endpoints.Add("bob", stream.MessageSink(), session.RouteOptions{})
//	err = endpoints.Add("disk", save, session.RouteOptions{Overflow: session.OverflowDropOldest})
//	err = endpoints.Route(ctx, p, "bob", "disk")
//	err = endpoints.Close(ctx)                // behind what is queued
//
// The zero value is ready; its methods may be called concurrently. Close it when
// done: each endpoint has a goroutine.
type EndpointManager struct {
	// Logger reports sinks that panic. Discards if nil. Set it before the first
	// use.
	Logger *slog.Logger

	mu     sync.RWMutex
	routes map[string]*route
	closed bool
	cut    error // why a Close did not wait for all; nil otherwise
}

// route is one endpoint: a queue and the goroutine that empties it.
type route struct {
	name   string
	sink   Sink
	opts   RouteOptions
	log    *slog.Logger    // or nil
	ctx    context.Context // ends when it is removed
	cancel context.CancelFunc
	queue  chan []byte
	last   chan struct{}  // closed by Close: nothing more comes but from those who wait
	wait   sync.WaitGroup // for room in the queue; increased under EndpointManager.mu, before last is closed
	done   chan struct{}  // closed when the sink has returned for good

	delivered, dropped, failed atomic.Uint64
	lastErr                    atomic.Pointer[error]
}

// Add makes an endpoint and starts to empty its queue into sink. Errors:
// ErrEndpointExists, ErrClosed, ErrConfig for a sink that is nil or options that
// cannot be.
func (m *EndpointManager) Add(name string, sink Sink, opts RouteOptions) error {
	set(&opts.Queue, 64)
	switch {
	case sink == nil:
		return fmt.Errorf("%w: endpoint %q has no sink", ErrConfig, name)
	case opts.Queue < 0 || opts.Queue > MaxQueue:
		return fmt.Errorf("%w: endpoint %q has a queue of %d pieces; possible are 1 to %d, and 0 for 64", ErrConfig, name, opts.Queue, MaxQueue)
	case opts.Overflow > OverflowBlock:
		return fmt.Errorf("%w: endpoint %q has an unknown overflow policy, %d", ErrConfig, name, opts.Overflow)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	if m.routes[name] != nil {
		return fmt.Errorf("%w: %q", ErrEndpointExists, name)
	}
	r := &route{
		name: name, sink: sink, opts: opts, log: m.Logger, queue: make(chan []byte, opts.Queue),
		last: make(chan struct{}), done: make(chan struct{}),
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	if m.routes == nil {
		m.routes = make(map[string]*route)
	}
	m.routes[name] = r
	go r.run()
	return nil
}

// Remove takes an endpoint away: what is queued for it is dropped, its sink's
// context ends, and who waits for room in its queue gets ErrNoEndpoint. It does
// not wait for the sink.
func (m *EndpointManager) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.routes[name]
	if r == nil {
		return fmt.Errorf("%w: %q", ErrNoEndpoint, name)
	}
	delete(m.routes, name)
	r.cancel()
	return nil
}

// Close ends all endpoints, each behind what is queued for it, and returns when
// their sinks have returned; Stats says what became of the pieces. A Route that
// comes later, or still waits for room, gets ErrClosed. When ctx ends first, the
// sinks' contexts end, what is queued is dropped, and Close returns ctx's cause
// without waiting on, as every Close from then on: a sink that ignores its context
// cannot be stopped. So a sink must not call Close, which would wait for it.
func (m *EndpointManager) Close(ctx context.Context) error {
	m.mu.Lock()
	if !m.closed {
		m.closed = true
		for _, r := range m.routes {
			close(r.last)
		}
	}
	ending := slices.Collect(maps.Values(m.routes))
	m.mu.Unlock()
	for _, r := range ending {
		select {
		case <-r.done:
			continue
		default: // so that a ctx that has ended is no matter where nothing runs
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			return m.cutShort(context.Cause(ctx), ending)
		}
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.cut
}

// cutShort drops what is queued, and returns why that was done first.
func (m *EndpointManager) cutShort(why error, ending []*route) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cut == nil {
		m.cut = why
	}
	for _, r := range ending {
		r.cancel()
	}
	return m.cut
}

// Route queues p, which must not be changed any more, for the endpoints of
// these names. Where one of policy OverflowBlock has no room, Route waits for it
// until ctx ends; the others have p by then. Errors of several endpoints are
// joined: ErrNoEndpoint, ErrQueueFull, ErrClosed, ctx's cause. A name that comes twice
// gets p twice.
func (m *EndpointManager) Route(ctx context.Context, p []byte, names ...string) error {
	return m.route(ctx, p, func(yield func(string, *route) bool) {
		for _, name := range names {
			if !yield(name, m.routes[name]) {
				return
			}
		}
	})
}

// Broadcast is Route to every endpoint.
func (m *EndpointManager) Broadcast(ctx context.Context, p []byte) error {
	return m.route(ctx, p, func(yield func(string, *route) bool) { maps.All(m.routes)(yield) })
}

// route queues p for all routes, and waits for those that block only when the
// others have it; then for all at once, so that they don't delay each other. to
// is gone through under m.mu.
func (m *EndpointManager) route(ctx context.Context, p []byte, to iter.Seq2[string, *route]) error {
	type result struct {
		r   *route
		err error
	}
	var full []*result
	var errs []error
	m.mu.RLock()
	if m.closed {
		m.mu.RUnlock()
		return ErrClosed
	}
	for name, r := range to {
		if r == nil {
			errs = append(errs, fmt.Errorf("%w: %q", ErrNoEndpoint, name))
			continue
		}
		switch ok, err := r.offer(p); {
		case err != nil:
			errs = append(errs, r.named(err))
		case !ok:
			r.wait.Add(1)
			full = append(full, &result{r: r})
		}
	}
	m.mu.RUnlock()
	var waiting sync.WaitGroup
	for _, w := range full {
		waiting.Go(func() { w.err = w.r.put(ctx, p) })
	}
	waiting.Wait()
	for _, w := range full {
		if w.err != nil {
			errs = append(errs, w.r.named(w.err))
		}
	}
	return errors.Join(errs...)
}

// Stats yields the counters of all endpoints, by name, behind Close those that
// there were then.
func (m *EndpointManager) Stats() iter.Seq[RouteStats] {
	m.mu.RLock()
	all := make([]RouteStats, 0, len(m.routes))
	for _, r := range m.routes {
		st := RouteStats{
			Name: r.name, Queued: len(r.queue),
			Delivered: r.delivered.Load(), Dropped: r.dropped.Load(), Failed: r.failed.Load(),
		}
		if err := r.lastErr.Load(); err != nil {
			st.LastErr = *err
		}
		all = append(all, st)
	}
	m.mu.RUnlock()
	slices.SortFunc(all, func(a, b RouteStats) int { return strings.Compare(a.Name, b.Name) })
	return slices.Values(all)
}

func (r *route) named(err error) error { return fmt.Errorf("endpoint %q: %w", r.name, err) }

// offer queues p without waiting. It reports false without an error if that
// takes waiting.
func (r *route) offer(p []byte) (ok bool, err error) {
	for {
		if r.ctx.Err() != nil {
			return false, ErrNoEndpoint
		}
		select {
		case r.queue <- p:
			return true, nil
		default:
		}
		switch r.opts.Overflow {
		case OverflowError:
			r.dropped.Add(1)
			return false, ErrQueueFull
		case OverflowDropOldest:
			select {
			case <-r.queue:
				r.dropped.Add(1)
			default: // the sink has taken one meanwhile
			}
		default:
			return false, nil
		}
	}
}

// put queues p when there is room. It ends a wait.
func (r *route) put(ctx context.Context, p []byte) error {
	defer r.wait.Done()
	select {
	case r.queue <- p:
		return nil
	case <-r.last:
		return ErrClosed
	case <-r.ctx.Done():
		return ErrNoEndpoint
	case <-ctx.Done():
		r.dropped.Add(1)
		return context.Cause(ctx)
	}
}

// run empties the queue until the endpoint is removed, or is ended and the queue
// empty. What is left then is counted as dropped.
func (r *route) run() {
	over := false
	defer func() {
		if !over { // the sink has ended this goroutine
			go r.run()
			return
		}
		r.wait.Wait() // they don't any more
		for len(r.queue) > 0 {
			<-r.queue
			r.dropped.Add(1)
		}
		close(r.done)
	}()
	for r.ctx.Err() == nil {
		select {
		case p := <-r.queue:
			r.deliver(p)
			continue
		default:
		}
		select {
		case p := <-r.queue:
			r.deliver(p)
		case <-r.ctx.Done():
		case <-r.last:
			if r.wait.Wait(); len(r.queue) == 0 {
				over = true
				return
			}
		}
	}
	over = true
}

// deliver calls the sink, and counts.
func (r *route) deliver(p []byte) {
	returned := false
	defer func() {
		if returned {
			return
		}
		v := recover()
		if v == nil {
			v = "it has ended its goroutine"
		}
		r.fail(fmt.Errorf("%w: %v", ErrSinkPanic, v))
		if r.log != nil {
			r.log.Error("sink of an endpoint panicked", "endpoint", r.name, "panic", v, "stack", string(debug.Stack()))
		}
	}()
	err := r.sink(r.ctx, p)
	if returned = true; err != nil {
		r.fail(err)
	} else {
		r.delivered.Add(1)
	}
}

func (r *route) fail(err error) {
	r.failed.Add(1)
	r.lastErr.Store(&err)
}

// ChannelSink sends what is routed to it to a channel, and waits for who reads
// that.
func ChannelSink(c chan<- []byte) Sink {
	return func(ctx context.Context, p []byte) error {
		select {
		case c <- p:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// FrameSink sends what is routed to it to the peer of a session, as frames of
// one of the application's types.
func (s *Session) FrameSink(t frame.Type, stream uint16) Sink {
	return func(ctx context.Context, p []byte) error { return s.SendFrame(ctx, t, stream, p) }
}

// MessageSink sends what is routed to it as messages on a stream. Where the sink
// is interrupted within a message, by Remove or a Close that cannot wait, the
// stream is reset, since half a message is on it.
func (st *Stream) MessageSink() Sink {
	return func(ctx context.Context, p []byte) error {
		stop := context.AfterFunc(ctx, func() { st.Reset(0) })
		defer stop()
		return st.SendMessage(p)
	}
}
