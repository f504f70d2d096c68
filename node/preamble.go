package node

import (
	"fmt"
	"io"

	"github.com/seigr/sttnode/frame"
)

// Every stream between nodes begins with the name of the protocol that it
// carries, written by the side that opens it:
//
//	+------------+----------------+- - - - - - -
//	| length (v) | protocol name  | the protocol's own bytes
//	+------------+----------------+- - - - - - -
//
// (v) is the shortest form of the integers of RFC 9000 section 16. A side that
// does not know the protocol resets the stream with streamUnknownProtocol.
const (
	// protocolSwarm carries the messages of package swarm.
	protocolSwarm = "stt/swarm/1"

	// maxProtocolName is the longest name in bytes. Its length fits the
	// one-byte form of the integer.
	maxProtocolName = 63
)

// Codes of streams that are reset between nodes. Those from
// session.CodeApplication on are the application's.
const (
	streamUnknownProtocol uint64 = 1
	streamBadPreamble     uint64 = 2
	streamStopping        uint64 = 3
	streamHandlerFault    uint64 = 4
)

// appendPreamble appends the preamble for a protocol.
func appendPreamble(dst []byte, protocol string) []byte {
	dst = frame.AppendVarint(dst, uint64(len(protocol)))
	return append(dst, protocol...)
}

// readPreamble reads the preamble and not a byte more. Errors of malformed
// ones wrap ErrProtocol.
func readPreamble(r io.Reader) (protocol string, err error) {
	var buf [maxProtocolName]byte
	if _, err := io.ReadFull(r, buf[:1]); err != nil {
		return "", err
	}
	// Up to 63 the integer is one byte, whose two top bits are 0.
	n := int(buf[0])
	if n == 0 || n > maxProtocolName {
		return "", fmt.Errorf("%w: name of length code %#x", ErrProtocol, n)
	}
	if _, err := io.ReadFull(r, buf[:n]); err != nil {
		return "", err
	}
	if protocol = string(buf[:n]); !printable(protocol) {
		return "", fmt.Errorf("%w: name %q", ErrProtocol, protocol)
	}
	return protocol, nil
}

// printable reports whether a name consists of printable ASCII without spaces.
func printable(name string) bool {
	for i := range len(name) {
		if name[i] <= ' ' || name[i] > '~' {
			return false
		}
	}
	return true
}
