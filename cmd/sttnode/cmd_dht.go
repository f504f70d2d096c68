package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/stc"
)

// dhtTimeout bounds the commands that look at the network, but for the crawl.
const dhtTimeout = 30 * time.Second

const dhtVisitor = `The node that asks is one for this purpose only, so that the node of --dir may be
running. It serves nobody, and is in nobody's table.`

func dhtStatCommand() *command {
	return &command{
		name:  "dht stat",
		short: "print what a node that joins sees of the network",
		long: `Joins the network, looks around, and prints how many nodes there seem to be, how
far they are, and how they spread over the buckets of a routing table.

` + dhtVisitor,
		group: groupName,
		setup: func(*pflag.FlagSet) runFunc {
			return func(ctx context.Context, a *app, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				return a.visit(ctx, nil, func(n *node.Node) error { return a.dhtStat(ctx, n) })
			}
		},
	}
}

func dhtFindCommand() *command {
	return &command{
		name:  "dht find",
		args:  "HASH [FLAGS]",
		short: "list who provides a content",
		long: `Looks up a content, prints "NODEID  ADDR" for each address of those who say that
they provide it, and says how the lookup went. Whether they have it, a fetch
finds out. The exit code is 4 if there are none.

` + dhtVisitor,
		group: groupName,
		setup: func(*pflag.FlagSet) runFunc {
			return func(ctx context.Context, a *app, args []string) error {
				if len(args) != 1 {
					return usagef("dht find needs one HASH")
				}
				want, err := parseContentArg(args[0])
				if err != nil {
					return err
				}
				return a.visit(ctx, nil, func(n *node.Node) error { return a.dhtFind(ctx, n, want) })
			}
		},
	}
}

func dhtGetCommand() *command {
	return &command{
		name:  "dht get",
		args:  "NODEID [FLAGS]",
		short: "print where a node is",
		long: `Looks for a node by its ID, and prints its address and how long its answer takes.

` + dhtVisitor,
		group: groupName,
		setup: func(*pflag.FlagSet) runFunc {
			return func(ctx context.Context, a *app, args []string) error {
				if len(args) != 1 {
					return usagef("dht get needs one NODEID")
				}
				id, err := stc.ParseHash(args[0])
				if err != nil {
					return usagef("%q is no node ID: that is 64 digits of 0-9 a-f", args[0])
				}
				return a.visit(ctx, nil, func(n *node.Node) error {
					ctx, cancel := withTimeout(ctx, dhtTimeout, "the node was not found")
					defer cancel()
					f, err := n.FindNode(ctx, id)
					if err != nil {
						return err
					}
					a.printNode(f)
					return nil
				})
			}
		},
	}
}

func dhtCrawlCommand() *command {
	return &command{
		name:  "dht crawl",
		short: "list all nodes of the network that answer",
		long: `Walks through the whole network and prints "NODEID  ADDR" for each node that
answers. Nodes that cannot be called, or do not know yet whether they can, are not
among them. A network of 1,000 nodes
takes about 3,000 datagrams. Of a public /24 or /48 with many nodes it may miss some.

` + dhtVisitor,
		group: groupName,
		setup: func(*pflag.FlagSet) runFunc {
			return func(ctx context.Context, a *app, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				return a.visit(ctx, nil, func(n *node.Node) error { return a.dhtCrawl(ctx, n) })
			}
		},
	}
}

type dhtEvent struct {
	Event   string         `json:"event"`
	Nodes   map[string]int `json:"nodes"`
	Network int            `json:"network_nodes"`
	RTT     float64        `json:"rtt_ms"`
	Buckets []bucketEvent  `json:"buckets"`
}

type bucketEvent struct {
	Prefix  int `json:"prefix"`
	Entries int `json:"entries"`
	Width   int `json:"width"`
}

