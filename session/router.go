package session

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
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
	OverflowBlock      Overflow = iota // wait for room
	OverflowDropOldest                 // give up what has waited longest
	OverflowError                      // fail with ErrQueueFull
)

var (
	// ErrQueueFull reports an endpoint that is too far behind.
	ErrQueueFull = errors.New("session: the endpoint's queue is full")
	// ErrNoEndpoint reports a name that nobody has.
	ErrNoEndpoint = errors.New("session: no endpoint of that name")
	// ErrEndpointExists reports a name that is taken.
	ErrEndpointExists = errors.New("session: an endpoint of that name exists")
	// ErrSinkPanic reports a sink that has panicked.
	ErrSinkPanic = errors.New("session: the endpoint's sink panicked")
)

// Sink takes what is routed to an endpoint, in order, one piece at a time: a
// function, a channel ([ChannelSink]), a session ([Session.FrameSink]) or a
// stream ([Stream.MessageSink]). An error is counted and kept (see RouteStats);
// the next piece comes all the same. So it is with a panic, which becomes an
// ErrSinkPanic. ctx ends when the endpoint is removed.
type Sink func(ctx context.Context, p []byte) error

// RouteOptions configure one endpoint of an EndpointManager. The zero value
// queues 64 pieces and blocks.
type RouteOptions struct {
	Queue    int // pieces, beside the one that the sink has; 64
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
// own, so that a slow one never delays another. What a name means, and what
// the bytes mean, is the application's matter. The zero value is ready; its
// methods may be called concurrently. Close it when done: each endpoint has a
// goroutine.
type EndpointManager struct {
	// Logger reports sinks that panic. Discards if nil. Set it before the first
	// use.
	Logger *slog.Logger

	mu     sync.RWMutex
	routes map[string]*route
	closed bool
	wg     sync.WaitGroup
}

// route is one endpoint: a queue and the goroutine that empties it.
type route struct {
	name   string
	sink   Sink
	opts   RouteOptions
	log    *slog.Logger // or nil
	ctx    context.Context
	cancel context.CancelFunc
	queue  chan []byte

	delivered, dropped, failed atomic.Uint64
	lastErr                    atomic.Pointer[error]
}

// Add makes an endpoint and starts to empty its queue into sink. Errors:
// ErrEndpointExists, ErrClosed, and for options that are no good.
func (m *EndpointManager) Add(name string, sink Sink, opts RouteOptions) error {
	set(&opts.Queue, 64)
	if opts.Queue < 0 || sink == nil || opts.Overflow > OverflowError {
		return fmt.Errorf("session: endpoint %q: no sink, or a bad queue", name)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	if m.routes[name] != nil {
		return fmt.Errorf("%w: %q", ErrEndpointExists, name)
	}
	r := &route{name: name, sink: sink, opts: opts, log: m.Logger, queue: make(chan []byte, opts.Queue)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	if m.routes == nil {
		m.routes = make(map[string]*route)
	}
	m.routes[name] = r
	m.wg.Go(r.run)
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

// Close removes all endpoints and waits for their sinks to return.
func (m *EndpointManager) Close() error {
	m.mu.Lock()
	m.closed = true
	for name, r := range m.routes {
		r.cancel()
		delete(m.routes, name)
	}
	m.mu.Unlock()
	m.wg.Wait()
	return nil
}

// Route queues p, which must not be changed any more, for the endpoints of
// these names. Where one that blocks has no room, Route waits for it until ctx
// ends; the others have p by then. Errors of several endpoints are joined:
// ErrNoEndpoint, ErrQueueFull, ctx's cause.
func (m *EndpointManager) Route(ctx context.Context, p []byte, names ...string) error {
	var errs []error
	routes := make([]*route, 0, len(names))
	m.mu.RLock()
	for _, name := range names {
		if r := m.routes[name]; r != nil {
			routes = append(routes, r)
		} else {
			errs = append(errs, fmt.Errorf("%w: %q", ErrNoEndpoint, name))
		}
	}
	m.mu.RUnlock()
	return errors.Join(append(errs, put(ctx, p, routes)...)...)
}

// Broadcast is Route to every endpoint.
func (m *EndpointManager) Broadcast(ctx context.Context, p []byte) error {
	m.mu.RLock()
	routes := make([]*route, 0, len(m.routes))
	for _, r := range m.routes {
		routes = append(routes, r)
	}
	m.mu.RUnlock()
	return errors.Join(put(ctx, p, routes)...)
}

// Stats yields the counters of all endpoints, by name.
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

// put queues p for all routes, and waits for those that block only when the
// others have it; then for all at once, so that they don't delay each other.
func put(ctx context.Context, p []byte, routes []*route) []error {
	errs := make([]error, len(routes))
	var waiting sync.WaitGroup
	for i, r := range routes {
		ok, err := r.offer(p)
		if !ok && err == nil {
			waiting.Go(func() { errs[i] = r.named(r.wait(ctx, p)) })
		} else {
			errs[i] = r.named(err)
		}
	}
	waiting.Wait()
	return errs
}

func (r *route) named(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("endpoint %q: %w", r.name, err)
}

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

func (r *route) wait(ctx context.Context, p []byte) error {
	select {
	case r.queue <- p:
		return nil
	case <-r.ctx.Done():
		return ErrNoEndpoint
	case <-ctx.Done():
		r.dropped.Add(1)
		return context.Cause(ctx)
	}
}

// run is the goroutine that empties the queue.
func (r *route) run() {
	for r.ctx.Err() == nil {
		select {
		case <-r.ctx.Done():
		case p := <-r.queue:
			if err := r.deliver(p); err != nil {
				r.failed.Add(1)
				r.lastErr.Store(&err)
			} else {
				r.delivered.Add(1)
			}
		}
	}
}

func (r *route) deliver(p []byte) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %v", ErrSinkPanic, v)
			if r.log != nil {
				r.log.Error("sink of an endpoint panicked", "endpoint", r.name, "panic", v, "stack", string(debug.Stack()))
			}
		}
	}()
	return r.sink(r.ctx, p)
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

// MessageSink sends what is routed to it as messages on a stream.
func (st *Stream) MessageSink() Sink {
	return func(ctx context.Context, p []byte) error {
		stop := context.AfterFunc(ctx, func() { st.Reset(0) })
		defer stop()
		return st.SendMessage(p)
	}
}
