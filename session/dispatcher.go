package session

import (
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
	handlers [256 - int(frame.TypeUser)]func(UserFrame)
	unknown  atomic.Uint64
	panics   atomic.Uint64
}

// Handle sets the handler for a type from [frame.TypeUser] on; nil removes
// it. Handlers of one session's frames run one at a time, in order, on a
// goroutine of that session: a slow one holds up the application's frames of
// its session, and nothing else. One that panics loses its frame, not the
// program.
func (d *Dispatcher) Handle(t frame.Type, handler func(UserFrame)) error {
	if t < frame.TypeUser {
		return fmt.Errorf("session: frame type %s is not the application's", t)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.handlers[t-frame.TypeUser] = handler
	return nil
}

// Unknown returns how many frames came for which there was no handler.
func (d *Dispatcher) Unknown() uint64 { return d.unknown.Load() }

// Panics returns how often a handler panicked.
func (d *Dispatcher) Panics() uint64 { return d.panics.Load() }

func (d *Dispatcher) dispatch(f UserFrame) {
	d.mu.RLock()
	h := d.handlers[f.Type-frame.TypeUser]
	d.mu.RUnlock()
	if h == nil {
		d.unknown.Add(1)
		return
	}
	defer func() {
		if r := recover(); r != nil {
			d.panics.Add(1)
			if d.Logger != nil {
				d.Logger.Error("frame handler panicked", "type", f.Type.String(), "peer", f.Session.PeerID(), "panic", r, "stack", string(debug.Stack()))
			}
		}
	}()
	h(f)
}
