package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"github.com/spf13/pflag"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/stc"
)

func seedCommand() *command {
	return &command{
		name:  "seed",
		args:  "PATH...|- [FLAGS]",
		short: "store files or directories, announce them, and serve them",
		long: `Copies each file or directory tree into the node's store, encrypted, announces
it to the network, prints one line "HASH  PATH" on standard output once that is
done, and serves it until SIGINT or SIGTERM. The hash is what others fetch the
content by. The files themselves may change or go afterwards.

With --in-place nothing is copied but small pieces: the content is served from
the files. What is changed in them, moved or removed afterwards is noticed before
a byte of it is sent, reported, and not served any more; seeding them again makes
it good.

Files that have not changed since they were seeded last are not read again; with
--rehash they are.

A PATH of - is standard input, stored as a file with the name of --name.

With --chunker cdc, files are cut into chunks where their content says so, and
not every 256 KiB: versions of a file that differ by insertions then share most
of their chunks, in the store and on the way to others. Where the borders lie
depends on the network's secret. By default, ramp, the first 256 KiB of a longer
file are cut into pieces that grow from 4 KiB, so that who streams it begins
sooner; fixed does without. The same content cut in two ways has two hashes.

--exclude leaves out what a pattern of the kind that gitignore knows fits: NAME
at any depth; A/B and /A from the root of each PATH; NAME/ for directories only;
** for any number of directories; *, ? and [a-z] within a name.

With --stored, everything is served that the store holds complete: what was
seeded and fetched before. PATHs may be left out then.

With --ticket it prints a ticket in the place of each hash: one word with the
hash and this node's addresses, which can be fetched without a bootstrap node.

With --store-limit, the store keeps no more than that: contents that are only
cached make room, the least recently used first, and what does not fit beside
the pinned ones is refused. What is seeded is pinned.

With --background, serving takes only what the rest of the traffic on its way
leaves, and gives way within seconds (LEDBAT++).

Example:
  sttnode seed ./film.mkv ./photos --bootstrap boot.example.org:4700
  sttnode seed ./project --exclude .git --exclude '*.o' --chunker cdc
  tar c ./photos | sttnode seed - --name photos.tar`,
		group: groupTransfer,
		setup: func(fs *pflag.FlagSet) runFunc {
			var o seedOptions
			fs.StringVar(&o.name, "name", "", "suggested `NAME` of the content (default: the last element of PATH); for one PATH")
			fs.StringSliceVar(&o.exclude, "exclude", nil, "leave out what fits `GLOB`; may be repeated")
			fs.StringVar(&o.chunker, "chunker", "ramp", "cut files into chunks `BY` size, ramp or fixed, or by content, cdc")
			fs.StringVar(&o.chunkSize, "chunk-size", "256KiB", "`SIZE` of chunks, for cdc on average: a power of two from 1KiB to 1MiB, for cdc to 256KiB")
			fs.BoolVar(&o.inPlace, "in-place", false, "serve the files from where they are instead of copying them into the store")
			fs.BoolVar(&o.rehash, "rehash", false, "read files again that have not changed since they were seeded last")
			fs.BoolVar(&o.stored, "stored", false, "serve everything that the store holds complete as well")
			fs.BoolVar(&o.ticket, "ticket", false, "print tickets, with the addresses of this node, in place of hashes")
			fs.BoolVar(&o.background, "background", false, "send only what no other traffic wants")
			fs.StringVar(&o.limit, "store-limit", "", storeLimitUsage)
			return func(ctx context.Context, a *app, args []string) error { return runSeed(ctx, a, args, &o) }
		},
	}
}

// seedOptions are the flags of seed.
type seedOptions struct {
	name               string
	exclude            []string
	chunker, chunkSize string
	inPlace, rehash    bool
	stored, background bool
	ticket             bool
	limit              string
}

// imports returns how to store each of some paths, and refuses what can't be
// meant.
func (o *seedOptions) imports(paths []string) (node.ImportOptions, error) {
	opts := node.ImportOptions{Name: o.name, Exclude: o.exclude, InPlace: o.inPlace, Rehash: o.rehash}
	if o.name != "" && len(paths) != 1 {
		return opts, usagef("--name is for one PATH")
	}
	if i := slices.Index(paths, stdinPath); i >= 0 && slices.Contains(paths[i+1:], stdinPath) {
		return opts, usagef("there is one standard input: - can be given once")
	}
	if o.inPlace && slices.Contains(paths, stdinPath) {
		return opts, usagef("standard input can't be served in place")
	}
	for _, c := range []content.Chunker{content.ChunkerRamp, content.ChunkerFixed, content.ChunkerCDC} {
		if c.String() == o.chunker {
			opts.Chunker = c
		}
	}
	if opts.Chunker == 0 {
		return opts, usagef("--chunker: %q is none of ramp, fixed and cdc", o.chunker)
	}
	size, err := parseBytes(o.chunkSize)
	if err != nil {
		return opts, usagef("--chunk-size: %v", err)
	}
	opts.ChunkSize = int(min(size, math.MaxInt32))
	check := content.ImportOptions{Name: opts.Name, Chunker: opts.Chunker, ChunkSize: opts.ChunkSize, Exclude: opts.Exclude}
	if err := check.Check(); err != nil {
		return opts, usagef("%v", err)
	}
	return opts, nil
}

