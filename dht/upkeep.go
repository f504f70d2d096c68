package dht

import (
	"errors"
	"net/netip"
	"time"

	"github.com/seigr/sttnode/stc"
)

// upkeep keeps the table true: it asks nodes that were silent for long whether
// they are there, wins new ones for buckets with room, asks about random IDs in
// those for which it has none, looks up our own ID, and lets records expire. All
// of it is spread in time, so that it is a trickle.
type upkeep struct {
	m             *machine
	check         time.Time // next look at the table
	lastCheck     time.Time
	fills         pacer     // of attempts to win a candidate
	refreshSelf   time.Time // next lookup of our own ID
	wide          time.Time // next look for a bucket with room and no candidates
	expireRecords time.Time
	filling       bool        // there may be candidates for buckets with room
	widening      bool        // somebody is being asked about such a bucket
	settling      func(error) // done of a bootstrap that waits; nil for none
	settle        time.Time   // when it goes on
	lookingUp     int         // lookups of our own ID under way
	lonely        int         // lookups of our own ID after which we knew few nodes
}

func newUpkeep(m *machine, now time.Time) upkeep {
	return upkeep{
		m:           m,
		fills:       pacer{interval: m.cfg.FillInterval, burst: fillsAtOnce},
		refreshSelf: now.Add(m.cfg.RefreshInterval / 2), expireRecords: now.Add(expireEvery),
	}
}

const (
	checkEvery   = 250 * time.Millisecond // between two looks at the table, at least
	checksAtOnce = 8                      // pings each time, at most
	fillsAtOnce  = 24                     // candidates asked without a pause, as after a join
	expireEvery  = 10 * time.Minute
	// minRefresh is the shortest time between two lookups of our own ID: half
	// of a lifetime, where nodes stay for minutes only.
	minRefresh = time.Minute
	// answerTime is how long a bootstrap waits for a first answer before it
	// goes on, and settleTime how long after that for being called.
	answerTime = 2 * time.Second
	settleTime = 500 * time.Millisecond
	// announceAgain is how long after we became reachable our own ID is looked
	// up once more.
	announceAgain = 2 * time.Second
	// maxLonely is how often it is looked up once more because we know few:
	// the last time after announceAgain << (maxLonely - 1), 17 minutes.
	maxLonely = 10
)

// soon has the table looked at again: somebody came or went.
func (u *upkeep) soon(now time.Time) {
	u.filling = true
	at := now
	if next := u.lastCheck.Add(checkEvery); next.After(at) {
		at = next
	}
	u.check = earlier(at, u.check)
	u.wide = earlier(at, u.wide)
}

func (u *upkeep) deadline() time.Time {
	at := u.expireRecords
	if u.m.table.len() == 0 {
		return at
	}
	at = earlier(at, u.check)
	if u.settling != nil {
		at = earlier(at, u.settle)
	}
	at = earlier(at, u.refreshSelf)
	if !u.widening {
		at = earlier(at, u.wide)
	}
	if u.filling {
		at = earlier(at, u.fills.next())
	}
	return at
}

func (u *upkeep) advance(now time.Time) {
	if !u.expireRecords.After(now) {
		u.expireRecords = now.Add(expireEvery)
		u.m.records.expire(now)
		u.m.signed.expire(now)
	}
	if u.m.table.len() == 0 {
		return
	}
	u.settled(now)
	u.checkTable(now)
	u.fillTable(now)
	if !u.refreshSelf.After(now) {
		u.lookupSelf(now, nil)
	}
	u.widen(now)
}

// checkTable asks entries that were silent for long.
func (u *upkeep) checkTable(now time.Time) {
	if u.check.IsZero() || u.check.After(now) {
		return
	}
	due, next := u.m.table.due(nil, now, checksAtOnce)
	if soonest := now.Add(checkEvery); next.Before(soonest) {
		next = soonest
	}
	u.lastCheck, u.check = now, next
	for _, c := range due {
		u.ping(now, c, callOptions{once: true}) // it is asked again before it is given up
	}
}

