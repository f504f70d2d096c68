package dht

import (
	"net/netip"
	"slices"
	"time"

	"github.com/seigr/sttnode/stc"
)

// search runs one lookup: it makes the calls that the lookup wants and feeds it
// with what becomes of them.
type search struct {
	m        *machine
	purpose  Purpose
	lookup   *lookup
	began    time.Time
	deadline time.Time
	over     bool
	requests int // datagrams sent

	asks       kind                    // FIND_NODE, FIND_PROVIDERS or GET_RECORD
	above      uint64                  // GET_RECORD: the record must have a higher sequence number
	record     Record                  // the newest that was found
	seen       map[providerAt]struct{} // providers that were reported
	onProvider func(Contact)           // told of each provider once; nil if none are looked for
	onStep     func(now time.Time)     // called when a call has come to something and the search goes on, if not nil
	onDone     func(now time.Time, r searchResult)
	release    func() // called at the end, if not nil
}

// providerAt: a provider is reported at each address once.
type providerAt struct {
	id        stc.Hash
	addr      netip.AddrPort
	webSocket uint16
}

// maxProviderAddrs is how many addresses of one provider are reported.
const maxProviderAddrs = 4

// searchResult is how a search ended.
type searchResult struct {
	closest []Contact // the closest nodes that answered, at most K
	record  Record    // the newest record, if one was looked for and found
	stats   LookupStats
	err     error // ErrNoNodes, ErrNoAnswer, or what cancel was told
}

// LookupStats says what one lookup did.
type LookupStats struct {
	Asked     int           // nodes that were asked
	Answered  int           // of those, nodes that answered
	Requests  int           // datagrams that were sent to ask them, repeated ones included
	Providers int           // providers that were found, at all their addresses
	Hops      int           // the longest chain of nodes that answered, each told of by the one before
	Duration  time.Duration // from the call to the end
	// Complete reports that the K closest nodes have all answered, or all
	// there are: if no provider was found then, nobody is known to have the
	// content. It is false after a cancellation, a timeout, and when the
	// lookup had to stop because it had asked too many.
	Complete bool
}

// startSearch begins a search. onProvider may be nil. The callbacks are made
// from within the machine's methods, the first perhaps before startSearch
// returns; they must not call back.
func (m *machine) startSearch(now time.Time, purpose Purpose, target stc.Hash, onProvider func(Contact), onDone func(time.Time, searchResult)) *search {
	k := m.cfg.K
	if purpose == PurposePublish {
		k = min(k, publishK)
	}
	return m.startSearchOf(now, purpose, target, k, onProvider, onDone)
}

// startSearchOf is startSearch for the k closest nodes.
func (m *machine) startSearchOf(now time.Time, purpose Purpose, target stc.Hash, k int, onProvider func(Contact), onDone func(time.Time, searchResult)) *search {
	s := m.newSearch(now, purpose, target, k, onDone)
	if onProvider != nil {
		s.asks, s.onProvider, s.seen = kindFindProviders, onProvider, make(map[providerAt]struct{})
		s.found(m.records.get(m.rng, now, target, m.cfg.MaxProviders, netip.AddrPort{}))
	}
	s.start(now)
	return s
}

// startRecordSearch begins a search for a record with a sequence number higher
// than above, and for the K nodes closest to its name, as startSearch does.
func (m *machine) startRecordSearch(now time.Time, purpose Purpose, name stc.Name, above uint64, onDone func(time.Time, searchResult)) *search {
	s := m.newSearch(now, purpose, stc.Hash(name), m.cfg.K, onDone)
	s.asks, s.above = kindGetRecord, above
	s.foundRecord(m.signed.get(now, name))
	s.start(now)
	return s
}

func (m *machine) newSearch(now time.Time, purpose Purpose, target stc.Hash, k int, onDone func(time.Time, searchResult)) *search {
	return &search{
		m:       m,
		purpose: purpose,
		asks:    kindFindNode,
		lookup: newLookup(target, lookupConfig{
			self: m.id, k: k, alpha: m.cfg.Alpha, spare: k / 20, maxAsked: m.cfg.MaxAsked, perSubnet: m.answerPerSubnet(),
		}),
		began:    now,
		deadline: now.Add(m.cfg.LookupTimeout),
		onDone:   onDone,
	}
}

// start begins the search at the nodes that we know.
func (s *search) start(now time.Time) {
	m, target := s.m, s.lookup.target
	m.searches = append(m.searches, s)
	s.lookup.add(m.seeds(target, s.lookup.knows))
	s.lookup.prefer(m.promising(now, target))
	s.step(now)
}

// step makes the calls that the lookup wants, or ends the search.
func (s *search) step(now time.Time) {
	if s.over {
		return
	}
	request := message{kind: s.asks, target: s.lookup.target, above: s.above}
	opts := callOptions{insist: len(s.lookup.sorted) < s.m.cfg.K, once: len(s.lookup.sorted) >= 2*s.m.cfg.K}
	// An answer holds K nodes: who looks for more asks each for those around it.
	around := s.lookup.cfg.k > s.m.cfg.K && s.lookup.arrived()
	calls := s.lookup.next()
	for s.lookup.lost() && s.lookup.add(s.m.seeds(s.lookup.target, s.lookup.knows)) {
		calls = s.lookup.next()
	}
	for _, c := range calls {
		if s.requests++; around {
			request.target = c.ID
		}
		s.m.calls.call(now, c, request, opts, func(now time.Time, r report) { s.report(now, c, r) })
	}
	if s.lookup.done() {
		s.finish(now, nil)
	}
}