func (a *app) dhtStat(ctx context.Context, n *node.Node) error {
	ctx, cancel := withTimeout(ctx, dhtTimeout, "the network did not answer")
	defer cancel()
	s, err := n.Survey(ctx)
	if err != nil {
		return err
	}
	t := s.Table
	e := dhtEvent{Event: "dht", Nodes: map[string]int{"good": t.Good, "questionable": t.Questionable, "bad": t.Bad},
		Network: s.Network, RTT: milliseconds(s.RTT), Buckets: []bucketEvent{}}
	for _, b := range t.Buckets {
		e.Buckets = append(e.Buckets, bucketEvent{b.Prefix, b.Entries, b.Width})
	}
	if a.options.json {
		a.emit(e)
		return nil
	}
	fmt.Fprintf(a.stdout, "nodes known   %d: %d good, %d questionable, %d bad\n", t.Good+t.Questionable+t.Bad, t.Good, t.Questionable, t.Bad)
	fmt.Fprintf(a.stdout, "network       about %s\n", plural(max(s.Network, t.Good), "node"))
	fmt.Fprintf(a.stdout, "round trip    %v\n", s.RTT.Round(100*time.Microsecond))
	for _, b := range e.Buckets {
		fmt.Fprintf(a.stdout, "bucket %-5d  %d of %d\n", b.Prefix, b.Entries, b.Width)
	}
	return nil
}

type providerEvent struct {
	Event string  `json:"event"`
	Node  string  `json:"node"`
	Addr  string  `json:"addr"`
	RTT   float64 `json:"rtt_ms,omitempty"`
}

type lookupEvent struct {
	Event     string  `json:"event"`
	Hash      string  `json:"hash"`
	Providers int     `json:"providers"`
	Asked     int     `json:"asked"`
	Answered  int     `json:"answered"`
	Hops      int     `json:"hops"`
	Seconds   float64 `json:"seconds"`
	Complete  bool    `json:"complete"`
}

func (a *app) dhtFind(ctx context.Context, n *node.Node, want contentArg) error {
	ctx, cancel := withTimeout(ctx, dhtTimeout, "the network did not answer")
	defer cancel()
	root, err := want.resolve(ctx, n, dhtTimeout)
	if err != nil {
		return err
	}
	providers := 0
	s, err := n.LookUp(ctx, root, func(f node.FoundNode) {
		providers++
		if a.options.json {
			a.emit(providerEvent{"provider", f.Peer.String(), f.Addr, 0})
		} else {
			fmt.Fprintf(a.stdout, "%v  %s\n", f.Peer, f.Addr)
		}
	})
	if err != nil {
		return err
	}
	if a.options.json {
		a.emit(lookupEvent{"lookup", root.String(), providers, s.Asked, s.Answered, s.Hops, s.Duration.Seconds(), s.Complete})
	}
	a.note("%s in %s: asked %s, of which %d answered, in %s.", fmt.Sprintf("%d addresses", providers), humanDuration(s.Duration),
		plural(s.Asked, "node"), s.Answered, plural(s.Hops, "hop"))
	if providers == 0 {
		return &node.NoProviderError{Root: root, Asked: s.Answered}
	}
	return nil
}

// printNode prints where a node is.
func (a *app) printNode(f node.FoundNode) {
	switch {
	case a.options.json:
		a.emit(providerEvent{"node", f.Peer.String(), f.Addr, milliseconds(f.RTT)})
	case f.RTT > 0:
		fmt.Fprintf(a.stdout, "%v  %s  %v\n", f.Peer, f.Addr, f.RTT.Round(100*time.Microsecond))
	default:
		fmt.Fprintf(a.stdout, "%v  %s\n", f.Peer, f.Addr)
	}
}

type crawledEvent struct {
	Event      string  `json:"event"`
	Nodes      int     `json:"nodes"`
	Lookups    int     `json:"lookups"`
	Incomplete int     `json:"incomplete"`
	Seconds    float64 `json:"seconds"`
}

func (a *app) dhtCrawl(ctx context.Context, n *node.Node) error {
	began := time.Now()
	s, err := n.Crawl(ctx, a.printNode)
	if err != nil {
		return err
	}
	took := time.Since(began)
	if a.options.json {
		a.emit(crawledEvent{"crawled", s.Nodes, s.Lookups, s.Incomplete, took.Seconds()})
	}
	a.note("%s in %s, by %s.", plural(s.Nodes, "node"), humanDuration(took), plural(s.Lookups, "lookup"))
	if s.Incomplete > 0 {
		a.warn("%s could not ask everybody: there may be more nodes", plural(s.Incomplete, "lookup"))
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
