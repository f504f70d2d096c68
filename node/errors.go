package node

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"

	"github.com/seigr/sttnode/session"
	"github.com/seigr/sttnode/stc"
)

var (
	// ErrConfig reports a Config that cannot be. The error says what is wrong.
	ErrConfig = session.ErrConfig
	// ErrStillRunning reports that a handler or a loop of the application has
	// not returned when Stop had to.
	ErrStillRunning = errors.New("node: something of the application is still running")
	// ErrState reports a call that the node's lifecycle does not allow now,
	// such as Fetch before Start or Start twice.
	ErrState = errors.New("node: not possible in this state")
	// ErrAddress reports a text that is no address of a node.
	ErrAddress = errors.New("node: not an address")
	// ErrTicket reports a text that is no ticket, or what no ticket can hold.
	ErrTicket = errors.New("node: not a ticket")
	// ErrResolve reports a host name that has no address.
	ErrResolve = errors.New("node: host name does not resolve")
	// ErrCertificate reports a TLS certificate for WebSocket that cannot be
	// served: it or its key is missing, unreadable, or does not belong to the
	// other.
	ErrCertificate = errors.New("node: TLS certificate")
	// ErrNoPeers reports that the node knows no other one and has been told
	// no bootstrap address.
	ErrNoPeers = errors.New("node: no other node is known and no bootstrap address is given")
	// ErrUnreachable reports that none of the bootstrap addresses answers.
	ErrUnreachable = errors.New("node: no bootstrap node answers")
	// ErrWrongSeed reports that other nodes were reached and hold another
	// shared seed, so that they do not talk to us.
	ErrWrongSeed = session.ErrWrongSeed
	// ErrWrongPeer reports an address that belongs to another node than the
	// one that was meant.
	ErrWrongPeer = session.ErrWrongPeer
	// ErrNoAnswer reports that nobody answers at an address, or not in time.
	ErrNoAnswer = session.ErrHandshakeTimeout
	// ErrNoWebSocket reports a URL at which no WebSocket could be opened: nobody
	// listens there, or somebody who is no node. The cause is wrapped too.
	ErrNoWebSocket = errors.New("node: no WebSocket")
	// ErrSelf reports an address, or a node ID, that is this node's own.
	ErrSelf = errors.New("node: the address is this node's own")
	// ErrSilent reports a session whose peer has been silent for the idle
	// timeout.
	ErrSilent = session.ErrIdleTimeout
	// ErrNoProvider reports a content that nobody in the network provides.
	// The error is a [*NoProviderError].
	ErrNoProvider = errors.New("node: nobody provides the content")
	// ErrStalled reports a fetch that made no progress for its stall timeout.
	ErrStalled = errors.New("node: the fetch has stalled")
	// ErrVerification reports content that is refused: its bytes match their
	// hashes, but it is no valid content, or one with names or links that lead
	// out of its directory; or every peer that is left sends bytes that do not
	// match.
	ErrVerification = errors.New("node: the content is refused")
	// ErrExists reports an output path where something else lies already.
	ErrExists = errors.New("node: the output path exists and holds something else")
	// ErrDirectoryStream reports a directory tree that was asked for as one
	// stream of bytes.
	ErrDirectoryStream = errors.New("node: the content is a directory and cannot be written as a stream")
	// ErrRange reports a range of bytes that cannot be read, or that the file
	// does not have.
	ErrRange = errors.New("node: no such range of bytes")
	// ErrSelection reports a selection of what to fetch that selects nothing.
	ErrSelection = errors.New("node: nothing to fetch")
	// ErrProtocol reports a peer that does not speak the protocol of a stream.
	ErrProtocol = errors.New("node: stream protocol")
	// ErrProtocolName reports a name that no protocol of an application may
	// have.
	ErrProtocolName = errors.New("node: not a name for a protocol")
	// ErrUnknownProtocol reports a stream that the peer has reset because it
	// has no handler for the protocol.
	ErrUnknownProtocol error = &session.StreamError{Code: streamUnknownProtocol, Remote: true}
	// ErrPacketSize reports data of more than MaxPacket bytes.
	ErrPacketSize = errors.New("node: too long for a packet")
	// ErrNoSession reports the ID of a session that is not open.
	ErrNoSession = errors.New("node: no open session of this ID")
	// ErrNotFound reports a node ID that the DHT has no address for.
	ErrNotFound = errors.New("node: the network knows no node of this ID")
	// ErrNoStore reports a call that needs the store, of a node without
	// Config.Dir.
	ErrNoStore = errors.New("node: this node has no store, because it was given no directory")
	// ErrNoName reports a name that stands for nothing: nobody has published
	// it in the last 48 hours, or its owner has taken it back.
	ErrNoName = errors.New("node: nobody knows what the name stands for")
	// ErrTooManyPeers reports that all sessions that the node may hold are in
	// use.
	ErrTooManyPeers = errors.New("node: too many peers")

	errStopping   = fmt.Errorf("%w: the node stops", ErrState)
	errNobodyNear = errors.New("nobody was found on the local network")
	errNoAddress  = errors.New("the node has no address that it could be dialled at")
	errUDPBlocked = errors.New("UDP seems to be blocked")
)

// ListenError reports that the node could not listen on its UDP address, or on
// that for WebSocket.
type ListenError struct {
	Addr      string
	WebSocket bool
	Err       error
}

// Error implements error.
func (e *ListenError) Error() string {
	kind := "UDP"
	if e.WebSocket {
		kind = "WebSocket"
	}
	if e.InUse() {
		return fmt.Sprintf("%s address %s is in use by another program", kind, e.Addr)
	}
	return fmt.Sprintf("listen on %s address %s: %v", kind, e.Addr, e.Err)
}

// Unwrap returns the socket's error.
func (e *ListenError) Unwrap() error { return e.Err }

// InUse reports whether another program has the address.
func (e *ListenError) InUse() bool {
	const windowsInUse = syscall.Errno(10048) // WSAEADDRINUSE
	return errors.Is(e.Err, syscall.EADDRINUSE) || runtime.GOOS == "windows" && errors.Is(e.Err, windowsInUse)
}

// NoProviderError says how far the search for a provider went. It matches
// [ErrNoProvider].
type NoProviderError struct {
	Root stc.Hash
	// Asked is how many different nodes were asked, at least once.
	Asked int
	// Failed is how many providers were named that could not be reached, or had
	// nothing.
	Failed int
	// Given is how many addresses the caller had named, at none of which it
	// was either, and Err why those did not answer that did not; else nil.
	Given int
	Err   error
}

// Error implements error.
func (e *NoProviderError) Error() string {
	nodes, given := fmt.Sprintf("%d nodes", e.Asked), ""
	if e.Asked == 1 {
		nodes = "1 node"
	}
	if e.Given > 0 {
		given = fmt.Sprintf(", and tried the %d addresses given", e.Given)
		if e.Given == 1 {
			given = ", and tried the address given"
		}
	}
	if e.Err != nil {
		given += ": " + e.Err.Error()
	}
	if e.Failed > 0 {
		return fmt.Sprintf("node: no provider of %v has answered: asked %s, which named %d that could not be reached or had nothing%s",
			e.Root, nodes, e.Failed, given)
	}
	return fmt.Sprintf("node: nobody provides %v: asked %s%s", e.Root, nodes, given)
}

// Unwrap returns Err.
func (e *NoProviderError) Unwrap() error { return e.Err }

// Is makes every NoProviderError match [ErrNoProvider].
func (e *NoProviderError) Is(target error) bool { return target == ErrNoProvider }
