package swarm

import (
	"errors"
	"time"

	"github.com/seigr/sttnode/content"
)

// Range is a part of a content's data: Length bytes from Offset on. The data
// of a directory are those of its files, one behind the other in the order of
// the manifests.
type Range struct{ Offset, Length uint64 }

// Part says which part of a content a download fetches.
type Part struct {
	// Directories fetches the root and the manifests of directories, and
	// nothing of files.
	Directories bool
	// Ranges, if not nil, are what is fetched of the data: the chunks that hold
	// any of these bytes, with the manifest nodes above them. They are
	// ascending and do not overlap. An empty list is the root alone.
	Ranges []Range
	// Follow fetches what Read asks for, in order, and nothing before it is
	// called but the root. The download goes on until its context ends.
	Follow bool
}

// selection decides which references of the manifests are handed out. The zero
// selection takes all of them.
type selection struct {
	partial     bool
	directories bool
	bytes       rangeSet // of the content's data
	follow      bool     // with
	limit       uint64   // from which on references have to wait
}

func newSelection(p *Part) (selection, error) {
	if p == nil {
		return selection{}, nil
	}
	s := selection{partial: true, directories: p.Directories, follow: p.Follow}
	at := uint64(0)
	for _, r := range p.Ranges {
		if r.Offset < at || r.Offset+r.Length < r.Offset {
			return s, errors.New("swarm: ranges must be ascending and not overlap")
		}
		at = r.Offset + r.Length
		s.bytes.add(span{r.Offset, at})
	}
	return s, nil
}

// choice is what a selection says of a reference.
type choice uint8

const (
	chosen      choice = iota // and all that is below it
	chosenParts               // some of what is below it
	notChosen
	notYet
)

func (s *selection) choose(st step) choice {
	place := span{st.offset, st.offset + st.ref.Size}
	switch {
	case !s.partial:
		return chosen
	case s.directories && st.ref.Kind == content.KindDirectory:
		return chosen
	case s.directories, place.len() == 0, !s.bytes.overlaps(place):
		return notChosen
	case s.follow && place.lo >= s.limit:
		return notYet
	case !s.follow && s.bytes.covers(place):
		return chosen
	}
	return chosenParts
}

// Read tells a download with Part.Follow that somebody is about to read the
// content's data from offset on. What of the next ahead bytes is not in the
// store is fetched, in this order. A call that goes on in the window of the last
// one, up to 1 MiB behind where that was, moves it; any other gives up all that is
// under way elsewhere, and begins there. It does not wait.
func (d *Download) Read(offset, ahead uint64) {
	d.mu.Lock()
	d.reading = window{offset, offset + min(ahead, ^offset)}
	d.mu.Unlock()
	d.poke()
}

// window is the part of the data that a reader wants next, [at, end).
type window struct{ at, end uint64 }

const (
	// readOn is how far a reader may skip without leaving its window.
	readOn = 1 << 20
	// dueBytes is how much in front of a reader is worth asking two peers for.
	dueBytes = 1 << 20
)

// follow takes note of where the reader is.
func (o *owner) follow(now time.Time) {
	o.d.mu.Lock()
	w := o.d.reading
	o.d.mu.Unlock()
	before := o.reading
	if w == before || !o.follows() {
		return
	}
	o.reading = w
	o.sched.due = w.at + min(dueBytes, ^w.at)
	switch {
	case before.end == 0: // the root at most is under way, and what begins the content
		if w.at > 0 {
			o.abandonAll()
		}
		o.walk.front.part = o.part()
	case w.at >= before.at && w.at-before.at <= readOn && w.at <= before.end:
		o.reading.end = max(w.end, before.end)
		o.walk.front.part.limit = o.reading.end
	default:
		o.abandonAll()
		o.sched.forget(&o.plan)
		o.restart(now)
		o.walk.leave()
	}
}

// leave begins to give up everything that is under way. What the prober, the
// verifiers and the store have is waited for.
func (w *walk) leave() {
	w.leaving = true
	w.again, w.blocked = nil, nil
}

// comeBack begins the walk again where the reader is, once nothing of the
// former one is under way. What is here already is found in the store.
func (w *walk) comeBack(o *owner) {
	if !w.leaving || w.busy() || o.pipe.pending() {
		return
	}
	w.leaving = false
	w.front = newFrontier(o.part())
	clear(w.nodes)
	clear(w.stored)
	w.again = append(w.again[:0], w.front.begin(o.cfg.Root))
}

// part is the selection that the walk begins with.
func (o *owner) part() selection {
	s := o.selection
	if o.follows() {
		s.limit, s.bytes = o.reading.end, rangeSet{[]span{{o.reading.at, ^uint64(0)}}}
	}
	return s
}

// follows reports whether somebody says what to fetch.
func (o *owner) follows() bool { return o.selection.follow }

// idle reports whether the download waits for its reader.
func (o *owner) idle() bool {
	return o.follows() && o.sched.size() == 0 && !o.walk.busy() && !o.walk.leaving && len(o.walk.again) == 0 && o.walk.front.waits()
}
