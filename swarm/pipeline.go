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

// pipe leads blobs from the network through the verifiers to the store:
//
//	gathered -> verifiers -> verified -> committer -> settler
//
// The committer gives groups to the store and the output, which then have no
// more need of our memory; the settler waits until each is durable. So nothing
// waits for the disk to sync but what was written meanwhile. Each stage takes
// what has gathered before it while it was busy: batches grow by themselves
// when a stage is what limits. It belongs to the owner.
type pipe struct {
	gathered   []arrival // not yet verified
	lingering  time.Time // until when a small batch may wait for more
	verifyJobs chan *verifyJob
	verifying  int // jobs with the verifiers

	verified   []arrival // not yet given to the store
	commitJobs chan *commitJob
	committing bool // a job is with the committer
	settling   int  // jobs with the settler

	spare []*verifyJob
}

// arrival is a blob that a peer has sent.
type arrival struct {
	item *item
	from *candidate
	blob []byte // nil once the store has it
	size int
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

	maxCommitBlobs = 4096
	maxCommitBytes = 8 << 20
	// maxSettling is how many groups may wait for the disk. The store has
	// limits of its own, in bytes.
	maxSettling = 64
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

// commitJob is a group on its way to the disk. What the committer does is its
// first event, what the settler does its second.
type commitJob struct {
	group   []arrival
	output  []placed // what of it goes to the output
	durable func(context.Context) error
	err     error
}

// placed is a chunk with its only place in the content.
type placed struct {
	offset uint64
	chunk  []byte
}

type (
	handedOver struct{ *commitJob } // the committer's event
	settled    struct{ *commitJob } // the settler's
)

func (p *pipe) begin(o *owner) {
	p.verifyJobs = make(chan *verifyJob, o.cfg.Verifiers)
	p.commitJobs = make(chan *commitJob, 1)
	for range o.cfg.Verifiers {
		o.workers.Go(func() {
			for job := range p.verifyJobs {
				job.verify()
				o.events <- job
			}
		})
	}
	toSettle := make(chan *commitJob, maxSettling)
	o.workers.Go(func() {
		defer close(toSettle)
		for job := range p.commitJobs {
			job.handOver(&o.cfg)
			o.events <- handedOver{job}
			toSettle <- job
		}
	})
	o.workers.Go(func() {
		for job := range toSettle {
			job.settle()
			o.events <- settled{job}
		}
	})
}

// busy reports whether somebody has work. All answer each job; the owner
// listens as long.
func (p *pipe) busy() bool { return p.verifying > 0 || p.storing() }

// storing reports whether something is on its way to the disk.
func (p *pipe) storing() bool { return p.committing || p.settling > 0 }

// pending reports whether anything is on its way from the network to the store.
func (p *pipe) pending() bool {
	return p.busy() || len(p.gathered)+len(p.verified) > 0
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
	if !p.committing && len(p.verified) > 0 {
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
	p.committing = true
	job := &commitJob{group: group}
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

// handOver gives a group to the store, and writes it to the output meanwhile.
// What was verified is stored even when the download is being cancelled, so
// its context is not asked.
func (j *commitJob) handOver(c *Config) {
	hashes := make([]stc.Hash, len(j.group))
	blobs := make([][]byte, len(j.group))
	for i, a := range j.group {
		hashes[i], blobs[i] = a.item.hash, a.blob
	}
	var writing sync.WaitGroup
	if len(j.output) > 0 {
		writing.Go(func() {
			for _, w := range j.output {
				c.Output.WriteChunk(w.offset, w.chunk)
			}
		})
	}
	j.durable, j.err = c.Store.Submit(context.Background(), hashes, blobs)
	writing.Wait()
	j.output = nil
}

// settle waits until a group is durable.
func (j *commitJob) settle() {
	if j.err == nil {
		j.err = j.durable(context.Background())
	}
}

// handle makes room: nobody needs the bytes any more.
func (e handedOver) handle(o *owner, _ time.Time) {
	o.pipe.committing = false
	o.pipe.settling++
	o.handedOver(e.group)
}

func (o *owner) handedOver(group []arrival) {
	for i := range group {
		a := &group[i]
		o.host.release(a.blob)
		a.blob = nil
		o.sched.handedOver(a.item)
	}
}

// handle counts a group as stored. Groups come in the order in which they were
// verified: so a chunk that is announced is never here before the nodes above it.
func (e settled) handle(o *owner, now time.Time) {
	o.pipe.settling--
	if e.err != nil {
		o.broken = true
		o.fail(fmt.Errorf("store: %w", e.err))
	}
	if !o.broken {
		o.storedGroup(e.group, now)
	}
}

// storedGroup counts what is durable now.
func (o *owner) storedGroup(group []arrival, now time.Time) {
	o.progress = now
	var here []span
	for _, a := range group {
		it, n := a.item, uint64(a.size)
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
	job := commitJob{group: p.verified}
	job.handOver(&o.cfg)
	o.handedOver(job.group)
	if job.settle(); job.err == nil {
		o.storedGroup(job.group, time.Now())
	}
	p.verified = nil
}
