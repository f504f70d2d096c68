package swarm

import (
	"time"

	"golang.org/x/time/rate"
)

// allowance is how much a scheduler may ask for under a limit that is not its
// own. It may be overdrawn by one request; then nothing is asked for before
// enough was granted. The zero value allows everything.
type allowance struct {
	limited bool
	bytes   int  // what may be asked for; negative when overdrawn
	starved bool // something was left undone for want of it
}

// spent reports whether nothing may be asked for.
func (a *allowance) spent() bool { return a.limited && a.bytes <= 0 }

func (a *allowance) take(n int) {
	if a.limited {
		a.bytes -= n
	}
}

// giveBack is for requests that brought no bytes.
func (a *allowance) giveBack(n int) {
	if a.limited {
		a.bytes += n
	}
}

// allowed reports whether one more item may be asked for, and notes it when
// that is all that is missing.
func (s *scheduler) allowed() bool {
	if !s.allow.spent() {
		return true
	}
	for i := range s.queues {
		if s.queues[i].live > 0 {
			s.allow.starved = true
		}
	}
	return false
}

// grant is the place of a download in the queue for the limit that it shares
// with others. It has one at a time, so that all get the same.
type grant struct {
	from  *rate.Limiter // whose place; nil for none
	place *rate.Reservation
	bytes int
	at    time.Time // when it comes; zero for none
}

func (g *grant) cancel() {
	if g.place != nil {
		g.place.Cancel()
	}
	*g = grant{}
}

// grantMore lets the scheduler ask for more if it wants to and the limit
// allows. It returns whether there is something new to decide.
func (o *owner) grantMore(now time.Time) bool {
	rates, state := o.cfg.Limiter.look(now)
	a, g := &o.sched.allow, &o.grant
	if g.from != state.down {
		g.cancel()
	}
	if rates.Down == NoLimit {
		again := a.starved
		*a = allowance{}
		return again
	}
	a.limited = true
	if !a.starved {
		return false
	}
	o.progress = now // what it waits for is our own limit
	if g.place == nil {
		n := rates.Down.quantum()
		place := state.down.ReserveN(now, n)
		*g = grant{state.down, place, n, now.Add(place.DelayFrom(now))}
	}
	if now.Before(g.at) {
		return false
	}
	a.starved = false
	a.bytes += g.bytes
	*g = grant{}
	return true
}
