package session

import (
	"crypto/rand"
	"errors"
	"net/netip"
	"time"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

const (
	// handshakeWorkers do the arithmetic of handshakes that others begin,
	// so that it does not hold up the reading of datagrams.
	handshakeWorkers = 2
	// maxEarly is how many runs of datagrams wait for AUTH_PROOF, which
	// they have overtaken.
	maxEarly = 16
	// maxEarlyBytes is how many bytes they may have: two first flights.
	maxEarlyBytes = 32 << 10
	// firstResend is when HELLO is sent again; the time doubles.
	firstResend = 250 * time.Millisecond
	// hintPatience is how long Dial goes on after REFUSED, which anybody
	// could have sent.
	hintPatience = time.Second
)

// handshakePacket is a datagram of a handshake on its way to a worker or to
// Dial.
type handshakePacket struct {
	typ  frame.Type
	id   frame.SessionID
	kind byte
	body []byte
	size int // of the datagram
	from netip.AddrPort
	at   time.Time
	link *link
}

type halfKey struct {
	id   frame.SessionID
	from netip.AddrPort
}

// halfOpen is a handshake that a peer has begun and we have answered. Its
// fields are guarded by the endpoint's lock.
type halfOpen struct {
	hs         *stc.Handshake // nil while a worker has it
	response   []byte
	nonces     [2][nonceSize]byte // initiator's, ours
	suite      stc.Suite
	respondAt  time.Time
	early      []run // datagrams that came before AUTH_PROOF
	earlyBytes int
	refusal    []byte // CLOSE, if a limit forbids the session
	timer      *time.Timer
}

// parseHandshake copies a frame of a handshake out of its buffer.
func parseHandshake(b []byte, r run) (handshakePacket, bool) {
	h, n, err := frame.ParseHeader(b)
	if err != nil || len(b) == n || len(b) > maxHandshake || h.Stream != 0 || h.Seq != 0 {
		return handshakePacket{}, false
	}
	return handshakePacket{
		typ: h.Type, id: h.Session, kind: b[n], body: append([]byte(nil), b[n+1:]...),
		size: len(b), from: r.from, at: r.at, link: r.link,
	}, true
}

// maxHandshake is the length of the longest frame of a handshake that is
// looked at.
const maxHandshake = 2 << 10

// toDial hands the messages for those who have begun a handshake, or a
// session, to them, and reports whether p was one.
func (e *Endpoint) toDial(p handshakePacket) bool {
	if p.typ != frame.TypeHandshake || p.kind == kindHello {
		return false
	}
	if p.kind == kindUnknown {
		e.onUnknown(p)
		return true
	}
	e.mu.RLock()
	dial := e.dials[p.id]
	e.mu.RUnlock()
	if dial != nil {
		select {
		case dial <- p:
		default:
		}
	}
	return true
}

// queueHandshake hands a handshake's datagram to those who deal with it.
func (e *Endpoint) queueHandshake(b []byte, r run) {
	p, ok := parseHandshake(b, r)
	if !ok || e.toDial(p) {
		return
	}
	select {
	case e.handshakes <- p:
	default:
		e.counters.halfDropped.Add(1)
	}
}

// answer is a goroutine that answers handshakes.
func (e *Endpoint) answer() {
	defer e.wg.Done()
	for {
		select {
		case <-e.closing:
			return
		case p := <-e.handshakes:
			e.answerOne(p)
		}
	}
}

// answerOne answers one message of a handshake that a peer has begun.
func (e *Endpoint) answerOne(p handshakePacket) {
	if p.typ == frame.TypeHandshake {
		e.onHello(p)
	} else if p.kind == kindProof {
		e.onProof(p)
	}
}

// onHello opens a HELLO and answers with RESPONSE; or, under load, asks for
// a proof of the address before any arithmetic.
func (e *Endpoint) onHello(p handshakePacket) {
	cookie, message, err := splitHello(p.body)
	if err != nil || p.size < minDatagram {
		return
	}
	key := halfKey{p.id, p.from}
	e.mu.Lock()
	h, known := e.half[key]
	var again []byte
	if known {
		again = h.response
	}
	load := len(e.half)
	if !known && load < e.cfg.MaxHalfOpen && (load < e.cfg.MaxHalfOpen/2 || e.cookies.valid(p.at, p.from, cookie)) && !e.closed {
		h = &halfOpen{}
		h.timer = time.AfterFunc(e.cfg.HandshakeTimeout, func() { e.dropHalf(key, h) })
		e.half[key], e.halfAddr[p.from] = h, h
	}
	e.mu.Unlock()
	if known {
		if again != nil {
			_ = p.link.send(again, len(again), p.from)
		}
		return
	}
	if h == nil {
		e.counters.retries.Add(1)
		b := appendHandshake(nil, frame.TypeHandshake, p.id, kindRetry, e.cookies.make(p.at, p.from))
		_ = p.link.send(b, len(b), p.from)
		return
	}
	response, err := e.respond(h, message)
	if err != nil {
		e.counters.failed.Add(1)
		e.dropHalf(key, h)
		reason := byte(refusedSeed)
		if errors.Is(err, ErrVersion) {
			reason = refusedVersion
		} else if !errors.Is(err, stc.ErrWrongSeed) {
			return
		}
		if !e.cfg.Stealth && e.hints.Allow() {
			b := appendHandshake(nil, frame.TypeHandshake, p.id, kindRefused, []byte{reason})
			_ = p.link.send(b, len(b), p.from)
		}
		return
	}
	b := appendHandshake(nil, frame.TypeHandshake, p.id, kindResponse, response)
	e.mu.Lock()
	h.response, h.respondAt = b, time.Now()
	e.mu.Unlock()
	_ = p.link.send(b, len(b), p.from)
}

// respond does the arithmetic of HELLO and RESPONSE. Nobody else has h.hs
// before h.response is set.
func (e *Endpoint) respond(h *halfOpen, message []byte) ([]byte, error) {
	hs, err := stc.NewResponder(e.cfg.Identity, e.cfg.Keyring, prologue)
	if err != nil {
		return nil, err
	}
	payload, err := hs.ReadMessage(nil, message)
	if err != nil {
		return nil, err
	}
	m, err := parseHello(payload)
	if err != nil {
		return nil, err
	}
	if m.version != protocolVersion {
		return nil, ErrVersion
	}
	suite, ok := chooseSuite(m.suites, stc.SupportedSuites())
	if !ok {
		return nil, errors.New("no common cipher suite")
	}
	r := response{version: protocolVersion, suite: suite, params: e.cfg.params()}
	_, _ = rand.Read(r.nonce[:]) // never fails
	out, err := hs.WriteMessage(nil, r.append(nil))
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	h.hs, h.suite = hs, suite
	h.nonces = [2][nonceSize]byte{m.nonce, r.nonce}
	return out, nil
}

// onProof finishes a handshake that a peer has begun: the session exists
// from here on.
func (e *Endpoint) onProof(p handshakePacket) {
	key := halfKey{p.id, p.from}
	e.mu.Lock()
	h := e.half[key]
	var hs *stc.Handshake
	var refusal []byte
	if h != nil {
		hs, h.hs, refusal = h.hs, nil, h.refusal
	}
	e.mu.Unlock()
	if refusal != nil {
		_ = p.link.send(refusal, len(refusal), p.from)
	}
	if hs == nil {
		return
	}
	s, err := e.accept(h, hs, p)
	if errors.Is(err, stc.ErrForged) {
		// Not from the peer, or damaged: the handshake still waits.
		e.mu.Lock()
		h.hs = hs
		e.mu.Unlock()
		return
	}
	if errors.Is(err, ErrTooManySessions) {
		// The handshake stays until it times out, to say so again.
		return
	}
	early := e.dropHalf(key, h)
	if err != nil {
		e.counters.failed.Add(1)
		e.cfg.Logger.Debug("handshake failed", "from", p.from, "error", err)
	}
	for _, r := range early {
		if s != nil {
			s.deliver(r, r.data)
		}
		r.buf.release()
	}
}

func (e *Endpoint) accept(h *halfOpen, hs *stc.Handshake, p handshakePacket) (*Session, error) {
	payload, err := hs.ReadMessage(nil, p.body)
	if err != nil {
		return nil, err
	}
	peerParams, err := parseParams(payload)
	if err != nil {
		return nil, err
	}
	if hs.PeerKey() == e.cfg.Identity.PublicKey() {
		return nil, errSelf
	}
	s, l, err := e.newSession(hs, false, h.nonces, h.suite, peerParams, p)
	if err != nil {
		return nil, err
	}
	l.final = true
	l.rtt.update(p.at.Sub(h.respondAt), 0)
	s.state.Store(int32(StateActive))
	if len(e.accepted) >= acceptBacklog {
		err = errBacklog
	} else {
		err = e.add(s, l)
	}
	if err != nil {
		e.counters.refused.Add(1)
		if errors.Is(err, ErrTooManySessions) {
			e.refuse(h, l, err)
		}
		return nil, err
	}
	select {
	case e.accepted <- s:
	default:
		s.requestClose(closeRequest{code: CodeLimit, reason: errBacklog.Error()})
	}
	return s, nil
}

// refuse tells the peer, under the session's keys, why a session is not made
// of its handshake.
func (e *Endpoint) refuse(h *halfOpen, l *loop, err error) {
	code := CodeLimit
	if errors.Is(err, errTooManyOfPeer) {
		code = CodePeerLimit
	}
	l.sendClose(time.Now(), code, err.Error())
	l.seal.erase()
	l.open.erase()
	e.mu.Lock()
	h.refusal = l.closeFrame
	e.mu.Unlock()
}

// dropHalf forgets a half-open handshake and returns what waited for it.
func (e *Endpoint) dropHalf(key halfKey, h *halfOpen) []run {
	e.mu.Lock()
	defer e.mu.Unlock()
	h.timer.Stop()
	if e.half[key] == h {
		delete(e.half, key)
	}
	if e.halfAddr[key.from] == h {
		delete(e.halfAddr, key.from)
	}
	early := h.early
	h.early = nil
	return early
}

var errSelf = errors.New("session: the address is this node's own")

// newSession makes the session that a complete handshake has agreed on.
func (e *Endpoint) newSession(hs *stc.Handshake, initiator bool, nonces [2][nonceSize]byte, suite stc.Suite, peer params, p handshakePacket) (*Session, *loop, error) {
	toPeer, fromPeer, err := hs.Secrets()
	if err != nil {
		return nil, nil, err
	}
	nodeI, nodeR := e.cfg.Identity.NodeID(), hs.PeerKey().NodeID()
	if !initiator {
		toPeer, fromPeer = fromPeer, toPeer
		nodeI, nodeR = nodeR, nodeI
	}
	now := time.Now()
	s := &Session{
		ep: e, link: p.link, cfg: &e.cfg, id: sessionID(nonces[0], nonces[1], nodeI, nodeR), initiator: initiator,
		peerKey: hs.PeerKey(), peerID: hs.PeerKey().NodeID(), peerParams: peer, created: now,
		done: make(chan struct{}), remote: p.from, reset: peer.reset,
		inbox: inbox{room: make(chan struct{}, 1), total: &e.waiting},
	}
	s.streams.init(initiator, peer.maxStreams, e.cfg.MaxStreams)
	l := newLoop(s, newMTUSearch(min(e.cfg.MaxDatagram, peer.maxDatagram)), p.from, now)
	if l.seal, err = newSealing(suite, toPeer, now); err != nil {
		return nil, nil, err
	}
	if l.open, err = newOpening(suite, fromPeer); err != nil {
		return nil, nil, err
	}
	return s, l, nil
}
