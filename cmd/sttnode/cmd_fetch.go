package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/stc"
)

const (
	defaultSearchTimeout = 10 * time.Second
	defaultStallTimeout  = time.Minute
)

func fetchCommand() *command {
	return &command{
		name:  "fetch",
		args:  "HASH [-o PATH|-] [FLAGS]",
		short: "fetch content by its hash, from many peers at once",
		long: `Finds who provides the content, fetches it from all of them at once, verifies
every byte, and writes it to PATH; without -o to the name under which it was
seeded, or its hash, in the current directory. A PATH that ends in / is the
directory to put it into. With -o - a file goes to standard output.

The output appears when it is complete, not before. What exists is never
overwritten: if it is the same already, all is well, else fetch refuses. A fetch
that was interrupted goes on where it was when the same command runs again.

It exits with 0 only when everything is there and verified, and prints
"HASH  PATH" on standard output. With --in-place the node keeps no copy of its own
beside the output, and serves from that; see seed. With --serve it then goes on serving the
content to others until SIGINT or SIGTERM.

With --range only these bytes of a file are fetched and written: A-B, from A to B
inclusive, A- to the end, -N the last N. Of a tree, --include and --exclude select
what is fetched and written: what a pattern of the first fits, without what one
of the second fits, with patterns as for seed. With --range they must select one
file. --dry-run prints what there is, one line "BYTES  PATH" for each file, and
fetches only the manifests of directories.

HASH may be a ticket, which names nodes that have the content as well; see
"sttnode help ticket". With a ticket, or with --peer, no bootstrap node is needed.

What was fetched stays in the store, pinned, until "store rm" or "store unpin".
With --cache it is kept only as long as there is room: "store gc" drops it, and
with --store-limit so does whatever else is stored, the least recently used
first.

Example:
  sttnode fetch 3f5c…e1 --bootstrap boot.example.org:4700
  sttnode fetch 3f5c…e1 --peer 192.0.2.7:4700 -o - | tar x`,
		group: groupTransfer,
		setup: func(fs *pflag.FlagSet) runFunc {
			var f fetchFlags
			fs.StringVarP(&f.output, "output", "o", "", "write to `PATH`, or to standard output if it is -")
			fs.StringSliceVar(&f.peers, "peer", nil, "`ADDR` of a node that may have it, [nodeid@]host:port or [nodeid@]ws[s]://host:port/path; may be repeated")
			fs.StringVar(&f.byteRange, "range", "", "fetch and write only these bytes of a file: `A-B`, A- or -N; needs -o")
			fs.StringSliceVar(&f.include, "include", nil, "fetch and write only what fits `GLOB` of a tree; may be repeated")
			fs.StringSliceVar(&f.exclude, "exclude", nil, "leave out what fits `GLOB` of a tree; may be repeated")
			fs.BoolVar(&f.dryRun, "dry-run", false, "only list the files and their sizes")
			fs.BoolVar(&f.inPlace, "in-place", false, "keep no copy beside the output; serve from that")
			fs.BoolVar(&f.serve, "serve", false, "when it is complete, serve it to others until stopped")
			fs.BoolVar(&f.cache, "cache", false, "do not pin it in the store: keep it only as long as there is room")
			fs.DurationVar(&f.timeout, "timeout", 0, "give up after this `TIME`, such as 90s or 2h; 0 is never")
			fs.DurationVar(&f.search, "search-timeout", defaultSearchTimeout, "give up if nobody is found who has it in this `TIME`")
			fs.DurationVar(&f.stall, "stall-timeout", defaultStallTimeout, "give up if nothing arrives for this `TIME`")
			fs.StringVar(&f.limit, "store-limit", "", storeLimitUsage)
			return func(ctx context.Context, a *app, args []string) error { return runFetch(ctx, a, args, f) }
		},
	}
}

type fetchFlags struct {
	output                 string
	peers                  []string
	byteRange              string
	include, exclude       []string
	dryRun                 bool
	inPlace, serve, cache  bool
	limit                  string
	timeout, search, stall time.Duration
}

// fetchedEvent ends the output of fetch --json.
type fetchedEvent struct {
	Event          string        `json:"event"`
	Hash           string        `json:"hash"`
	Name           string        `json:"name,omitempty"`
	Path           string        `json:"path,omitempty"`
	Bytes          uint64        `json:"bytes"`
	Chunks         uint64        `json:"chunks"`
	Seconds        float64       `json:"seconds"`
	Sources        []sourceEvent `json:"sources"`
	ResumedBytes   uint64        `json:"resumed_bytes"`
	DuplicateBytes uint64        `json:"duplicate_bytes"`
	BadBytes       uint64        `json:"bad_bytes"`
	LateBytes      uint64        `json:"late_bytes"`
	WastedBytes    uint64        `json:"wasted_bytes"`
}

type sourceEvent struct {
	Node  string `json:"node"`
	Addr  string `json:"addr"`
	Bytes uint64 `json:"bytes"`
}

