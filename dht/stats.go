package dht

import (
	"slices"
	"time"
)

// Method is a kind of request.
type Method uint8

// The requests that nodes make of each other.
const (
	MethodPing          Method = iota // are you there?
	MethodFindNode                    // who is closest to this ID?
	MethodFindProviders               // who has this content?
	MethodAddProvider                 // I have this content; or: no longer
	MethodDialBack                    // have somebody call me
	MethodDial                        // call this node
	MethodGetRecord                   // what does this name stand for?
	MethodPutRecord                   // this name stands for that
	methods
)

// String returns the name of the method in lower case, as fit for a metric's
// label.
func (m Method) String() string { return (kind(m) + kindPing).String() }

func methodOf(k kind) Method { return Method(k&^kindAnswer - kindPing) }

// RPCStats counts the requests of one method.
type RPCStats struct {
	// Calls of ours. Each ends as Answered or Failed; one that was answered
	// after it had failed counts as both, and as Late.
	Sent, Answered, Failed, Late uint64
	Repeated                     uint64 // sent once more, because the answer took long
	Challenged                   uint64 // met a challenge and were repeated with the cookie

	// How long answers took, of those calls whose request went out once:
	// Durations[i] of them at most DurationBounds()[i] and longer than the bound
	// before, and DurationSum all together.
	Durations   [len(durationBounds) + 1]uint64
	DurationSum time.Duration

	// Requests of others.
	Served  uint64 // answered with what was asked for
	Refused uint64 // answered with a challenge
}

// durationBounds are the upper bounds of RPCStats.Durations; the last class has
// none.
var durationBounds = [...]time.Duration{
	5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond,
	200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second,
}

// DurationBounds returns the upper bounds of the classes of
// RPCStats.Durations, but for the last, which has none.
func DurationBounds() []time.Duration { return durationBounds[:] }

// took counts how long an answer took.
func (s *RPCStats) took(d time.Duration) {
	i, _ := slices.BinarySearch(durationBounds[:], d)
	s.Durations[i]++
	s.DurationSum += d
}

// Drop is a reason for which a datagram was not taken.
type Drop uint8

// The reasons to drop a datagram.
const (
	DropQueue       Drop = iota // came faster than it could be handled
	DropMalformed               // not a message
	DropStranger                // sealed under another shared seed
	DropForged                  // does not authenticate, or names ourselves
	DropRate                    // beyond what one address, one subnet or strangers together may send
	DropUnsolicited             // an answer to nothing, or from somebody else than was asked
	DropAmplify                 // no answer would have been as short as the request
	DropUnserved                // a request that a client node does not serve
	drops
)

var dropNames = [drops]string{"queue", "malformed", "stranger", "forged", "rate", "unsolicited", "amplify", "unserved"}

// String returns the reason as one lower-case word, as fit for a metric's label.
func (d Drop) String() string { return dropNames[d] }

// Purpose is what a lookup is for.
type Purpose uint8

// The purposes of lookups.
const (
	PurposeProviders Purpose = iota // FindProviders
	PurposeNode                     // FindNode
	PurposePublish                  // to store a record, or to store it again
	PurposeRefresh                  // to keep the table filled
	PurposeRecord                   // GetRecord
	purposes
)

var purposeNames = [purposes]string{"providers", "node", "publish", "refresh", "record"}

// String returns the purpose as one lower-case word, as fit for a metric's label.
func (p Purpose) String() string { return purposeNames[p] }

// maxHops is the last class of the histogram of hops; longer ones count there.
const maxHops = 15

// PurposeStats counts the lookups of one purpose that have ended.
type PurposeStats struct {
	Found     uint64 // at least one provider, or a record; or, if neither was looked for, at least one node that answered
	Empty     uint64 // nodes answered, no provider or record was found
	NoAnswer  uint64 // nobody answered, or there was nobody to ask
	Cancelled uint64 // by the caller, or because the DHT was closed
	TimedOut  uint64 // of the above, how many ended by Config.LookupTimeout

	Asked, Answered uint64 // nodes, in all lookups together
	Hops            [maxHops + 1]uint64
	Duration        time.Duration // of all lookups together
}

// TableStats describes the routing table.
type TableStats struct {
	Good, Questionable, Bad int
	Candidates              int           // known beyond that, in the replacement caches
	Buckets                 []BucketStats // those that hold anything, the widest first
}

// BucketStats describes one bucket.
type BucketStats struct {
	Prefix     int // leading bits that its nodes share with us
	Entries    int
	Width      int // most entries that it may hold
	Candidates int
}

// Stats is a snapshot of counters and sizes. Counters count since New.
type Stats struct {
	RPC     [methods]RPCStats // index by Method
	Dropped [drops]uint64     // datagrams; index by Drop

	DatagramsIn, DatagramsOut uint64
	BytesIn, BytesOut         uint64
	SendErrors                uint64

	Lookups       [purposes]PurposeStats // index by Purpose
	LookupsActive int
	CallsPending  int

	Table   TableStats
	Network int           // nodes that the network is estimated to have; 0 before anything is known
	Peers   int           // remembered beyond the table, most of it included
	RTT     time.Duration // smoothed over all peers; 0 before the first answer

	BadRecords    uint64 // signed records in answers that were not what they had to be
	SignedRecords int    // signed records held for others, our own included
	KeptRecords   int    // signed records that we keep published

	Records     int // provider records held for others
	RecordKeys  int // keys that those are about
	Provided    int // keys that we provide
	Published   uint64
	PublishFail uint64 // publishes after which nobody held the record; they are tried again
}

// stats describes the table as it is now.
func (t *table) stats(now time.Time) TableStats {
	var s TableStats
	for i := range t.buckets {
		b := &t.buckets[i]
		if len(b.entries)+len(b.candidates) == 0 {
			continue
		}
		for _, e := range b.entries {
			switch t.liveness(e.entry, now) {
			case livenessGood:
				s.Good++
			case livenessQuestionable:
				s.Questionable++
			case livenessBad:
				s.Bad++
			}
		}
		s.Candidates += len(b.candidates)
		s.Buckets = append(s.Buckets, BucketStats{Prefix: i, Entries: len(b.entries), Width: t.width(i), Candidates: len(b.candidates)})
	}
	return s
}