// fillTable asks nodes that others told of, so that they can take the places
// that their buckets have. What others tell may be a lie, to have us bother
// somebody: each address gets one short datagram an interval, whatever number
// of nodes are said to be there.
func (u *upkeep) fillTable(now time.Time) {
	mayAsk := u.mayAsk(now)
	for u.filling && !u.fills.next().After(now) {
		c, ok := u.m.table.fill(now, mayAsk)
		if !ok {
			u.filling = false
			u.wide = earlier(now, u.wide)
			return
		}
		u.fills.allow(now)
		u.m.gate.nudge(now, c.Addr, u.m.cfg.CheckInterval)
		u.ping(now, c, callOptions{bare: true})
	}
}

// mayAsk says of an address whether it may be asked on the word of others.
func (u *upkeep) mayAsk(now time.Time) func(netip.AddrPort) bool {
	return func(addr netip.AddrPort) bool { return u.m.gate.mayNudge(now, addr, u.m.cfg.CheckInterval) }
}

// ping asks a node whether it is there. What it answers, or that it does not,
// goes to the table like that of any call.
func (u *upkeep) ping(now time.Time, c Contact, opts callOptions) {
	u.m.calls.call(now, c, message{kind: kindPing}, opts, func(time.Time, report) {})
}

// hasten has our own ID looked up earlier if nodes turn out to stay for less
// long than was believed.
func (u *upkeep) hasten(now time.Time) {
	u.refreshSelf = earlier(now.Add(u.selfInterval()), u.refreshSelf)
}

// recheck has the table looked at again when a node that has just failed is to
// be asked again.
func (u *upkeep) recheck(now time.Time) { u.check = earlier(now.Add(recheckAfter), u.check) }

// lookupSelf looks up our own ID, which finds our neighbourhood and makes us
// known in it. done may be nil.
func (u *upkeep) lookupSelf(now time.Time, done func(now time.Time, r searchResult)) {
	// Not at the same time as those who joined with us.
	every := u.selfInterval()
	u.refreshSelf = now.Add(every - time.Duration(u.m.rng.Int64N(int64(every/4)+1)))
	u.lookingUp++
	u.m.startSearch(now, PurposeRefresh, u.m.id, nil, func(end time.Time, r searchResult) {
		u.lookingUp--
		u.lookAgain(end)
		if u.m.reach.changed(now) {
			u.announce(end)
		}
		if done != nil {
			done(end, r)
		}
	})
}

// resume has our own ID looked up next as if that had been done before.
func (u *upkeep) resume(now time.Time) {
	u.refreshSelf = now.Add(time.Duration(u.m.rng.Int64N(int64(u.selfInterval()))))
}

// selfInterval is the time between two lookups of our own ID.
func (u *upkeep) selfInterval() time.Duration {
	return min(u.m.cfg.RefreshInterval/2, max(u.m.estimate.lifetime()/2, minRefresh))
}

// lookAgain has our own ID looked up again soon if we know few nodes: where many
// join at once, nobody knows the others yet. The wait doubles each time, so that
// a network that is small for good costs nothing.
func (u *upkeep) lookAgain(now time.Time) {
	if u.m.table.len() < u.m.cfg.K && u.lonely < maxLonely {
		u.refreshSelf = earlier(now.Add(announceAgain<<u.lonely), u.refreshSelf)
		u.lonely++
	}
}

// announce makes us known to the neighbours that we have talked to, clients
// included: they have heard that we cannot be called, which has changed, and
// may change for them. A little later we look for those who have joined at the
// same time.
func (u *upkeep) announce(now time.Time) {
	u.refreshSelf = earlier(now.Add(announceAgain), u.refreshSelf)
	if u.lookingUp > 0 {
		return // at its end
	}
	for _, p := range u.m.peers.nearest(u.m.id, u.m.cfg.K) {
		u.ping(now, p.Contact, callOptions{})
	}
}