func runFetch(ctx context.Context, a *app, args []string, f fetchFlags) error {
	if len(args) != 1 {
		return usagef("fetch needs one HASH")
	}
	want, err := parseContentArg(args[0])
	if err != nil {
		return err
	}
	peers, err := parsePeers(f.peers)
	if err != nil {
		return err
	}
	if f.timeout < 0 || f.search <= 0 || f.stall <= 0 {
		return usagef("timeouts must be positive")
	}
	limit, err := parseLimit(f.limit)
	if err != nil {
		return err
	}
	opts := node.FetchOptions{
		Peers: append(peers, want.peers...), SearchTimeout: f.search, StallTimeout: f.stall, Output: f.output, InPlace: f.inPlace, Provide: f.serve, Cache: f.cache,
	}
	if opts.Range, err = f.parts(); err != nil {
		return err
	}
	opts.Include, opts.Exclude = f.include, f.exclude
	switch f.output {
	case "":
		opts.Output = "." + string(filepath.Separator)
	case "-":
		if a.options.json {
			return usagef("--json and -o - both want standard output")
		}
		if f.inPlace {
			return usagef("--in-place needs a file or directory to serve from, not standard output")
		}
		opts.Output, opts.Writer = "", a.stdout
	}
	cfg, err := a.nodeConfig()
	if err != nil {
		return err
	}
	// Who only fetches is gone before others profit from knowing it.
	cfg.ClientOnly = !f.serve
	cfg.StoreLimit = limit
	n, err := a.startFetchNode(ctx, cfg)
	if err != nil {
		return err
	}
	fetchCtx := ctx
	if f.timeout > 0 {
		var cancel context.CancelFunc
		fetchCtx, cancel = context.WithTimeoutCause(ctx, f.timeout, fmt.Errorf("%w: not done after %v", errTimedOut, f.timeout))
		defer cancel()
	}
	root, err := want.resolve(fetchCtx, n.Node, f.search)
	var result node.FetchResult
	if f.dryRun {
		if err == nil {
			err = n.list(fetchCtx, root, opts)
		}
		return errors.Join(err, n.stop())
	}
	if err == nil {
		result, err = n.fetch(fetchCtx, root, opts)
	}
	if err == nil {
		n.report(result)
		if f.serve {
			a.note("Serving on %s. Stop with Ctrl-C.", n.where())
			return n.serveContent(ctx)
		}
	}
	stopErr := n.stop()
	switch {
	case err == nil && stopErr != nil:
		a.log.Warn("the node did not stop in order", "err", stopErr)
		return nil
	case errors.Is(err, errInterrupted):
		return fmt.Errorf("%w; the same command goes on from here", errInterrupted)
	}
	return err
}

// startFetchNode starts a node for a fetch. A fetch does not need the default
// port: if a node on this machine has it, any other does.
func (a *app) startFetchNode(ctx context.Context, cfg node.Config) (*runningNode, error) {
	n, err := a.startNode(ctx, cfg)
	var listen *node.ListenError
	if cfg.Listen == defaultListen && errors.As(err, &listen) && !listen.WebSocket && listen.InUse() {
		cfg.Listen = ":0"
		return a.startNode(ctx, cfg)
	}
	return n, err
}

// fetch runs the fetch and shows how it goes.
func (n *runningNode) fetch(ctx context.Context, root stc.Hash, opts node.FetchOptions) (node.FetchResult, error) {
	b := n.app.startBar(node.PhaseSearching.String())
	defer b.finish()
	var lastEvent time.Time
	opts.OnProgress = func(p node.FetchProgress) {
		b.begin(p.Phase.String())
		b.set(int64(p.Bytes), int64(p.Total), why(p))
		if now := time.Now(); n.app.options.json && now.Sub(lastEvent) >= 500*time.Millisecond {
			lastEvent = now
			n.app.emit(newProgressEvent(p))
		}
	}
	return n.Fetch(ctx, root, opts)
}

// report says on standard output and to a person what was fetched.
func (n *runningNode) report(r node.FetchResult) {
	a := n.app
	if a.options.json {
		e := fetchedEvent{
			Event: "fetched", Hash: r.Root.String(), Name: r.Name, Path: r.Path,
			Bytes: r.Bytes, Chunks: r.Chunks, Seconds: r.Duration.Seconds(), Sources: []sourceEvent{},
			ResumedBytes: r.ResumedBytes, DuplicateBytes: r.DuplicateBytes, BadBytes: r.BadBytes, LateBytes: r.LateBytes, WastedBytes: r.WastedBytes,
		}
		for _, s := range r.Sources {
			e.Sources = append(e.Sources, sourceEvent{s.Node.String(), s.Addr, s.Bytes})
		}
		a.emit(e)
	} else if r.Path != "" {
		fmt.Fprintf(a.stdout, "%v  %s\n", r.Root, r.Path)
	}
	var from strings.Builder
	writeSources(&from, r)
	a.note("Fetched %s in %s%s.", humanBytes(r.Bytes), humanDuration(r.Duration), from.String())
}

// writeSources says where the bytes came from.
func writeSources(w io.Writer, r node.FetchResult) {
	var fetched uint64
	for _, s := range r.Sources {
		fetched += s.Bytes
	}
	switch {
	case len(r.Sources) == 0:
		fmt.Fprint(w, "; it was here already")
		return
	case r.Duration > 0:
		fmt.Fprintf(w, " (%s/s)", humanBytes(float64(fetched)/r.Duration.Seconds()))
	}
	fmt.Fprintf(w, " from %s", plural(len(r.Sources), "peer"))
	if r.WastedBytes > 0 {
		fmt.Fprintf(w, "; %s came in vain", humanBytes(r.WastedBytes))
	}
	if r.ResumedBytes > 0 {
		fmt.Fprintf(w, "; %s of it was here already", humanBytes(r.ResumedBytes))
	}
}
