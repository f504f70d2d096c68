package node

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/seigr/sttnode/dht"
	"github.com/seigr/sttnode/stc"
)

// Announce tries again after announceRetryMin, then after twice as long each
// time, up to announceRetryMax.
const (
	announceRetryMin = 500 * time.Millisecond
	announceRetryMax = 10 * time.Second
)

// Provide makes the node a provider of root, until Unprovide or Stop: it tells
// the nodes closest to root, now and again before their records expire. It
// returns how many of them hold the record; 0 and an error if none, in which
// case it is tried again in the background.
func (n *Node) Provide(ctx context.Context, root stc.Hash) (stored int, err error) {
	ctx, end, err := n.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer end()
	return n.provide(ctx, root)
}

func (n *Node) provide(ctx context.Context, root stc.Hash) (stored int, err error) {
	stored, err = n.dht.Provide(ctx, root)
	if err != nil {
		n.emit(EventProvideFailed, Event{Root: root, Err: err})
		return stored, err
	}
	n.log.Info("announced", "root", root, "nodes", stored)
	n.emit(EventProviding, Event{Root: root, Count: stored})
	return stored, nil
}

// Announce is Provide that waits until at least one node holds the record. A
// node that knows nobody and was given no bootstrap address does not wait:
// 0 and no error, and the record goes to the first node that comes.
func (n *Node) Announce(ctx context.Context, root stc.Hash) (stored int, err error) {
	ctx, end, err := n.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer end()
	for pause := announceRetryMin; ; pause = min(2*pause, announceRetryMax) {
		stored, err = n.provide(ctx, root)
		switch {
		case err == nil, ctx.Err() != nil:
			return stored, err
		case errors.Is(err, dht.ErrNoNodes) && len(n.cfg.Bootstrap) == 0:
			return 0, nil
		}
		n.log.Info("not announced yet", "root", root, "err", err)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return 0, context.Cause(ctx)
		}
	}
}

// Unprovide takes the announcement of root back from the nodes that hold it.
func (n *Node) Unprovide(ctx context.Context, root stc.Hash) error {
	ctx, end, err := n.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	_, err = n.dht.Unprovide(ctx, root)
	return err
}

// dropped takes the announcement of a content back that the store has dropped.
func (n *Node) dropped(root stc.Hash) {
	ctx, end, err := n.begin(context.Background())
	if err != nil {
		return // Stop takes all of them back
	}
	go func() {
		defer end()
		n.log.Info("dropped from the store", "root", root)
		if slices.Contains(n.dht.Provided(), root) {
			_, _ = n.dht.Unprovide(ctx, root)
		}
	}()
}

// withdraw tells the network, as far as the time reaches, that this node no
// longer provides anything.
func (n *Node) withdraw(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, withdrawTimeout)
	defer cancel()
	if withdrawn, err := n.dht.UnprovideAll(ctx); err != nil {
		n.log.Info("not all announcements were taken back", "err", err)
	} else {
		n.log.Debug("announcements were taken back", "records", withdrawn)
	}
}
