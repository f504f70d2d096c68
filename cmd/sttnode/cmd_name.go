package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/stc"
)

// groupName is for commands that ask the network, beside a node that may be
// running.
const groupName = groupOutput | groupDir | groupSeed | groupJoin

func namePublishCommand() *command {
	return &command{
		name:  "name publish",
		args:  "LABEL HASH [FLAGS]",
		short: "make a name of this node stand for a content, until it is published again",
		long: `Publishes what the name of this node that belongs to LABEL stands for, and prints
the name: the word that others give to fetch in place of a hash, and that stays
the same when it is published again with another HASH. LABEL is yours alone to
know; the same LABEL always gives the same name. Only this node can publish it,
since the key that signs for it comes from its node.seed.

It does not touch the store: the node may be seeding in another process, or the
content may be somebody else's. The name lasts for 48 hours, and on as long as
"seed" or "bootstrap" run with the same --dir: they publish it again.

Example:
  sttnode name publish film 3f5c…e1
  sttnode fetch sttn…`,
		group: groupName,
		setup: func(fs *pflag.FlagSet) runFunc {
			timeout := defineNameTimeout(fs)
			return func(ctx context.Context, a *app, args []string) error {
				if len(args) != 2 {
					return usagef("name publish needs a LABEL and a HASH")
				}
				if err := stc.CheckLabel(args[0]); err != nil {
					return usagef("%s", errorText(err))
				}
				want, err := parseContentArg(args[1])
				if err != nil {
					return err
				}
				return a.publishName(ctx, *timeout, args[0], want)
			}
		},
	}
}

func nameResolveCommand() *command {
	return &command{
		name:  "name resolve",
		args:  "NAME [FLAGS]",
		short: "print the hash that a name stands for",
		long: `Asks the nodes that hold the name what it stands for, checks that its owner has
signed that, takes the newest of the answers, and prints the hash. The exit code
is 4 if nobody knows, because nobody has published it for 48 hours, or because
its owner has taken it back.`,
		group: groupName,
		setup: func(fs *pflag.FlagSet) runFunc {
			timeout := defineNameTimeout(fs)
			return func(ctx context.Context, a *app, args []string) error {
				if len(args) != 1 {
					return usagef("name resolve needs one NAME")
				}
				name, err := stc.ParseName(args[0])
				if err != nil {
					return usagef("%s", errorText(err))
				}
				return a.visit(ctx, nil, func(n *node.Node) error {
					p, err := resolveName(ctx, n, *timeout, name)
					if err != nil {
						return err
					}
					if a.options.json {
						a.emit(newNameEvent("resolved", p))
					} else {
						fmt.Fprintln(a.stdout, p.Root)
					}
					return nil
				})
			}
		},
	}
}

func nameListCommand() *command {
	return &command{
		name:  "name ls",
		short: "list the names of this node",
		long: `Lists the names that were published with this --dir: name, hash, when, and LABEL.
In place of a hash there is a - if the name was taken back.`,
		group: groupStore,
		setup: func(*pflag.FlagSet) runFunc {
			return func(_ context.Context, a *app, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				names, err := node.Names(node.NamesDir(a.options.dir))
				table := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
				for _, p := range names {
					root := "-"
					if !p.Root.IsZero() {
						root = p.Root.String()
					}
					if a.options.json {
						a.emit(newNameEvent("name", p))
					} else {
						fmt.Fprintf(table, "%v\t%s\t%s\t%s\n", p.Name, root, published(p).Format(time.DateTime), p.Label)
					}
				}
				return errors.Join(err, table.Flush())
			}
		},
	}
}

func nameRemoveCommand() *command {
	return &command{
		name:  "name rm",
		args:  "LABEL [FLAGS]",
		short: "take a name back",
		long: `Publishes that the name stands for nothing any more, and keeps it published no
longer. It can be published again later, and is the same name then.`,
		group: groupName,
		setup: func(flags *pflag.FlagSet) runFunc {
			timeout := defineNameTimeout(flags)
			return func(ctx context.Context, a *app, args []string) error {
				if len(args) != 1 {
					return usagef("name rm needs one LABEL")
				}
				if err := stc.CheckLabel(args[0]); err != nil {
					return usagef("%s", errorText(err))
				}
				if err := a.publishName(ctx, *timeout, args[0], contentArg{}); err != nil {
					return err
				}
				err := node.ForgetName(node.NamesDir(a.options.dir), args[0])
				if errors.Is(err, fs.ErrNotExist) { // somebody else has, at the same time
					return nil
				}
				return err
			}
		},
	}
}

func defineNameTimeout(fs *pflag.FlagSet) *time.Duration {
	return fs.Duration("search-timeout", defaultSearchTimeout, "give up if the network does not answer in this `TIME`")
}

// nameEvent tells of a name. Label, hash and nodes are those that apply.
type nameEvent struct {
	Event    string `json:"event"`
	Name     string `json:"name"`
	Hash     string `json:"hash,omitempty"` // empty for a name that was taken back
	Label    string `json:"label,omitempty"`
	Sequence uint64 `json:"sequence"`
	Nodes    int    `json:"nodes,omitempty"` // that hold it
}

func newNameEvent(event string, p node.PublishedName) nameEvent {
	e := nameEvent{Event: event, Name: p.Name.String(), Label: p.Label, Sequence: p.Sequence}
	if !p.Root.IsZero() {
		e.Hash = p.Root.String()
	}
	return e
}

// published is when a name was published, as its sequence number says.
func published(p node.PublishedName) time.Time {
	return time.UnixMilli(int64(p.Sequence & (1<<63 - 1)))
}

// publishName publishes a name of the node in --dir; the zero contentArg takes it
// back.
func (a *app) publishName(ctx context.Context, timeout time.Duration, label string, want contentArg) error {
	owner := func(cfg *node.Config) (err error) {
		cfg.NamesDir = node.NamesDir(a.options.dir)
		cfg.Owner, err = a.loadIdentity()
		return err
	}
	return a.visit(ctx, owner, func(n *node.Node) error {
		root, err := want.resolve(ctx, n, timeout)
		if err != nil {
			return err
		}
		ctx, cancel := withTimeout(ctx, timeout, "nobody took the name")
		defer cancel()
		p, nodes, err := n.PublishName(ctx, label, root)
		if err != nil {
			if p.Sequence > 0 {
				return fmt.Errorf("%w; a seed or bootstrap that runs with this --dir goes on trying to publish it", err)
			}
			return err
		}
		switch e := newNameEvent("published", p); {
		case a.options.json:
			e.Nodes = nodes
			a.emit(e)
		case !root.IsZero():
			fmt.Fprintf(a.stdout, "%v  %s\n", p.Name, p.Label)
		}
		a.note("%d nodes hold it.", nodes)
		return nil
	})
}

// withTimeout is context.WithTimeoutCause with an error of the exit code for it.
func withTimeout(ctx context.Context, d time.Duration, what string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("%w: %s in %v", errTimedOut, what, d))
}

// resolveName asks the network what a name stands for.
func resolveName(ctx context.Context, n *node.Node, timeout time.Duration, name stc.Name) (node.PublishedName, error) {
	ctx, cancel := withTimeout(ctx, timeout, "nobody was found who knows the name")
	defer cancel()
	return n.ResolveName(ctx, name)
}

// resolve returns the content that an argument names, after asking the network
// if it is a name.
func (c contentArg) resolve(ctx context.Context, n *node.Node, timeout time.Duration) (stc.Hash, error) {
	if c.name.IsZero() {
		return c.root, nil
	}
	p, err := resolveName(ctx, n, timeout, c.name)
	return p.Root, err
}
