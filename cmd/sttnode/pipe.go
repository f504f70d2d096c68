package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/stc"
)

// What send and listen, forward and expose have in common: a node that stands
// beside the one of the directory, and streams that find each other by the ID
// of that node and a NAME.
//
//	opener                              other side
//	pass                ─────────────▶
//	                    ◀─────────────  pass
//	the protocol's own  ◀────────────▶  the protocol's own
//
// The other side has announced Hash(placeDomain ‖ node ID ‖ protocol) to the DHT.

const placeDomain = "sttnode place v1"

// Protocols of streams, around NAME.
var (
	pipeProtocol = protocolForm{"pipe/", "/1"}
	tcpProtocol  = protocolForm{"tcp/", "/1"}
)

type protocolForm struct{ before, after string }

func (f protocolForm) of(name string) string { return f.before + name + f.after }

// maxPipeName bounds NAME in bytes, so that it fits into the name of a protocol.
const maxPipeName = 50

// Codes of streams that are reset.
const (
	codeBroken  = node.CodeApplication + iota // the input or output beyond the stream has failed
	codePass                                  // the pass is not the bearer's
	codeRefused                               // it does not take streams of this node
	codeBusy                                  // it has too many streams already
	codeGone                                  // it takes no more
)

// passTimeout bounds how long a side takes to show its pass.
const passTimeout = 10 * time.Second

// errNobodyListens reports a NAME that nobody takes streams for.
var errNobodyListens = errors.New("nobody listens")

// checkPipeName refuses what can't be a NAME.
func checkPipeName(name string) error {
	if len(name) < 1 || len(name) > maxPipeName {
		return usagef("NAME %q has %d bytes; 1 to %d are possible", name, len(name), maxPipeName)
	}
	for _, c := range []byte(name) {
		if c <= ' ' || c > '~' {
			return usagef("NAME %q must be printable ASCII without spaces", name)
		}
	}
	return nil
}

// pipeNode is a running node that acts for that of the directory.
type pipeNode struct {
	*runningNode
	owner stc.Hash // the node of the directory
	pass  pass
	from  []stc.Hash // whose streams are taken; none: everybody's
}

// startPipeNode starts a node beside that of the directory. prepare may set its
// handlers.
func (a *app) startPipeNode(ctx context.Context, dialOnly bool, prepare func(*pipeNode) error) (*pipeNode, error) {
	cfg, err := a.nodeConfig()
	if err != nil {
		return nil, err
	}
	own := cfg.Identity
	if cfg.Identity, err = stc.NewIdentity(randomSeed()); err != nil {
		return nil, err
	}
	// A node that is gone with its process, under an ID that never comes
	// again, is nothing to keep in tables.
	cfg.Dir, cfg.ClientOnly, cfg.DialOnly = "", true, dialOnly
	cfg.Session.Linger = pipeLinger
	p := &pipeNode{owner: own.NodeID(), pass: newPass(own, cfg.Identity.NodeID())}
	_, err = a.startNodeAs(ctx, cfg, p.owner, func(r *runningNode) error {
		p.runningNode = r // before the node runs: its handlers use it
		return prepare(p)
	})
	return p, err
}

// pipeLinger is how long a process that ends waits for the other side to take
// what was written.
const pipeLinger = 5 * time.Second

// takeFrom sets whose streams are taken.
func (p *pipeNode) takeFrom(ids []string) error {
	for _, text := range ids {
		id, err := stc.ParseHash(text)
		if err != nil {
			return usagef("--from: %q is not a node ID: 64 digits of 0-9 a-f, as init prints them", text)
		}
		p.from = append(p.from, id)
	}
	return nil
}

// admit exchanges passes on a stream that somebody has opened. It returns for
// whom, or resets the stream.
func (p *pipeNode) admit(st *node.Stream) (from stc.Hash, ok bool) {
	_ = st.SetReadDeadline(time.Now().Add(passTimeout))
	from, err := readPass(st)
	if err != nil {
		p.app.log.Info("a stream without a valid pass", "peer", st.Session().PeerID(), "err", err)
		st.Reset(codePass)
		return from, false
	}
	_ = st.SetReadDeadline(time.Time{})
	if len(p.from) > 0 && !slices.Contains(p.from, from) {
		p.app.warn("a stream of node %v was refused: it is not among those of --from", from)
		st.Reset(codeRefused)
		return from, false
	}
	if _, err := st.Write(p.pass[:]); err != nil {
		return from, false
	}
	return from, true
}

// place is the DHT's key for who takes streams of a protocol in the name of a
// node.
func place(owner stc.Hash, protocol string) stc.Hash {
	return stc.Sum(slices.Concat([]byte(placeDomain), owner[:], []byte(protocol)))
}

// announce joins the network and makes known that the node takes streams of
// these protocols. That others can't be reached is no reason to end, but that
// they hold another shared seed is.
func (p *pipeNode) announce(ctx context.Context, protocols []string) error {
	if err := p.join(ctx); err != nil {
		return err
	}
	for _, protocol := range protocols {
		if _, err := p.Announce(ctx, place(p.owner, protocol)); err != nil {
			return err
		}
	}
	return nil
}

