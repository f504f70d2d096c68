package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/stc"
)

func demoCommand() *command {
	return &command{
		name:  "demo",
		short: "watch a whole network at work, in this process, on this machine",
		long: `Runs a bootstrap node, three seeders and two fetchers in this process, with real
files in a temporary directory and real sessions over UDP on the loopback
interface. One seeder is stopped in the middle of a fetch, all of them before
the last one. It compares what arrived with what was seeded, byte for byte, says
what happened, and exits with 0 if everything did arrive. It needs no set-up and
leaves nothing behind.`,
		group: groupOutput,
		setup: func(*pflag.FlagSet) runFunc { return runDemo },
	}
}

const (
	demoSeeders  = 3
	demoFileSize = 64 << 20
	// demoStopped is the seeder, counted from 0, that is stopped midway.
	demoStopped = 1
)

// demo is a network in one process.
type demo struct {
	app     *app
	dir     string
	keyring *stc.Keyring
	names   map[stc.Hash]string // of nodes, for people

	bootstrap *node.Node
	seeders   []*node.Node
	all       []*node.Node

	film, tree         string // paths of what is seeded
	filmRoot, treeRoot stc.Hash
}

// demoEvent is what --json says of each step.
type demoEvent struct {
	Event   string        `json:"event"`
	Node    string        `json:"node,omitempty"`
	Hash    string        `json:"hash,omitempty"`
	Bytes   uint64        `json:"bytes,omitempty"`
	Seconds float64       `json:"seconds,omitempty"`
	Sources []sourceEvent `json:"sources,omitempty"`
	Equal   bool          `json:"equal,omitempty"`
}

func runDemo(ctx context.Context, a *app, args []string) (err error) {
	if err := noArgs(args); err != nil {
		return err
	}
	start := time.Now()
	d := &demo{app: a, names: make(map[stc.Hash]string)}
	if d.dir, err = os.MkdirTemp("", "sttnode-demo-"); err != nil {
		return err
	}
	defer os.RemoveAll(d.dir)
	defer d.stopAll()
	if d.keyring, err = stc.NewKeyring(randomSeed()); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{d.begin, d.seed, d.fetchWithLoss, d.fetchFromFetcher} {
		if err := step(ctx); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("demo: %w", err)
		}
	}
	d.say(demoEvent{Event: "done", Seconds: time.Since(start).Seconds(), Equal: true},
		"\nAll of it arrived, verified and equal, in %s.", humanDuration(time.Since(start)))
	return nil
}

func randomSeed() []byte {
	seed := make([]byte, stc.MinSeedSize)
	rand.Read(seed)
	return seed
}

// say tells a step to a person, or as an event.
func (d *demo) say(e demoEvent, format string, args ...any) {
	if d.app.options.json {
		d.app.emit(e)
	} else if !d.app.options.quiet {
		fmt.Fprintf(d.app.stdout, format+"\n", args...)
	}
}

