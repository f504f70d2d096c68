package session

import "sync/atomic"

// strand lets a session's loop run without a goroutine of its own: whoever
// finds work for it, the reader of the socket, somebody who writes, a timer,
// becomes its owner for as long as there is some, unless it has one. An idle
// session so has no stack, which was a quarter of its memory, and a small
// frame is answered by who has received it, without waking anybody.
//
//	still ── start ──► asked ── a goroutine, or who waits, takes it ──► running ◄──► again
//	                     ▲                                                │ no work left
//	                     └───────────────────── ask ──── idle ◄───────────┘
//
// Only the owner, in states running and again, touches the loop; that it
// passes from one goroutine to the next by state makes what the one has
// written visible to the other. Once the session has ended the state is still
// again, for good.
type strand struct {
	state  atomic.Uint32
	round  func() bool // one round of the loop; reports whether there is more to do at once
	driver func()      // drive, bound once: a go statement with a method allocates
}

// States of a strand.
const (
	strandStill   uint32 = iota // not begun, or ended
	strandIdle                  // nothing to do
	strandAsked                 // there is work, and a goroutine has been started for it
	strandRunning               // somebody runs the loop
	strandAgain                 // the same, and there is more work since
)

// start lets the loop run from now on.
func (t *strand) start(round func() bool) {
	t.round, t.driver = round, t.drive
	t.state.Store(strandAsked)
	go t.driver()
}

// ask has a goroutine run the loop: for those who have better things to do.
func (t *strand) ask() {
	if t.bring(strandAsked) {
		go t.driver()
	}
}

// lend runs a round of the loop in the caller's goroutine, or has its owner
// run another one. The caller holds no lock.
func (t *strand) lend() {
	if t.bring(strandRunning) {
		t.once()
	}
}

// bring tells the owner of more work, if there is one; otherwise it moves the
// strand on to asked or running, and reports that it has.
func (t *strand) bring(to uint32) bool {
	for {
		state, next := t.state.Load(), to
		switch {
		case state == strandRunning:
			next = strandAgain
		case state != strandIdle && (state != strandAsked || to == strandAsked):
			return false
		}
		if t.state.CompareAndSwap(state, next) {
			return next == to
		}
	}
}

// help runs a round of the loop if it was asked for and nobody has begun:
// for those who would sleep now. The caller holds no lock.
func (t *strand) help() {
	if t.state.CompareAndSwap(strandAsked, strandRunning) {
		t.once()
	}
}

// once runs one round and leaves what is left to do to a goroutine: who lends
// a hand is not kept.
func (t *strand) once() {
	if !t.round() && t.rest() {
		return
	}
	if t.state.Load() != strandStill {
		t.state.Store(strandAsked)
		go t.driver()
	}
}

// drive runs the loop until there is nothing left to do, if it was asked for
// and nobody has begun.
func (t *strand) drive() {
	if !t.state.CompareAndSwap(strandAsked, strandRunning) {
		return
	}
	for t.round() || !t.rest() {
		t.state.CompareAndSwap(strandAgain, strandRunning)
	}
}

// rest gives the loop up unless there is work, and reports whether it has.
func (t *strand) rest() bool {
	return t.state.CompareAndSwap(strandRunning, strandIdle) || t.state.Load() == strandStill
}

// end is called by the owner, in the last round.
func (t *strand) end() { t.state.Store(strandStill) }
