package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/stc"
)

func seedCommand() *command {
	return &command{
		name:  "seed",
		args:  "PATH... [FLAGS]",
		short: "store files or directories, announce them, and serve them",
		long: `Copies each file or directory tree into the node's store, encrypted, announces
it to the network, prints one line "HASH  PATH" on standard output once that is
done, and serves it until SIGINT or SIGTERM. The hash is what others fetch the
content by. The files themselves may change or go afterwards.

With --stored, everything is served that the store holds complete: what was
seeded and fetched before. PATHs may be left out then.

With --background, serving takes only what the rest of the traffic on its way
leaves, and gives way within seconds (LEDBAT++).

Example:
  sttnode seed ./film.mkv ./photos --bootstrap boot.example.org:4700`,
		group: groupNode,
		setup: func(fs *pflag.FlagSet) runFunc {
			stored := fs.Bool("stored", false, "serve everything that the store holds complete as well")
			background := fs.Bool("background", false, "send only what no other traffic wants")
			return func(ctx context.Context, a *app, args []string) error {
				return runSeed(ctx, a, args, *stored, *background)
			}
		},
	}
}

// seedEvent is the line of --json for each content that is announced.
type seedEvent struct {
	Event string `json:"event"`
	Hash  string `json:"hash"`
	Path  string `json:"path"`
	Bytes uint64 `json:"bytes"`
	Files uint64 `json:"files"`
	Nodes int    `json:"nodes"` // that hold the announcement
}

// seeding is one content to be announced.
type seeding struct {
	root  stc.Hash
	path  string // as the user wrote it, or the name of what was stored before
	bytes uint64
	files uint64
}

func runSeed(ctx context.Context, a *app, paths []string, stored, background bool) error {
	if len(paths) == 0 && !stored {
		return usagef("seed needs at least one PATH")
	}
	for _, p := range paths {
		if _, err := os.Lstat(p); err != nil {
			return fmt.Errorf("seed: %w", err)
		}
	}
	cfg, err := a.nodeConfig()
	if err != nil {
		return err
	}
	cfg.Background = background
	n, err := a.startNode(ctx, cfg)
	if err != nil {
		return err
	}
	err = seedAll(ctx, n, paths, stored)
	if ctx.Err() != nil {
		// Stopped before everything was announced: some of it is stored, and
		// that is how a signal ends a seed.
		a.note("Stopping.")
		return n.stop()
	}
	if err != nil {
		return errors.Join(err, n.stop())
	}
	a.note("Serving on %s. Stop with Ctrl-C.", n.where())
	return n.serveUntilSignal(ctx)
}

// seedAll imports and announces everything.
func seedAll(ctx context.Context, n *runningNode, paths []string, stored bool) error {
	var all []seeding
	for _, path := range paths {
		s, err := importPath(ctx, n, path)
		if err != nil {
			return err
		}
		all = append(all, s)
	}
	if stored {
		more, err := storedContents(n, all)
		if err != nil {
			return err
		}
		all = append(all, more...)
	}
	if err := n.join(ctx); err != nil {
		return err
	}
	for _, s := range all {
		nodes, err := n.Announce(ctx, s.root)
		if err != nil {
			return fmt.Errorf("announce %s: %w", s.path, err)
		}
		if n.app.options.json {
			n.app.emit(seedEvent{"seeding", s.root.String(), s.path, s.bytes, s.files, nodes})
		} else {
			fmt.Fprintf(n.app.stdout, "%v  %s\n", s.root, s.path)
		}
		if nodes == 0 {
			n.app.note("No other node is known yet: %s is announced when one comes.", s.path)
		}
	}
	return nil
}

// importPath copies one path into the store.
func importPath(ctx context.Context, n *runningNode, path string) (seeding, error) {
	b := n.app.startBar("storing " + path)
	defer b.finish()
	result, err := n.Import(ctx, path, node.ImportOptions{OnProgress: func(p node.ImportProgress) {
		extra := ""
		if p.Files > 0 {
			extra = plural(p.Files, "file")
		}
		b.set(int64(p.Bytes), int64(p.Total), extra)
	}})
	if err != nil {
		return seeding{}, err
	}
	if result.EscapingCount > 0 {
		n.app.warn("%s holds %s out of it, as %s: who fetches it will refuse to write it", path,
			plural(result.EscapingCount, "link"), result.Escaping[0])
	}
	return seeding{result.Root, path, result.Bytes, result.Files}, nil
}

// storedContents lists what the store holds complete, but not what is in
// besides.
func storedContents(n *runningNode, besides []seeding) ([]seeding, error) {
	pins, err := n.Store().Pins()
	if err != nil {
		return nil, err
	}
	known := make(map[stc.Hash]bool)
	for _, s := range besides {
		known[s.root] = true
	}
	var all []seeding
	for _, p := range pins {
		if p.State == content.PinComplete && !known[p.Root] {
			all = append(all, seeding{root: p.Root, path: p.Name, bytes: p.Size})
		}
	}
	return all, nil
}
