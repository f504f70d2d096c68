package dht

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/seigr/sttnode/stc"
)

// Sealer seals and opens datagrams; *stc.DatagramSealer does.
type Sealer interface {
	// Seal appends message, sealed for the owner of to, to dst.
	Seal(dst []byte, to stc.PublicKey, ad, message []byte) ([]byte, error)
	// Open appends the message in sealed to dst and names its proven sender.
	// An error that is stc.ErrWrongSeed came cheap.
	Open(dst []byte, ad, sealed []byte) (message []byte, from stc.PublicKey, err error)
}

// Config configures a DHT. Identity, Keyring and Send are needed; everything
// else has a default that its zero value stands for.
type Config struct {
	// Identity is who we are.
	Identity *stc.Identity
	// Keyring holds the network's shared seed.
	Keyring *stc.Keyring
	// Send sends one datagram of at most MaxDatagram bytes, a whole frame of
	// type DHT, over UDP or, if LinkPeer knows the address, over that link. It must not keep it, nor call methods of the DHT other than
	// HandleDatagram. It is called by one goroutine at a time, which handles
	// nothing else meanwhile. An error counts as a lost datagram.
	Send func(datagram []byte, to netip.AddrPort) error

	// Sealer replaces the sealing by Identity and Keyring, for simulations of
	// very many nodes. Keyring may be nil then.
	Sealer Sealer

	// WebSocket is the TCP port where this node takes WebSocket connections,
	// which others are told with what it provides. Default none.
	WebSocket uint16

	// ClientOnly is for nodes that shall not be called: they ask and publish,
	// but serve nothing and stay out of everybody's table.
	ClientOnly bool

	// AssumeReachable is for networks in which every node can call every
	// other, such as a private one without NAT between them. By default a node
	// finds out, for IPv4 and IPv6, and is a client where it cannot be called.
	AssumeReachable bool

	// K is how many nodes hold a record, how many a lookup returns, and how
	// many a normal bucket holds. Default 20; at most 20, which is what an
	// answer has room for.
	K int
	// Alpha is how many nodes a lookup asks at a time while it gets closer.
	// Default 4.
	Alpha int
	// MaxAsked is how many nodes one lookup asks at most. Default 20 times K.
	MaxAsked int
	// LookupTimeout ends a lookup that has not ended by itself. Default 30 s.
	LookupTimeout time.Duration
	// MaxLookups is how many lookups may be under way for callers; more are
	// refused with ErrBusy. Default 512.
	MaxLookups int
	// MaxProviders is how many providers one lookup returns. Default 256.
	MaxProviders int

	// CheckInterval is the longest that a node in the table is silent before
	// it is asked whether it is there; our neighbours are asked after a quarter
	// of that. Default 1 h.
	CheckInterval time.Duration
	// QuestionableAfter is how long a node counts as good after it was heard
	// of. Default 15 min.
	QuestionableAfter time.Duration
	// RefreshInterval is the longest time until somebody is asked again who
	// else belongs in a bucket that has room; our own ID is looked up twice as
	// often, or more where nodes do not stay for long. Default 1 h.
	RefreshInterval time.Duration
	// FillInterval is the mean time between two attempts to win a node that
	// others told of for a bucket with room. Default 1 s.
	FillInterval time.Duration
	// TablePerSubnet is how many nodes of one public /24 or /48 the table
	// holds; of each bucket they get a tenth. Answers and lookups prefer not
	// to take more than two, as long as others are known. Private and
	// loopback addresses are exempt. Default 40; negative for no limits, as
	// may suit a network that lives in one public subnet.
	TablePerSubnet int
	// RememberedPeers is how many recently heard peers are remembered, in the
	// table or not. Default 2,048, about 300 bytes each.
	RememberedPeers int

	// RecordTTL is how long a record lasts, ours with others and
	// theirs with us. Default 48 h.
	RecordTTL time.Duration
	// RepublishInterval is how long until a key that we provide, or a record
	// that we keep, is published again. Default 22 h.
	RepublishInterval time.Duration
	// MaxRecords caps the records held for others. Default 65,536, about 300
	// bytes each.
	MaxRecords int
	// MaxRecordsPerKey caps the providers held for one key. Default 128, of
	// one public /24 or /48 an eighth of that.
	MaxRecordsPerKey int
	// MaxRecordsPerProvider caps the records held for one provider. Default a
	// quarter of MaxRecords.
	MaxRecordsPerProvider int
	// MaxSignedRecords caps the signed records held for others, of one node a
	// sixteenth of that, of one public /24 or /48 a quarter. Default 4,096, at
	// most about 1,300 bytes each.
	MaxSignedRecords int

	// CookiePeriod is how often the key of address cookies changes; a cookie
	// is good for one to two periods. All nodes of a network should agree on
	// it roughly. Default 2 h.
	CookiePeriod time.Duration
	// RateStrangers, RateAddress and RateSubnet are the datagrams a second
	// that are opened of all addresses together that have proven nothing, of
	// each proven address, and of each public /24 or /48; twice that in a
	// burst. Defaults 500, 250 and 1,000.
	RateStrangers, RateAddress, RateSubnet float64
	// QueueLength is how many datagrams wait for being handled, 1,200 bytes
	// of memory each; more are dropped. Default 512.
	QueueLength int

	// Seed makes every random decision repeatable, address cookies included:
	// for simulations only. Zero means a random one.
	Seed uint64
}

