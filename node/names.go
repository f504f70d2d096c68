package node

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/seigr/sttnode/dht"
	"github.com/seigr/sttnode/stc"
)

const (
	// A name is published and looked for again after namePauseMin, then after
	// twice as long each time, up to namePauseMax.
	namePauseMin = 500 * time.Millisecond
	namePauseMax = 5 * time.Second
	// nameMisses is after how many complete lookups without a record a name
	// counts as one that nobody has published.
	nameMisses = 3
	// keepNamesEvery is how often a node looks for names that another process
	// has published.
	keepNamesEvery = 15 * time.Second
)

// nameContent begins the value of a record that names a content; the hash
// follows.
const nameContent = 0x01

// PublishedName is what a name stood for when it was last published.
type PublishedName struct {
	Label    string   // what the owner calls it; others do not learn it
	Name     stc.Name // what others resolve
	Root     stc.Hash // the content; zero for a name that was taken back
	Sequence uint64   // a later one replaces this one; the time in ms since 1970, or the last one + 1
}

// PublishName makes the name of [Config].Owner that belongs to label stand for
// root, or for nothing if that is zero. It returns how many nodes hold the
// record; the name is remembered in [Config].NamesDir even if none does. A node
// that others can call keeps all names there published; those of one that is not
// last for 48 hours.
//
// It tries until ctx ends, unless there is nobody to ask: ErrNoPeers,
// ErrWrongSeed, ErrResolve; stc.ErrBadLabel.
func (n *Node) PublishName(ctx context.Context, label string, root stc.Hash) (p PublishedName, nodes int, err error) {
	key, err := n.cfg.Owner.NameKey(label)
	if err != nil {
		return p, 0, err
	}
	ctx, end, err := n.begin(ctx)
	if err != nil {
		return p, 0, err
	}
	defer end()
	last, err := readName(n.cfg.NamesDir, label)
	if err != nil {
		return p, 0, err
	}
	rec, err := n.signName(key, label, root, last.Sequence())
	if err != nil {
		return p, 0, err
	}
	if err := n.joinForName(ctx); err != nil {
		return n.published(label, rec), 0, err
	}
	for pause := namePauseMin; ; pause = min(2*pause, namePauseMax) {
		if n.keepsNames() {
			nodes, err = n.dht.KeepRecord(ctx, rec)
		} else {
			nodes, err = n.dht.PutRecord(ctx, rec)
		}
		switch {
		case err == nil, ctx.Err() != nil:
			return n.published(label, rec), nodes, err
		case errors.Is(err, dht.ErrNoNodes) && len(n.cfg.Bootstrap) == 0:
			return n.published(label, rec), 0, ErrNoPeers
		case errors.Is(err, dht.ErrStale):
			// Published elsewhere, or under a clock that was ahead.
			newest, _, getErr := n.dht.GetRecord(ctx, key.Name())
			if getErr == nil && newest.Newer(rec) {
				if rec, err = n.signName(key, label, root, newest.Sequence()); err != nil {
					return p, 0, err
				}
				continue
			}
		}
		n.log.Info("name not published yet", "label", label, "err", err)
		if err := wait(ctx, pause); err != nil {
			return n.published(label, rec), 0, err
		}
	}
}

// signName signs and remembers the next state of a name.
func (n *Node) signName(key *stc.NameKey, label string, root stc.Hash, last uint64) (dht.Record, error) {
	if last == math.MaxUint64 {
		return dht.Record{}, fmt.Errorf("name %s: it has used up its sequence numbers: choose another label", label)
	}
	var value []byte
	if !root.IsZero() {
		value = append([]byte{nameContent}, root[:]...)
	}
	rec, err := dht.SignRecord(key, max(uint64(time.Now().UnixMilli()), last+1), value)
	if err == nil {
		err = writeName(n.cfg.NamesDir, label, rec)
	}
	return rec, err
}

// joinForName is Join that takes a node without others for one that may have
// some later.
func (n *Node) joinForName(ctx context.Context) error {
	err := n.Join(ctx)
	if errors.Is(err, ErrNoPeers) || errors.Is(err, ErrUnreachable) && ctx.Err() == nil {
		return nil // others may have come to us, or come yet
	}
	return err
}

func (n *Node) published(label string, rec dht.Record) PublishedName {
	root, _ := nameTarget(rec)
	return PublishedName{Label: label, Name: rec.Name(), Root: root, Sequence: rec.Sequence()}
}

