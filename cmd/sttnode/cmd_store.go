package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/stc"
)

func storeListCommand() *command {
	return &command{
		name:  "store ls",
		short: "list what the store holds",
		long: `Lists the contents in the store: hash, size, whether it is complete or partial (a
fetch that was interrupted), when it came, its name, and, if it is served in
place, from where.`,
		group: groupStore,
		setup: func(*pflag.FlagSet) runFunc { return runStoreList },
	}
}

func storeStatCommand() *command {
	return &command{
		name:  "store stat",
		short: "print how much the store holds",
		long:  `Prints how many contents and blobs the store holds, and how many bytes they take.`,
		group: groupStore,
		setup: func(*pflag.FlagSet) runFunc { return runStoreStat },
	}
}

func storeVerifyCommand() *command {
	return &command{
		name:  "store verify",
		short: "read everything in the store and check it",
		long: `Reads every blob in the store and compares it with its hash. Damaged ones are
listed and never served; seeding or fetching the content again repairs them.
Of what is served in place, the files that have changed are listed, too. The exit
code is 6 if there are any.`,
		group: groupStore,
		setup: func(*pflag.FlagSet) runFunc { return runStoreVerify },
	}
}

func storeRemoveCommand() *command {
	return &command{
		name:  "store rm",
		args:  "HASH...",
		short: "remove contents from the store",
		long: `Removes contents, and gives back the room of everything that no other content
needs. Files that were seeded in place are not touched. The exit code is 3 if only some of the contents were there.`,
		group: groupStore,
		setup: func(*pflag.FlagSet) runFunc { return runStoreRemove },
	}
}

// withStore opens the node's store without a node, and closes it.
func (a *app) withStore(f func(*content.Store) error) error {
	id, err := a.loadIdentity()
	if err != nil {
		return err
	}
	dir := node.StoreDir(a.options.dir)
	s, err := content.Open(dir, content.Config{Key: id.StoreKey()})
	if err != nil {
		return fmt.Errorf("store %s: %w", dir, err)
	}
	return errors.Join(f(s), s.Close())
}

type contentEvent struct {
	Event string    `json:"event"`
	Hash  string    `json:"hash"`
	Name  string    `json:"name"`
	State string    `json:"state"`
	Bytes uint64    `json:"bytes"`
	Added time.Time `json:"added"`
	// InPlace are the paths that it is served from.
	InPlace []string `json:"in_place,omitempty"`
}

func runStoreList(_ context.Context, a *app, args []string) error {
	if err := noArgs(args); err != nil {
		return err
	}
	return a.withStore(func(s *content.Store) error {
		pins, err := s.Pins()
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
		for _, p := range pins {
			state := "complete"
			if p.State != content.PinComplete {
				state = "partial"
			}
			paths, err := s.Origins(p.Root)
			if err != nil {
				return err
			}
			if a.options.json {
				a.emit(contentEvent{"content", p.Root.String(), p.Name, state, p.Size, p.Added, paths})
				continue
			}
			fmt.Fprintf(w, "%v\t%s\t%s\t%s\t%s%s\n", p.Root, humanBytes(p.Size), state, p.Added.Local().Format("2006-01-02 15:04"),
				p.Name, inPlaceNote(paths))
		}
		return w.Flush()
	})
}

// inPlaceNote says where a content is served from, and what of that is gone. What has changed, only reading can tell.
func inPlaceNote(paths []string) string {
	note := ""
	for _, path := range paths {
		note += "  in place: " + path
		if _, err := os.Stat(path); err != nil {
			note += " (can't be read)"
		}
	}
	return note
}

type statEvent struct {
	Event        string `json:"event"`
	Contents     int    `json:"contents"`
	Blobs        uint64 `json:"blobs"`
	Bytes        uint64 `json:"bytes"`
	Segments     int    `json:"segments"`
	SegmentBytes uint64 `json:"segment_bytes"`
	DeadBytes    uint64 `json:"dead_bytes"`
	InPlaceBlobs uint64 `json:"in_place_blobs"`
	InPlaceBytes uint64 `json:"in_place_bytes"`
}

