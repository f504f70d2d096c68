package swarm

import "sync"

// availability is which chunks of a content are here, and tells it to those
// who follow. It is safe for concurrent use; the zero value is empty.
type availability struct {
	mu        sync.Mutex
	have      rangeSet
	complete  bool
	repeats   []repeat
	followers map[*follower]struct{}
}

// repeat says that the chunks from to on are those of first again.
type repeat struct {
	first span
	to    uint64
}

// maxRepeats bounds how many repetitions are kept in mind. The ordinals of
// further ones are announced only when everything is here.
const maxRepeats = 256

// follower collects what became available since it last asked.
type follower struct {
	a        *availability
	pending  rangeSet      // guarded by a.mu
	complete bool          // guarded by a.mu
	changed  chan struct{} // holds one token while something is pending
}

// add notes more chunks.
func (a *availability) add(spans ...span) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range spans {
		if !a.addOne(s) {
			continue
		}
		for _, r := range a.repeats {
			a.addRepeat(s, r)
		}
	}
	a.notify()
}

func (a *availability) addOne(s span) bool {
	if a.complete || !a.have.add(s) {
		return false
	}
	for f := range a.followers {
		f.pending.add(s)
	}
	return true
}

// addRepeat notes the part of s that occurs again by r.
func (a *availability) addRepeat(s span, r repeat) {
	if lo, hi := max(s.lo, r.first.lo), min(s.hi, r.first.hi); lo < hi {
		a.addOne(span{lo - r.first.lo + r.to, hi - r.first.lo + r.to})
	}
}

// repeat notes that part of the content occurs again, so that others, who
// may meet the repetition first, find its chunks here.
func (a *availability) repeat(r repeat) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.repeats) >= maxRepeats || r.first.len() == 0 {
		return
	}
	a.repeats = append(a.repeats, r)
	for _, s := range a.have.clone().spans {
		a.addRepeat(s, r)
	}
	a.notify()
}

// finish notes that everything is here.
func (a *availability) finish() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.complete, a.have, a.repeats = true, rangeSet{}, nil
	for f := range a.followers {
		f.pending, f.complete = rangeSet{}, true
	}
	a.notify()
}

func (a *availability) notify() {
	for f := range a.followers {
		if len(f.pending.spans) > 0 || f.complete {
			select {
			case f.changed <- struct{}{}:
			default:
			}
		}
	}
}

// follow returns a follower for which everything that is here is pending.
func (a *availability) follow() *follower {
	a.mu.Lock()
	defer a.mu.Unlock()
	f := &follower{a: a, pending: a.have.clone(), complete: a.complete, changed: make(chan struct{}, 1)}
	if a.followers == nil {
		a.followers = make(map[*follower]struct{})
	}
	a.followers[f] = struct{}{}
	return f
}

// take returns what is pending.
func (f *follower) take() (spans []span, complete bool) {
	f.a.mu.Lock()
	defer f.a.mu.Unlock()
	spans, complete = f.pending.spans, f.complete
	f.pending = rangeSet{}
	return spans, complete
}

// stop ends the following.
func (f *follower) stop() {
	f.a.mu.Lock()
	defer f.a.mu.Unlock()
	delete(f.a.followers, f)
}
