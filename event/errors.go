package event

import "errors"

var (
	// ErrOverrun is why a subscription of policy [End] ended: its subscriber was
	// too far behind.
	ErrOverrun = errors.New("event: the subscriber is too far behind")
	// ErrOptions reports options or a handler that cannot be. The error says which.
	ErrOptions = errors.New("event: bad options")
	// ErrClosed is why a subscription ended with its emitter.
	ErrClosed = errors.New("event: the emitter is closed")
)
