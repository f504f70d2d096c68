package content

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/seigr/sttnode/content/internal/kv"
	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

// PinState says how much of a pinned content is here.
type PinState uint8

const (
	// PinPartial marks a content that is being fetched: what is here of it is kept.
	PinPartial PinState = 1
	// PinComplete marks a content all of which is here.
	PinComplete PinState = 2
)

// String returns "partial" or "complete".
func (s PinState) String() string {
	switch s {
	case PinPartial:
		return "partial"
	case PinComplete:
		return "complete"
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// PinInfo describes a pin.
type PinInfo struct {
	// Name is that under which the content was seeded or fetched: at most 4,096 bytes of UTF-8; may be empty.
	Name string
	// State is PinPartial or PinComplete.
	State PinState
	// Added is when, to the second. The zero time means now.
	Added time.Time
	// Size is the content's length in bytes, 0 if unknown.
	Size uint64
	// Cached content is kept as long as nobody needs its room: GC drops it, and so does a store at its limit, the least recently
	// used first. All other content is kept until Unpin or Remove.
	Cached bool
}

// Pin is a content that the store knows by its root.
type Pin struct {
	Root stc.Hash
	PinInfo
	// Used is when the content was last used, to a minute or so: fetched, imported, served, exported or opened.
	Used time.Time
}

const maxPinName = 4096

// cachedBit marks, beside the state, the pin of a content that is only cached.
const cachedBit = 0x80

// Pin keeps everything below root that is or will be stored, until Unpin or Remove, or as long as there is room if info says
// Cached. Pinning again replaces the PinInfo. It is durable when it returns.
//
// A download pins its root as partial before its first lookup and stores nodes before what is below them: so whatever is here
// of it is kept at any time.
func (s *Store) Pin(ctx context.Context, root stc.Hash, info PinInfo) error {
	return s.pinWith(ctx, root, info)
}

// pinWith is Pin that notes origins with it.
func (s *Store) pinWith(ctx context.Context, root stc.Hash, info PinInfo, origins ...origin) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.exit()
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(info.Name) > maxPinName || !utf8.ValidString(info.Name) {
		return fmt.Errorf("%w: name of a pin", ErrName)
	}
	if info.State != PinPartial && info.State != PinComplete {
		return fmt.Errorf("content: %v of a pin", info.State)
	}
	if info.Added.IsZero() {
		info.Added = time.Now()
	}
	// Before it is there, for a content that nothing else keeps; and once it is, for a collection that has begun, and listed the
	// pins, in between.
	s.markSoon(root)
	defer s.markSoon(root)
	// The copy comes last and goes first, so that a copy without a pin means a damaged index and nothing else.
	s.pinning.Lock()
	defer s.pinning.Unlock()
	return s.putPin(Pin{Root: root, PinInfo: info}, origins...)
}

// putPin writes a pin. The caller holds s.pinning.
func (s *Store) putPin(p Pin, origins ...origin) error {
	key, value := s.seal.sealPin(p)
	set := []pair{{key, value}}
	for _, o := range origins {
		set = append(set, s.seal.sealOrigin(o))
	}
	if err := s.ledger.commit(&change{set: set}); err != nil {
		return err
	}
	var b kv.Batch
	for _, p := range set {
		b.Put(p.key, p.value)
	}
	return mapError(writeKV(s.small, &b))
}

// markSoon has the collection under way, if there is one, mark a pin before it frees anything more.
func (s *Store) markSoon(root stc.Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.touched != nil {
		s.newPins = append(s.newPins, root)
	}
}

// Unpin makes a content one that is only cached. ErrNotFound if the store doesn't know root.
func (s *Store) Unpin(ctx context.Context, root stc.Hash) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.exit()
	s.pinning.Lock()
	defer s.pinning.Unlock()
	p, ok, err := s.pin(root)
	if err == nil && !ok {
		err = fmt.Errorf("%w: %v", ErrNotFound, root)
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil || p.Cached {
		return err
	}
	p.Cached = true
	return s.putPin(p)
}

// forget ends a pin, if only, unless nil, lets it, and leaves the blobs to a collection. ErrNotFound if there is none. It works
// on a full disk.
func (s *Store) forget(ctx context.Context, root stc.Hash, only func(Pin) bool) error {
	s.pinning.Lock()
	defer s.pinning.Unlock()
	p, ok, err := s.pin(root)
	if err != nil {
		return err
	}
	if !ok || only != nil && !only(p) {
		return fmt.Errorf("%w: no pin of %v", ErrNotFound, root)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	keys, err := s.originKeys(root)
	if err != nil {
		return err
	}
	keys = append(keys, s.seal.key(prefixPin, root))
	unpin := func() error {
		var b kv.Batch
		for _, key := range keys {
			b.Delete(key)
		}
		if err := writeKV(s.small, &b); err != nil {
			return mapError(err)
		}
		return s.ledger.commit(&change{unset: append(keys, s.seal.key(prefixAccess, root))})
	}
	err = unpin()
	if errors.Is(err, ErrDiskFull) && s.reserve.letGo() {
		err = unpin()
	}
	return err
}

// PinInfo returns the pin of root; ok is false if it has none.
func (s *Store) PinInfo(root stc.Hash) (info PinInfo, ok bool, err error) {
	if err := s.enter(); err != nil {
		return PinInfo{}, false, err
	}
	defer s.exit()
	p, ok, err := s.pin(root)
	return p.PinInfo, ok, err
}

func (s *Store) pin(root stc.Hash) (p Pin, ok bool, err error) {
	key := s.seal.key(prefixPin, root)
	value, err := s.index.Get(key)
	if errors.Is(err, kv.ErrNotFound) {
		return Pin{}, false, nil
	}
	if err != nil {
		return Pin{}, false, mapError(err)
	}
	p, err = s.seal.openPin(key, value)
	return p, err == nil, err
}

// Pins returns all pins, the oldest first.
func (s *Store) Pins() ([]Pin, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.exit()
	return s.pins()
}

func (s *Store) pins() ([]Pin, error) {
	uses, err := s.uses()
	if err != nil {
		return nil, err
	}
	var pins []Pin
	var failed error
	err = s.index.Each([]byte{prefixPin}, []byte{prefixPin + 1}, func(key, value []byte) bool {
		p, err := s.seal.openPin(key, value)
		if err != nil {
			failed = err
			return false
		}
		p.Used = uses.last(p)
		pins = append(pins, p)
		return true
	})
	if err = mapError(errors.Join(err, failed)); err != nil {
		return nil, err
	}
	slices.SortFunc(pins, func(a, b Pin) int {
		return cmp.Or(a.Added.Compare(b.Added), a.Root.Compare(b.Root))
	})
	return pins, nil
}

// reconcilePins makes the pins and origins in the index and their copies the same: one without a copy was being made, or ended;
// a copy that the index lacks is one that a damaged index has lost.
func (s *Store) reconcilePins() error {
	var c change
	var b kv.Batch
	for _, prefix := range []byte{prefixPin, prefixOrigin} {
		known := make(map[string]bool)
		var failed error
		err := s.index.Each([]byte{prefix}, []byte{prefix + 1}, func(key, value []byte) bool {
			known[string(key)] = true
			if _, err := s.small.Get(key); errors.Is(err, kv.ErrNotFound) {
				b.Put(key, value)
			} else {
				failed = err
			}
			return failed == nil
		})
		if err = errors.Join(err, failed); err != nil {
			return err
		}
		err = s.small.Each([]byte{prefix}, []byte{prefix + 1}, func(key, value []byte) bool {
			if !known[string(key)] {
				c.set = append(c.set, pair{key, value})
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	if len(c.set) > 0 {
		if err := s.ledger.commit(&c); err != nil {
			return err
		}
	}
	if b.Len() > 0 {
		return writeKV(s.small, &b)
	}
	return nil
}

func (s *sealer) sealPin(p Pin) (key, value []byte) {
	key = s.key(prefixPin, p.Root)
	state := byte(p.State)
	if p.Cached {
		state |= cachedBit
	}
	plain := append(make([]byte, 0, 64+len(p.Name)), state)
	plain = append(plain, p.Root[:]...)
	plain = frame.AppendVarint(plain, uint64(max(0, p.Added.Unix())))
	plain = frame.AppendVarint(plain, min(p.Size, maxTotal))
	plain = append(plain, p.Name...)
	return key, s.cipher.Seal(nil, plain, key)
}

func (s *sealer) openPin(key, value []byte) (Pin, error) {
	plain, err := s.cipher.Open(nil, value, key)
	if err != nil {
		return Pin{}, fmt.Errorf("%w: pin: %w", ErrCorrupt, err)
	}
	d := &decoder{rest: plain}
	state := d.byte()
	p := Pin{PinInfo: PinInfo{State: PinState(state &^ cachedBit), Cached: state&cachedBit != 0}, Root: d.hash()}
	p.Added = time.Unix(int64(d.varint()), 0)
	p.Size = d.varint()
	if d.err != nil {
		return Pin{}, fmt.Errorf("%w: pin", ErrCorrupt)
	}
	p.Name = string(d.rest)
	return p, nil
}
