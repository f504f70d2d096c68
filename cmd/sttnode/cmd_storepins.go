package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/stc"
)

func storePinCommand() *command {
	return &command{
		name:  "store pin",
		args:  "HASH... [--name NAME]",
		short: "keep contents until they are unpinned or removed",
		long: `Pins contents that are in the store: they are kept until "store unpin" or "store
rm", and no limit of the store makes them go. What is seeded is pinned, and what
is fetched without --cache. The exit code is 3 if only some of the contents were
there.`,
		group: groupStore,
		setup: func(fs *pflag.FlagSet) runFunc {
			name := fs.String("name", "", "give the content this `NAME` in the list of the store")
			return func(ctx context.Context, a *app, args []string) error { return runStorePin(ctx, a, args, *name) }
		},
	}
}

func storeUnpinCommand() *command {
	return &command{
		name:  "store unpin",
		args:  "HASH...",
		short: "keep contents only as long as there is room",
		long: `Makes contents ones that are only cached: they are there and are served as
before, until "store gc", or until a store with a limit needs their room; then
the least recently used goes first. The exit code is 3 if only some of the
contents were there.`,
		group: groupStore,
		setup: func(*pflag.FlagSet) runFunc { return runStoreUnpin },
	}
}

func storeRemoveCommand() *command {
	return &command{
		name:  "store rm",
		args:  "HASH...",
		short: "remove contents from the store",
		long: `Removes contents, and gives back the room of everything that no other content
needs. Files that were seeded in place are not touched. The exit code is 3 if
only some of the contents were there.`,
		group: groupStore,
		setup: func(*pflag.FlagSet) runFunc { return runStoreRemove },
	}
}

func storeCollectCommand() *command {
	return &command{
		name:  "store gc",
		short: "drop what is not pinned, and free what nothing needs",
		long: `Drops the contents that are only cached, and gives back the room of everything
that no pinned content needs, such as what an interrupted seed has left.
Interrupted, it leaves the rest to the next time.`,
		group: groupStore,
		setup: func(fs *pflag.FlagSet) runFunc {
			dryRun := fs.Bool("dry-run", false, "only say what would go")
			return func(ctx context.Context, a *app, args []string) error { return runStoreCollect(ctx, a, args, *dryRun) }
		},
	}
}

// parseRoots reads the hashes of contents; at least one is needed.
func parseRoots(args []string) ([]stc.Hash, error) {
	if len(args) == 0 {
		return nil, usagef("at least one HASH is needed")
	}
	var roots []stc.Hash
	for _, arg := range args {
		c, err := parseContentArg(arg)
		if err != nil {
			return nil, err
		}
		if !c.name.IsZero() {
			return nil, usagef("what the name stands for says the network: sttnode name resolve %v", c.name)
		}
		roots = append(roots, c.root)
	}
	return roots, nil
}

// eachRoot calls do for contents. Those that are not in the store are said to
// be missing, at the end in the error.
func (a *app) eachRoot(roots []stc.Hash, do func(*content.Store, stc.Hash) error) error {
	return a.withStore(func(s *content.Store) error {
		missing := 0
		for _, root := range roots {
			switch err := do(s, root); {
			case errors.Is(err, content.ErrNotFound):
				missing++
				a.warn("%v is not in the store", root)
			case err != nil:
				return fmt.Errorf("%v: %w", root, err)
			}
		}
		switch {
		case missing == 0:
			return nil
		case missing < len(roots):
			return fmt.Errorf("%w: %d of %s not in the store", errPartly, missing, plural(len(roots), "content"))
		}
		return content.ErrNotFound
	})
}

// pinEvent tells of a content that was pinned or unpinned.
type pinEvent struct {
	Event string `json:"event"`
	Hash  string `json:"hash"`
	Name  string `json:"name"`
	State string `json:"state"`
	Bytes uint64 `json:"bytes"`
}

func runStorePin(ctx context.Context, a *app, args []string, name string) error {
	roots, err := parseRoots(args)
	if err != nil {
		return err
	}
	if name != "" && len(roots) > 1 {
		return usagef("--name is for one HASH")
	}
	return a.eachRoot(roots, func(s *content.Store, root stc.Hash) error {
		p, err := s.PinStored(ctx, root, name)
		if err != nil {
			return err
		}
		a.reportPin("pinned", "Pinned", root, p.PinInfo)
		return nil
	})
}

func runStoreUnpin(ctx context.Context, a *app, args []string) error {
	roots, err := parseRoots(args)
	if err != nil {
		return err
	}
	return a.eachRoot(roots, func(s *content.Store, root stc.Hash) error {
		if err := s.Unpin(ctx, root); err != nil {
			return err
		}
		info, _, err := s.PinInfo(root)
		if err == nil {
			a.reportPin("unpinned", "Unpinned", root, info)
		}
		return err
	})
}

func (a *app) reportPin(event, verb string, root stc.Hash, p content.PinInfo) {
	if a.options.json {
		a.emit(pinEvent{event, root.String(), p.Name, p.State.String(), p.Size})
		return
	}
	a.note("%s %v: %s, %s, %v.", verb, root, p.Name, humanBytes(p.Size), p.State)
}

type removedEvent struct {
	Event string `json:"event"`
	Hash  string `json:"hash"`
	Bytes uint64 `json:"bytes"`
}

func runStoreRemove(ctx context.Context, a *app, args []string) error {
	roots, err := parseRoots(args)
	if err != nil {
		return err
	}
	return a.eachRoot(roots, func(s *content.Store, root stc.Hash) error {
		freed, err := s.Remove(ctx, root)
		switch {
		case err != nil:
			return err
		case a.options.json:
			a.emit(removedEvent{"removed", root.String(), freed.Bytes})
		default:
			a.note("Removed %v: %s are free.", root, humanBytes(freed.Bytes))
		}
		return nil
	})
}

type collectedEvent struct {
	Event    string `json:"event"`
	Contents uint64 `json:"contents"`
	Blobs    uint64 `json:"blobs"`
	Bytes    uint64 `json:"bytes"`
	DryRun   bool   `json:"dry_run"`
}

func runStoreCollect(ctx context.Context, a *app, args []string, dryRun bool) error {
	if err := noArgs(args); err != nil {
		return err
	}
	return a.withStore(func(s *content.Store) error {
		freed, err := s.GC(ctx, dryRun)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		case a.options.json:
			a.emit(collectedEvent{"collected", freed.Contents, freed.Blobs, freed.Bytes, dryRun})
			return nil
		}
		verb := "Freed"
		if dryRun {
			verb = "Would free"
		}
		a.note("%s %s: %s, and %s in all.", verb, humanBytes(freed.Bytes), plural(freed.Contents, "cached content"), plural(freed.Blobs, "blob"))
		return nil
	})
}