// destination is a NODE as the user has written it.
type destination struct {
	text string
	id   stc.Hash // zero: whoever is at the address
	addr string   // empty: where the DHT finds it
}

func parseDestination(text string) (destination, error) {
	if id, err := stc.ParseHash(text); err == nil {
		return destination{text: text, id: id}, nil
	}
	a, err := node.ParseAddress(text)
	if err != nil {
		return destination{}, usagef("NODE: %v; or the ID of a node, 64 digits of 0-9 a-f", err)
	}
	d := destination{text: text, id: a.Peer}
	a.Peer = stc.Hash{} // the session is with another node, which acts for it
	d.addr = a.String()
	return d, nil
}

const (
	searchPause = 500 * time.Millisecond // between two searches
	dialTimeout = 15 * time.Second       // of one of those that the DHT names
)

// open opens a stream of the protocol to the destination.
func (p *pipeNode) open(ctx context.Context, to destination, protocol string, search time.Duration) (st *node.Stream, err error) {
	err = p.find(ctx, to, protocol, search, func(ctx context.Context, target string) (err error) {
		st, err = p.openAt(ctx, target, to.id, protocol)
		return err
	})
	return st, err
}

// reach makes sure that there is somebody at the destination.
func (p *pipeNode) reach(ctx context.Context, to destination, protocol string, search time.Duration) error {
	return p.find(ctx, to, protocol, search, func(ctx context.Context, target string) error {
		_, err := p.Connect(ctx, target)
		return err
	})
}

// find tries whoever may be the destination until one succeeds. One that only
// its ID is known of is searched for that long: who has just begun to listen may
// not be announced yet.
func (p *pipeNode) find(ctx context.Context, to destination, protocol string, search time.Duration, try func(context.Context, string) error) error {
	if to.addr != "" {
		return try(ctx, to.addr)
	}
	searching, cancel := context.WithTimeout(ctx, search)
	defer cancel()
	if err := p.Join(searching); ctx.Err() != nil {
		return context.Cause(ctx)
	} else if searching.Err() != nil {
		return fmt.Errorf("%w in %v", node.ErrUnreachable, search)
	} else if err != nil {
		return err
	}
	var failed error // of the last who was named
	for searching.Err() == nil {
		for target, err := range p.Providers(searching, place(to.id, protocol)) {
			if err != nil {
				break
			}
			trying, cancel := context.WithTimeout(ctx, dialTimeout)
			err := try(trying, target)
			cancel()
			if err == nil {
				return nil
			}
			failed = err
		}
		if errors.Is(failed, errRefused) {
			return failed // and would be refused again
		}
		select {
		case <-searching.Done():
		case <-time.After(searchPause):
		}
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case failed != nil:
		return failed
	}
	return fmt.Errorf("%w: in %v the network has named nobody who takes this name for node %v", errNobodyListens, search, to.id)
}

// openAt opens a stream to who is there and shows that it acts for the owner,
// or for anybody if that is zero.
func (p *pipeNode) openAt(ctx context.Context, target string, owner stc.Hash, protocol string) (*node.Stream, error) {
	s, err := p.Connect(ctx, target)
	if err != nil {
		return nil, err
	}
	st, err := p.OpenStream(ctx, s, protocol)
	if err != nil {
		return nil, err
	}
	unlink := context.AfterFunc(ctx, func() { st.Reset(codeGone) })
	is, err := p.exchange(st)
	if !unlink() && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err == nil && !owner.IsZero() && is != owner {
		err = fmt.Errorf("%w at %s: it acts for node %v", node.ErrWrongPeer, target, is)
	}
	if err != nil {
		st.Reset(codePass)
		return nil, err
	}
	return st, nil
}

// exchange shows the pass on a stream that this node has opened, and returns
// for whom the other side acts.
func (p *pipeNode) exchange(st *node.Stream) (stc.Hash, error) {
	if _, err := st.Write(p.pass[:]); err != nil {
		return stc.Hash{}, streamError(err)
	}
	_ = st.SetReadDeadline(time.Now().Add(passTimeout))
	is, err := readPass(st)
	if err != nil {
		return is, streamError(err)
	}
	return is, st.SetReadDeadline(time.Time{})
}

// streamError says what the other side means by the code of its reset.
func streamError(err error) error {
	var reset *node.StreamError
	if !errors.As(err, &reset) || !reset.Remote {
		return err
	}
	switch {
	case errors.Is(err, node.ErrUnknownProtocol):
		return fmt.Errorf("%w there for this name", errNobodyListens)
	case reset.Code == codeGone, reset.Code < node.CodeApplication:
		return fmt.Errorf("%w there any more", errNobodyListens)
	case reset.Code == codePass:
		return errPass
	case reset.Code == codeRefused:
		return fmt.Errorf("%w streams of this node", errRefused)
	case reset.Code == codeBusy:
		return fmt.Errorf("%w more streams now; try again later", errRefused)
	}
	return errBroken
}

var (
	// errBroken reports a stream that the other side has given up.
	errBroken = errors.New("the other side has broken off")
	// errRefused reports a stream that the other side does not want.
	errRefused = errors.New("the other side does not take")
)