// nameTarget returns the content that a record stands for; zero if it was taken
// back.
func nameTarget(rec dht.Record) (stc.Hash, error) {
	switch v := rec.Value(); {
	case len(v) == 0:
		return stc.Hash{}, nil
	case v[0] == nameContent && len(v) == 1+stc.HashSize:
		return stc.Hash(v[1:]), nil
	default:
		return stc.Hash{}, fmt.Errorf("%w: it stands for something that this version does not know", ErrNoName)
	}
}

// ResolveName returns the content that a name stands for at present, as far as the
// nodes say that answer. It looks until ctx ends, or until it is clear that
// nobody has a record. Errors: ErrNoName, also for a name that its owner has
// taken back; ErrNoPeers, ErrWrongSeed, ErrResolve, ErrUnreachable; ctx's cause.
func (n *Node) ResolveName(ctx context.Context, name stc.Name) (PublishedName, error) {
	ctx, end, err := n.begin(ctx)
	if err != nil {
		return PublishedName{}, err
	}
	defer end()
	if err := n.joinForName(ctx); err != nil {
		return PublishedName{}, err
	}
	misses := 0
	for pause := namePauseMin; ; pause = min(2*pause, namePauseMax) {
		rec, stats, err := n.dht.GetRecord(ctx, name)
		switch {
		case err == nil:
			root, err := nameTarget(rec)
			if err == nil && root.IsZero() {
				err = fmt.Errorf("%w: its owner has taken it back", ErrNoName)
			}
			return PublishedName{Name: name, Root: root, Sequence: rec.Sequence()}, err
		case errors.Is(err, dht.ErrNoRecord) && stats.Complete:
			if misses++; misses == nameMisses {
				return PublishedName{}, fmt.Errorf("%w: asked %d nodes", ErrNoName, stats.Answered)
			}
		case errors.Is(err, dht.ErrNoNodes) && len(n.cfg.Bootstrap) == 0:
			return PublishedName{}, ErrNoPeers
		}
		n.log.Debug("name not found yet", "name", name, "err", err)
		if ctxErr := wait(ctx, pause); ctxErr != nil {
			if joinErr := n.Join(ctx); errors.Is(err, dht.ErrNoNodes) && errors.Is(joinErr, ErrUnreachable) {
				return PublishedName{}, joinErr
			}
			return PublishedName{}, fmt.Errorf("resolving the name: %w", ctxErr)
		}
	}
}

// wait sleeps, and returns ctx's cause if that ends first.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// keepsNames reports whether the node keeps the names in NamesDir published.
func (n *Node) keepsNames() bool {
	return n.cfg.NamesDir != "" && !n.cfg.ClientOnly && !n.cfg.DialOnly
}

// keepNamesLoop keeps the names in NamesDir published, whichever process has put
// them there.
func (n *Node) keepNamesLoop() {
	_ = n.Join(n.ctx) // it is tried all the same: others may come
	for {
		n.keepNames()
		if !n.sleep(keepNamesEvery) {
			return
		}
	}
}

func (n *Node) keepNames() {
	// In this order: a name that is kept already has been written before.
	kept := make(map[stc.Name]dht.Record)
	for _, rec := range n.dht.KeptRecords() {
		kept[rec.Name()] = rec
	}
	labels, err := nameLabels(n.cfg.NamesDir)
	if err != nil {
		n.log.Warn("names are not kept published", "err", err)
		return
	}
	for _, label := range labels {
		rec, err := readName(n.cfg.NamesDir, label)
		switch {
		case err != nil:
			n.log.Warn("a name is not kept published", "label", label, "err", err)
			continue
		case rec.IsZero():
			continue
		}
		was, known := kept[rec.Name()]
		delete(kept, rec.Name())
		switch {
		case known && was.Newer(rec): // the owner has published it elsewhere
			err = writeName(n.cfg.NamesDir, label, was)
		case !known || rec.Newer(was):
			var nodes int
			nodes, err = n.dht.KeepRecord(n.ctx, rec)
			n.log.Info("name", "label", label, "nodes", nodes, "err", err)
			err = nil // it is tried again by the DHT
		}
		if err != nil {
			n.log.Warn("a name is not kept published", "label", label, "err", err)
		}
	}
	for name := range kept {
		n.dht.DropRecord(name)
	}
}
