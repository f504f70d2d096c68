package swarm

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/stc"
)

// walk leads the references of the manifests into the scheduler's window: from
// the frontier through the prober, which asks the store what is there already.
// It belongs to the owner.
type walk struct {
	front *frontier
	again []step              // to be probed before anything new
	taken []step              // of advance, which mostly finds nothing
	nodes map[stc.Hash][]step // nodes of the window, with where they belong

	jobs     chan probeJob
	sent     uint64 // jobs handed to the prober
	answered uint64 // and their results taken; the prober keeps the order
	probing  int    // steps in them

	// stored are the blobs that were stored while a job was out, with the last
	// job sent by then: that job may not have seen them.
	stored map[stc.Hash]uint64
	// blocked is a blob with another reference to which the window has no room
	// to note. Nothing goes on before it is stored.
	blocked *item
	// leaving tells that the walk is being given up for another one.
	leaving bool
}

const (
	// probeBatch is how many references the prober is asked about at a time,
	// probeJobs how many times.
	probeBatch = 256
	probeJobs  = 2
)

type probeJob struct{ steps []step }

// probed is what the store says of a reference.
type probed struct {
	step
	here bool
	read *content.Node // of a node that is here
}

// probeDone is the prober's event.
type probeDone struct {
	results []probed
	err     error
}

func (w *walk) begin(o *owner) {
	w.front = newFrontier(o.part())
	w.nodes = make(map[stc.Hash][]step)
	w.stored = make(map[stc.Hash]uint64)
	w.again = append(w.again, w.front.begin(o.cfg.Root))
	w.jobs = make(chan probeJob, probeJobs)
	o.workers.Go(func() { probe(o.cfg.Store, w.jobs, o.events) })
}

// busy reports whether the prober has work.
func (w *walk) busy() bool { return w.sent > w.answered }

// done reports whether every reference has reached the window or was found in
// the store.
func (w *walk) done() bool {
	return !w.busy() && !w.leaving && len(w.again) == 0 && w.front.done()
}

// advance keeps the prober busy as long as the window has room.
func (w *walk) advance(o *owner) {
	if w.leaving {
		return
	}
	if w.blocked != nil {
		if w.blocked.state != itemDone {
			return
		}
		w.blocked = nil
	}
	for w.sent-w.answered < probeJobs {
		room := min(probeBatch, o.cfg.Window-o.sched.size()-w.probing)
		if room <= 0 {
			return
		}
		n := min(room, len(w.again))
		steps := append(w.taken[:0], w.again[:n]...)
		w.again = append(w.again[:0], w.again[n:]...)
		steps = w.front.take(steps, room-n)
		w.taken = steps
		if len(steps) == 0 {
			return
		}
		if steps = o.skipRepeated(steps); len(steps) == 0 {
			continue
		}
		w.sent++
		w.probing += len(steps)
		w.jobs <- probeJob{slices.Clone(steps)}
	}
}

// skipRepeated takes out the nodes that were met before: what lies below them
// needs no second look, only to be counted.
func (o *owner) skipRepeated(steps []step) []step {
	kept := steps[:0]
	for _, s := range steps {
		if s.repeated {
			o.count.DoneSize += s.ref.Size
			o.count.DoneChunks += s.ref.Chunks
			o.d.have.repeat(s.repeat())
			continue
		}
		kept = append(kept, s)
	}
	return kept
}

// probe is the goroutine that asks the store. It runs until jobs is closed,
// and answers each of them; the owner listens as long.
func probe(store Store, jobs <-chan probeJob, events chan<- event) {
	for job := range jobs {
		done := probeDone{results: make([]probed, 0, len(job.steps))}
		for _, s := range job.steps {
			p, err := probeOne(store, s)
			if err != nil {
				done.err = err
				break
			}
			done.results = append(done.results, p)
		}
		events <- done
	}
}

// blobReader is the part of Store and ServerStore that walks use.
type blobReader interface {
	Has(h stc.Hash) (bool, error)
	Get(dst []byte, h stc.Hash) ([]byte, error)
}

// probeOne asks for one reference. A blob that is here but damaged counts as
// missing.
func probeOne(store blobReader, s step) (p probed, err error) {
	p.step = s
	p.here, err = store.Has(s.ref.Hash)
	if err != nil || !p.here || !s.node() {
		return p, err
	}
	blob, err := store.Get(nil, s.ref.Hash)
	if errors.Is(err, content.ErrNotFound) || errors.Is(err, content.ErrCorrupt) {
		p.here = false
		return p, nil
	}
	if err != nil {
		return p, err
	}
	p.read, err = s.decode(blob)
	return p, err
}

func (e probeDone) handle(o *owner, now time.Time) {
	w := &o.walk
	w.answered++
	if e.err != nil {
		o.fail(e.err)
		return
	}
	w.probing -= len(e.results)
	if w.leaving {
		return
	}
	var here []span
	for _, p := range e.results {
		_, since := w.stored[p.ref.Hash]
		switch {
		case w.blocked != nil || since && !p.here:
			w.again = append(w.again, p.step)
		case p.here:
			o.progress = now
			o.reused(p, &here)
		default:
			o.want(p.step, now)
		}
	}
	o.d.have.add(here...)
	for h, job := range w.stored {
		if job <= w.answered {
			delete(w.stored, h)
		}
	}
}

// reused notes a blob that the store had.
func (o *owner) reused(p probed, here *[]span) {
	if p.node() {
		o.expand(p.step, p.read)
		o.count.ReusedBlobs++
		return
	}
	if !o.follows() { // who seeks meets again what he has fetched
		o.count.ReusedBlobs++
		o.count.Reused += p.ref.Size
		o.count.DoneSize += p.ref.Size
		o.count.DoneChunks++
	}
	if n := len(*here); n > 0 && (*here)[n-1].hi == p.first {
		(*here)[n-1].hi++
	} else {
		*here = append(*here, p.place())
	}
}

// want puts a blob that is not here into the window.
func (o *owner) want(s step, now time.Time) {
	it := o.sched.items[s.ref.Hash]
	switch {
	case it != nil && !s.node() && !it.node && it.size != s.expectedSize():
		o.fail(fmt.Errorf("%w: chunk %v of two sizes", ErrBadManifest, s.ref.Hash))
	case it != nil && it.node != s.node(), !o.sched.add(s.ref.Hash, s.expectedSize(), s.node(), s.place()):
		// The same bytes are a node and a chunk, or stand at very many places.
		o.walk.blocked = o.sched.items[s.ref.Hash]
		o.walk.again = append(o.walk.again, s)
	case s.node():
		o.walk.nodes[s.ref.Hash] = append(o.walk.nodes[s.ref.Hash], s)
	}
	if fresh := o.sched.items[s.ref.Hash]; it == nil && fresh != nil {
		fresh.offset = s.offset
		if s.node() {
			fresh.follow = o.followFor(s)
		}
		o.claim(fresh, now)
	}
}

// expand opens a node.
func (o *owner) expand(s step, n *content.Node) {
	if s.root {
		o.count.Size, o.count.Chunks = n.Size, n.Chunks
	}
	for _, p := range o.sched.peers {
		p.following.enter(s.ref.Hash, n)
	}
	if err := o.walk.front.expand(s, n); err != nil {
		o.fail(err)
	}
}
