// Package session is encrypted sessions between two nodes, over datagrams or over
// a carrier that delivers in order, with many streams in each. An Endpoint has a
// socket, dials, and accepts; a Session is a connection that both ends have proven
// themselves on; a Stream is a net.Conn in it.
//
//	e, err := session.NewEndpoint(conn, session.Config{Identity: id, Keyring: keyring})
//	s, err := e.Dial(ctx, addr, peer)          // zero peer: whoever holds the shared seed
//	s, err := e.Accept(ctx)                    // the other side
//	st, err := s.OpenStream(ctx)               // AcceptStream there
//	_, err = st.Write(b)                       // or whole messages: SendMessage, ReceiveMessage
//	err = s.SendFrame(ctx, 0x80, 0, b)         // one message in a frame of the application
//	err = e.Close()
//
// # Layers
//
//	application   Stream   Stream   Stream      frames 0x80–0xFF
//	                 └────────┼────────┘               │
//	session          streams, credits, urgencies   Dispatcher
//	                 └──────────────┬──────────────────┘
//	              loss recovery, congestion, MTU search, key epochs       not over ordered carriers: TCP does the first three
//	frames                          │ one datagram each, sealed
//	endpoint      session ID ──► session;  handshakes, cookies;  frames of the DHT to Config.Datagram
//	transport     UDP in batches, WebSocket, or a network in memory
//
// The bytes are in package frame and in docs/PROTOCOL.md.
//
// # States
//
//	session   Handshake ──► Active ──► Closing ──► Closed
//	             keys, data    a frame     CLOSE is     Done is closed,
//	             may flow      has opened  repeated     Err says why
//
//	stream    Created ──► Open ──► Closing ──► Closed
//	          the peer     bytes flow   one direction   both have ended,
//	          has not      both ways    has ended       the ID may be
//	          heard of it                               used again
//
// # Guarantees
//
// The peer of a session holds the shared seed and has proven its node ID; who does
// not costs one AEAD check. What is read from a stream is what was written, in
// order, once, up to its end, or the end is an error that says whose: a reset with
// its code, the peer's CLOSE, silence. Streams do not wait for each other. Every
// session has keys of its own that nobody can compute later from the seeds, and
// replaces them while data flows (Rotation). A session survives a change of the
// peer's address.
//
// Nothing that a peer does takes more memory than Config allows: credit is granted
// out of one budget, sessions, streams and handshakes are counted, and all of it
// is refused with a code of its own. What is not read holds up its sender alone.
//
// # Goroutines
//
// An Endpoint has a reader of its socket, and handshakes while they last; Close
// ends them. A session has none: who brings it work, a datagram, a write or a
// timer, runs its loop (see strand). Each endpoint of an EndpointManager has one,
// which EndpointManager.Close ends.
//
// # Beside sessions
//
// An EndpointManager routes bytes to named endpoints (sessions, streams, functions,
// channels), each with a queue and a policy of its own. A Broadcaster feeds one
// source to any number of subscribers from one window of memory. Both are as good
// without a session as with one.
package session
