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
)

func storeListCommand() *command {
	return &command{
		name:  "store ls",
		short: "list what the store holds",
		long: `Lists the contents in the store: hash, size, whether it is complete or partial (a
fetch that was interrupted), whether it is pinned or only cached, when it came,
its name, and, if it is served in place, from where.`,
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
	Used  time.Time `json:"used"`
	// Pinned content is kept until it is unpinned or removed.
	Pinned bool `json:"pinned"`
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
				a.emit(contentEvent{"content", p.Root.String(), p.Name, state, p.Size, p.Added, p.Used, !p.Cached, paths})
				continue
			}
			kept := "pinned"
			if p.Cached {
				kept = "cached"
			}
			fmt.Fprintf(w, "%v\t%s\t%s\t%s\t%s\t%s%s\n", p.Root, humanBytes(p.Size), state, kept,
				p.Added.Local().Format("2006-01-02 15:04"), p.Name, inPlaceNote(paths))
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
