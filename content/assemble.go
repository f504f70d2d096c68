package content

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"sync"

	"github.com/seigr/sttnode/stc"
)

// Assembly is the export of a file that begins while the file's chunks are still on their way to the store: who fetches them
// gives each to WriteChunk when it has verified it, and Finish takes from the store what it was not given. The target appears
// when Finish has returned; until then everything is in a part beside it, as with [Store.Export].
//
// WriteChunk is safe for concurrent use, also with Finish. Finish and Discard are for one goroutine.
type Assembly struct {
	store *Store
	node  *Node
	part  *part

	mu      sync.Mutex
	written extents // guarded by mu
	bytes   uint64  // in it; guarded by mu
	waiting uint64  // bytes written that the system was not told to write out; guarded by mu
	failed  bool    // a write has failed, and Finish is to find out whether that lasts; guarded by mu
}

// writebackBytes is how much is written to a part before the system is told to write it out, so that the sync in the end finds
// little to do.
const writebackBytes = 32 << 20

// Assemble begins the export of a content to target. node is its root, which must be a file's: a directory is ErrTarget, as is
// a target that can't be written. Discard must be called in the end.
func (s *Store) Assemble(root stc.Hash, node *Node, target string) (*Assembly, error) {
	if node.Kind != KindFile || node.Root == nil {
		return nil, fmt.Errorf("%w: only a file can be written while its chunks come", ErrTarget)
	}
	p, err := beginPart(target, root, node, false)
	if err != nil {
		return nil, err
	}
	if err := p.file.Truncate(int64(node.Size)); err != nil {
		p.discard()
		return nil, mapError(err)
	}
	return &Assembly{store: s, node: node, part: p}, nil
}

// WriteChunk writes a chunk whose hash the caller has verified and whose first byte is byte offset of the file. It does not keep
// the slice. A chunk that can't be written is left to Finish, which tells why.
func (a *Assembly) WriteChunk(offset uint64, chunk []byte) {
	end := offset + uint64(len(chunk))
	a.mu.Lock()
	skip := a.failed || end > a.node.Size || end < offset || a.written.contains(offset)
	a.mu.Unlock()
	if skip || len(chunk) == 0 {
		return
	}
	err := writeSparse(a.part.file, chunk, int64(offset))
	if a.note(extent{offset, end}, err) {
		startWriteback(a.part.file)
	}
}

// note takes the outcome of a write, and reports whether there is much to write out.
func (a *Assembly) note(e extent, err error) (much bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.failed = true
		return false
	}
	if a.written.add(e) {
		a.bytes += e.to - e.from
	}
	if a.waiting += e.to - e.from; a.waiting < writebackBytes {
		return false
	}
	a.waiting = 0
	return true
}

// Finish writes the chunks that WriteChunk was not given, all of which must be in the store now, and gives the file its name. It
// can be called again after an error: ErrNotFound and ErrCorrupt for chunks, ErrManifest, ErrDiskFull.
func (a *Assembly) Finish(ctx context.Context, progress func(ExportProgress)) (*Exported, error) {
	if err := a.store.enter(); err != nil {
		return nil, err
	}
	defer a.store.exit()
	e := newExporter(a.store, a.node, ExportOptions{Progress: progress})
	a.mu.Lock()
	e.skip, e.written = slices.Clone(a.written), a.bytes
	a.mu.Unlock()
	e.progress(0) // what is there from before
	if err := e.rootFile(ctx, a.part, a.node); err != nil {
		return nil, mapError(err)
	}
	if err := a.part.commit(true); err != nil {
		return nil, mapError(err)
	}
	return &e.result, nil
}

// Discard ends the assembly. Nothing is left of one that was not finished.
func (a *Assembly) Discard() { a.part.discard() }

// extents are ranges of a file, ascending, that neither overlap nor touch.
type extents []extent

type extent struct{ from, to uint64 } // half open

// maxExtents bounds how many ranges are noted.
const maxExtents = 1 << 16

// add notes a range. It does nothing, and returns false, if the range overlaps another or there are too many.
func (x *extents) add(e extent) bool {
	list := *x
	i := sort.Search(len(list), func(i int) bool { return list[i].to >= e.from })
	before := i < len(list) && list[i].to == e.from
	next := i
	if before {
		next++
	}
	if next < len(list) && list[next].from < e.to {
		return false
	}
	after := next < len(list) && list[next].from == e.to
	switch {
	case before && after:
		list[i].to = list[next].to
		*x = slices.Delete(list, next, next+1)
	case before:
		list[i].to = e.to
	case after:
		list[next].from = e.from
	case len(list) == maxExtents:
		return false
	default:
		*x = slices.Insert(list, i, e)
	}
	return true
}

// contains reports whether a byte lies in one of the ranges.
func (x extents) contains(at uint64) bool {
	i := sort.Search(len(x), func(i int) bool { return x[i].to > at })
	return i < len(x) && x[i].from <= at
}
