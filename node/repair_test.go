package node

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/stc"
)

// verify reads the whole store of a node.
func verify(t *testing.T, n *Node) content.Damage {
	t.Helper()
	report, err := n.Store().Verify(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return report.Damage
}

// A byte of a segment flips while the node is down. Verify finds it, Repair
// fetches what is damaged, and only that, and all is as it was.
func TestRepair(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		boot := w.start(w.config("boot"))
		_, root := w.seed(ctx, "s", "film", testBytes("film", 4<<20), addressOf(boot))
		cfg := w.config("f", addressOf(boot))
		f := w.start(cfg)
		if _, err := f.Fetch(ctx, root, FetchOptions{Cache: true}); err != nil {
			t.Fatal(err)
		}
		before, _, err := f.Store().PinInfo(root)
		if err != nil || !before.Cached {
			t.Fatal(before, err)
		}
		stopNode(t, f)
		damageSegments(t, StoreDir(cfg.Dir))
		cfg.Conn = w.listen()
		f = w.start(cfg)
		damage := verify(t, f)
		if len(damage.Bad) != 1 || !slices.Equal(damage.Incomplete, []stc.Hash{root}) {
			t.Fatalf("%+v", damage)
		}
		if known, err := f.Store().KnownDamage(ctx); err != nil || known.BadCount != 1 || !slices.Equal(known.Incomplete, damage.Incomplete) {
			t.Fatalf("%+v %v", known, err)
		}
		result, err := f.Repair(ctx, damage, RepairOptions{})
		if err != nil || !result.Left.OK() || len(result.Repaired) != 1 || len(result.Failed) != 0 {
			t.Fatalf("%+v %v", result, err)
		}
		if result.FetchedBytes == 0 || result.FetchedBytes > content.ChunkSize {
			t.Fatalf("%d bytes were fetched for a damaged chunk", result.FetchedBytes)
		}
		if damage := verify(t, f); !damage.OK() {
			t.Fatalf("behind the repair: %+v", damage)
		}
		if after, _, err := f.Store().PinInfo(root); err != nil || after != before {
			t.Fatalf("was %+v, is %+v", before, after)
		}
	})
}

// What nobody provides stays damaged, and is said to; what nobody needs goes.
func TestRepairWithoutHelp(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		boot := w.start(w.config("boot"))
		cfg := w.config("s", addressOf(boot))
		path := writeFile(t, filepath.Join(w.dir, "film"), testBytes("film", 4<<20))
		n := w.start(cfg)
		imported, err := n.Import(ctx, path, ImportOptions{})
		if err != nil {
			t.Fatal(err)
		}
		stopNode(t, n)
		damageSegments(t, StoreDir(cfg.Dir))
		cfg.Conn = w.listen()
		n = w.start(cfg)
		damage := verify(t, n)
		result, err := n.Repair(ctx, damage, RepairOptions{})
		if err != nil || len(result.Failed) != 1 || !errors.Is(result.Failed[0].Err, ErrNoProvider) {
			t.Fatalf("%+v %v", result, err)
		}
		if result.Left.OK() || !slices.Equal(result.Left.Bad, damage.Bad) || !slices.Equal(result.Left.Incomplete, []stc.Hash{imported.Root}) {
			t.Fatalf("%+v, was %+v", result.Left, damage)
		}
		if _, err := n.Store().Remove(ctx, imported.Root); err != nil {
			t.Fatal(err)
		}
		// Of a content that is gone nothing is left, the damaged blob included.
		if damage := verify(t, n); !damage.OK() {
			t.Fatalf("%+v", damage)
		}
	})
}

// TestRepairDiscards deletes a damaged blob that no content needs.
func TestRepairDiscards(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		cfg := w.config("s")
		n := w.start(cfg)
		if _, err := n.Store().Put(ctx, testBytes("garbage", content.MaxBlobSize)); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Store().Put(ctx, testBytes("more", content.MaxBlobSize)); err != nil {
			t.Fatal(err)
		}
		stopNode(t, n)
		damageSegments(t, StoreDir(cfg.Dir))
		cfg.Conn = w.listen()
		n = w.start(cfg)
		damage := verify(t, n)
		if damage.BadCount != 1 || len(damage.Incomplete) > 0 {
			t.Fatalf("%+v", damage)
		}
		if result, err := n.Repair(ctx, damage, RepairOptions{}); err != nil || result.Discarded != 1 || !result.Left.OK() {
			t.Fatalf("%+v %v", result, err)
		}
		if damage := verify(t, n); !damage.OK() || n.Store().Stats().Blobs != 1 {
			t.Fatalf("%+v", damage)
		}
	})
}

// A node with a limit keeps what is pinned, drops what is cached and longest
// unused, tells the network, and refuses what can't fit before it is fetched.
func TestStoreLimit(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		boot := w.start(w.config("boot"))
		seed := func(name string, size int) stc.Hash {
			_, root := w.seed(ctx, "s-"+name, name, testBytes(name, size), addressOf(boot))
			return root
		}
		a, b, c, d := seed("a", 1<<20), seed("b", 1<<20), seed("c", 1<<20), seed("d", 3<<20)
		cfg := w.config("f", addressOf(boot))
		cfg.StoreLimit = 5 << 19 // 2.5 MiB
		f := w.start(cfg)
		fetch := func(root stc.Hash, cache bool) error {
			t.Helper()
			_, err := f.Fetch(ctx, root, FetchOptions{Cache: cache, Provide: true})
			return err
		}
		if err := errors.Join(fetch(a, true), fetch(b, false)); err != nil {
			t.Fatal(err)
		}
		if err := fetch(c, true); err != nil { // in place of a
			t.Fatal(err)
		}
		pins, err := f.Store().Pins()
		if err != nil || len(pins) != 2 {
			t.Fatalf("%v %v", pins, err)
		}
		for _, p := range pins {
			if p.Root == a || p.Cached != (p.Root == c) {
				t.Fatalf("%+v", p)
			}
		}
		for deadline := time.Now().Add(time.Minute); f.Stats().DHT.Provided != 2; time.Sleep(time.Second) {
			if time.Now().After(deadline) {
				t.Fatalf("provides %d contents", f.Stats().DHT.Provided)
			}
		}
		before := f.Store().Stats()
		err = fetch(d, true)
		var limit *content.LimitError
		if !errors.Is(err, content.ErrLimit) || !errors.As(err, &limit) {
			t.Fatal(err)
		}
		if after := f.Store().Stats(); after.Bytes > before.Bytes+content.ChunkSize {
			t.Fatalf("%d bytes of a content that can't fit were stored", after.Bytes-before.Bytes)
		}
		// What is here is fetched again in no time, and the choice is remembered.
		if err := errors.Join(fetch(b, true), fetch(c, false)); err != nil {
			t.Fatal(err)
		}
		if pins, err = f.Store().Pins(); err != nil || len(pins) != 2 || pins[0].Cached || pins[1].Cached {
			t.Fatalf("%+v %v", pins, err)
		}
		if err := fetch(a, true); !errors.Is(err, content.ErrLimit) {
			t.Fatalf("beside two that are pinned: %v", err)
		}
	})
}
