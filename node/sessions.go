package node

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/seigr/sttnode/dht"
	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/session"
	"github.com/seigr/sttnode/stc"
)

// Connect returns a session with a node. target is one of
//
//	[nodeid@]host:port              over UDP
//	[nodeid@]ws[s]://host:port/stt  over WebSocket
//	nodeid                          wherever the DHT finds it
//
// with the node ID in hexadecimal. The DHT finds nodes that have announced
// their own ID, n.Announce(ctx, n.ID()), at once, and others when they have been
// in the network for some minutes and can be dialled. Where an ID is given, only that node is
// accepted. If there is a session with the node already, that one is returned.
// It is then kept until it is closed here or there, or its peer is silent for
// the idle timeout; a peer that has not taken it by Accept closes it when it had
// no stream for [Config].IdleSession.
//
// The session is shared with the node's own protocols, and its streams begin
// with the name of their protocol: use OpenStream, Handle, Send and Receive, not
// the session's OpenStream and AcceptStream. Its frames (SendFrame) are the
// application's alone, see HandleFrame.
//
// A node that takes no sessions, being DialOnly, closes one as soon as it is there.
//
// Errors: ErrAddress, ErrSelf, ErrNotFound, ErrResolve, ErrNoPeers, ErrUnreachable,
// ErrNoWebSocket, ErrTooManyPeers, ErrState, those of [session.Endpoint.Dial], ctx's
// cause.
func (n *Node) Connect(ctx context.Context, target string) (*session.Session, error) {
	ctx, end, err := n.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	if id, err := stc.ParseHash(target); err == nil {
		return n.connectID(ctx, id)
	}
	a, err := ParseAddress(target)
	if err != nil {
		return nil, err
	}
	routes, err := n.routesOf(ctx, a)
	if err != nil {
		return nil, err
	}
	return n.connectBy(ctx, a.Peer, routes)
}

// connectID connects to a node that only its ID is known of.
func (n *Node) connectID(ctx context.Context, id stc.Hash) (*session.Session, error) {
	if id == n.ID() {
		return nil, fmt.Errorf("connect to %v: %w", id, ErrSelf)
	}
	if m := n.pool.hold(id); m != nil {
		return m.Session, nil
	}
	if err := n.Join(ctx); err != nil && !errors.Is(err, ErrNoPeers) {
		return nil, err
	}
	r, err := n.findNode(ctx, id)
	if err != nil {
		return nil, err
	}
	return n.connectBy(ctx, id, []route{r})
}

// findNode asks the DHT where a node is: by the record of one that has announced
// its own ID, then in the tables of the nodes closest to it.
func (n *Node) findNode(ctx context.Context, id stc.Hash) (route, error) {
	searching, cancel := context.WithCancel(ctx)
	defer cancel()
	for c := range n.dht.FindProviders(searching, id).Providers() {
		// Anybody may store a record under any key, but only in his own name.
		if r := routeTo(c); c.ID == id && r != (route{}) {
			return r, nil
		}
	}
	closest, _, err := n.dht.FindNode(ctx, id)
	i := slices.IndexFunc(closest, func(c dht.Contact) bool { return c.ID == id })
	switch {
	case i >= 0:
		return routeTo(closest[i]), nil
	case ctx.Err() != nil:
		return route{}, context.Cause(ctx)
	case err != nil:
		return route{}, fmt.Errorf("%w: %v: %w", ErrNotFound, id, err)
	}
	return route{}, fmt.Errorf("%w: %v: asked the %d nodes closest to it", ErrNotFound, id, len(closest))
}

// connectBy connects by the first of the routes that leads to the peer, or to
// anybody if it is zero.
func (n *Node) connectBy(ctx context.Context, peer stc.Hash, routes []route) (*session.Session, error) {
	var errs []error
	for _, r := range routes {
		m, err := n.pool.connect(ctx, peer, r)
		if err == nil {
			return m.Session, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("connect: %w", errors.Join(errs...))
}

// Accept returns the next session that a peer has begun and that has not ended,
// in the order in which they began, since Start; each is returned once. The
// node serves sessions whether or not somebody calls Accept, which keeps the
// session as Connect does. Errors: ErrState, also when the node stops while it
// waits; ctx's cause.
func (n *Node) Accept(ctx context.Context) (*session.Session, error) {
	ctx, end, err := n.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	for {
		if m := n.pool.takeArrived(); m != nil {
			return m.Session, nil
		}
		select {
		case <-n.pool.arrival:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Sessions returns the sessions with other nodes that are open, whoever began
// them, in the order of their creation.
func (n *Node) Sessions() []*session.Session {
	if n.active() != nil {
		return nil
	}
	return n.pool.all()
}

// Session returns the open session of that ID, or ErrNoSession.
func (n *Node) Session(id frame.SessionID) (*session.Session, error) {
	if err := n.active(); err != nil {
		return nil, err
	}
	m, err := n.pool.byID(id)
	if err != nil {
		return nil, err
	}
	return m.Session, nil
}

// Providers yields the nodes that the DHT names as providers of key, as targets
// for Connect, each node once for every address it is known at, until the
// search has asked everybody closest to key. Whether a node has what it claims
// to provide it has to show. An error, if there is one, is the last that is
// yielded: ErrState, dht.ErrNoNodes, dht.ErrNoAnswer, ctx's cause. That nobody
// provides key is none.
func (n *Node) Providers(ctx context.Context, key stc.Hash) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		ctx, end, err := n.begin(ctx)
		if err != nil {
			yield("", err)
			return
		}
		defer end()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		search := n.dht.FindProviders(ctx, key)
		for c := range search.Providers() {
			target := c.ID.String()
			if r := routeTo(c); r != (route{}) {
				target += "@" + r.String()
			}
			if c.ID != n.ID() && !yield(target, nil) {
				return
			}
		}
		if _, err := search.Result(); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			yield("", err)
		}
	}
}