// start runs a node on a free port of the loopback interface.
func (d *demo) start(ctx context.Context, name string) (*node.Node, error) {
	id, err := stc.NewIdentity(randomSeed())
	if err != nil {
		return nil, err
	}
	cfg := node.Config{
		Identity: id, Keyring: d.keyring, Listen: "127.0.0.1:0", Logger: d.app.log,
		Dir: filepath.Join(d.dir, strings.ReplaceAll(name, " ", "-")),
	}
	if d.bootstrap != nil {
		at := d.bootstrap.Addr()
		cfg.Bootstrap = []node.Address{{Host: at.Addr().String(), Port: at.Port()}}
	}
	n, err := node.New(cfg)
	if err != nil {
		return nil, err
	}
	if err := n.Start(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	d.all = append(d.all, n)
	d.names[n.ID()] = name
	return n, nil
}

// begin makes the files and starts the bootstrap node and the seeders.
func (d *demo) begin(ctx context.Context) (err error) {
	d.film, d.tree = filepath.Join(d.dir, "film.bin"), filepath.Join(d.dir, "album")
	if err := writeRandomFile(d.film, demoFileSize); err != nil {
		return err
	}
	if err := writeDemoTree(d.tree); err != nil {
		return err
	}
	if d.bootstrap, err = d.start(ctx, "bootstrap node"); err != nil {
		return err
	}
	d.say(demoEvent{Event: "started", Node: d.bootstrap.ID().String()},
		"A network of its own, on this machine: one shared secret, made just now.\n\n"+
			"bootstrap node  %s… on UDP %v", d.bootstrap.ID().String()[:8], d.bootstrap.Addr())
	for i := range demoSeeders {
		n, err := d.start(ctx, fmt.Sprintf("seeder %d", i+1))
		if err != nil {
			return err
		}
		d.seeders = append(d.seeders, n)
	}
	return nil
}

// seed has every seeder store and announce both contents.
func (d *demo) seed(ctx context.Context) error {
	var film, tree node.ImportResult
	g, gctx := errgroup.WithContext(ctx)
	for i, n := range d.seeders {
		g.Go(func() error {
			f, err := n.Import(gctx, d.film, node.ImportOptions{})
			if err != nil {
				return err
			}
			t, err := n.Import(gctx, d.tree, node.ImportOptions{})
			if err != nil {
				return err
			}
			if i == 0 {
				film, tree = f, t
			}
			for _, root := range []stc.Hash{f.Root, t.Root} {
				if _, err := n.Announce(gctx, root); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	d.filmRoot, d.treeRoot = film.Root, tree.Root
	d.say(demoEvent{Event: "seeded", Hash: film.Root.String(), Bytes: film.Bytes},
		"three seeders   have stored, encrypted, and announced\n"+
			"                  %s…  film.bin, %s", film.Root.String()[:16], humanBytes(film.Bytes))
	d.say(demoEvent{Event: "seeded", Hash: tree.Root.String(), Bytes: tree.Bytes},
		"                  %s…  album/, %s, %s", tree.Root.String()[:16], plural(tree.Files, "file"), humanBytes(tree.Bytes))
	return nil
}

// fetchWithLoss fetches both contents by one node, and stops a seeder when half
// of the first has arrived. The fetch waits while the seeder stops, so that it
// is half whatever the speed of the machine.
func (d *demo) fetchWithLoss(ctx context.Context) error {
	n, err := d.start(ctx, "fetcher 1")
	if err != nil {
		return err
	}
	victim, stoppedAt := d.seeders[demoStopped], uint64(0)
	result, err := d.fetch(ctx, n, d.filmRoot, d.film, func(stored uint64) {
		if stoppedAt == 0 && stored >= demoFileSize/2 && stored < demoFileSize {
			stoppedAt = stored
			if err := victim.Stop(ctx); err != nil {
				d.app.log.Warn("stopping a seeder", "err", err)
			}
		}
	})
	if err != nil {
		return err
	}
	if stoppedAt == 0 {
		return errors.New("the fetch was over before a seeder was stopped")
	}
	d.say(demoEvent{Event: "stopped", Node: victim.ID().String(), Bytes: stoppedAt},
		"                  %s was stopped when %s had arrived", d.names[victim.ID()], humanBytes(stoppedAt))
	if len(result.Sources) < demoSeeders {
		return fmt.Errorf("drew from %d peers instead of %d", len(result.Sources), demoSeeders)
	}
	_, err = d.fetch(ctx, n, d.treeRoot, d.tree, nil)
	return err
}

// fetchFromFetcher stops the seeders that are left and fetches from the node
// that has fetched.
func (d *demo) fetchFromFetcher(ctx context.Context) error {
	var g errgroup.Group
	for _, n := range d.seeders {
		g.Go(func() error { return n.Stop(ctx) })
	}
	if err := g.Wait(); err != nil {
		d.app.log.Warn("stopping the seeders", "err", err)
	}
	d.say(demoEvent{Event: "stopped"}, "seeders         all stopped; what they seeded lives on in fetcher 1")
	n, err := d.start(ctx, "fetcher 2")
	if err != nil {
		return err
	}
	_, err = d.fetch(ctx, n, d.filmRoot, d.film, nil)
	return err
}

// fetch fetches a content by a node and compares it with the original.
func (d *demo) fetch(ctx context.Context, n *node.Node, root stc.Hash, original string, onStored func(uint64)) (node.FetchResult, error) {
	name := d.names[n.ID()]
	out := filepath.Join(d.dir, "out-"+strings.ReplaceAll(name, " ", "-"))
	if err := os.MkdirAll(out, 0o755); err != nil {
		return node.FetchResult{}, err
	}
	b := d.app.startBar(name)
	result, err := n.Fetch(ctx, root, node.FetchOptions{
		Output:   out + string(filepath.Separator),
		Provide:  true,
		OnStored: onStored,
		OnProgress: func(p node.FetchProgress) {
			b.begin(name + " " + p.Phase.String())
			b.set(int64(p.Bytes), int64(p.Total), plural(p.Peers, "peer"))
		},
	})
	b.finish()
	if err != nil {
		return result, fmt.Errorf("%s: %w", name, err)
	}
	if err := sameTree(original, result.Path); err != nil {
		return result, fmt.Errorf("%s: %w", name, err)
	}
	e := demoEvent{Event: "fetched", Node: n.ID().String(), Hash: root.String(), Bytes: result.Bytes, Seconds: result.Duration.Seconds(), Equal: true}
	var from strings.Builder
	for _, s := range result.Sources {
		e.Sources = append(e.Sources, sourceEvent{s.Node.String(), s.Addr, s.Bytes})
		fmt.Fprintf(&from, "\n                  %-10s %10s", d.names[s.Node], humanBytes(s.Bytes))
	}
	d.say(e, "%-15s has fetched %s, %s, in %s from %s; compared: equal%s", name, filepath.Base(original),
		humanBytes(result.Bytes), humanDuration(result.Duration), plural(len(result.Sources), "peer"), from.String())
	return result, nil
}

// stopAll stops what still runs.
func (d *demo) stopAll() {
	var g errgroup.Group
	for _, n := range d.all {
		g.Go(func() error { return n.Stop(context.Background()) })
	}
	if err := g.Wait(); err != nil {
		d.app.log.Debug("stopping", "err", err)
	}
}
