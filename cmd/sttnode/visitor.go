package main

import (
	"context"
	"crypto/rand"

	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/stc"
)

// visit starts a node for one purpose, and stops it afterwards. It is somebody
// new to the network, takes any free port and leaves nothing on the disk: the
// node of --dir may be running. change, if not nil, adjusts its configuration.
func (a *app) visit(ctx context.Context, change func(*node.Config) error, do func(*node.Node) error) error {
	cfg, err := a.networkConfig(func(cfg *node.Config) (err error) {
		var seed [stc.HashSize]byte
		_, _ = rand.Read(seed[:]) // never fails
		cfg.DialOnly, cfg.Listen = true, ":0"
		if cfg.Identity, err = stc.NewIdentity(seed[:]); err == nil && change != nil {
			err = change(cfg)
		}
		return err
	})
	if err != nil {
		return err
	}
	n, err := node.New(cfg)
	if err != nil {
		return err
	}
	if err := n.Start(ctx); err != nil {
		return err
	}
	err = do(n)
	if stopErr := n.Stop(context.Background()); stopErr != nil {
		a.log.Info("the node that asked did not stop in order", "err", stopErr)
	}
	return err
}
