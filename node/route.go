package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/seigr/sttnode/dht"
	"github.com/seigr/sttnode/session"
	"github.com/seigr/sttnode/session/transport"
	"github.com/seigr/sttnode/stc"
)

const (
	// headStart is how long a dial over UDP runs alone before one over
	// WebSocket begins beside it: RFC 8305 section 5 recommends 250 ms.
	headStart = 250 * time.Millisecond
	// wsOpenTimeout bounds the opening of a WebSocket, name, proxy and TLS
	// included. The handshake that follows has its own bound.
	wsOpenTimeout = 10 * time.Second
)

// route is where one node is reached: over UDP, over WebSocket, or both. The
// zero route is that of a node that only its own session leads to.
type route struct {
	udp netip.AddrPort
	ws  string // a URL; empty if there is none
}

func udpRoute(addr netip.AddrPort) route { return route{udp: addr} }

// routeTo returns where the DHT says that a provider is. One that is known by
// its link has the session that the link is in.
func routeTo(c dht.Contact) (r route) {
	if _, ok := dht.LinkPeer(c.Addr); ok {
		return r
	}
	if c.Addr.Port() != 0 {
		r.udp = c.Addr
	}
	if c.WebSocket != 0 {
		r.ws = webSocketURL(netip.AddrPortFrom(c.Addr.Addr(), c.WebSocket))
	}
	return r
}

// routesOf returns what an address stands for: more than one route for a host
// name. Errors wrap ErrResolve.
func (n *Node) routesOf(ctx context.Context, a Address) ([]route, error) {
	if a.URL != "" {
		return []route{{ws: a.URL}}, nil
	}
	addrs, err := a.resolve(ctx, n.endpoint.LocalAddr().Addr())
	if err != nil {
		return nil, err
	}
	var routes []route
	for _, addr := range addrs[:min(len(addrs), maxJoinAddrs)] {
		routes = append(routes, udpRoute(addr))
	}
	return routes, nil
}

// String shows the address that is preferred.
func (r route) String() string {
	switch {
	case r.udp.IsValid():
		return r.udp.String()
	case r.ws != "":
		return r.ws
	}
	return "no address"
}

// routeOf names the way that a session takes: as it was dialled, or as the
// peer appears here.
func routeOf(s *session.Session, dialled route) string {
	switch {
	case !s.Ordered():
		return s.RemoteAddr().String()
	case dialled.ws != "":
		return dialled.ws
	case s.RemoteAddr().IsValid():
		return "ws://" + s.RemoteAddr().String()
	}
	return "ws"
}

// dialer begins sessions, by the best way that leads to a node.
type dialer struct {
	endpoint *session.Endpoint
	udp      *udpHealth
}

// dial begins a session with the node at r. Where both ways are known, UDP
// runs first and WebSocket soon joins in, as RFC 8305 does with address
// families; who completes the handshake first wins.
func (d *dialer) dial(ctx context.Context, r route, peer stc.Hash) (*session.Session, error) {
	switch {
	case r.udp.IsValid() && r.ws != "":
	case r.udp.IsValid():
		return d.dialUDP(ctx, r.udp, peer)
	case r.ws != "":
		return d.dialWebSocket(ctx, r.ws, peer)
	default:
		return nil, errNoAddress
	}
	began := time.Now()
	wait := headStart
	if d.udp.blocked(began) {
		wait = 0
	}
	s, err := race(ctx, wait,
		func(ctx context.Context) (*session.Session, error) { return d.dialUDP(ctx, r.udp, peer) },
		func(ctx context.Context) (*session.Session, error) { return d.dialWebSocket(ctx, r.ws, peer) },
		func(s *session.Session) { _ = s.CloseWithError(session.CodeNone, "another way was faster") })
	if err == nil && s.Ordered() {
		d.udp.lost(began, time.Now())
	}
	return s, err
}

func (d *dialer) dialUDP(ctx context.Context, addr netip.AddrPort, peer stc.Hash) (*session.Session, error) {
	s, err := d.endpoint.Dial(ctx, addr, peer)
	if err == nil {
		d.udp.heard()
	}
	return s, err
}

