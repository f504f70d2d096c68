package swarm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seigr/sttnode/stc"
)

// candidate is a peer that was added, over all its streams. It belongs to the
// owner once that has seen it.
type candidate struct {
	node stc.Hash
	addr string
	dial Dialer

	state    SourceState
	conn     *peerConn // while dialling or serving
	since    time.Time // of the last stream, zero for none
	retryAt  time.Time // while waiting
	failures int       // in a row
	trials   int       // that ended without a blob since others waited for the place
	err      error
	former   *schedPeer // of a stream that was given up for the next one

	bytes, blobs, bad uint64
}

const (
	firstRetry = 250 * time.Millisecond
	lastRetry  = 8 * time.Second
)

// banWorthy reports whether a peer that failed so is not to be asked again.
func banWorthy(err error) bool {
	return errors.Is(err, ErrBadBlob) || errors.Is(err, ErrUseless) || errors.Is(err, ErrProtocol)
}

// admit takes the peers that were added since the last time.
func (o *owner) admit() {
	o.d.mu.Lock()
	added := o.d.added
	o.d.added = nil
	o.noMore = o.d.noMore
	o.d.mu.Unlock()
	o.unsettled = true
	for _, c := range added {
		known := o.byNode[c.node]
		switch {
		case known == nil && len(o.candidates) < maxCandidates:
			o.byNode[c.node] = c
			o.candidates = append(o.candidates, c)
		case known != nil && known.state == SourceFailed:
			known.state, known.failures = SourceReserve, 0
			known.dial, known.addr = c.dial, c.addr
		case known != nil && known.state == SourceWaiting:
			known.retryAt = time.Time{}
		}
	}
}

// connect opens streams to peers as long as more may be drawn from, first to
// those that were not tried for the longest time, and returns when the next
// failed one is due.
func (o *owner) connect(now time.Time) (next time.Time) {
	if !o.unsettled && (o.nextRetry.IsZero() || now.Before(o.nextRetry)) {
		return o.nextRetry
	}
	o.unsettled, o.nextRetry = false, time.Time{}
	busy := 0
	var ready []*candidate
	for _, c := range o.candidates {
		switch {
		case c.conn != nil:
			busy++
		case c.state == SourceReserve, c.state == SourceWaiting && !now.Before(c.retryAt):
			ready = append(ready, c)
		case c.state == SourceWaiting && (o.nextRetry.IsZero() || c.retryAt.Before(o.nextRetry)):
			o.nextRetry = c.retryAt
		}
	}
	slices.SortStableFunc(ready, func(a, b *candidate) int { return a.since.Compare(b.since) })
	n := min(len(ready), max(0, o.cfg.MaxPeers-busy))
	for _, c := range ready[:n] {
		o.dial(c, now)
	}
	o.reserve = len(ready) - n
	return o.nextRetry
}

const (
	// rotateInterval is how often a peer that is of little use makes room for
	// one in reserve, and how long each is given to show its use.
	rotateInterval = 5 * time.Second
	// littleUse is the part of the mean rate below which a peer is of little
	// use.
	littleUse = 0.1

	// firstTrial is how long a peer that has never sent a right blob keeps a place
	// for which others wait, from its dial on: each time twice as long, up to
	// lastTrial. So whoever can make a thousand of itself holds up an honest peer
	// for a minute, and the slow come to their turn.
	firstTrial = 2 * time.Second
	lastTrial  = 32 * time.Second
)

// trial is how long the peer may be without use now.
func (c *candidate) trial() time.Duration { return min(firstTrial<<min(c.trials, 8), lastTrial) }

// try takes their places from peers that have been of no use, as long as others
// wait for them. Nothing is to be learned of peers while nothing may be asked.
func (o *owner) try(now time.Time) {
	if o.reserve == 0 || now.Sub(o.tried) < pollInterval || o.sched.allow.spent() || o.idle() {
		return
	}
	o.tried = now
	for _, c := range o.candidates {
		if o.reserve > 0 && c.conn != nil && c.blobs == 0 && now.Sub(c.since) >= c.trial() {
			o.toReserve(c, now)
			c.trials++
			o.reserve--
		}
	}
}

// toReserve closes the stream of a peer, behind all that wait for a place.
func (o *owner) toReserve(c *candidate, now time.Time) {
	o.disconnect(c)
	c.state, c.since = SourceReserve, now
}

// rotate closes the stream of the least useful peer if others wait for its
// place.
func (o *owner) rotate(now time.Time) {
	if o.reserve == 0 || now.Sub(o.rotated) < rotateInterval {
		return
	}
	o.rotated = now
	var worst *candidate
	least := littleUse * o.sched.meanRate()
	for _, c := range o.serving {
		p := o.sched.byID[c.conn.id]
		rate := p.est.bytesPerSecond()
		switch {
		case now.Sub(c.since) < rotateInterval:
			continue
		case len(p.open) == 0 && now.Sub(p.heard) >= rotateInterval:
			rate = -1 // it has nothing that we need
		case p.snubbed:
			rate = 0
		}
		if rate < least {
			worst, least = c, rate
		}
	}
	if worst == nil {
		return
	}
	o.toReserve(worst, now)
}

func (o *owner) dial(c *candidate, now time.Time) {
	ctx, cancel := context.WithCancel(o.host.ctx)
	conn := &peerConn{candidate: c, dial: c.dial, host: o.host, cancel: cancel}
	conn.out.ready.L = &conn.out.mu
	c.state, c.conn, c.since = SourceDialling, conn, now
	o.conns.Go(func() { conn.run(ctx) })
}

