package dht

import (
	"net/netip"
	"slices"
	"time"

	"github.com/seigr/sttnode/stc"
)

// reach finds out whether others can call us, for each family of addresses:
// who cannot be called belongs in no table, and says so in its messages.
//
// The proof is a request from an address that we have sent nothing to, as no
// NAT or firewall lets it in that keeps others out. To get one early, the first
// nodes that answer us are asked to have somebody else ping us (DIAL_BACK):
//
//	we ──DIAL_BACK──▶ B ──DIAL(us)──▶ C ──PING──▶ we
//
// B asks two nodes, as datagrams get lost, and its answer names them. If we have
// sent something to C lately, nothing can be learned from it: so it is in tiny
// networks, where B may have nobody to ask either. Whoever knows us there has
// heard from us, so we count as reachable until somebody can tell. For the same
// reason a node that joins does not go on before the first round is over, or
// before it has waited for settleTime. Not safe for concurrent use.
type reach struct {
	m        *machine
	families [2]familyReach // IPv4, IPv6
	dials    pacer          // pings that we send because somebody asked for them
}

// familyReach is what we know of one family of addresses. It turns reachable
// when somebody calls us, or when nobody is there who could; and unreachable
// after two rounds of questions in a row in which nobody did who was to.
type familyReach struct {
	reachable bool
	changed   time.Time        // when reachable last changed
	called    time.Time        // when somebody last called us who we had not sent anything to
	next      time.Time        // no round begins before
	began     time.Time        // when the round began
	verdict   time.Time        // when the round ends; zero while none is under way
	asked     []stc.Hash       // nodes that were asked in this round
	answers   int              // of those, answers
	expected  []netip.AddrPort // who is to call us
	failed    int              // rounds in a row in which nobody did
}

const (
	askedToDialBack = 3               // nodes in a round
	dialBackBy      = 2               // nodes that each of them asks to call us
	dialBackWait    = 3 * time.Second // from the first question to the end of a round
	failedRounds    = 2               // after which we are unreachable
	dialsPerSecond  = 20              // that we make for others
	dialAgain       = 10 * time.Second
	// Rounds come this far apart: while nobody could tell, at most while we
	// are not reachable, and to be sure.
	reachSoon, reachRetry, reachSure = time.Minute, 10 * time.Minute, time.Hour
)

func newReach(m *machine) *reach {
	return &reach{m: m, dials: pacer{interval: time.Second / dialsPerSecond, burst: 2 * dialsPerSecond}}
}

func (r *reach) family(addr netip.AddrPort) *familyReach {
	if addr.Addr().Is4() {
		return &r.families[0]
	}
	return &r.families[1]
}

// decides reports whether there is anything to find out for addr.
func (r *reach) decides(addr netip.AddrPort) bool {
	return !r.m.cfg.ClientOnly && !r.m.cfg.AssumeReachable && !linked(addr)
}

// hidden reports whether we tell a node at to that we are a client.
func (r *reach) hidden(to netip.AddrPort) bool {
	return r.m.cfg.ClientOnly || r.decides(to) && !r.family(to).reachable
}

// calledBy takes note of a request that came from an address that we had not
// sent anything to.
func (r *reach) calledBy(now time.Time, from netip.AddrPort) {
	if !r.decides(from) {
		return
	}
	f := r.family(from)
	f.called = now
	r.set(now, f, true)
}

// changed reports whether we have become reachable since.
func (r *reach) changed(since time.Time) bool {
	for i := range r.families {
		if f := &r.families[i]; f.reachable && f.changed.After(since) {
			return true
		}
	}
	return false
}

func (r *reach) set(now time.Time, f *familyReach, reachable bool) {
	if f.reachable == reachable {
		return
	}
	f.reachable, f.changed = reachable, now
	if reachable {
		r.m.upkeep.announce(now)
	}
}

// answered takes the opportunity that a node has answered us, which shows that
// it is there, to ask it to have us called.
func (r *reach) answered(now time.Time, c Contact) {
	if !r.decides(c.Addr) {
		return
	}
	f := r.family(c.Addr)
	if f.verdict.IsZero() {
		if now.Before(f.next) {
			return
		}
		f.asked, f.answers, f.expected, f.began, f.verdict = f.asked[:0], 0, f.expected[:0], now, now.Add(dialBackWait)
	}
	if len(f.asked) >= askedToDialBack || slices.Contains(f.asked, c.ID) {
		return
	}
	f.asked = append(f.asked, c.ID)
	r.m.calls.call(now, c, message{kind: kindDialBack}, callOptions{}, func(now time.Time, a report) {
		if a.outcome != callAnswered || f.verdict.IsZero() {
			return
		}
		f.answers++
		for _, c := range a.answer.nodes {
			if !r.m.gate.letsIn(now, c.Addr) {
				f.expected = append(f.expected, c.Addr)
			}
		}
		if f.answers == len(f.asked) && len(f.expected) == 0 && f.failed == 0 {
			r.set(now, f, true) // nobody can tell
		}
	})
}

