package swarm

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/stc"
)

// pipe leads blobs from the network through the verifiers to the store. Each
// stage takes what has gathered before it while it was busy, so batches grow
// by themselves when a stage is what limits. It belongs to the owner.
type pipe struct {
	gathered   []arrival // not yet verified
	lingering  time.Time // until when a small batch may wait for more
	verifyJobs chan *verifyJob
	verifying  int // jobs with the verifiers

	verified   []arrival // not yet stored
	commitJobs chan commitJob
	committing int    // jobs with the committers
	nextCommit uint64 // number of the next job
	nextStored uint64 // number of the job whose result counts next
	early      []commitDone

	spare []*verifyJob
}

// arrival is a blob that a peer has sent.
type arrival struct {
	item *item
	from *candidate
	blob []byte
}

const (
	// lanes is how many blobs are hashed side by side at the price of hardly
	// more than one.
	lanes = 4
	// linger is how long a batch that leaves lanes empty waits, if more is
	// sure to come within that time.
	linger = 2 * time.Millisecond

	maxVerifyBlobs = 64
	maxVerifyBytes = 1 << 20

	// committers is how many goroutines store: one can seal while the other
	// waits for the disk.
	committers     = 2
	maxCommitBlobs = 4096
	maxCommitBytes = 8 << 20
	// minOverlap is how much must have gathered before a second committer
	// starts while the first is at work, unless nothing more is expected.
	minOverlap = 1 << 20
)

// verifyJob is a batch on its way through a verifier and back.
type verifyJob struct {
	arrivals []arrival
	first    []step // for each arrival, of a node, where it belongs
	isNode   []bool
	blobs    [][]byte
	sums     []stc.Hash
	nodes    []*content.Node // read from verified nodes
	errs     []error         // what is wrong with the content of a verified blob
}

type commitJob struct {
	number uint64
	group  []arrival
	output []placed // what of it goes to the output
}

// placed is a chunk with its only place in the content.
type placed struct {
	offset uint64
	chunk  []byte
}

// commitDone is a committer's event.
type commitDone struct {
	commitJob
	err error
}

func (p *pipe) begin(o *owner) {
	p.verifyJobs = make(chan *verifyJob, o.cfg.Verifiers)
	p.commitJobs = make(chan commitJob, committers)
	for range o.cfg.Verifiers {
		o.workers.Go(func() {
			for job := range p.verifyJobs {
				job.verify()
				o.events <- job
			}
		})
	}
	for range committers {
		o.workers.Go(func() {
			for job := range p.commitJobs {
				o.events <- commitDone{job, o.cfg.commit(job)}
			}
		})
	}
}

// busy reports whether verifiers or committers have work. They answer each
// job; the owner listens as long.
func (p *pipe) busy() bool { return p.verifying+p.committing > 0 }

// pending reports whether anything is on its way from the network to the store.
func (p *pipe) pending() bool {
	return p.busy() || len(p.gathered)+len(p.verified)+len(p.early) > 0
}

// gather takes a blob from the network.
func (o *owner) gather(a arrival) { o.pipe.gathered = append(o.pipe.gathered, a) }

// advance hands out work. It returns when to come again, zero for never.
func (p *pipe) advance(o *owner, now time.Time) (next time.Time) {
	for p.verifying < o.cfg.Verifiers && len(p.gathered) > 0 {
		if p.lingering.IsZero() && p.worthWaiting(o) {
			p.lingering = now.Add(linger)
		}
		if now.Before(p.lingering) && len(p.gathered) < lanes {
			next = p.lingering
			break
		}
		p.lingering = time.Time{}
		p.startVerify(o)
	}
	for p.committing < committers && len(p.verified) > 0 {
		if p.committing > 0 && o.sched.asked > 0 && bytesOf(p.verified, minOverlap) < minOverlap {
			break // more will come until the other committer is ready
		}
		p.startCommit(o)
	}
	return next
}

