package session

import (
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"time"

	"github.com/seigr/sttnode/stc"
)

// Config configures an Endpoint. Identity and Keyring are required; the zero
// value of everything else means the default that its comment gives.
type Config struct {
	Identity *stc.Identity
	Keyring  *stc.Keyring
	Logger   *slog.Logger // discards

	// HandshakeTimeout bounds Dial and half-open handshakes. 5 s.
	HandshakeTimeout time.Duration
	// IdleTimeout ends a session whose peer has been silent; the shorter
	// of both sides' counts. 30 s; at least 1 s.
	IdleTimeout time.Duration
	// KeepAlive is after how much silence a session asks for a sign of
	// life. A third of IdleTimeout; negative means never.
	KeepAlive time.Duration
	// Linger bounds how long Close waits for what has been written. 5 s.
	Linger time.Duration

	// MaxSessions bounds the sessions, of both directions. 10,000.
	MaxSessions int
	// MaxPeerSessions bounds the sessions with one node. 64.
	MaxPeerSessions int
	// MaxHalfOpen bounds the handshakes that others have begun with us, and
	// the ordered carriers on which no session has begun yet. From half of
	// it on, askers have to prove their address first. 256.
	MaxHalfOpen int
	// MaxStreams bounds the streams that a peer may have open at a time in
	// a session. 1,024; at most 32,767.
	MaxStreams int
	// MaxTotalStreams bounds the streams that peers may have open at a time
	// in all sessions; one more is refused with [CodeRefused], but in each
	// session eight are sure. 16,384.
	MaxTotalStreams int

	// Memory bounds in bytes what all sessions together hold for readers that
	// have not come. Credit is only announced when it fits in; each session
	// is sure of 16 KiB (48 KiB with Frames), so Memory must hold that
	// MaxSessions times. 512 MiB, or twice that minimum if it is more.
	Memory int64
	// MaxPeerMemory bounds what of it the sessions with one node get beyond
	// what they are sure of. A quarter of Memory.
	MaxPeerMemory int64
	// SendMemory bounds in bytes what all streams together hold for peers
	// that do not take it. When it is used up, a stream holds 16 KiB. 512 MiB.
	SendMemory int64

	// StreamWindow and SessionWindow are the first credits in bytes that a
	// peer gets; the session's beyond 16 KiB once it sends, if Memory has it.
	// They grow with the bandwidth–delay product up to MaxStreamWindow and
	// MaxSessionWindow. 256 KiB, 512 KiB, 8 MiB, 16 MiB.
	StreamWindow, SessionWindow       uint64
	MaxStreamWindow, MaxSessionWindow uint64
	// SendBuffer bounds in bytes what a stream holds that has not arrived.
	// The bound follows the congestion window up to here. What has arrived
	// behind a gap counts as well, so a path that loses needs three times what
	// it holds. 8 MiB.
	SendBuffer int

	// Congestion selects the congestion controller.
	Congestion Congestion

	// MaxDatagram bounds the size in bytes that the path search tries, at
	// least 1,200. 65,507: the search ends at what the interface takes.
	MaxDatagram int

	// Rotation says when keys are replaced.
	Rotation Rotation

	// Stealth switches off the hint that a holder of another seed gets.
	Stealth bool

	// Frames hands the application's frames to their handlers. Without it
	// they are dropped, and counted as unhandled.
	Frames *Dispatcher

	// Datagram, if set, gets every whole DHT frame that arrives, with its
	// sender's address. It is called from the endpoint's reading goroutine
	// and must not block; b is only valid during the call.
	Datagram func(b []byte, from netip.AddrPort)
}

// Validate returns the ErrConfig that [NewEndpoint] would, or nil.
func (c Config) Validate() error {
	_, err := c.withDefaults()
	return err
}

