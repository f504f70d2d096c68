package content

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/seigr/sttnode/stc"
)

// LimitError says why something can't be stored. It matches ErrLimit.
type LimitError struct {
	Limit uint64 // bytes, as configured
	Fixed uint64 // bytes of what is stored and may not be dropped
	Need  uint64 // bytes that were to be stored
}

// Error implements error.
func (e *LimitError) Error() string {
	mib := func(n uint64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
	if e.Need > e.Limit {
		return fmt.Sprintf("content: %s do not fit into a store with a limit of %s; raise the limit", mib(e.Need), mib(e.Limit))
	}
	return fmt.Sprintf("content: the store has reached its limit of %s: pinned contents and what is in use take %s, %s more are needed; "+
		"unpin or remove contents, or raise the limit", mib(e.Limit), mib(e.Fixed), mib(e.Need))
}

// Is makes every LimitError match ErrLimit.
func (e *LimitError) Is(target error) bool { return target == ErrLimit }

// Hold keeps everything below root that is or will be stored until release is called, whether root is pinned or not: for a content
// that is being fetched. It lives in memory. release may be called more than once.
func (s *Store) Hold(root stc.Hash) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[root]++
	if s.touched != nil {
		s.newPins = append(s.newPins, root)
	}
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.held[root]--; s.held[root] == 0 {
			delete(s.held, root)
		}
	})
}

// heldRoots returns what is held now.
func (s *Store) heldRoots() map[stc.Hash]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := make(map[stc.Hash]bool, len(s.held))
	for root := range maps.Keys(s.held) {
		held[root] = true
	}
	return held
}

// drop ends the cached contents that a collection does not spare.
func (c *collection) drop(ctx context.Context, roots []stc.Hash) error {
	for _, root := range roots {
		if !c.dryRun {
			err := c.store.forget(ctx, root, func(p Pin) bool { return p.Cached })
			if errors.Is(err, ErrNotFound) {
				continue // pinned again, or removed
			}
			if err != nil {
				return err
			}
			if c.store.onDrop != nil {
				c.store.onDrop(root)
			}
		}
		c.freed.Contents++
	}
	return nil
}

// taken returns the bytes of the blobs that are stored, and of those on their way.
func (s *Store) taken() uint64 { return s.ledger.stored.Load() + uint64(s.pending.Load()) }

// startPending counts the bytes of a blob whose claim the caller has, until it is resolved.
func (s *Store) startPending(h stc.Hash, size int) {
	s.mu.Lock()
	s.claims[h].size = int64(size)
	s.mu.Unlock()
	s.pending.Add(int64(size))
}

// fits reports, as ErrLimit, a file that is longer than the limit, before any of it is stored.
func (s *Store) fits(size uint64) error {
	if s.limit > 0 && size > s.limit {
		return &LimitError{Limit: s.limit, Need: size}
	}
	return nil
}

