package node

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/session"
)

// reservedProtocols is what the names of the node's own protocols begin with.
const reservedProtocols = "stt/"

// What protocols of an application need of package session, for programs that
// import only this one.
type (
	// Stream is one of many byte streams in a session, and a net.Conn.
	Stream = session.Stream
	// StreamError says that a stream was reset, by whom and with which code.
	StreamError = session.StreamError
)

// CodeApplication is the first of the codes that an application may use in
// Stream.Reset and Stream.CloseRead.
const CodeApplication = session.CodeApplication

// Handler speaks an application's protocol on a stream that a peer has opened.
// [session.Stream.Session] tells who it is. The stream is the handler's until
// it returns; then it is closed, and what was written is still delivered. ctx
// ends when the node stops, which resets the stream and waits for the handler. A
// handler that panics loses its stream, not the program; Stats counts it.
type Handler func(ctx context.Context, st *session.Stream)

// protocols are the application's, by name. The zero value has none.
type protocols struct {
	mu      sync.RWMutex
	byName  map[string]Handler // guarded by mu
	running atomic.Int64       // handlers
	unknown atomic.Uint64      // streams of protocols that nobody handles
	panics  atomic.Uint64
}

// Handle sets the handler of an application's protocol, nil for none. It may be
// called at any time, also before Start. Peers open such streams by OpenStream
// with the same name. A name is 1 to 63 printable ASCII characters without
// spaces, and by convention ends in a version, as in "chat/1"; those that begin
// with "stt/" are the node's own. Any other gives ErrProtocolName.
func (n *Node) Handle(protocol string, handler Handler) error {
	if err := applicationProtocol(protocol); err != nil {
		return err
	}
	p := &n.protocols
	p.mu.Lock()
	defer p.mu.Unlock()
	if handler == nil {
		delete(p.byName, protocol)
		return nil
	}
	if p.byName == nil {
		p.byName = make(map[string]Handler)
	}
	p.byName[protocol] = handler
	return nil
}

// OpenStream opens a stream of an application's protocol on a session of this
// node, and waits while the peer allows no further stream. The peer hears of it
// at once. What it has no handler for it resets: reading and writing then fail
// with ErrUnknownProtocol. In CloseRead and Reset applications use codes from
// session.CodeApplication on. The caller closes the stream.
//
// Errors: ErrProtocolName, ErrState, session.ErrTooManyStreams, ctx's cause, the
// session's error.
func (n *Node) OpenStream(ctx context.Context, s *session.Session, protocol string) (*session.Stream, error) {
	if err := applicationProtocol(protocol); err != nil {
		return nil, err
	}
	ctx, end, err := n.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	return openOn(ctx, s, protocol)
}

// HandleFrame sets the handler of one of the application's types of frames, from
// [frame.TypeUser] on, nil for none. It may be called at any time, also before
// Start. Peers send such frames by [session.Session.SendFrame], on any session;
// the handler may answer on it. Where a stream is for more than some
// messages, or for what must not wait for others, a frame is one message of at most
// [session.MaxUserFrame] bytes on a session that is there. See
// [session.FrameHandler] for what a handler holds up. Frames of types without a
// handler are dropped and counted. Errors: session.ErrFrameType.
func (n *Node) HandleFrame(t frame.Type, handler session.FrameHandler) error {
	return n.cfg.Session.Frames.Handle(t, handler)
}

// openOn opens a stream on a session, behind its preamble.
func openOn(ctx context.Context, s *session.Session, protocol string) (*session.Stream, error) {
	st, err := s.OpenStream(ctx)
	if err == nil {
		if _, err = st.Write(appendPreamble(nil, protocol)); err == nil {
			return st, nil
		}
		st.Reset(streamStopping)
	}
	return nil, fmt.Errorf("stream to %v: %w", s.PeerID(), err)
}

// applicationProtocol reports ErrProtocolName for what no application's
// protocol may be named.
func applicationProtocol(name string) error {
	switch {
	case len(name) == 0 || len(name) > maxProtocolName:
		return fmt.Errorf("%w: %q has %d bytes, 1 to %d are possible", ErrProtocolName, name, len(name), maxProtocolName)
	case strings.HasPrefix(name, reservedProtocols):
		return fmt.Errorf("%w: %q begins with %q, which is the node's own", ErrProtocolName, name, reservedProtocols)
	case !printable(name):
		return fmt.Errorf("%w: %q is not printable ASCII without spaces", ErrProtocolName, name)
	}
	return nil
}

// serve runs the handler of a protocol and reports whether there is one.
func (p *protocols) serve(ctx context.Context, st *session.Stream, protocol string) (known bool, err error) {
	p.mu.RLock()
	handler := p.byName[protocol]
	p.mu.RUnlock()
	if handler == nil {
		p.unknown.Add(1)
		return false, nil
	}
	p.running.Add(1)
	defer p.running.Add(-1)
	returned := false
	defer func() {
		if returned {
			return
		}
		st.Reset(streamHandlerFault)
		st.CloseRead(streamHandlerFault)
		if r := recover(); r != nil { // else it was runtime.Goexit
			p.panics.Add(1)
			err = fmt.Errorf("handler of %s: panic: %v\n%s", protocol, r, debug.Stack())
		}
	}()
	handler(ctx, st)
	returned = true
	_ = st.Close()
	return true, nil
}

// ApplicationStats count what the application does with the node.
type ApplicationStats struct {
	Handlers       int    // gauge: streams with a running Handler
	HandlerPanics  uint64 // handlers of streams and frames that have panicked
	UnknownStreams uint64 // streams that peers opened for a protocol without a handler
	FramesHandled  uint64 // frames of the application that a handler has taken
	UnknownFrames  uint64 // frames of the application of a type without a handler

	PacketsSent, PacketsReceived         uint64
	PacketBytesSent, PacketBytesReceived uint64 // of their data
}

// application fills in what Stats says of it.
func (n *Node) application() ApplicationStats {
	return ApplicationStats{
		Handlers:            int(n.protocols.running.Load()),
		HandlerPanics:       n.protocols.panics.Load() + n.cfg.Session.Frames.Panics(),
		UnknownStreams:      n.protocols.unknown.Load(),
		FramesHandled:       n.cfg.Session.Frames.Handled(),
		UnknownFrames:       n.cfg.Session.Frames.Unknown(),
		PacketsSent:         n.packets.sent.Load(),
		PacketsReceived:     n.packets.received.Load(),
		PacketBytesSent:     n.packets.bytesSent.Load(),
		PacketBytesReceived: n.packets.bytesReceived.Load(),
	}
}