func runStoreStat(_ context.Context, a *app, args []string) error {
	if err := noArgs(args); err != nil {
		return err
	}
	return a.withStore(func(s *content.Store) error {
		pins, err := s.Pins()
		if err != nil {
			return err
		}
		st := s.Stats()
		if a.options.json {
			a.emit(statEvent{"store", len(pins), st.Blobs, st.Bytes, st.Segments, st.SegmentBytes, st.DeadBytes, st.InPlaceBlobs, st.InPlaceBytes})
			return nil
		}
		w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintf(w, "contents\t%d\n", len(pins))
		fmt.Fprintf(w, "blobs\t%d\n", st.Blobs)
		fmt.Fprintf(w, "bytes\t%s\n", humanBytes(st.Bytes))
		if st.InPlaceBlobs > 0 {
			fmt.Fprintf(w, "of them in place\t%s in %s\n", humanBytes(st.InPlaceBytes), plural(st.InPlaceBlobs, "blob"))
		}
		fmt.Fprintf(w, "in segments\t%s in %s\n", humanBytes(st.SegmentBytes), plural(st.Segments, "file"))
		fmt.Fprintf(w, "deleted\t%s\n", humanBytes(st.DeadBytes))
		return w.Flush()
	})
}

type verifiedEvent struct {
	Event      string     `json:"event"`
	Blobs      uint64     `json:"blobs"`
	Bytes      uint64     `json:"bytes"`
	Bad        uint64     `json:"bad"`
	Missing    uint64     `json:"missing"`
	Incomplete []stc.Hash `json:"incomplete"`
	Changed    []string   `json:"changed,omitempty"`
}

func runStoreVerify(ctx context.Context, a *app, args []string) error {
	if err := noArgs(args); err != nil {
		return err
	}
	return a.withStore(func(s *content.Store) error {
		b := a.startBar("verifying")
		report, err := s.Verify(ctx, func(p content.VerifyProgress) {
			b.set(int64(p.Bytes), int64(p.TotalBytes), plural(p.Blobs, "blob"))
		})
		b.finish()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		a.reportVerify(report)
		if !report.OK() {
			return fmt.Errorf("%w: %s damaged, %s missing; seed or fetch the contents again to repair them",
				content.ErrCorrupt, plural(report.BadCount, "blob"), plural(report.MissingCount, "blob"))
		}
		return nil
	})
}

func (a *app) reportVerify(r *content.VerifyReport) {
	if a.options.json {
		e := verifiedEvent{"verified", r.Blobs, r.Bytes, r.BadCount, r.MissingCount, r.Incomplete, r.Changed}
		if e.Incomplete == nil {
			e.Incomplete = []stc.Hash{}
		}
		a.emit(e)
		return
	}
	for _, h := range r.Bad {
		fmt.Fprintf(a.stdout, "damaged     %v\n", h)
	}
	for _, h := range r.Missing {
		fmt.Fprintf(a.stdout, "missing     %v\n", h)
	}
	for _, path := range r.Changed {
		fmt.Fprintf(a.stdout, "changed     %s\n", path)
	}
	for _, h := range r.Incomplete {
		fmt.Fprintf(a.stdout, "incomplete  %v\n", h)
	}
	a.note("Read %s, %s.", plural(r.Blobs, "blob"), humanBytes(r.Bytes))
}

type removedEvent struct {
	Event string `json:"event"`
	Hash  string `json:"hash"`
	Bytes uint64 `json:"bytes"`
}

func runStoreRemove(ctx context.Context, a *app, args []string) error {
	if len(args) == 0 {
		return usagef("store rm needs at least one HASH")
	}
	var roots []stc.Hash
	for _, arg := range args {
		h, err := stc.ParseHash(arg)
		if err != nil {
			return usagef("%q is not a hash", arg)
		}
		roots = append(roots, h)
	}
	return a.withStore(func(s *content.Store) error {
		missing := 0
		for _, root := range roots {
			freed, err := s.Remove(ctx, root)
			switch {
			case errors.Is(err, content.ErrNotFound):
				missing++
				a.warn("%v is not in the store", root)
			case err != nil:
				return fmt.Errorf("remove %v: %w", root, err)
			case a.options.json:
				a.emit(removedEvent{"removed", root.String(), freed.Bytes})
			default:
				a.note("Removed %v: %s are free.", root, humanBytes(freed.Bytes))
			}
		}
		switch {
		case missing == 0:
			return nil
		case missing < len(roots):
			return fmt.Errorf("%w: %d of %s not in the store", errPartly, missing, plural(len(roots), "content"))
		}
		return fmt.Errorf("remove: %w", content.ErrNotFound)
	})
}