func (d *dialer) dialWebSocket(ctx context.Context, url string, peer stc.Hash) (*session.Session, error) {
	opening, cancel := context.WithTimeout(ctx, wsOpenTimeout)
	defer cancel()
	carrier, err := transport.DialWebSocket(opening, url)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	s, err := d.endpoint.DialOver(ctx, carrier, peer)
	if err != nil {
		return nil, fmt.Errorf("over %s: %w", url, err)
	}
	return s, nil
}

// race calls first, and second when first has failed or the head start is
// over, and returns the result of who succeeds first; of both, if they do at
// the same moment, that of first. The other is cancelled, waited for, and
// discarded if it has succeeded all the same. If both fail, so does race with
// both errors.
func race[T any](ctx context.Context, headStart time.Duration, first, second func(context.Context) (T, error), discard func(T)) (T, error) {
	type result struct {
		value T
		err   error
	}
	run := func(ctx context.Context, f func(context.Context) (T, error)) <-chan result {
		done := make(chan result, 1)
		go func() {
			v, err := f(ctx)
			done <- result{v, err}
		}()
		return done
	}
	firstCtx, cancelFirst := context.WithCancel(ctx)
	defer cancelFirst()
	secondCtx, cancelSecond := context.WithCancel(ctx)
	defer cancelSecond()
	one := run(firstCtx, first)
	timer := time.NewTimer(headStart)
	defer timer.Stop()
	var failed error // of first
	select {
	case r := <-one:
		if r.err == nil {
			return r.value, nil
		}
		one, failed = nil, r.err
	case <-timer.C:
	}
	two := run(secondCtx, second)
	errTwo := error(nil)
	for one != nil || two != nil {
		select {
		case r := <-one:
			if r.err != nil {
				one, failed = nil, r.err
				continue
			}
			cancelSecond()
			if two != nil {
				if late := <-two; late.err == nil {
					discard(late.value)
				}
			}
			return r.value, nil
		case r := <-two:
			if r.err != nil {
				two, errTwo = nil, r.err
				continue
			}
			cancelFirst()
			if one != nil {
				if late := <-one; late.err == nil {
					discard(r.value)
					return late.value, nil
				}
			}
			return r.value, nil
		}
	}
	var none T
	return none, errors.Join(failed, errTwo)
}

// udpHealth remembers whether UDP gets through, so that a node that it is
// blocked for does not wait for it again and again. UDP counts as blocked for
// udpRetry once somebody was reached over WebSocket and nothing came over UDP
// meanwhile, or once DHT datagrams have gone unanswered; then it is tried anew.
// Whatever arrives over UDP lifts that at once.
type udpHealth struct {
	mu     sync.Mutex // guards what follows
	last   time.Time  // when something arrived
	silent time.Time  // when the first datagram went out since then, or since the last block
	sent   int        // datagrams since silent
	until  time.Time  // blocked until then
}

const (
	udpRetry = 2 * time.Minute
	// udpSilence and udpUnanswered are how long, and how many datagrams, UDP
	// may go without any answer.
	udpSilence    = 2 * time.Second
	udpUnanswered = 4
)

// heard notes that something came over UDP.
func (u *udpHealth) heard() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.last, u.sent, u.until = time.Now(), 0, time.Time{}
}

// lost notes that an attempt over UDP that began then led nowhere, while a
// WebSocket led to the same node.
func (u *udpHealth) lost(began, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.last.Before(began) {
		u.block(now)
	}
}

// sending notes that a datagram goes out that asks for an answer.
func (u *udpHealth) sending(now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.sent++; u.sent == 1 {
		u.silent = now
	}
}

// blocked reports whether UDP seems not to get through.
func (u *udpHealth) blocked(now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.sent >= udpUnanswered && now.Sub(u.silent) >= udpSilence {
		u.block(now)
	}
	return now.Before(u.until)
}

// block begins a block; u.mu is held.
func (u *udpHealth) block(now time.Time) {
	u.sent, u.until = 0, now.Add(udpRetry)
}
