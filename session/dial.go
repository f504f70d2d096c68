package session

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

// Dial begins a session with the node at addr. peer is the node ID that has
// to answer there; the zero Hash accepts any holder of the seed. It returns
// when the peer has proven its identity, which is one round trip; until the
// peer has confirmed ours the session is in [StateHandshake], and data
// already flows.
//
// Errors: [ErrHandshakeTimeout], [ErrWrongSeed] (a hint), [ErrWrongPeer],
// [ErrVersion], [ErrTooManySessions], [ErrClosed], or ctx's cause.
func (e *Endpoint) Dial(ctx context.Context, addr netip.AddrPort, peer stc.Hash) (*Session, error) {
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	return e.begin(ctx, e.link, addr, peer)
}

// begin dials over a link.
func (e *Endpoint) begin(ctx context.Context, k *link, addr netip.AddrPort, peer stc.Hash) (*Session, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, e.cfg.HandshakeTimeout, ErrHandshakeTimeout)
	defer cancel()
	s, err := e.dial(ctx, k, addr, peer)
	if err != nil {
		e.counters.failed.Add(1)
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	return s, nil
}

func (e *Endpoint) dial(ctx context.Context, k *link, addr netip.AddrPort, peer stc.Hash) (*Session, error) {
	hs, err := stc.NewInitiator(e.cfg.Identity, e.cfg.Keyring, peer, prologue)
	if err != nil {
		return nil, err
	}
	m := hello{version: protocolVersion, suites: stc.SupportedSuites()}
	_, _ = rand.Read(m.nonce[:]) // never fails
	message, err := hs.WriteMessage(nil, m.append(nil))
	if err != nil {
		return nil, err
	}
	var id frame.SessionID
	_, _ = rand.Read(id[:])
	answers := make(chan handshakePacket, 4)
	e.mu.Lock()
	closed := e.closed
	e.dials[id] = answers
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.dials, id)
		e.mu.Unlock()
	}()
	if closed {
		return nil, ErrClosed
	}
	if err := e.budget.room(peer); err != nil {
		return nil, err
	}
	var cookie []byte
	var hint error
	var giveUp <-chan time.Time
	wait := firstResend
	resend := time.NewTimer(0)
	defer resend.Stop()
	var sentAt time.Time
	for sends := 0; ; {
		select {
		case <-resend.C:
			sends++
			sentAt = time.Now()
			b := appendHello(nil, id, cookie, message)
			if err := k.send(b, len(b), addr); err != nil && (k.ordered != nil || e.isClosed()) {
				return nil, err
			}
			resend.Reset(wait)
			wait *= 2
		case p := <-answers:
			if p.from != addr || p.link != k {
				continue
			}
			switch p.kind {
			case kindRetry:
				if len(p.body) == 0 || len(p.body) > maxCookie || cookie != nil {
					continue
				}
				cookie = p.body
				resend.Reset(0)
			case kindRefused:
				if hint == nil && len(p.body) == 1 {
					hint = ErrWrongSeed
					if p.body[0] == refusedVersion {
						hint = ErrVersion
					}
					giveUp = time.After(hintPatience)
				}
			case kindResponse:
				sample := time.Duration(0)
				if sends == 1 {
					sample = p.at.Sub(sentAt)
				}
				s, err := e.confirm(hs, id, m.nonce, p, sample)
				if errors.Is(err, stc.ErrForged) {
					continue
				}
				return s, err
			}
		case <-giveUp:
			return nil, hint
		case <-e.closing:
			return nil, ErrClosed
		case <-ctx.Done():
			if hint != nil {
				return nil, hint
			}
			return nil, context.Cause(ctx)
		}
	}
}

// confirm takes RESPONSE and makes the session, whose loop sends AUTH_PROOF.
func (e *Endpoint) confirm(hs *stc.Handshake, id frame.SessionID, nonce [nonceSize]byte, p handshakePacket, sample time.Duration) (*Session, error) {
	payload, err := hs.ReadMessage(nil, p.body)
	if errors.Is(err, stc.ErrWrongPeer) {
		return nil, ErrWrongPeer
	}
	if err != nil {
		return nil, err
	}
	r, err := parseResponse(payload)
	if err != nil {
		return nil, err
	}
	if r.version != protocolVersion {
		return nil, ErrVersion
	}
	if _, ok := chooseSuite([]stc.Suite{r.suite}, stc.SupportedSuites()); !ok {
		return nil, fmt.Errorf("the peer chose %v: %w", r.suite, errMessage)
	}
	if hs.PeerKey() == e.cfg.Identity.PublicKey() {
		return nil, errSelf
	}
	nonces := [2][nonceSize]byte{nonce, r.nonce}
	own := e.cfg.params()
	own.reset = e.resets.token(sessionID(nonces[0], nonces[1], e.cfg.Identity.NodeID(), hs.PeerKey().NodeID()))
	proof, err := hs.WriteMessage(nil, own.append(nil))
	if err != nil {
		return nil, err
	}
	s, l, err := e.newSession(hs, true, nonces, r.suite, r.params, p)
	if err != nil {
		return nil, err
	}
	l.proof = appendHandshake(nil, frame.TypeAuth, id, kindProof, proof)
	if sample > 0 {
		l.rtt.update(sample, 0)
	}
	if err := e.add(s, l); err != nil {
		return nil, err
	}
	return s, nil
}
