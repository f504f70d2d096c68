package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/pflag"

	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/stc"
)

func ticketCommand() *command {
	return &command{
		name:  "ticket",
		args:  "HASH [--peer ADDR...] [FLAGS]",
		short: "print a hash and addresses of nodes that have it as one word",
		long: `Prints a ticket: one word that holds the hash of a content and addresses of nodes
that have it. It can be given to fetch wherever a hash can, and then needs no
bootstrap node. It is no secret, and no use to anybody without the shared seed.

With --peer it holds these addresses, and nobody is asked. Without, the network
is asked who provides the content. A node that seeds prints tickets for its own
addresses with "seed --ticket". HASH may be a ticket, to which the addresses are
added. Whoever fetches by a ticket has to reach one of its addresses: behind a
NAT, name the one outside.

Example:
  sttnode ticket 3f5c…e1 --peer 192.0.2.7:4700
  sttnode fetch "$(sttnode ticket 3f5c…e1 --bootstrap boot.example.org:4700)"`,
		group: groupOutput | groupDir | groupSeed | groupNet,
		setup: func(fs *pflag.FlagSet) runFunc {
			peers := fs.StringSlice("peer", nil, "`ADDR` of a node that has it, [nodeid@]host:port or [nodeid@]ws[s]://host:port/path; may be repeated")
			timeout := fs.Duration("search-timeout", defaultSearchTimeout, "give up if nobody is found who has it in this `TIME`")
			return func(ctx context.Context, a *app, args []string) error {
				if len(args) != 1 {
					return usagef("ticket needs one HASH")
				}
				want, err := parseContentArg(args[0])
				if err != nil {
					return err
				}
				given, err := parsePeers(*peers)
				if err != nil {
					return err
				}
				if len(given) == 0 {
					ctx, cancel := context.WithTimeout(ctx, *timeout)
					defer cancel()
					if given, err = a.findProviders(ctx, want.root); err != nil {
						return err
					}
				}
				t := node.Ticket{Root: want.root}
				for _, p := range append(given, want.peers...) {
					if !slices.Contains(t.Peers, p) && len(t.Peers) < node.MaxTicketPeers {
						t.Peers = append(t.Peers, p)
					}
				}
				return a.printTicket(t)
			}
		},
	}
}

// ticketEvent is the line of ticket --json.
type ticketEvent struct {
	Event  string   `json:"event"`
	Ticket string   `json:"ticket"`
	Hash   string   `json:"hash"`
	Peers  []string `json:"peers"`
}

func (a *app) printTicket(t node.Ticket) error {
	text, err := t.MarshalText()
	if err != nil {
		return err
	}
	if !a.options.json {
		fmt.Fprintf(a.stdout, "%s\n", text)
		return nil
	}
	e := ticketEvent{Event: "ticket", Ticket: string(text), Hash: t.Root.String()}
	for _, p := range t.Peers {
		e.Peers = append(e.Peers, p.String())
	}
	a.emit(e)
	return nil
}

// findProviders asks the network who provides a content. The node that asks is
// one for this purpose only: that of --dir may be running.
func (a *app) findProviders(ctx context.Context, root stc.Hash) ([]node.Address, error) {
	cfg, err := a.networkConfig(func(cfg *node.Config) (err error) {
		var seed [stc.HashSize]byte
		_, _ = rand.Read(seed[:]) // never fails
		cfg.DialOnly, cfg.Listen = true, ":0"
		cfg.Identity, err = stc.NewIdentity(seed[:])
		return err
	})
	if err != nil {
		return nil, err
	}
	n, err := node.New(cfg)
	if err != nil {
		return nil, err
	}
	if err := n.Start(ctx); err != nil {
		return nil, err
	}
	t, err := n.FindTicket(ctx, root)
	if stopErr := n.Stop(context.Background()); stopErr != nil {
		a.log.Info("the node that asked did not stop in order", "err", stopErr)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w: nobody was found who provides %v", errTimedOut, root)
	}
	return t.Peers, err
}

// ticket returns the text of a ticket for a content that this node has.
func (n *runningNode) ticket(root stc.Hash) (string, error) {
	t, err := n.Ticket(root)
	if err != nil {
		return "", err
	}
	text, err := t.MarshalText()
	return string(text), err
}