// MakeRoom makes room for what is not here of the content under root, whose root node is, so that a content that can't fit is
// refused at once: one longer than the limit, or than what pinned contents leave of it. It drops cached contents; who fetches a
// content should Hold it first. More of the content may come while it runs. Errors: ErrLimit, those of Get and GC.
func (s *Store) MakeRoom(ctx context.Context, root stc.Hash) error {
	if s.limit == 0 {
		return nil
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.exit()
	node, err := s.root(root)
	if err != nil {
		return err
	}
	if s.taken()+node.Size <= s.limit {
		return nil
	}
	if err := s.fits(node.Size); err != nil {
		return err
	}
	return s.dropUntil(ctx, func() (uint64, error) { return s.missing(ctx, node, make(map[stc.Hash]struct{})) })
}

// missing returns how many bytes below a node are neither here nor on their way to the disk. Whatever is referred to twice is
// counted once.
func (s *Store) missing(ctx context.Context, node *Node, seen map[stc.Hash]struct{}) (n uint64, err error) {
	for _, ref := range node.All() {
		if _, ok := seen[ref.Hash]; ok {
			continue
		}
		seen[ref.Hash] = struct{}{}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		s.mu.Lock()
		claimed := s.claims[ref.Hash] != nil
		s.mu.Unlock()
		has, err := s.Has(ref.Hash)
		if err != nil {
			return 0, err
		}
		has = has || claimed && ref.Kind == KindChunk
		below := uint64(0)
		if has && ref.Kind != KindChunk {
			child, err := s.node(ref)
			switch {
			case errors.Is(err, ErrNotFound), errors.Is(err, ErrCorrupt):
				has = false
			case err != nil:
				return 0, err
			default:
				if below, err = s.missing(ctx, child, seen); err != nil {
					return 0, err
				}
			}
		}
		if !has {
			below = ref.Size
		}
		n += below
	}
	return n, nil
}

// makeRoom drops contents that are only cached until need bytes more keep the limit.
func (s *Store) makeRoom(ctx context.Context, need uint64) error {
	if s.limit == 0 || s.taken()+need <= s.limit {
		return nil
	}
	return s.dropUntil(ctx, func() (uint64, error) { return need, nil })
}

// dropUntil drops contents that are only cached until what is needed, which may become less meanwhile, keeps the limit.
func (s *Store) dropUntil(ctx context.Context, needed func() (uint64, error)) error {
	s.making.Lock()
	defer s.making.Unlock()
	for swept := false; ; swept = true {
		taken := s.taken() // before needed: what comes in between is counted nowhere rather than twice
		need, err := needed()
		if err != nil {
			return err
		}
		if taken+need <= s.limit {
			return nil
		}
		excess := taken + need - s.limit
		// Some more than is needed now, so that a store that stays at its limit is not collected for every blob.
		victims, all, err := s.leastUsed(excess + s.limit/roomSlack)
		if err != nil {
			return err
		}
		if all < excess {
			if swept {
				return &LimitError{Limit: s.limit, Fixed: taken - min(all, taken), Need: need}
			}
			victims = nil // What nothing refers to may be enough.
		}
		freed, err := s.collect(ctx, false, func(p Pin) bool { return !victims[p.Root] }, s.everything)
		if err != nil {
			return fmt.Errorf("make room: %w", err)
		}
		s.log.Info("made room in the store", "contents", freed.Contents, "bytes", freed.Bytes)
	}
}

// roomSlack is the part of the limit that is made free beyond what is needed.
const roomSlack = 32

// leastUsed returns cached contents of at least size bytes together, those whose last use is the longest ago, and the bytes of all
// that may be dropped.
func (s *Store) leastUsed(size uint64) (roots map[stc.Hash]bool, all uint64, err error) {
	pins, err := s.pins()
	if err != nil {
		return nil, 0, err
	}
	held := s.heldRoots()
	pins = slices.DeleteFunc(pins, func(p Pin) bool {
		if !p.Cached || held[p.Root] || err != nil {
			return true
		}
		var inPlace []string // takes no room
		inPlace, err = s.Origins(p.Root)
		return len(inPlace) > 0
	})
	if err != nil {
		return nil, 0, err
	}
	slices.SortStableFunc(pins, func(a, b Pin) int { return a.Used.Compare(b.Used) })
	roots = make(map[stc.Hash]bool)
	for _, p := range pins {
		if all < size {
			roots[p.Root] = true
		}
		all += p.Size
	}
	return roots, all, nil
}

// PinStored pins a content that is here, if only in part, and returns its pin. An empty name leaves the one that it has, or that
// its root suggests. ErrNotFound if its root is not here.
func (s *Store) PinStored(ctx context.Context, root stc.Hash, name string) (Pin, error) {
	if err := s.enter(); err != nil {
		return Pin{}, err
	}
	defer s.exit()
	defer s.Hold(root)()
	p, known, err := s.pin(root)
	if err != nil {
		return Pin{}, err
	}
	if !known {
		node, err := s.root(root)
		if err != nil {
			return Pin{}, err
		}
		p = Pin{Root: root, PinInfo: PinInfo{Name: node.Root.Name, State: PinComplete, Size: node.Size}}
		if err := s.gaps(ctx, root, func(stc.Hash, bool) { p.State = PinPartial }); err != nil {
			return Pin{}, err
		}
	}
	if p.Cached = false; name != "" {
		p.Name = name
	}
	return p, s.Pin(ctx, root, p.PinInfo)
}
