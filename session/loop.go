package session

import (
	"errors"
	"net/netip"
	"time"

	"github.com/seigr/sttnode/frame"
)

// loop is the state of one session's protocol, owned by the goroutine that
// the strand has run it. Its flow: round is called for datagrams, streams that
// want attention, or a deadline; recv.go takes in what came; send.go puts out
// what may leave and says when it wants to be called again.
type loop struct {
	s   *Session
	cfg *Config

	seal *sealing
	open *opening

	recv  received
	loss  lossDetector
	rtt   rtt
	cc    congestion
	pace  pacer
	mtu   mtuSearch
	path  pathCheck
	peer  netip.AddrPort // validated address
	idle  time.Duration
	proof []byte // AUTH_PROOF, while the peer has not confirmed; initiator only
	final bool   // FINAL is to be sent; responder only

	// Flow control of the session, in sums of offsets over all streams.
	dataReceived uint64 // by the peer's frames
	dataLimit    uint64 // that the peer has been told
	dataWindow   uint64
	dataTunedAt  time.Time
	opened       uint64 // first windows that have been asked for
	widest       uint64 // window that any stream has had
	dataSent     uint64
	peerLimit    uint64 // that the peer has told us

	pending   controls // session records to send
	response  *[8]byte // PATH_RESPONSE to send, and where to
	respondTo netip.AddrPort
	probes    int // packets that may leave whatever the window says

	arrived    delivery     // what has been acknowledged of one stream and it has not been told yet
	held       heldFrames   // what has come in of one stream and it has not been given yet
	pieces     []piece      // of the stream whose turn it is
	settled    []sentPacket // taken by an ordered link: as good as delivered
	pinged     bool         // the frame that is being read holds a PING
	queue      schedule     // of streams with something to send
	recent     *Stream      // of the last DATA frame; nil once it has left the table
	starved    []*Stream    // streams whose turn came while there was no session credit
	dirty      []*Stream
	runs       []run
	ackScratch []byte    // of maxAckBody bytes, nil while idle
	proofAt    time.Time // when to send it again
	proofs     int

	lastHeard   time.Time // last authenticated frame
	lastElicit  time.Time // last frame sent that asks for an answer, since lastHeard
	bytesSent   uint64
	bytesRecv   uint64
	framesSent  uint64
	framesRecv  uint64
	duplicates  uint64
	ptos        uint64
	closing     *closeRequest
	closeFrame  []byte // the sealed CLOSE, repeated while closing
	closeUntil  time.Time
	closeEchoes int
	fault       error // ends the loop

	timer *time.Timer // asks for a round
	armed time.Time   // for when; zero if it is not
}

// newLoop makes the loop of a session, all but its keys.
func newLoop(s *Session, mtu mtuSearch, peer netip.AddrPort, now time.Time) *loop {
	l := &loop{
		s: s, cfg: s.cfg, mtu: mtu, peer: peer, lastHeard: now,
		idle:      min(s.cfg.IdleTimeout, s.peerParams.idleTimeout),
		dataLimit: s.cfg.params().sessionWindow, dataWindow: s.cfg.params().sessionWindow, peerLimit: s.peerParams.sessionWindow,
	}
	shared := &peerAccount{} // until the endpoint admits the session
	s.credit, s.user.in.memory = &account{of: s.ep.budget, peer: shared}, &account{of: s.ep.budget, peer: shared}
	l.cc = l.newCongestion()
	s.user.init(s.cfg.Frames == nil, &s.ep.sending)
	if s.link.ordered != nil {
		l.mtu, l.cc = mtuSearch{size: orderedFrame, tooBig: orderedFrame + 1}, orderedWindow{s.link.ordered}
	}
	s.creditAt.Store(l.dataLimit - l.dataWindow + l.dataWindow/creditShare)
	s.sendBuffer.Store(int64(min(initialSendBuffer, s.cfg.SendBuffer)))
	return l
}

// initialSendBuffer is what a stream may hold before the first
// acknowledgement tells of the path.
const initialSendBuffer = 128 << 10

// round takes in what there is, does what is due, and reports whether there is
// more to send at once. The last one frees what the session holds.
func (l *loop) round() (more bool) {
	l.takeIn()
	now := time.Now()
	next := l.step(now)
	l.publish()
	if l.s.State() == StateClosed {
		l.finish()
		return false
	}
	if next.IsZero() {
		return false
	}
	if !next.After(now) {
		return true
	}
	// The timer is only ever moved forward: deadlines come and go with every
	// frame, and moving it each time costs more than a round too many.
	switch {
	case l.timer == nil:
		l.timer = time.AfterFunc(next.Sub(now), l.s.strand.lend)
	case !l.armed.After(now) || next.Before(l.armed):
		l.timer.Reset(next.Sub(now))
	default:
		return false
	}
	l.armed = next
	return false
}

