package swarm

import "errors"

var (
	// ErrNoPeers reports that a download has nobody left to ask: no peer was
	// added, or each one failed for good.
	ErrNoPeers = errors.New("swarm: no peers")
	// ErrStalled reports that a download made no progress for its stall timeout
	// although it had peers.
	ErrStalled = errors.New("swarm: stalled")
	// ErrBadManifest reports a manifest whose bytes match their hash, but which is
	// no valid manifest or contradicts the node above it. Nobody can repair that:
	// the content itself is broken.
	ErrBadManifest = errors.New("swarm: bad manifest")
	// ErrBadBlob reports a peer whose bytes did not match the hash that they were
	// asked by.
	ErrBadBlob = errors.New("swarm: peer sent bytes that do not match their hash")
	// ErrUseless reports a peer that announces what it then does not have.
	ErrUseless = errors.New("swarm: peer lacks what it announced")
	// ErrTimeout reports a peer that left requests unanswered and sent nothing.
	ErrTimeout = errors.New("swarm: peer does not answer")
	// ErrProtocol reports a peer that broke the rules of the wire protocol.
	ErrProtocol = errors.New("swarm: protocol violation")
	// ErrClosed reports that the other side ended the stream with CLOSE; the text
	// behind it names the reason.
	ErrClosed = errors.New("swarm: closed by peer")
	// ErrBusy reports a stream that the server refused because it serves as many
	// as it is configured to.
	ErrBusy = errors.New("swarm: too many streams")
)