func (c Config) withDefaults() (Config, error) {
	if c.Identity == nil || c.Keyring == nil {
		return c, fmt.Errorf("%w: Identity and Keyring are needed", ErrConfig)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	set(&c.HandshakeTimeout, 5*time.Second)
	set(&c.IdleTimeout, 30*time.Second)
	set(&c.KeepAlive, c.IdleTimeout/3)
	set(&c.Linger, 5*time.Second)
	set(&c.MaxSessions, 10_000)
	set(&c.MaxHalfOpen, 256)
	set(&c.MaxPeerSessions, 64)
	set(&c.MaxStreams, 1024)
	set(&c.MaxTotalStreams, 16_384)
	least := int64(c.MaxSessions) * c.guarantee()
	set(&c.Memory, max(512<<20, 2*least))
	if c.Memory < least {
		return c, fmt.Errorf("%w: Memory of %d bytes is too little for %d sessions, which need %d", ErrConfig, c.Memory, c.MaxSessions, least)
	}
	set(&c.MaxPeerMemory, c.Memory/4)
	set(&c.SendMemory, 512<<20)
	set(&c.StreamWindow, 256<<10)
	set(&c.SessionWindow, 512<<10)
	set(&c.MaxStreamWindow, 8<<20)
	set(&c.MaxSessionWindow, 16<<20)
	c.MaxStreamWindow = max(c.MaxStreamWindow, c.StreamWindow)
	c.MaxSessionWindow = max(c.MaxSessionWindow, c.SessionWindow)
	set(&c.SendBuffer, 8<<20)
	set(&c.MaxDatagram, defaultMaxDatagram)
	c.Rotation = c.Rotation.withDefaults()
	return c, c.check()
}

// check reports, as ErrConfig, a field that is out of its range. Fields have
// their defaults.
func (c *Config) check() error {
	const (
		most     = math.MaxInt64
		duration = int64(365 * 24 * time.Hour)
		window   = 1 << 40 // fits into a varint, and more than any memory
	)
	for _, f := range []struct {
		name           string
		v, least, most int64
	}{
		{"HandshakeTimeout", int64(c.HandshakeTimeout), 1, duration},
		{"IdleTimeout", int64(c.IdleTimeout), int64(time.Second), duration},
		{"Linger", int64(c.Linger), 1, duration},
		{"MaxSessions", int64(c.MaxSessions), 1, math.MaxInt32},
		{"MaxPeerSessions", int64(c.MaxPeerSessions), 1, math.MaxInt32},
		{"MaxHalfOpen", int64(c.MaxHalfOpen), 1, math.MaxInt32},
		{"MaxStreams", int64(c.MaxStreams), 1, maxStreamsLimit},
		{"MaxTotalStreams", int64(c.MaxTotalStreams), 1, math.MaxInt32},
		{"MaxPeerMemory", c.MaxPeerMemory, 1, most},
		{"SendMemory", c.SendMemory, 1, most},
		{"StreamWindow", int64(min(c.StreamWindow, most)), 1, window},
		{"SessionWindow", int64(min(c.SessionWindow, most)), 1, window},
		{"MaxStreamWindow", int64(min(c.MaxStreamWindow, most)), 1, window},
		{"MaxSessionWindow", int64(min(c.MaxSessionWindow, most)), 1, window},
		{"SendBuffer", int64(c.SendBuffer), 1, most},
		{"MaxDatagram", int64(c.MaxDatagram), minDatagram, defaultMaxDatagram},
		{"Congestion", int64(c.Congestion), 0, int64(CongestionBackground)},
	} {
		if f.v < f.least || f.v > f.most {
			return fmt.Errorf("%w: %s is %d, which must be from %d to %d", ErrConfig, f.name, f.v, f.least, f.most)
		}
	}
	return nil
}

// guarantee is the memory in bytes that every session is sure of.
func (c *Config) guarantee() int64 {
	if c.Frames != nil {
		return guaranteedWindow + 2*firstUserWindow // the window, and a frame behind it
	}
	return guaranteedWindow
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c *Config) params() params {
	return params{
		maxDatagram:   c.MaxDatagram,
		streamWindow:  c.StreamWindow,
		sessionWindow: min(c.SessionWindow, guaranteedWindow),
		maxStreams:    c.MaxStreams,
		idleTimeout:   c.IdleTimeout,
		maxAckDelay:   maxAckDelay,
	}
}
