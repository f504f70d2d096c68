package swarm

import "time"

// A reader who goes elsewhere waits for nothing that was under way. CANCEL takes
// back what a peer has not begun with; what lies written between its store and
// the path comes all the same, in front of what is wanted now. So a stream on
// which much is due is given up for a new one on the same session: that drops
// what has not been sent yet, and what is known of the peer goes on.

const (
	// restartBytes is how much must be due.
	restartBytes = 256 << 10
	// restartAfter is how old the stream must be: who seeks all the time keeps
	// it.
	restartAfter = 200 * time.Millisecond
)

// restart gives the streams on which much is due up for new ones.
func (o *owner) restart(now time.Time) {
	for id, c := range o.serving {
		p := o.sched.byID[id]
		if !c.conn.have || now.Sub(c.since) < restartAfter || p.due() < restartBytes {
			continue
		}
		o.disconnect(c)
		c.former = p
		o.dial(c, now)
	}
}

// due returns how many bytes answers are due for, cancelled or not.
func (p *schedPeer) due() (n int) {
	for _, r := range p.byID {
		n += r.size
	}
	return n
}

// resume goes on with what is known of a peer from its former stream. It holds:
// what a peer has only grows.
func (s *scheduler) resume(id peerID, former *schedPeer) {
	p := s.byID[id]
	p.est, p.proven = former.est, former.proven
	if former.complete {
		s.peerHasAll(id)
	} else if former.announced {
		s.peerHas(id, former.have.spans)
	}
}