// widen asks one node who else belongs in a bucket that has room; one bucket
// at a time. Wide buckets are filled by this: a lookup tells of the few nodes
// around its target only.
func (u *upkeep) widen(now time.Time) {
	if u.widening || u.wide.IsZero() || u.wide.After(now) {
		return
	}
	target, found, next := u.m.table.wanting(u.m.rng, now, u.m.cfg.RefreshInterval)
	if u.wide = next; found {
		u.widening = true
		u.askAround(now, target, func(now time.Time) { u.widening, u.wide = false, now })
	}
}

// askAround asks the node closest to target who else is there. done is called
// when it has answered, or has not; an answer that comes later counts as well.
func (u *upkeep) askAround(now time.Time, target stc.Hash, done func(now time.Time)) {
	closest := u.m.table.closest(target, 1, callable)
	if len(closest) == 0 {
		done(now)
		return
	}
	by, over := closest[0].Contact, false
	u.m.calls.call(now, by, message{kind: kindFindNode, target: target}, callOptions{once: true}, func(now time.Time, r report) {
		if r.outcome == callAnswered {
			u.m.believe(by, r.answer.nodes)
			u.m.table.told(now, target, u.mayAsk(now))
		}
		if !over && !r.outcome.pending() {
			over = true
			done(now)
		}
	})
}

// bootstrap joins the network by the nodes that we know: it looks up our own
// ID, and has then joined. Somebody is asked about every bucket that is farther
// than our neighbourhood after that, all of them at once. done learns the
// error of the first lookup: without an answer there we are alone. As everything may hang on one node and on the
// path to it, that lookup is tried up to three times.
//
// Before all that, the first node that answers is asked to have us called, as
// nothing is learned from who we have talked to.
func (u *upkeep) bootstrap(now time.Time, done func(err error)) {
	first := u.m.seeds(u.m.id, func(stc.Hash) bool { return false })
	first = first[:min(len(first), u.m.cfg.Alpha)]
	if len(first) == 0 || u.settling != nil {
		u.tryBootstrap(now, 3, done)
		return
	}
	u.settling = done
	u.settle = now.Add(answerTime)
	open := len(first)
	for _, c := range first {
		over := false
		u.m.calls.call(now, c, message{kind: kindFindNode, target: u.m.id}, callOptions{insist: true}, func(now time.Time, r report) {
			if r.outcome == callAnswered {
				u.m.believe(c, r.answer.nodes)
				u.settle = earlier(now.Add(settleTime), u.settle)
			}
			if over || r.outcome.pending() {
				return
			}
			over = true
			if open--; open == 0 && u.m.reach.settled() {
				u.settle = now
			}
		})
	}
}

// settled goes on with the bootstrap once it is clear whether we can be called,
// or the time for that is over.
func (u *upkeep) settled(now time.Time) {
	if u.settling == nil || now.Before(u.settle) && !(u.m.reach.known() && u.m.reach.settled()) {
		return
	}
	u.m.reach.conclude(now)
	done := u.settling
	u.settling = nil
	u.tryBootstrap(now, 3, done)
}

// close ends a bootstrap that waits.
func (u *upkeep) close() {
	if u.settling != nil {
		u.settling(ErrClosed)
	}
}

func (u *upkeep) tryBootstrap(now time.Time, tries int, done func(err error)) {
	u.lookupSelf(now, func(now time.Time, r searchResult) {
		if errors.Is(r.err, ErrNoAnswer) && tries > 1 {
			u.tryBootstrap(now, tries-1, done)
			return
		}
		if r.err != nil {
			done(r.err)
			return
		}
		for {
			target, found, _ := u.m.table.wanting(u.m.rng, now, u.m.cfg.RefreshInterval)
			if !found {
				break
			}
			u.askAround(now, target, func(time.Time) {})
		}
		done(nil)
	})
}
