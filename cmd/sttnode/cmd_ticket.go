package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

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
				t := node.Ticket{Root: want.root}
				if len(given) == 0 || !want.name.IsZero() {
					if t, err = a.findTicket(ctx, want, len(given) == 0, *timeout); err != nil {
						return err
					}
				}
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

// findTicket asks the network which content is wanted, if need be, and, if find
// is set, who provides it.
func (a *app) findTicket(ctx context.Context, want contentArg, find bool, timeout time.Duration) (t node.Ticket, err error) {
	err = a.visit(ctx, nil, func(n *node.Node) error {
		root, err := want.resolve(ctx, n, timeout)
		if t.Root = root; err != nil || !find {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		if t, err = n.FindTicket(ctx, root); errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("%w: nobody was found who provides %v", errTimedOut, root)
		}
		return err
	})
	return t, err
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
