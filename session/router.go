package session

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
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
)

// Sink takes what is routed to an endpoint, in order, one piece at a time.
// An error is counted and kept (see RouteStats); the next piece comes all
// the same. ctx ends when the endpoint is removed.
type Sink func(ctx context.Context, p []byte) error

// RouteOptions configure one endpoint of an EndpointManager. The zero value
// queues 64 pieces and blocks.
type RouteOptions struct {
	Queue    int // pieces; 64
	Overflow Overflow
}

// RouteStats are the counters of one endpoint.
type RouteStats struct {
	Name                       string
	Queued                     int
	Delivered, Dropped, Failed uint64
	LastErr                    error
}

// EndpointManager routes bytes to named endpoints, each with a queue of its
// own, so that a slow one never delays another. What a name means, and what
// the bytes mean, is the application's matter. The zero value is ready; its
// methods may be called concurrently. Close it when done.
type EndpointManager struct {
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
	ctx    context.Context
	cancel context.CancelFunc
	queue  chan []byte

	delivered, dropped, failed atomic.Uint64
	lastErr                    atomic.Pointer[error]
}

// Add makes an endpoint and starts to empty its queue into sink.
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
	r := &route{name: name, sink: sink, opts: opts, queue: make(chan []byte, opts.Queue)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	if m.routes == nil {
		m.routes = make(map[string]*route)
	}
	m.routes[name] = r
	m.wg.Go(r.run)
	return nil
}

// Remove takes an endpoint away; what is queued for it is dropped.
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
// these names, in their order. With an endpoint that blocks it waits for
// room in its queue, until ctx ends. Errors of several endpoints are joined;
// the others get p all the same.
func (m *EndpointManager) Route(ctx context.Context, p []byte, names ...string) error {
	var errs []error
	for _, name := range names {
		m.mu.RLock()
		r := m.routes[name]
		m.mu.RUnlock()
		if r == nil {
			errs = append(errs, fmt.Errorf("%w: %q", ErrNoEndpoint, name))
		} else if err := r.put(ctx, p); err != nil {
			errs = append(errs, fmt.Errorf("endpoint %q: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// Broadcast queues p for every endpoint. Those that drop or fail when full
// get it before those that block.
func (m *EndpointManager) Broadcast(ctx context.Context, p []byte) error {
	m.mu.RLock()
	var now, later []string
	for name, r := range m.routes {
		if r.opts.Overflow == OverflowBlock {
			later = append(later, name)
		} else {
			now = append(now, name)
		}
	}
	m.mu.RUnlock()
	return m.Route(ctx, p, append(now, later...)...)
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
	slices.SortFunc(all, func(a, b RouteStats) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return slices.Values(all)
}

func (r *route) put(ctx context.Context, p []byte) error {
	for {
		select {
		case r.queue <- p:
			return nil
		case <-r.ctx.Done():
			return ErrNoEndpoint
		default:
		}
		switch r.opts.Overflow {
		case OverflowError:
			r.dropped.Add(1)
			return ErrQueueFull
		case OverflowDropOldest:
			select {
			case <-r.queue:
				r.dropped.Add(1)
			default:
			}
		default:
			select {
			case r.queue <- p:
				return nil
			case <-r.ctx.Done():
				return ErrNoEndpoint
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
}

// run is the goroutine that empties the queue.
func (r *route) run() {
	for {
		select {
		case <-r.ctx.Done():
			return
		case p := <-r.queue:
			if err := r.sink(r.ctx, p); err != nil {
				r.failed.Add(1)
				r.lastErr.Store(&err)
			} else {
				r.delivered.Add(1)
			}
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