// worthWaiting reports whether lanes that are empty now will have something to
// do in a moment.
func (p *pipe) worthWaiting(o *owner) bool {
	missing := lanes - len(p.gathered)
	if missing <= 0 {
		return false
	}
	size := 0
	for _, a := range p.gathered {
		if a.item.node {
			return false
		}
		size = max(size, len(a.blob))
	}
	need := missing * size
	return o.sched.asked >= need && o.meter.rate*linger.Seconds() >= float64(need)
}

func (p *pipe) startVerify(o *owner) {
	var job *verifyJob
	if n := len(p.spare); n > 0 {
		job, p.spare = p.spare[n-1], p.spare[:n-1]
	} else {
		job = new(verifyJob)
	}
	n, size := 0, 0
	for n < len(p.gathered) && n < maxVerifyBlobs {
		size += len(p.gathered[n].blob)
		if n >= lanes && size > maxVerifyBytes {
			break
		}
		n++
	}
	job.take(p.gathered[:n], o.walk.nodes)
	p.gathered = slices.Delete(p.gathered, 0, n)
	p.verifying++
	p.verifyJobs <- job
}

func (j *verifyJob) take(batch []arrival, nodes map[stc.Hash][]step) {
	n := len(batch)
	j.arrivals = append(j.arrivals[:0], batch...)
	j.blobs = j.blobs[:0]
	j.first = slices.Grow(j.first[:0], n)[:n]
	j.isNode = slices.Grow(j.isNode[:0], n)[:n]
	j.sums = slices.Grow(j.sums[:0], n)[:n]
	j.nodes = slices.Grow(j.nodes[:0], n)[:n]
	j.errs = slices.Grow(j.errs[:0], n)[:n]
	clear(j.nodes)
	clear(j.errs)
	for i, a := range batch {
		j.blobs = append(j.blobs, a.blob)
		j.isNode[i] = a.item.node
		if a.item.node {
			j.first[i] = nodes[a.item.hash][0]
		}
	}
}

// verify hashes the blobs and reads the nodes among them.
func (j *verifyJob) verify() {
	stc.SumMany(j.sums, j.blobs)
	for i, a := range j.arrivals {
		switch {
		case j.sums[i] != a.item.hash:
		case j.isNode[i]:
			// The node keeps its bytes, so they must not be those of the pool.
			j.nodes[i], j.errs[i] = j.first[i].decode(slices.Clone(a.blob))
		case len(a.blob) != a.item.size:
			j.errs[i] = fmt.Errorf("%w: chunk %v has %d bytes where %d were promised",
				ErrBadManifest, a.item.hash, len(a.blob), a.item.size)
		}
	}
}

func (j *verifyJob) handle(o *owner, now time.Time) {
	p := &o.pipe
	p.verifying--
	for i, a := range j.arrivals {
		switch {
		case j.sums[i] != a.item.hash:
			o.count.Bad += uint64(len(a.blob))
			a.from.bad += uint64(len(a.blob))
			o.host.release(a.blob)
			o.sched.rejected(a.item)
			if a.from.conn != nil {
				o.drop(a.from, ErrBadBlob, now)
			}
			a.from.state, a.from.err = SourceBanned, ErrBadBlob
		case j.errs[i] != nil:
			o.host.release(a.blob)
			o.fail(j.errs[i])
		default:
			if j.isNode[i] {
				o.expandAll(a, j.nodes[i])
			} else if a.from.conn != nil {
				o.sched.proved(a.from.conn.id)
			}
			p.verified = append(p.verified, a)
		}
	}
	clear(j.arrivals)
	clear(j.blobs)
	p.spare = append(p.spare, j)
}

// expandAll opens a verified node wherever the content refers to it.
func (o *owner) expandAll(a arrival, n *content.Node) {
	steps := o.walk.nodes[a.item.hash]
	delete(o.walk.nodes, a.item.hash)
	for i, s := range steps {
		if i > 0 {
			// Another place may promise something else.
			again, err := s.decode(slices.Clone(a.blob))
			if err != nil {
				o.fail(err)
				return
			}
			n = again
		}
		o.expand(s, n)
	}
}

