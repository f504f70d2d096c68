package session

import (
	"errors"
	"fmt"
)

var (
	// ErrClosed reports the use of an endpoint, session or stream that this
	// side has closed.
	ErrClosed = errors.New("session: closed")
	// ErrConfig reports a Config that cannot be. The error says which field and
	// why.
	ErrConfig = errors.New("session: bad configuration")
	// ErrWrongSeed reports that the two ends seem to hold different shared
	// seeds. Where the other end said so, it said it unauthenticated: it is
	// a hint for a person, nothing to base a decision on.
	ErrWrongSeed = errors.New("session: the peer does not hold our shared seed")
	// ErrWrongPeer reports that the address belongs to another node than
	// the one dialled.
	ErrWrongPeer = errors.New("session: another node answered")
	// ErrHandshakeTimeout reports that nobody answered, or not in time.
	ErrHandshakeTimeout = errors.New("session: no answer to the handshake")
	// ErrVersion reports that the two ends speak no common version.
	ErrVersion = errors.New("session: the peer speaks another version of the protocol")
	// ErrIdleTimeout reports a session whose peer has been silent for too
	// long.
	ErrIdleTimeout = errors.New("session: the peer has gone silent")
	// ErrForgotten reports a session that its peer does not know any more:
	// it has restarted, or has closed the session and the word of it was
	// lost. It is an [ErrClosed].
	ErrForgotten = fmt.Errorf("%w: the peer does not know the session any more", ErrClosed)
	// ErrUnflushed reports a session that was closed before everything that
	// had been written was delivered.
	ErrUnflushed = errors.New("session: closed before everything written was delivered")
	// ErrTooManySessions reports that Config.MaxSessions or MaxPeerSessions
	// is reached, here or, as a [*CloseError], at the peer.
	ErrTooManySessions = errors.New("session: too many sessions")
	errTooManyOfPeer   = fmt.Errorf("%w with one node", ErrTooManySessions)
	errBacklog         = fmt.Errorf("%w wait to be accepted", ErrTooManySessions)
	// ErrTooManyStreams reports that all stream IDs that the peer allows
	// are in use; OpenStream waits for one, so only its context's end
	// carries this error.
	ErrTooManyStreams = errors.New("session: too many open streams")
	// ErrFrameType reports a frame type below 0x80, which is the protocol's.
	ErrFrameType = errors.New("session: not one of the application's frame types, 0x80 to 0xff")
	// ErrMessageTooLong reports a message over the limit that the reader
	// or the protocol sets.
	ErrMessageTooLong = errors.New("session: message too long")
)

// Codes of a CLOSE record. Codes from CodeApplication on belong to the
// application.
const (
	CodeNone        uint64 = 0x00 // done, nothing wrong
	CodeInternal    uint64 = 0x01
	CodeProtocol    uint64 = 0x02 // the peer broke the protocol
	CodeFlowControl uint64 = 0x03 // more bytes than credits
	CodeStream      uint64 = 0x04 // a stream ID that may not be used so
	CodeFinalSize   uint64 = 0x05 // two different ends of one stream
	CodeLimit       uint64 = 0x06 // a limit of this endpoint is reached
	CodeShutdown    uint64 = 0x07 // the endpoint stops
	CodePeerLimit   uint64 = 0x08 // too many sessions of this one peer
	CodeResources   uint64 = 0x09 // no memory for what the peer has begun
	CodeApplication uint64 = 0x100
)

// CodeRefused is the code of a [StreamError] by which an endpoint refuses a
// stream because Config.MaxTotalStreams is reached, or because the session is
// closing. The application's codes lie below.
const CodeRefused uint64 = 1<<62 - 1

// CloseError says why a session ended by a CLOSE record.
type CloseError struct {
	Code   uint64
	Reason string
	Remote bool // the peer closed it
}

// Error implements error.
func (e *CloseError) Error() string {
	who := "here"
	if e.Remote {
		who = "by the peer"
	}
	if e.Reason == "" {
		return fmt.Sprintf("session: closed %s (code %#x)", who, e.Code)
	}
	return fmt.Sprintf("session: closed %s: %s (code %#x)", who, e.Reason, e.Code)
}

// Is makes every CloseError match [ErrClosed], and that of a session which
// was refused match [ErrTooManySessions].
func (e *CloseError) Is(target error) bool {
	return target == ErrClosed || target == ErrTooManySessions && (e.Code == CodeLimit || e.Code == CodePeerLimit)
}

// StreamError says that a direction of a stream was ended early: by Reset of
// the sender, or by CloseRead of the reader.
type StreamError struct {
	Code   uint64 // the application's
	Remote bool   // the peer did it
}

// Error implements error.
func (e *StreamError) Error() string {
	if e.Remote {
		return fmt.Sprintf("session: stream ended early by the peer (code %#x)", e.Code)
	}
	return fmt.Sprintf("session: stream ended early here (code %#x)", e.Code)
}

// Is makes a StreamError match another one of the same code and side.
func (e *StreamError) Is(target error) bool {
	t, ok := target.(*StreamError)
	return ok && *t == *e
}

// protocolError is a fault of the peer that ends the session.
type protocolError struct {
	code   uint64
	reason string
}

func (e *protocolError) Error() string { return e.reason }

func violation(code uint64, format string, args ...any) error {
	return &protocolError{code, fmt.Sprintf(format, args...)}
}
