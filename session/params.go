package session

import (
	"fmt"
	"time"

	"github.com/seigr/sttnode/frame"
)

// params are the limits that one side tells the other in the handshake, as
// RFC 9000 section 18: pairs of id (v), length (v), value, in ascending
// order of id. Unknown ones are skipped.
type params struct {
	maxDatagram   int           // 1: bytes of UDP payload that we take
	streamWindow  uint64        // 2: first credit of every stream
	sessionWindow uint64        // 3: first credit of the session
	maxStreams    int           // 4: streams of the peer at a time
	idleTimeout   time.Duration // 5: silence after which we give up
	maxAckDelay   time.Duration // 6: how long we wait before we acknowledge
	reset         resetToken    // 7: of UNKNOWN; only the initiator's, since only it knows the session's ID
}

const (
	paramMaxDatagram = 1 + iota
	paramStreamWindow
	paramSessionWindow
	paramMaxStreams
	paramIdleTimeout
	paramMaxAckDelay
	paramCount
)

// paramResetToken is the one parameter that is no integer.
const paramResetToken = paramCount

// maxStreamsLimit is how many IDs one parity has.
const maxStreamsLimit = frame.MaxStream / 2

func (p params) append(dst []byte) []byte {
	for id, v := range [paramCount]uint64{
		paramMaxDatagram:   uint64(p.maxDatagram),
		paramStreamWindow:  p.streamWindow,
		paramSessionWindow: p.sessionWindow,
		paramMaxStreams:    uint64(p.maxStreams),
		paramIdleTimeout:   uint64(p.idleTimeout / time.Millisecond),
		paramMaxAckDelay:   uint64(p.maxAckDelay / time.Millisecond),
	} {
		if id == 0 {
			continue
		}
		dst = frame.AppendVarint(dst, uint64(id))
		dst = frame.AppendVarint(dst, uint64(frame.VarintSize(v)))
		dst = frame.AppendVarint(dst, v)
	}
	if p.reset != (resetToken{}) {
		dst = append(dst, paramResetToken, byte(len(p.reset)))
		dst = append(dst, p.reset[:]...)
	}
	return dst
}

// parseParams reads all of b and checks every value.
func parseParams(b []byte) (params, error) {
	var v [paramCount]uint64
	var reset resetToken
	last := uint64(0)
	for len(b) > 0 {
		id, n, err := frame.ConsumeVarint(b)
		if err != nil {
			return params{}, fmt.Errorf("parameter: %w", err)
		}
		b = b[n:]
		size, n, err := frame.ConsumeVarint(b)
		if err != nil {
			return params{}, fmt.Errorf("parameter %d: %w", id, err)
		}
		b = b[n:]
		if size > uint64(len(b)) {
			return params{}, fmt.Errorf("parameter %d: %w", id, frame.ErrTruncated)
		}
		if id <= last {
			return params{}, fmt.Errorf("parameter %d after %d: %w", id, last, frame.ErrMalformed)
		}
		last = id
		if id < paramCount {
			value, n, err := frame.ConsumeVarint(b[:size])
			if err != nil || n != int(size) {
				return params{}, fmt.Errorf("parameter %d: %w", id, frame.ErrMalformed)
			}
			v[id] = value
		}
		if id == paramResetToken {
			if int(size) != len(reset) {
				return params{}, fmt.Errorf("parameter %d: %w", id, frame.ErrMalformed)
			}
			reset = resetToken(b)
		}
		b = b[size:]
	}
	if v[paramMaxDatagram] < minDatagram || v[paramMaxStreams] > maxStreamsLimit ||
		v[paramIdleTimeout] < 1000 || v[paramIdleTimeout] > 24*3600*1000 || v[paramMaxAckDelay] > 1000 {
		return params{}, fmt.Errorf("parameter out of range: %w", frame.ErrMalformed)
	}
	return params{
		maxDatagram:   int(min(v[paramMaxDatagram], 65507)),
		streamWindow:  v[paramStreamWindow],
		sessionWindow: v[paramSessionWindow],
		maxStreams:    int(v[paramMaxStreams]),
		idleTimeout:   time.Duration(v[paramIdleTimeout]) * time.Millisecond,
		maxAckDelay:   time.Duration(v[paramMaxAckDelay]) * time.Millisecond,
		reset:         reset,
	}, nil
}
