package main

import (
	"context"
	"errors"

	"github.com/spf13/pflag"
)

func bootstrapCommand() *command {
	return &command{
		name:  "bootstrap",
		args:  "[FLAGS]",
		short: "run a node that helps the others to find each other",
		long: `Runs a node that has nothing to offer but its address: the others join the
network by it, with --bootstrap HOST:PORT, and find each other from then on
without it. Run it where the others reach it, on a fixed UDP port. Several
bootstrap nodes name each other with --bootstrap. With --ws-listen it also lets
those in who can only use WebSocket: they join with --bootstrap
ws://HOST:PORT/stt, or wss://HOST:PORT/stt if it has a --ws-cert.

It runs until SIGINT or SIGTERM, and exits with 0.

Example:
  sttnode bootstrap --listen :4700`,
		group: groupNode,
		setup: func(*pflag.FlagSet) runFunc { return runBootstrap },
	}
}

type listeningEvent struct {
	Event  string `json:"event"`
	NodeID string `json:"node_id"`
	UDP    string `json:"udp"`
	WS     string `json:"ws,omitempty"`
}

func runBootstrap(ctx context.Context, a *app, args []string) error {
	if err := noArgs(args); err != nil {
		return err
	}
	cfg, err := a.nodeConfig()
	if err != nil {
		return err
	}
	n, err := a.startNode(ctx, cfg)
	if err != nil {
		return err
	}
	if a.options.json {
		a.emit(listeningEvent{"listening", n.ID().String(), n.Addr().String(), n.WebSocketURL()})
	}
	a.note("Bootstrap node %v listens on %s. Stop it with Ctrl-C.", n.ID(), n.where())
	if err := n.join(ctx); err != nil {
		if ctx.Err() != nil {
			return n.stop()
		}
		return errors.Join(err, n.stop())
	}
	return n.serveUntilSignal(ctx)
}