func (p *pipe) startCommit(o *owner) {
	n, size := 0, 0
	for n < len(p.verified) && n < maxCommitBlobs && size < maxCommitBytes {
		size += len(p.verified[n].blob)
		n++
	}
	group := slices.Clone(p.verified[:n])
	p.verified = slices.Delete(p.verified, 0, n)
	p.committing++
	p.nextCommit++
	job := commitJob{number: p.nextCommit - 1, group: group}
	if o.cfg.Output != nil {
		job.output = placesOf(group)
	}
	p.commitJobs <- job
}

// placesOf lists the chunks that stand at one place only, as far as the walk
// has come. Those that repeat are left to who writes the rest.
func placesOf(group []arrival) (list []placed) {
	for _, a := range group {
		if it := a.item; !it.node && len(it.places) == 1 && it.places[0].len() == 1 {
			list = append(list, placed{it.offset, a.blob})
		}
	}
	return list
}

func bytesOf(group []arrival, enough int) (n int) {
	for _, a := range group {
		if n += len(a.blob); n >= enough {
			break
		}
	}
	return n
}

// commit stores a group, and writes it to the output while the store waits for
// the disk. What was verified is stored even when the download is being
// cancelled, so its context is not asked.
func (c *Config) commit(job commitJob) error {
	hashes := make([]stc.Hash, len(job.group))
	blobs := make([][]byte, len(job.group))
	for i, a := range job.group {
		hashes[i], blobs[i] = a.item.hash, a.blob
	}
	var writing sync.WaitGroup
	if len(job.output) > 0 {
		writing.Go(func() {
			for _, w := range job.output {
				c.Output.WriteChunk(w.offset, w.chunk)
			}
		})
	}
	err := c.Store.PutVerified(context.Background(), hashes, blobs)
	writing.Wait()
	return err
}

// handle counts groups as stored in the order in which they were verified:
// then a chunk that is announced is never here before the nodes above it.
func (e commitDone) handle(o *owner, now time.Time) {
	p := &o.pipe
	p.committing--
	p.early = append(p.early, e)
	for {
		i := slices.IndexFunc(p.early, func(d commitDone) bool { return d.number == p.nextStored })
		if i < 0 {
			return
		}
		d := p.early[i]
		p.early = slices.Delete(p.early, i, i+1)
		p.nextStored++
		if d.err != nil {
			o.broken = true
			o.fail(fmt.Errorf("store: %w", d.err))
		}
		if !o.broken {
			o.storedGroup(d.group, now)
		}
	}
}

// storedGroup counts what is durable now.
func (o *owner) storedGroup(group []arrival, now time.Time) {
	o.progress = now
	var here []span
	for _, a := range group {
		it, n := a.item, uint64(len(a.blob))
		o.host.release(a.blob)
		o.sched.stored(it)
		o.walk.noteStored(it)
		o.count.Fetched += n
		o.count.FetchedBlobs++
		a.from.bytes += n
		a.from.blobs++
		a.from.failures = 0
		if it.node {
			// It may have turned up in yet another place since it was read.
			o.walk.again = append(o.walk.again, o.walk.nodes[it.hash]...)
			delete(o.walk.nodes, it.hash)
			continue
		}
		for _, place := range it.places {
			o.count.DoneSize += n * place.len()
			o.count.DoneChunks += place.len()
			here = append(here, place)
		}
	}
	o.d.have.add(here...)
}

// noteStored remembers a blob that probes under way may have missed.
func (w *walk) noteStored(it *item) {
	if w.sent > w.answered {
		w.stored[it.hash] = w.sent
	}
}

// flush stores what was verified when the download ends early.
func (p *pipe) flush(o *owner) {
	if len(p.verified) == 0 || o.broken {
		return
	}
	if o.cfg.commit(commitJob{group: p.verified}) == nil {
		o.storedGroup(p.verified, time.Now())
	}
	p.verified = nil
}