// withDefaults fills in the defaults and checks the rest.
func (c Config) withDefaults() (Config, error) {
	if c.Identity == nil || c.Send == nil || c.Keyring == nil && c.Sealer == nil {
		return c, fmt.Errorf("%w: Identity, Keyring and Send are needed", ErrBadConfig)
	}
	if c.K > 20 {
		return c, fmt.Errorf("%w: K is %d, more than 20", ErrBadConfig, c.K)
	}
	orDefault(&c.K, 20)
	orDefault(&c.Alpha, 4)
	orDefault(&c.MaxAsked, 20*c.K)
	orDefault(&c.LookupTimeout, 30*time.Second)
	orDefault(&c.MaxLookups, 512)
	orDefault(&c.MaxProviders, 256)
	orDefault(&c.CheckInterval, time.Hour)
	orDefault(&c.QuestionableAfter, 15*time.Minute)
	orDefault(&c.RefreshInterval, time.Hour)
	orDefault(&c.FillInterval, time.Second)
	if c.TablePerSubnet == 0 {
		c.TablePerSubnet = 40
	}
	orDefault(&c.RememberedPeers, 2048)
	orDefault(&c.RecordTTL, 48*time.Hour)
	orDefault(&c.RepublishInterval, 22*time.Hour)
	orDefault(&c.MaxRecords, 1<<16)
	orDefault(&c.MaxRecordsPerKey, 128)
	orDefault(&c.MaxRecordsPerProvider, max(1, c.MaxRecords/4))
	orDefault(&c.MaxSignedRecords, 4096)
	orDefault(&c.CookiePeriod, 2*time.Hour)
	orDefault(&c.RateStrangers, 500)
	orDefault(&c.RateAddress, 250)
	orDefault(&c.RateSubnet, 1000)
	orDefault(&c.QueueLength, 512)
	for name, v := range map[string]float64{
		"K": float64(c.K), "Alpha": float64(c.Alpha), "MaxAsked": float64(c.MaxAsked),
		"LookupTimeout": float64(c.LookupTimeout), "MaxLookups": float64(c.MaxLookups), "MaxProviders": float64(c.MaxProviders),
		"CheckInterval": float64(c.CheckInterval), "QuestionableAfter": float64(c.QuestionableAfter),
		"RefreshInterval": float64(c.RefreshInterval), "FillInterval": float64(c.FillInterval),
		"RememberedPeers": float64(c.RememberedPeers), "RecordTTL": float64(c.RecordTTL),
		"RepublishInterval": float64(c.RepublishInterval), "MaxRecords": float64(c.MaxRecords),
		"MaxRecordsPerKey": float64(c.MaxRecordsPerKey), "MaxRecordsPerProvider": float64(c.MaxRecordsPerProvider),
		"MaxSignedRecords": float64(c.MaxSignedRecords),
		"CookiePeriod":     float64(c.CookiePeriod), "QueueLength": float64(c.QueueLength),
		"RateStrangers": c.RateStrangers, "RateAddress": c.RateAddress, "RateSubnet": c.RateSubnet,
	} {
		if v <= 0 {
			return c, fmt.Errorf("%w: %s must be positive", ErrBadConfig, name)
		}
	}
	return c, nil
}

func orDefault[T comparable](v *T, standard T) {
	var zero T
	if *v == zero {
		*v = standard
	}
}