func (s *search) report(now time.Time, from Contact, r report) {
	if s.over {
		return
	}
	switch r.outcome {
	case callStalled:
		s.lookup.stalled(from.ID)
		s.lookup.widen(s.m.cfg.K)
	case callRepeated:
		s.requests++
	case callFailed:
		s.lookup.failed(from.ID)
	case callAnswered:
		if s.asks == kindGetRecord && s.takeRecord(now, from, r.answer) {
			return
		}
		if s.onProvider != nil {
			if r.answer.provides {
				s.found([]Contact{from})
			}
			s.found(slices.DeleteFunc(slices.Clone(r.answer.providers), func(c Contact) bool {
				return !relayable(c.Addr, from.Addr)
			}))
		}
		s.lookup.answered(from.ID, s.m.believe(from, r.answer.nodes))
	}
	s.step(now)
	if s.onStep != nil && !s.over {
		s.onStep(now)
	}
}

// foundRecord takes a record if it is newer than what is wanted or known.
func (s *search) foundRecord(rec Record) {
	if rec.seq > s.above {
		s.record, s.above = rec, rec.seq
	}
}

// takeRecord takes the record of an answer, if it is of the name and its
// signature is right. If the nodes found no room beside it, it asks for them and
// reports true: the answer to that counts in place of this one.
func (s *search) takeRecord(now time.Time, from Contact, answer *message) (again bool) {
	if answer.record == nil {
		return false
	}
	if rawName(answer.record) != stc.Name(s.lookup.target) {
		s.m.stats.BadRecords++
	} else if rawSequence(answer.record) > s.above {
		if rec, err := ParseRecord(answer.record); err == nil {
			s.foundRecord(rec)
		} else {
			s.m.stats.BadRecords++
		}
	}
	if !answer.cut {
		return false
	}
	s.requests++
	request := message{kind: kindFindNode, target: s.lookup.target}
	s.m.calls.call(now, from, request, callOptions{}, func(now time.Time, r report) { s.report(now, from, r) })
	return true
}

// found reports providers that were not reported before.
func (s *search) found(providers []Contact) {
	for _, p := range providers {
		at := providerAt{p.ID, p.Addr, p.WebSocket}
		if _, known := s.seen[at]; known || p.ID == s.m.id || len(s.seen) >= s.m.cfg.MaxProviders {
			continue
		}
		if s.addrsOf(p.ID) >= maxProviderAddrs {
			continue
		}
		s.seen[at] = struct{}{}
		s.onProvider(p)
	}
}

func (s *search) addrsOf(id stc.Hash) int {
	n := 0
	for at := range s.seen {
		if at.id == id {
			n++
		}
	}
	return n
}

// stats says what the search did so far.
func (s *search) stats(now time.Time) LookupStats {
	counts := s.lookup.stats
	return LookupStats{
		Asked: counts.asked, Answered: counts.answered, Hops: counts.hops, Requests: s.requests, Providers: len(s.seen),
		Duration: now.Sub(s.began),
	}
}

// timeout ends the search because it took too long.
func (s *search) timeout(now time.Time) {
	s.m.stats.Lookups[s.purpose].TimedOut++
	s.finish(now, nil)
}

// cancel ends the search with err, if it is not over.
func (s *search) cancel(now time.Time, err error) {
	if !s.over {
		s.finish(now, err)
	}
}

func (s *search) finish(now time.Time, err error) {
	s.over = true
	s.m.searches = slices.DeleteFunc(s.m.searches, func(x *search) bool { return x == s })
	counts := s.lookup.stats
	r := searchResult{closest: s.lookup.result(), record: s.record, err: err, stats: s.stats(now)}
	r.stats.Complete = err == nil && s.lookup.complete()
	if k := s.lookup.cfg.k; r.stats.Complete && k >= publishK && len(r.closest) == k {
		s.m.estimate.closest(s.lookup.target, r.closest[k-1].ID, k)
	}
	total := &s.m.stats.Lookups[s.purpose]
	switch {
	case err != nil:
		total.Cancelled++
	case len(s.seen) > 0, !s.record.IsZero():
		total.Found++
	case counts.answered == 0:
		total.NoAnswer++
		if r.err = ErrNoAnswer; counts.asked == 0 {
			r.err = ErrNoNodes
		}
	case s.onProvider != nil, s.purpose == PurposeRecord:
		total.Empty++
	default:
		total.Found++
	}
	total.Asked += uint64(counts.asked)
	total.Answered += uint64(counts.answered)
	total.Hops[min(counts.hops, maxHops)]++
	total.Duration += now.Sub(s.began)
	if s.release != nil {
		s.release()
	}
	s.onDone(now, r)
}
