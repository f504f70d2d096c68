package session

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/seigr/sttnode/frame"
)

// Dispatcher hands the application's frames to handlers by their type. One
// dispatcher serves any number of endpoints; its methods may be called
// concurrently, at any time. The zero value has no handlers.
type Dispatcher struct {
	// Logger reports handlers that panic. Discards if nil.
	Logger *slog.Logger

	mu       sync.RWMutex
	handlers [256 - int(frame.TypeUser)]FrameHandler
	handled  atomic.Uint64
	unknown  atomic.Uint64
	panics   atomic.Uint64
}

// FrameHandler takes a frame of the application. ctx ends when the endpoint
// closes, which waits for the handler.
//
// Handlers of one session's frames run one at a time, in order, on a goroutine
// of that session. A slow one holds up the application's frames of its session,
// in the end their sender, and nothing else; to let it hold up nothing, hand the
// payload to an [EndpointManager]. A handler may answer, see
// [UserFrame.Answer], and thereby waits while the peer's handlers are behind:
// two peers must not both answer every answer.
type FrameHandler func(ctx context.Context, f UserFrame)

// Handle sets the handler for a type from [frame.TypeUser] on; nil removes
// it. One that panics loses its frame, not the program and not the session; it
// is logged and counted. Errors: [ErrFrameType].
func (d *Dispatcher) Handle(t frame.Type, handler FrameHandler) error {
	if t < frame.TypeUser {
		return fmt.Errorf("%w: %s", ErrFrameType, t)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.handlers[t-frame.TypeUser] = handler
	return nil
}

// Handled returns how many frames a handler has returned from.
func (d *Dispatcher) Handled() uint64 { return d.handled.Load() }

// Unknown returns how many frames came for which there was no handler.
func (d *Dispatcher) Unknown() uint64 { return d.unknown.Load() }

// Panics returns how often a handler panicked.
func (d *Dispatcher) Panics() uint64 { return d.panics.Load() }

// dispatch hands a frame to its handler and reports whether there is one.
func (d *Dispatcher) dispatch(ctx context.Context, f UserFrame) (known bool) {
	d.mu.RLock()
	h := d.handlers[f.Type-frame.TypeUser]
	d.mu.RUnlock()
	if h == nil {
		d.unknown.Add(1)
		return false
	}
	known = true
	defer func() {
		if r := recover(); r != nil {
			d.panics.Add(1)
			if d.Logger != nil {
				d.Logger.Error("frame handler panicked", "type", f.Type.String(), "peer", f.Session.PeerID(), "panic", r, "stack", string(debug.Stack()))
			}
		}
	}()
	h(ctx, f)
	d.handled.Add(1)
	return known
}
