package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
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
	// port is set where ws is made of no more than a port, which the DHT has
	// named: whether TLS is spoken there turns out when it is dialled.
	port bool
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
		r.ws, r.port = webSocketURL(schemePlain, netip.AddrPortFrom(c.Addr.Addr(), c.WebSocket)), true
	}
	return r
}

// routesOf returns what an address stands for: more than one route for a host
// name. Errors wrap ErrResolve.
func (n *Node) routesOf(ctx context.Context, a Address) ([]route, error) {
	if a.URL != "" {
		return []route{{ws: a.URL, port: a.anyTLS()}}, nil
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

// covers reports whether o leads nowhere that r doesn't.
func (r route) covers(o route) bool {
	at := func(url string) string { return url[strings.IndexByte(url, ':')+1:] }
	return r.udp == o.udp && (o.ws == "" || o.ws == r.ws || (r.port || o.port) && at(o.ws) == at(r.ws))
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
		return schemePlain + "://" + s.RemoteAddr().String()
	}
	return schemePlain
}

// dialer begins sessions, by the best way that leads to a node.
type dialer struct {
	endpoint *session.Endpoint
	udp      *udpHealth
	// secure: the WebSocket that was opened last speaks TLS. The nodes of a
	// network, and what a firewall lets through, are mostly of one kind.
	secure atomic.Bool
}

// reached is a session, and the route that it was dialled by.
type reached struct {
	*session.Session
	by route
}

// discard ends a session that lost a race.
func (r reached) discard() { _ = r.CloseWithError(session.CodeNone, "another way was faster") }

// dial begins a session with the node at r. Where both ways are known, UDP
// runs first and WebSocket soon joins in, as RFC 8305 does with address
// families; who completes the handshake first wins. by is r, with what has
// turned out about it.
func (d *dialer) dial(ctx context.Context, r route, peer stc.Hash) (s *session.Session, by route, err error) {
	var to reached
	switch {
	case r.udp.IsValid() && r.ws != "":
		to, err = d.dialBoth(ctx, r, peer)
	case r.udp.IsValid():
		to, err = d.dialUDP(ctx, r, peer)
	case r.ws != "":
		to, err = d.dialWebSocket(ctx, r, peer)
	default:
		err = errNoAddress
	}
	return to.Session, to.by, err
}

func (d *dialer) dialBoth(ctx context.Context, r route, peer stc.Hash) (reached, error) {
	began := time.Now()
	wait := headStart
	if d.udp.blocked(began) {
		wait = 0
	}
	s, err := race(ctx, wait,
		func(ctx context.Context) (reached, error) { return d.dialUDP(ctx, r, peer) },
		func(ctx context.Context) (reached, error) { return d.dialWebSocket(ctx, r, peer) },
		reached.discard)
	if err == nil && s.Ordered() {
		d.udp.lost(began, time.Now())
	}
	return s, err
}

func (d *dialer) dialUDP(ctx context.Context, r route, peer stc.Hash) (reached, error) {
	s, err := d.endpoint.Dial(ctx, r.udp, peer)
	if err == nil {
		d.udp.heard()
	}
	return reached{s, r}, err
}

// dialWebSocket dials r.ws. Of a port that the DHT has named it tries both
// kinds, first the one that was right the last time. Whichever is wrong is
// refused in a round trip or two; a firewall that swallows it costs a head
// start.
func (d *dialer) dialWebSocket(ctx context.Context, r route, peer stc.Hash) (reached, error) {
	if !r.port {
		return d.dialURL(ctx, r, peer)
	}
	first, second := r, r
	first.port, second.port = false, false
	second.ws = schemeTLS + strings.TrimPrefix(r.ws, schemePlain)
	if d.secure.Load() {
		first, second = second, first
	}
	return race(ctx, headStart,
		func(ctx context.Context) (reached, error) { return d.dialURL(ctx, first, peer) },
		func(ctx context.Context) (reached, error) { return d.dialURL(ctx, second, peer) },
		reached.discard)
}

func (d *dialer) dialURL(ctx context.Context, r route, peer stc.Hash) (reached, error) {
	opening, cancel := context.WithTimeout(ctx, wsOpenTimeout)
	defer cancel()
	carrier, err := transport.DialWebSocket(opening, r.ws)
	if err != nil {
		return reached{}, fmt.Errorf("dial: %w: %w", ErrNoWebSocket, err)
	}
	d.secure.Store(strings.HasPrefix(r.ws, schemeTLS+":"))
	s, err := d.endpoint.DialOver(ctx, carrier, peer)
	if err != nil {
		return reached{}, fmt.Errorf("over %s: %w", r.ws, err)
	}
	return reached{s, r}, nil
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
