package node

import "github.com/seigr/sttnode/swarm"

// What a node's rates are limited by, as the swarm knows it.
type (
	// Limits are rates that hold at all times, and a timetable of others.
	Limits = swarm.Limits
	// Rates are limits that hold together.
	Rates = swarm.Rates
	// Rate is a limit in bytes of content per second; 0 is none.
	Rate = swarm.Rate
	// Period is an entry of the timetable.
	Period = swarm.Period
)

// ParseRate reads a rate such as 500k, 2M or none; see [swarm.ParseRate].
func ParseRate(text string) (Rate, error) { return swarm.ParseRate(text) }

// ParsePeriod reads an entry of the timetable, such as Mo-Fr 08:00-18:00 2M;
// see [swarm.ParsePeriod].
func ParsePeriod(text string) (Period, error) { return swarm.ParsePeriod(text) }

// SetLimits replaces the limits of Config.Limits, in whatever state the node
// is. They hold at once, for transfers under way, too.
func (n *Node) SetLimits(limits Limits) { n.limiter.Set(limits) }

// Rates returns the limits that hold now, by the node's timetable.
func (n *Node) Rates() Rates { return n.limiter.Rates() }
