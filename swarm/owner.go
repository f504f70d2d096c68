package swarm

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/seigr/sttnode/stc"
)

// owner is a download that runs. Its fields belong to the goroutine of Run;
// all others reach it by events only.
type owner struct {
	d   *Download
	cfg Config
	ctx context.Context // of Run

	host    connHost
	events  chan event
	stop    context.CancelFunc // ends the host's context, and so all streams
	conns   sync.WaitGroup
	workers sync.WaitGroup

	selection selection // of Part, without what a reader says
	reading   window    // what the reader wants, if the download follows one

	sched *scheduler
	plan  plan
	walk  walk
	pipe  pipe
	grant grant

	candidates []*candidate
	byNode     map[stc.Hash]*candidate
	serving    map[peerID]*candidate
	noMore     bool
	unsettled  bool      // some peer's state changed: connect has something to do
	nextRetry  time.Time // when the next failed peer is due; zero for none
	reserve    int       // peers that wait for a place
	rotated    time.Time // when one last made room for another
	tried      time.Time // when it was last looked who was of no use at all

	count     Progress // what Progress shows; the rest of it is filled in by publish
	meter     meter
	limits    limiting
	published time.Time
	polled    time.Time
	progress  time.Time // when something last went on
	moved     int64     // bytes of blobs that had come then
	failure   error
	broken    bool // the store failed; nothing more is given to it
}

// event is something that a goroutine of the download tells its owner.
type event interface{ handle(o *owner, now time.Time) }

const (
	// eventQueue is how many events may wait for the owner.
	eventQueue = 64
	// pipelineSlack is how much more than the budget may be between reading
	// and storing: nodes of unexpected length, and what nobody asked for.
	pipelineSlack = 8 << 20
	// pollInterval is how often the owner looks at what comes in the middle of
	// blobs.
	pollInterval = 250 * time.Millisecond
)

func newOwner(ctx context.Context, d *Download) *owner {
	seed := d.cfg.Seed
	if seed == 0 {
		seed = rand.Uint64()
	}
	o := &owner{
		d:      d,
		cfg:    d.cfg,
		ctx:    ctx,
		events: make(chan event, eventQueue),
		sched: newScheduler(schedulerConfig{
			budget:     d.cfg.Budget,
			timeout:    d.cfg.PeerTimeout,
			sequential: d.cfg.Sequential,
			seed:       seed,
			self:       lotKey(d.cfg.Self),
		}),
		byNode:  make(map[stc.Hash]*candidate),
		serving: make(map[peerID]*candidate),
	}
	o.selection, _ = newSelection(d.cfg.Part) // checked with the configuration
	d.mu.Lock()
	o.reading = d.reading
	d.mu.Unlock()
	connCtx, stop := context.WithCancel(context.Background())
	o.stop = stop
	o.host = connHost{
		d:        d,
		ctx:      connCtx,
		events:   o.events,
		buffers:  &bufferPool{limit: d.cfg.Budget},
		pipeline: semaphore.NewWeighted(int64(d.cfg.Budget + pipelineSlack)),
	}
	o.walk.begin(o)
	o.pipe.begin(o)
	return o
}

// run is the goroutine that owns the download.
func (o *owner) run() error {
	o.progress = time.Now()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		now := time.Now()
		next := o.step(now)
		if o.failure != nil || o.complete() {
			break
		}
		if now.Sub(o.published) >= snapshotInterval {
			o.publish(now)
		}
		timer.Reset(next.Sub(now))
		select {
		case e := <-o.events:
			o.handle(e)
		case <-o.d.wake:
			o.admit()
			o.follow(time.Now())
		case <-timer.C:
		case <-o.ctx.Done():
			o.fail(context.Cause(o.ctx))
		}
	}
	o.shutdown()
	return o.failure
}

// handle takes an event and those behind it, so that one decision follows many
// of them.
func (o *owner) handle(e event) {
	now := time.Now()
	e.handle(o, now)
	for range eventQueue {
		select {
		case e = <-o.events:
			e.handle(o, now)
		default:
			return
		}
	}
}

