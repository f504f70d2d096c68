package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/stc"
)

func storeVerifyCommand() *command {
	return &command{
		name:  "store verify",
		short: "read everything in the store and check it",
		long: `Reads every blob in the store and compares it with its hash. Damaged ones, and
missing ones, are listed, and never served. Of what is served in place, the files
that have changed are listed, too. The exit code is 6 if there are any.

With --repair the node then joins the network and fetches from others what is
damaged or missing of the contents in the store; a damaged blob is replaced when
the good one is on the disk. The exit code is 0 if nothing is wrong any more.
Seeding or fetching a content again repairs it, too.

Example:
  sttnode store verify --repair --bootstrap boot.example.org:4700`,
		group: groupNode,
		setup: func(fs *pflag.FlagSet) runFunc {
			repair := fs.Bool("repair", false, "fetch from others what is damaged or missing")
			return func(ctx context.Context, a *app, args []string) error { return runStoreVerify(ctx, a, args, *repair) }
		},
	}
}

// damageEvent is a blob that is damaged or missing.
type damageEvent struct {
	Event string `json:"event"`
	Hash  string `json:"hash"`
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

// repairedEvent says what a repair came to, and what it has left.
type repairedEvent struct {
	Event      string     `json:"event"`
	Contents   int        `json:"contents"`
	Bytes      uint64     `json:"bytes"`
	Discarded  uint64     `json:"discarded"`
	Bad        uint64     `json:"bad"`
	Missing    uint64     `json:"missing"`
	Incomplete []stc.Hash `json:"incomplete"`
}

func runStoreVerify(ctx context.Context, a *app, args []string, repair bool) error {
	if err := noArgs(args); err != nil {
		return err
	}
	var cfg node.Config
	if repair { // What keeps the node from starting is said before everything is read.
		var err error
		if cfg, err = a.nodeConfig(); err != nil {
			return err
		}
		cfg.ClientOnly = true
	}
	report, err := a.verifyStore(ctx)
	if err != nil {
		return err
	}
	a.reportVerify(report)
	damage := report.Damage
	if !damage.OK() && repair {
		if damage, err = a.repairStore(ctx, cfg, damage); err != nil {
			return err
		}
	}
	if damage.OK() {
		return nil
	}
	advice := "; seed or fetch the contents again, or use --repair"
	if repair {
		advice = "; not all could be repaired"
	}
	return fmt.Errorf("%w: %s damaged, %s missing%s",
		content.ErrCorrupt, plural(damage.BadCount, "blob"), plural(damage.MissingCount, "blob"), advice)
}

// verifyStore reads everything in the store.
func (a *app) verifyStore(ctx context.Context) (report *content.VerifyReport, err error) {
	err = a.withStore(func(s *content.Store) (err error) {
		b := a.startBar("verifying")
		defer b.finish()
		report, err = s.Verify(ctx, func(p content.VerifyProgress) {
			b.set(int64(p.Bytes), int64(p.TotalBytes), plural(p.Blobs, "blob"))
		})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	})
	return report, err
}

func (a *app) reportVerify(r *content.VerifyReport) {
	a.reportDamage(r.Damage)
	if a.options.json {
		a.emit(verifiedEvent{"verified", r.Blobs, r.Bytes, r.BadCount, r.MissingCount, notNil(r.Incomplete), r.Changed})
	}
	a.note("Read %s, %s.", plural(r.Blobs, "blob"), humanBytes(r.Bytes))
}

// reportDamage lists what is wrong.
func (a *app) reportDamage(d content.Damage) {
	list := func(what string, hashes []stc.Hash) {
		for _, h := range hashes {
			if a.options.json {
				a.emit(damageEvent{what, h.String()})
			} else {
				fmt.Fprintf(a.stdout, "%-10s  %v\n", what, h)
			}
		}
	}
	list("damaged", d.Bad)
	list("missing", d.Missing)
	if a.options.json {
		return
	}
	for _, path := range d.Changed {
		fmt.Fprintf(a.stdout, "changed     %s\n", path)
	}
	list("incomplete", d.Incomplete)
}

// notNil is a list that JSON writes as one when it is empty.
func notNil(hashes []stc.Hash) []stc.Hash {
	if hashes == nil {
		return []stc.Hash{}
	}
	return hashes
}

// repairStore starts a node that repairs the store, and returns what is wrong
// then.
func (a *app) repairStore(ctx context.Context, cfg node.Config, damage content.Damage) (content.Damage, error) {
	n, err := a.startFetchNode(ctx, cfg)
	if err != nil {
		return damage, err
	}
	b := a.startBar("repairing")
	result, err := n.Repair(ctx, damage, node.RepairOptions{OnProgress: func(p node.FetchProgress) {
		b.set(int64(p.Bytes), int64(p.Total), plural(p.Peers, "peer"))
	}})
	b.finish()
	if err = errors.Join(err, n.stop()); ctx.Err() != nil {
		return damage, context.Cause(ctx)
	} else if err != nil {
		return damage, err
	}
	for _, f := range result.Failed {
		a.warn("%v is not repaired: %s", f.Root, errorText(f.Err))
	}
	if a.options.json {
		a.emit(repairedEvent{"repaired", len(result.Repaired), result.FetchedBytes, result.Discarded,
			result.Left.BadCount, result.Left.MissingCount, notNil(result.Left.Incomplete)})
	}
	a.note("Repaired %s, with %s from others.", plural(len(result.Repaired), "content"), humanBytes(result.FetchedBytes))
	return result.Left, nil
}