// takeIn processes what the endpoint and the streams have left for us.
func (l *loop) takeIn() {
	l.runs = l.s.inbox.take(l.runs)
	for i := range l.runs {
		r := &l.runs[i]
		if l.s.State() < StateClosed {
			l.receive(r)
		}
		r.buf.release()
	}
	l.dirty = l.s.takeDirty(l.dirty)
	for _, st := range l.dirty {
		st.notified.Store(false)
		l.enqueue(st)
	}
}

// enqueue has a stream looked at that may have something to send.
func (l *loop) enqueue(st *Stream) {
	l.queue.point(st)
}

// step does what is due at now and returns when it wants to be called again.
func (l *loop) step(now time.Time) time.Time {
	s := l.s
	if l.fault != nil && s.State() < StateClosing {
		l.abort(now, l.fault)
	}
	if s.State() == StateClosing {
		if !now.Before(l.closeUntil) || s.ep.stopped.Load() {
			s.state.Store(int32(StateClosed))
		}
		return l.closeUntil
	}
	if s.State() == StateClosed {
		return time.Time{}
	}
	if dead := l.lastHeard.Add(l.idle); !now.Before(dead) {
		l.end(ErrIdleTimeout)
		return time.Time{}
	}
	if l.proof != nil && now.Sub(l.s.created) >= l.cfg.HandshakeTimeout {
		l.end(ErrHandshakeTimeout)
		return time.Time{}
	}
	if l.closeRequested(now) {
		return l.closeUntil
	}
	l.checkTimers(now)
	next := l.send(now)
	if l.fault != nil {
		l.abort(now, l.fault)
		return l.closeUntil
	}
	return earliest(next, l.timers(now))
}

// timers returns the earliest deadline of everything but sending.
func (l *loop) timers(now time.Time) time.Time {
	t := earliest(l.loss.deadline(l.pto()), l.recv.deadline)
	t = earliest(t, l.lastHeard.Add(l.idle))
	t = earliest(t, l.loss.tidyAt())
	t = earliest(t, l.keepAliveAt())
	if l.proof != nil {
		t = earliest(t, l.proofAt)
	}
	if l.cfg.Rotation.Interval > 0 && l.seal.confirmed && l.seal.messages > 0 {
		if at := l.seal.since.Add(l.cfg.Rotation.Interval); at.After(now) {
			t = earliest(t, at)
		}
	}
	if l.closing != nil {
		t = earliest(t, l.closing.by)
	}
	if l.open.prev != nil {
		t = earliest(t, l.open.prevUntil)
	}
	return earliest(t, l.path.deadline())
}

func (l *loop) pto() time.Duration { return l.rtt.pto(l.s.peerParams.maxAckDelay) }

// keepAliveAt returns when a sign of life is to be asked for; never while
// something is in flight, which asks for one itself, or while a PING waits to
// be let go, which would be due over and over.
func (l *loop) keepAliveAt() time.Time {
	if l.cfg.KeepAlive < 0 || l.loss.outstanding > 0 || l.pending&ctlPing != 0 {
		return time.Time{}
	}
	return latest(l.lastHeard, l.lastElicit).Add(l.cfg.KeepAlive)
}

// checkTimers does what has come due apart from sending.
func (l *loop) checkTimers(now time.Time) {
	l.open.expire(now)
	if l.loss.tidy(now) {
		l.runs, l.settled, l.pieces, l.held.frames = nil, nil, nil, nil
		l.ackScratch = nil
		l.s.inbox.tidy()
	}
	if at := l.loss.deadline(l.pto()); !at.IsZero() && !now.Before(at) {
		if !l.loss.lossTime.IsZero() {
			l.detectLosses(now)
		} else {
			l.ptos++
			l.probes = 2
			l.loss.probeTimeout(2, l.repeat)
			l.pending |= ctlPing
		}
	}
	if at := l.keepAliveAt(); !at.IsZero() && !now.Before(at) {
		l.pending |= ctlPing
	}
	l.path.expire(now)
}