func (r *reach) deadline() (at time.Time) {
	for i := range r.families {
		f := &r.families[i]
		at = earlierOf(at, f.verdict)
		if f.verdict.IsZero() && f.failed > 0 && !f.reachable {
			at = earlierOf(at, f.next)
		}
	}
	return at
}

// advance ends the rounds whose time is over, and begins those that are to find
// out whether we can be called by now.
func (r *reach) advance(now time.Time) {
	for i := range r.families {
		f := &r.families[i]
		if f.verdict.IsZero() && f.failed > 0 && !f.reachable && !now.Before(f.next) {
			f.next = now.Add(reachRetry) // should nobody be there to be asked
			for _, c := range contactsOf(nil, r.m.table.closest(randomID(r.m.rng, r.m.id, 0), askedToDialBack, callable)) {
				if r.family(c.Addr) == f {
					f.next = now
					r.answered(now, c)
				}
			}
		}
		if f.verdict.IsZero() || now.Before(f.verdict) {
			continue
		}
		f.verdict = time.Time{}
		silent := r.silent(now, f)
		switch {
		case !f.called.Before(f.began):
			f.failed, f.next = 0, now.Add(reachSure)
		case silent > 0:
			if f.failed++; f.failed >= failedRounds {
				r.set(now, f, false)
			}
			f.next = now.Add(min(dialBackWait<<f.failed, reachRetry))
		case f.answers > 0 && silent == 0 && f.failed == 0:
			r.set(now, f, true)
			f.next = now.Add(reachSoon)
		default:
			f.next = now.Add(dialBackWait)
		}
	}
}

// silent counts those who were to call us, could not have been let in for
// another reason, and have not called.
func (r *reach) silent(now time.Time, f *familyReach) (n int) {
	for _, addr := range f.expected {
		if !r.m.gate.letsIn(now, addr) {
			n++
		}
	}
	return n
}

// settled reports whether nothing more is to be learned by waiting before we
// send something to more nodes.
func (r *reach) settled() bool {
	for i := range r.families {
		if f := &r.families[i]; !f.verdict.IsZero() && !f.reachable && f.failed == 0 {
			return false
		}
	}
	return true
}

// known reports whether a round was begun, or somebody has called us.
func (r *reach) known() bool {
	for i := range r.families {
		if f := &r.families[i]; f.reachable || !f.began.IsZero() {
			return true
		}
	}
	return false
}

// conclude ends the rounds under way, before we send something to more nodes.
func (r *reach) conclude(now time.Time) {
	for i := range r.families {
		if f := &r.families[i]; !f.verdict.IsZero() && len(f.expected) > 0 {
			f.verdict = now
		}
	}
	r.advance(now)
}

// dialBack has two others ping a node that has asked for it and whose address
// is proven. It returns who; nobody if there is nobody.
func (r *reach) dialBack(now time.Time, c Contact) []Contact {
	others := contactsOf(nil, r.m.table.sample(r.m.rng, dialBackBy, func(e *entry) bool {
		return shareable(e) && e.failures == 0 && e.ID != c.ID && e.Addr != c.Addr &&
			e.Addr.Addr().Is4() == c.Addr.Addr().Is4() && !linked(e.Addr) && relayable(c.Addr, e.Addr)
	}))
	for _, by := range others {
		r.m.calls.call(now, by, message{kind: kindDial, nodes: []Contact{c}}, callOptions{}, func(time.Time, report) {})
	}
	return others
}

// dial pings a node that has asked from, whose address is proven, to be called
// by somebody it does not know.
func (r *reach) dial(now time.Time, c, from Contact) {
	if c.ID == r.m.id || !relayable(c.Addr, from.Addr) || !r.dials.allow(now) {
		return
	}
	if !r.m.gate.nudge(now, c.Addr, dialAgain) {
		return
	}
	r.m.upkeep.ping(now, c, callOptions{bare: true})
}