// stdinPath is the PATH that stands for standard input.
const stdinPath = "-"

// seedEvent is the line of --json for each content that is announced.
type seedEvent struct {
	Event  string `json:"event"`
	Hash   string `json:"hash"`
	Path   string `json:"path"`
	Bytes  uint64 `json:"bytes"`
	Files  uint64 `json:"files"`
	Nodes  int    `json:"nodes"`            // that hold the announcement
	Ticket string `json:"ticket,omitempty"` // if asked for
}

// seeding is one content to be announced.
type seeding struct {
	root  stc.Hash
	path  string // as the user wrote it, or the name of what was stored before
	bytes uint64
	files uint64
}

func runSeed(ctx context.Context, a *app, paths []string, o *seedOptions) error {
	if len(paths) == 0 && !o.stored {
		return usagef("seed needs at least one PATH")
	}
	opts, err := o.imports(paths)
	if err != nil {
		return err
	}
	limit, err := parseLimit(o.limit)
	if err != nil {
		return err
	}
	for _, p := range paths {
		if _, err := os.Lstat(p); err != nil && p != stdinPath {
			return fmt.Errorf("seed: %w", err)
		}
	}
	cfg, err := a.nodeConfig()
	if err != nil {
		return err
	}
	cfg.Background, cfg.StoreLimit = o.background, limit
	n, err := a.startNode(ctx, cfg)
	if err != nil {
		return err
	}
	err = seedAll(ctx, n, paths, opts, o)
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
	return n.serveContent(ctx)
}

// seedAll imports and announces everything.
func seedAll(ctx context.Context, n *runningNode, paths []string, opts node.ImportOptions, o *seedOptions) error {
	var all []seeding
	for _, path := range paths {
		s, err := importPath(ctx, n, path, opts)
		if err != nil {
			return err
		}
		all = append(all, s)
	}
	if o.stored {
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
		ticket := ""
		if o.ticket {
			if ticket, err = n.ticket(s.root); err != nil {
				return err
			}
		}
		if n.app.options.json {
			n.app.emit(seedEvent{"seeding", s.root.String(), s.path, s.bytes, s.files, nodes, ticket})
		} else {
			fmt.Fprintf(n.app.stdout, "%s  %s\n", cmp.Or(ticket, s.root.String()), s.path)
		}
		if nodes == 0 {
			n.app.note("No other node is known yet: %s is announced when one comes.", s.path)
		}
	}
	return nil
}

// importPath copies one path, or standard input, into the store.
func importPath(ctx context.Context, n *runningNode, path string, opts node.ImportOptions) (seeding, error) {
	if b := n.app.startBar("storing " + path); b != nil {
		defer b.finish()
		opts.OnProgress = func(p node.ImportProgress) {
			extra := ""
			if p.Files > 0 {
				extra = plural(p.Files, "file")
			}
			b.set(int64(p.Bytes), int64(p.Total), extra)
		}
	}
	var result node.ImportResult
	var err error
	if path == stdinPath {
		result, err = n.ImportReader(ctx, untilDone(ctx, n.app.stdin), opts)
	} else {
		result, err = n.Import(ctx, path, opts)
	}
	if err != nil {
		return seeding{}, err
	}
	if result.EscapingCount > 0 {
		n.app.warn("%s holds %s out of it, as %s: who fetches it will refuse to write it", path,
			plural(result.EscapingCount, "link"), result.Escaping[0])
	}
	return seeding{result.Root, path, result.Bytes, result.Files}, nil
}

// untilDone returns what reads r until ctx ends, even while a call of r.Read
// waits for a person. That call then waits for the end of the process.
func untilDone(ctx context.Context, r io.Reader) io.Reader {
	pr, pw := io.Pipe()
	context.AfterFunc(ctx, func() { pw.CloseWithError(context.Cause(ctx)) })
	go func() {
		_, err := io.Copy(pw, r)
		pw.CloseWithError(err) // nil is the end of r
	}()
	return pr
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