// drop gives up a peer's stream. What it owes goes to others.
func (o *owner) drop(c *candidate, err error, now time.Time) {
	if c.conn == nil {
		return
	}
	o.disconnect(c)
	c.err = err
	c.failures++
	log := o.cfg.Logger.With("peer", c.node, "addr", c.addr, "err", err)
	switch {
	case banWorthy(err):
		c.state = SourceBanned
		log.Warn("peer banned from download")
	case c.failures >= o.cfg.MaxDials:
		c.state = SourceFailed
		log.Info("peer given up")
	default:
		c.state = SourceWaiting
		c.retryAt = now.Add(min(firstRetry<<(c.failures-1), lastRetry))
		log.Debug("peer lost", "retry", c.retryAt.Sub(now))
	}
}

// disconnect ends a peer's stream.
func (o *owner) disconnect(c *candidate) {
	conn := c.conn
	conn.dropped = true
	conn.cancel()
	if conn.id != 0 {
		o.abandon(o.sched.byID[conn.id])
		o.sched.removePeer(conn.id)
		delete(o.serving, conn.id)
	}
	c.conn = nil
	o.unsettled = true
}

// handle ends the account of a stream whose goroutines have ended.
func (e connGone) handle(o *owner, now time.Time) {
	// While the stream was there, publish counted this.
	o.count.Partial += uint64(e.conn.received.Load()) - e.conn.whole
	e.conn.whole = uint64(e.conn.received.Load())
	if !e.conn.dropped {
		err := e.err
		if err == nil {
			err = errors.New("stream ended")
		}
		o.drop(e.conn.candidate, err, now)
	}
}

// handle makes the peer known to the scheduler. It can be asked for the root
// behind OPEN at once, which saves a round trip; for everything else its HAVE
// is needed.
func (e connOpen) handle(o *owner, now time.Time) {
	conn := e.conn
	if !conn.dropped {
		conn.id = o.sched.addPeer(now)
		o.sched.byID[conn.id].key = lotKey(conn.candidate.node)
		if former := conn.candidate.former; former != nil {
			o.sched.resume(conn.id, former)
			conn.candidate.former = nil
		}
		o.serving[conn.id] = conn.candidate
	}
}

func (e connHave) handle(o *owner, now time.Time) {
	conn := e.conn
	if conn.dropped {
		return
	}
	conn.have = true
	conn.candidate.state = SourceServing
	if e.complete {
		o.sched.peerHasAll(conn.id)
	} else {
		o.sched.peerHas(conn.id, e.spans)
	}
}

func (e connAnswers) handle(o *owner, now time.Time) {
	conn := e.conn
	for _, a := range e.answers {
		conn.whole += uint64(len(a.blob))
		if conn.dropped || !conn.have {
			o.count.Unwanted += uint64(len(a.blob))
			if !conn.dropped {
				o.drop(conn.candidate, fmt.Errorf("%w: answer before HAVE", ErrProtocol), now)
			}
			o.discard(a)
			continue
		}
		if !o.answer(conn, a, now) {
			o.discard(a)
		}
	}
}

// answer takes an answer of a peer that is served. It returns whether its blob
// is kept.
func (o *owner) answer(conn *peerConn, a answer, now time.Time) (kept bool) {
	p := o.sched.byID[conn.id]
	handled, err := o.followed(p, a, now)
	if err != nil {
		o.count.Unwanted += uint64(len(a.blob))
		o.drop(conn.candidate, err, now)
	}
	if handled || err != nil {
		return handled
	}
	return o.settle(conn, p, a, now)
}

// settle closes the request that an answer is to.
func (o *owner) settle(conn *peerConn, p *schedPeer, a answer, now time.Time) (kept bool) {
	var v verdict
	var it *item
	switch a.kind {
	case msgBlob:
		it, v = o.sched.received(conn.id, a.request, len(a.blob), now, &o.plan)
	case msgMissing:
		v = o.sched.missing(conn.id, a.request, now)
	case msgCancelled:
		v = o.sched.cancelled(conn.id, a.request, now)
	}
	switch v {
	case answerWanted:
		o.gather(arrival{item: it, from: conn.candidate, blob: a.blob, size: len(a.blob)})
		return true
	case answerLate:
		o.count.Late += uint64(len(a.blob))
		o.count.Duplicate += uint64(len(a.blob))
	case answerDuplicate:
		o.count.Duplicate += uint64(len(a.blob))
	case answerUnwanted:
		o.count.Unwanted += uint64(len(a.blob))
	case answerUseless:
		o.drop(conn.candidate, ErrUseless, now)
	case answerUnasked:
		o.drop(conn.candidate, fmt.Errorf("%w: %v that was not asked for", ErrProtocol, a.kind), now)
	}
	if it != nil && it.node && p.following.of(a.request) {
		o.abandon(p) // the node came from somebody else first
	}
	return false
}

func (o *owner) discard(a answer) {
	if a.blob != nil {
		o.host.release(a.blob)
	}
}

// exhausted reports whether nobody is left and nobody will come.
func (o *owner) exhausted() bool {
	if !o.noMore {
		return false
	}
	for _, c := range o.candidates {
		if c.state != SourceFailed && c.state != SourceBanned {
			return false
		}
	}
	return true
}

// withLastError adds to err why peers failed: the last wrong blob if there
// was one, else the last failure.
func (o *owner) withLastError(err error) error {
	var last *candidate
	for _, c := range o.candidates {
		if c.err != nil && (last == nil || errors.Is(c.err, ErrBadBlob) || !errors.Is(last.err, ErrBadBlob) && c.since.After(last.since)) {
			last = c
		}
	}
	if last == nil {
		return err
	}
	return fmt.Errorf("%w: %d peers tried, %v: %w", err, len(o.candidates), last.node, last.err)
}