// step does all that can be done now and returns when to come again.
func (o *owner) step(now time.Time) (next time.Time) {
	next = o.progress.Add(o.cfg.StallTimeout)
	sooner := func(t time.Time) {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	o.poll(now)
	o.walk.comeBack(o)
	o.walk.advance(o)
	o.sched.draining = o.walk.done()
	wake := o.sched.schedule(now, &o.plan)
	for o.execute(now) || o.grantMore(now) {
		wake = o.sched.schedule(now, &o.plan)
	}
	sooner(wake)
	sooner(o.grant.at)
	sooner(o.pipe.advance(o, now))
	o.try(now)
	o.rotate(now)
	sooner(o.connect(now))
	sooner(o.polled.Add(pollInterval))
	o.checkStalled(now)
	if !next.After(now) {
		next = now.Add(pollInterval) // stalled, but the disk is to blame, not the peers
	}
	return next
}

// execute carries out what the scheduler decided. It returns whether peers
// were dropped, so that there is something new to decide.
func (o *owner) execute(now time.Time) (dropped bool) {
	for _, c := range o.plan.cancels {
		if conn := o.connOf(c.peer); conn != nil {
			conn.batch = appendRequest(conn.batch, msgCancel, c.request)
		}
	}
	for _, w := range o.plan.wants {
		conn := o.connOf(w.peer)
		switch {
		case conn == nil:
		case w.follow != nil:
			conn.batch = appendFollow(conn.batch, w.request, w.hash, *w.follow)
		default:
			conn.batch = appendWant(conn.batch, w.request, w.hash)
		}
	}
	if len(o.plan.cancels)+len(o.plan.wants) > 0 {
		for _, c := range o.serving {
			if len(c.conn.batch) > 0 {
				c.conn.out.put(c.conn.batch)
				c.conn.batch = c.conn.batch[:0]
			}
		}
	}
	for _, id := range o.plan.dead {
		if c := o.serving[id]; c != nil {
			o.drop(c, ErrTimeout, now)
			dropped = true
		}
	}
	o.plan.reset()
	return dropped
}

func (o *owner) connOf(id peerID) *peerConn {
	if c := o.serving[id]; c != nil {
		return c.conn
	}
	return nil
}

// poll looks at what is going on in the middle of blobs, and at streams that
// do not begin.
func (o *owner) poll(now time.Time) {
	if now.Sub(o.polled) < pollInterval {
		return
	}
	o.polled = now
	var moved int64
	for _, c := range o.candidates {
		if c.conn == nil {
			continue
		}
		n := c.conn.received.Load()
		o.sched.progress(c.conn.id, n, now)
		moved += n
		if !c.conn.have && now.Sub(c.since) > 2*o.cfg.DialTimeout {
			o.drop(c, ErrTimeout, now)
		}
	}
	if moved-o.moved >= progressBytes {
		o.progress = now
	}
	if moved < o.moved || moved-o.moved >= progressBytes {
		o.moved = moved
	}
	o.meter.update(now, o.count.Fetched)
	o.limits.see(o.bottleneck(now))
}

func (o *owner) checkStalled(now time.Time) {
	switch {
	case o.failure != nil || o.complete() || o.sched.held > 0 || o.pipe.storing():
	case o.idle():
		o.progress = now
	case o.exhausted() && !o.walk.busy():
		o.fail(o.withLastError(ErrNoPeers))
	case now.Sub(o.progress) < o.cfg.StallTimeout:
	case len(o.serving) == 0:
		o.fail(o.withLastError(ErrNoPeers))
	default:
		o.fail(o.withLastError(ErrStalled))
	}
}

// fail ends the download with its first error.
func (o *owner) fail(err error) {
	if o.failure == nil {
		o.failure = err
	}
}

// complete reports whether everything below the root is stored.
func (o *owner) complete() bool {
	return o.walk.done() && o.sched.size() == 0 && !o.follows()
}

// shutdown ends all goroutines, stores what was verified, and makes the final
// snapshot.
func (o *owner) shutdown() {
	o.stop()
	o.grant.cancel()
	o.conns.Wait()
	close(o.walk.jobs)
	close(o.pipe.verifyJobs)
	close(o.pipe.commitJobs)
	for o.walk.busy() || o.pipe.busy() {
		(<-o.events).handle(o, time.Now())
	}
	o.workers.Wait()
	o.pipe.flush(o)
	o.abandonAll()
	if o.failure == nil {
		o.count.Complete = true
		if !o.selection.partial {
			o.d.have.finish()
		}
	}
	clear(o.serving)
	o.publish(time.Now())
}

// publish makes a snapshot.
func (o *owner) publish(now time.Time) {
	o.published = now
	p := o.count
	p.Rate = o.meter.rate
	p.Limit = o.limits.most()
	for _, c := range o.candidates {
		if c.conn != nil {
			p.Partial += uint64(c.conn.received.Load()) - c.conn.whole
		}
	}
	p.InFlight, p.Held = o.sched.asked, o.sched.held
	p.Limited = o.sched.allow.starved
	p.Serving = len(o.serving)
	p.Sources = make([]Source, 0, len(o.candidates))
	for _, c := range o.candidates {
		s := Source{Node: c.node, Addr: c.addr, State: c.state, Bytes: c.bytes, Blobs: c.blobs, Bad: c.bad, Err: c.err}
		if c.conn != nil {
			if sp := o.sched.byID[c.conn.id]; sp != nil && sp.est.known() {
				s.Rate, s.Latency = sp.est.bytesPerSecond(), sp.est.roundTrip()
			}
		}
		p.Sources = append(p.Sources, s)
	}
	o.d.progress.Store(&p)
}