// closeRequested begins the end that somebody has asked for, once what was
// written has been delivered, and reports whether it has begun.
func (l *loop) closeRequested(now time.Time) bool {
	l.s.mu.Lock()
	r, forgotten := l.s.closing, l.s.forgotten
	l.s.forgotten = time.Time{}
	l.s.mu.Unlock()
	if l.lastHeard.Before(forgotten) {
		l.end(ErrForgotten)
		return true
	}
	l.closing = r
	if r == nil {
		return false
	}
	err := error(&CloseError{Code: r.code, Reason: r.reason})
	if r.flush {
		switch {
		case l.flushed():
		case now.Before(r.by):
			return false
		default:
			err = errors.Join(ErrUnflushed, err)
		}
	}
	if r.gone != nil {
		if !l.s.inbox.empty() {
			return false // what came before the end is taken in first
		}
		l.end(r.gone)
		return true
	}
	l.sendClose(now, r.code, r.reason)
	l.end(err)
	return true
}

// flushed reports whether nothing waits to be sent or acknowledged.
func (l *loop) flushed() bool {
	if l.proof != nil {
		return false
	}
	for _, st := range l.s.streams.all() {
		st.mu.Lock()
		ok := st.out.flushed() || st.refused
		st.mu.Unlock()
		if !ok {
			return false
		}
	}
	l.s.user.mu.Lock()
	defer l.s.user.mu.Unlock()
	return l.s.user.out.flushed()
}

// abort ends the session because of a fault and tells the peer.
func (l *loop) abort(now time.Time, err error) {
	code, reason := CodeInternal, "internal error"
	var v *protocolError
	if errors.As(err, &v) {
		code, reason = v.code, v.reason
	}
	l.sendClose(now, code, reason)
	l.end(&CloseError{Code: code, Reason: reason})
}

// end settles how the session has ended and wakes everybody who waits for
// it. After a CLOSE of ours the loop goes on in Closing, to repeat it.
func (l *loop) end(err error) {
	s := l.s
	s.mu.Lock()
	if s.err == nil {
		s.err = err
	}
	err = s.err
	s.mu.Unlock()
	s.streams.close(err)
	for _, st := range s.streams.all() {
		st.fail(err)
	}
	s.user.fail(err)
	state := StateClosed
	if l.closeFrame != nil {
		state = StateClosing
	}
	s.state.Store(int32(state))
	select {
	case <-s.done:
	default:
		close(s.done)
	}
}

// finish frees what the session holds; nothing refers to the loop after it.
func (l *loop) finish() {
	l.s.strand.end()
	if l.timer != nil {
		l.timer.Stop()
	}
	l.seal.erase()
	l.open.erase()
	l.s.settleAccounts(l.dataReceived)
	l.s.ep.forget(l.s)
	for _, r := range l.s.inbox.end() {
		r.buf.release()
	}
	for _, st := range l.s.streams.all() {
		st.mu.Lock()
		st.out.drop(st.out.buf.end)
		st.mu.Unlock()
	}
	l.s.user.mu.Lock()
	l.s.user.out.drop(l.s.user.out.buf.end)
	l.s.user.mu.Unlock()
	l.s.ep.wg.Done()
}

// publish copies the counters for Stats.
func (l *loop) publish() {
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remote = l.peer
	s.stats = Stats{
		ID: s.id, Peer: s.peerID, Created: s.created, LastActive: l.lastHeard,
		BytesSent: l.bytesSent, BytesReceived: l.bytesRecv,
		MessagesSent: l.framesSent, MessagesReceived: l.framesRecv,
		RTT: l.rtt.srtt(), MinRTT: l.rtt.least,
		CongestionWindow: l.cc.window(), InFlight: l.loss.inFlight,
		PacketsLost: l.loss.lostPackets, PacketsSpurious: l.loss.spurious,
		DatagramSize: l.mtu.size,
		SendEpoch:    l.seal.epoch, ReceiveEpoch: l.open.epoch,
		DuplicatesReceived: l.duplicates, ForgedReceived: l.open.failures,
		ProbeTimeouts: l.ptos,
	}
	if read := s.consumed.Load(); read <= l.dataReceived {
		s.stats.Unread, s.stats.Credit = l.dataReceived-read, l.dataLimit-read
	}
}

// release takes a stream whose both directions are done out of the table;
// its ID goes on where this life ended. FIN and RESET occupy one offset.
func (l *loop) release(st *Stream) {
	st.mu.Lock()
	done := st.finished()
	b := bases{send: st.out.final() + 1, recv: st.in.final + 1, told: st.in.most()}
	st.mu.Unlock()
	if done && l.recent == st {
		l.recent = nil
	}
	if done && b.send < frame.MaxVarint/2 && b.recv < frame.MaxVarint/2 {
		l.queue.leave(st)
		l.s.streams.release(st, b)
	}
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
