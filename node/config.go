package node

import (
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/seigr/sttnode/session"
	"github.com/seigr/sttnode/session/transport"
	"github.com/seigr/sttnode/stc"
)

// DefaultListen is the UDP address that a node listens on by default: port
// 4700 of every interface, both families.
const DefaultListen = ":4700"

// Config configures a Node. Identity and Keyring are required; the zero
// value of everything else means the default that its comment gives.
type Config struct {
	// Identity is who the node is. One identity runs in one process at a time.
	Identity *stc.Identity
	// Keyring holds the network's shared seed.
	Keyring *stc.Keyring
	// Dir is where the node keeps its store and its routing table. It is made
	// if it does not exist. Empty: the node has no store and leaves nothing on
	// the disk; what needs a store, such as Seed and Fetch, fails with
	// ErrNoStore.
	Dir string

	// Owner is whose names the node publishes, see [Node.PublishName]. Identity.
	Owner *stc.Identity
	// NamesDir is where the published names are remembered. A node that others
	// can call keeps those in it published. The directory names in Dir; without
	// Dir, names are not remembered.
	NamesDir string

	// Listen is the UDP address, host:port; port 0 takes a free one.
	// DefaultListen.
	Listen string
	// Conn carries the datagrams in place of a UDP socket on Listen. The node
	// closes it.
	Conn transport.Conn
	// WebSocketListen is the TCP address, host:port, on which the node takes
	// WebSocket connections as well, on the path WebSocketPath; port 0 takes
	// a free one. Others are told the port with what the node provides.
	// Empty: none.
	WebSocketListen string
	// WebSocketCert and WebSocketKey are PEM files, a certificate chain and
	// its key, with which the node speaks TLS, 1.2 or later and nothing else,
	// on WebSocketListen. They are read again when they have changed. Other
	// nodes accept any certificate, so one that is self-signed will do. Empty:
	// no TLS.
	WebSocketCert, WebSocketKey string
	// Bootstrap lists nodes to join the network by. None: the node waits for
	// others to come, or uses the nodes that it knew when it stopped.
	Bootstrap []Address
	// LAN finds nodes of the network on the same link, and lets them find this
	// one: by a beacon every 20 s, multicast over IPv4 and IPv6 to port 4701,
	// which is random bytes to everybody else. The clocks of nodes may be two
	// minutes apart.
	LAN bool
	// ClientOnly is for a node that others cannot reach, or that is gone in a
	// moment: it stays out of their routing tables.
	ClientOnly bool
	// DialOnly is for a node that begins sessions and takes none. It is
	// ClientOnly, and listens on a free port unless Listen says otherwise.
	DialOnly bool

	// Background makes what the node sends yield to all other traffic on its
	// path, see [session.CongestionBackground]. It wins over
	// Session.Congestion.
	Background bool
	// Session tunes the sessions. Identity, Keyring, Logger, Datagram and
	// Frames (see HandleFrame) are the node's own. Unless set, Linger is 1 s,
	// MaxStreams 256, StreamWindow 512 KiB, and MaxSessions twice that of the node.
	Session session.Config
	// MaxSessions bounds the sessions with other nodes. When it is reached,
	// unused ones are closed first. 1,000.
	MaxSessions int
	// IdleSession is how long a session without a stream is kept. 2 min.
	IdleSession time.Duration

	// FetchMemory bounds in bytes what a fetch holds in memory. The default is
	// the swarm's.
	FetchMemory int

	// Limits bound the rates at which the node serves and fetches content;
	// SetLimits changes them. None.
	Limits Limits

	// StoreLimit bounds in bytes what the store keeps, see
	// [content.Config].MaxBytes. 0 is no limit.
	StoreLimit uint64

	// Logger gets what happens. Nothing is logged by default.
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	if c.Identity == nil || c.Keyring == nil {
		return c, fmt.Errorf("%w of a node: Identity and Keyring are needed", ErrConfig)
	}
	if c.Owner == nil {
		c.Owner = c.Identity
	}
	if c.NamesDir == "" && c.Dir != "" {
		c.NamesDir = NamesDir(c.Dir)
	}
	if c.Listen == "" {
		c.Listen = DefaultListen
		if c.DialOnly {
			c.Listen = ":0"
		}
	}
	if c.DialOnly && c.WebSocketListen != "" {
		return c, fmt.Errorf("%w of a node: DialOnly takes no sessions, so WebSocketListen must be empty", ErrConfig)
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil && c.Conn == nil {
		return c, fmt.Errorf("%w: listen address %q is not of the form host:port", ErrAddress, c.Listen)
	}
	if _, _, err := net.SplitHostPort(c.WebSocketListen); err != nil && c.WebSocketListen != "" {
		return c, fmt.Errorf("%w: WebSocket listen address %q is not of the form host:port", ErrAddress, c.WebSocketListen)
	}
	if err := c.checkCertificate(); err != nil {
		return c, err
	}
	if c.MaxSessions == 0 {
		c.MaxSessions = 1000
	}
	if c.IdleSession == 0 {
		c.IdleSession = 2 * time.Minute
	}
	for _, f := range []struct {
		name   string
		v, min int64
	}{{"MaxSessions", int64(c.MaxSessions), 1}, {"IdleSession", int64(c.IdleSession), 1}, {"FetchMemory", int64(c.FetchMemory), 0}} {
		if f.v < f.min {
			return c, fmt.Errorf("%w of a node: %s is %d, less than %d", ErrConfig, f.name, f.v, f.min)
		}
	}
	for _, a := range c.Bootstrap {
		if a == (Address{}) {
			return c, fmt.Errorf("%w of a node: an empty address in Bootstrap", ErrConfig)
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.fillSession()
	if err := c.Session.Validate(); err != nil {
		return c, fmt.Errorf("node: Session: %w", err)
	}
	return c, nil
}

// fillSession sets what a node's sessions have of the node.
func (c *Config) fillSession() {
	s := &c.Session
	s.Identity, s.Keyring, s.Logger, s.Datagram, s.Frames = c.Identity, c.Keyring, c.Logger, nil, new(session.Dispatcher)
	s.Frames.Logger = c.Logger
	if c.Background {
		s.Congestion = session.CongestionBackground
	}
	if s.Linger == 0 {
		s.Linger = defaultLinger
	}
	if s.MaxSessions == 0 {
		s.MaxSessions = 2 * c.MaxSessions // the pool closes unused ones beyond its own limit
	}
	if s.MaxStreams == 0 {
		s.MaxStreams = defaultMaxStreams
	}
	if s.StreamWindow == 0 {
		s.StreamWindow = defaultStreamWindow
	}
}
