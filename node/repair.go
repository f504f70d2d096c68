package node

import (
	"context"
	"errors"
	"time"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/stc"
)

// RepairOptions say how to repair a store. The zero value is good.
type RepairOptions struct {
	// SearchTimeout and StallTimeout are those of a fetch, for each content.
	SearchTimeout, StallTimeout time.Duration
	// OnProgress, if not nil, is called as that of a fetch is.
	OnProgress func(FetchProgress)
}

// RepairResult is the account of a repair.
type RepairResult struct {
	Repaired     []stc.Hash      // contents that are whole again
	Failed       []RepairFailure // contents that are not
	FetchedBytes uint64          // from peers, manifests included
	Discarded    uint64          // damaged blobs that no complete content needs, and that are gone
	Left         content.Damage  // what is still wrong
}

// RepairFailure is a content that could not be repaired.
type RepairFailure struct {
	Root stc.Hash
	Err  error // of Fetch
}

// Repair fetches, from whoever provides them, the damaged and missing blobs of
// the contents that damage lists as incomplete, as content.Store.Verify found
// them. A damaged blob is replaced when the good one, verified, is on the disk,
// and not before. Damaged blobs that no complete content needs are deleted; a
// partial content gets them when its fetch goes on.
//
// The error is that of ctx or of the store. What could not be fetched is in the
// result.
func (n *Node) Repair(ctx context.Context, damage content.Damage, opts RepairOptions) (RepairResult, error) {
	ctx, end, err := n.beginStore(ctx)
	if err != nil {
		return RepairResult{}, err
	}
	defer end()
	var r RepairResult
	for _, root := range damage.Incomplete {
		// What is pinned stays so, and what is cached as well.
		fetched, err := n.Fetch(ctx, root, FetchOptions{
			Cache: true, SearchTimeout: opts.SearchTimeout, StallTimeout: opts.StallTimeout, OnProgress: opts.OnProgress,
		})
		switch {
		case ctx.Err() != nil:
			return r, context.Cause(ctx)
		case err == nil:
			r.Repaired = append(r.Repaired, root)
			r.FetchedBytes += fetched.FetchedBytes
		default:
			r.Failed = append(r.Failed, RepairFailure{root, err})
		}
		if errors.Is(err, content.ErrDiskFull) {
			return r, err
		}
	}
	for {
		if r.Left, err = n.store.KnownDamage(ctx); err != nil {
			return r, err
		}
		if len(r.Left.Incomplete) > 0 || len(r.Left.Bad) == 0 {
			return r, nil
		}
		if err := n.store.Delete(ctx, r.Left.Bad...); err != nil {
			return r, err
		}
		r.Discarded += uint64(len(r.Left.Bad))
	}
}
