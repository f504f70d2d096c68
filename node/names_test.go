package node

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/dht"
	"github.com/seigr/sttnode/session/transport/memory"
	"github.com/seigr/sttnode/stc"
)

// visitor is the configuration of a node that publishes and resolves for the
// owner, whose own node may be running: it is somebody else to the network.
func (w *network) visitor(name, owner string, boot *Node) Config {
	cfg := w.config(name, addressOf(boot))
	cfg.Dir, cfg.DialOnly = "", true
	cfg.Owner, cfg.NamesDir = testIdentity(w.t, owner), NamesDir(filepath.Join(w.dir, owner))
	return cfg
}

func mustPublish(t *testing.T, n *Node, label string, root stc.Hash) PublishedName {
	t.Helper()
	p, nodes, err := n.PublishName(within(t, time.Minute), label, root)
	if err != nil || nodes == 0 {
		t.Fatalf("publish %s: %d nodes, %v", label, nodes, err)
	}
	return p
}

func wantName(t *testing.T, n *Node, name stc.Name, root stc.Hash) {
	t.Helper()
	got, err := n.ResolveName(within(t, time.Minute), name)
	if root.IsZero() {
		if !errors.Is(err, ErrNoName) {
			t.Errorf("resolved to %v, %v", got.Root, err)
		}
	} else if err != nil || got.Root != root {
		t.Errorf("resolved to %v, %v; want %v", got.Root, err, root)
	}
}

// What somebody publishes, others resolve, to the newest; and what was taken
// back, to nothing.
func TestNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, memory.Link{Delay: 20 * time.Millisecond})
		boot := w.start(w.config("boot"))
		owner := w.start(w.config("owner", addressOf(boot)))
		other := w.start(w.config("other", addressOf(boot)))
		one, two := stc.Sum([]byte("one")), stc.Sum([]byte("two"))
		first := mustPublish(t, owner, "film", one)
		wantName(t, other, first.Name, one)
		second := mustPublish(t, owner, "film", two)
		if second.Name != first.Name || second.Sequence <= first.Sequence {
			t.Errorf("%+v after %+v", second, first)
		}
		wantName(t, other, first.Name, two)
		wantName(t, boot, first.Name, two)
		if p := mustPublish(t, owner, "album", one); p.Name == first.Name {
			t.Error("two labels have one name")
		}
		if all, err := Names(NamesDir(owner.cfg.Dir)); err != nil || len(all) != 2 || all[0].Label != "album" || all[1] != second {
			t.Errorf("remembered: %+v, %v", all, err)
		}
		mustPublish(t, owner, "film", stc.Hash{})
		wantName(t, other, first.Name, stc.Hash{})

		key, err := testIdentity(t, "nobody").NameKey("film")
		if err != nil {
			t.Fatal(err)
		}
		wantName(t, other, key.Name(), stc.Hash{})
		if _, _, err := owner.PublishName(t.Context(), "Not a label", one); !errors.Is(err, stc.ErrBadLabel) {
			t.Errorf("bad label: %v", err)
		}
	})
}

// A name published by another process than the one that runs the node is kept by
// that, through its stop and start, until it is forgotten.
func TestNamesAreKept(t *testing.T) {
	if testing.Short() {
		t.Skip("nine days of virtual time")
	}
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, memory.Link{Delay: 20 * time.Millisecond})
		boot := w.start(w.config("boot"))
		other := w.start(w.config("other", addressOf(boot)))
		owner := w.start(w.config("owner", addressOf(boot)))
		one, two := stc.Sum([]byte("one")), stc.Sum([]byte("two"))

		visitor := w.start(w.visitor("visitor", "owner", boot))
		p := mustPublish(t, visitor, "film", one)
		stopNode(t, visitor)
		time.Sleep(50 * time.Hour)
		wantName(t, other, p.Name, one)
		stopNode(t, owner)
		time.Sleep(49 * time.Hour)
		wantName(t, other, p.Name, stc.Hash{})
		cfg := w.config("owner", addressOf(boot))
		w.start(cfg)
		time.Sleep(time.Minute)
		wantName(t, other, p.Name, one)

		// A backup of the node publishes elsewhere: that is the newer one, and is
		// kept from then on.
		backup := w.visitor("backup", "owner", boot)
		backup.NamesDir = ""
		mustPublish(t, w.start(backup), "film", two)
		time.Sleep(23 * time.Hour) // when it would have been published again
		wantName(t, other, p.Name, two)
		if all, err := Names(cfg.Dir + "/names"); err != nil || len(all) != 1 || all[0].Root != two {
			t.Errorf("remembered: %+v, %v", all, err)
		}

		if err := ForgetName(NamesDir(cfg.Dir), "film"); err != nil {
			t.Error(err)
		}
		if err := ForgetName(NamesDir(cfg.Dir), "film"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("forgotten again: %v", err)
		}
		time.Sleep(49 * time.Hour)
		wantName(t, other, p.Name, stc.Hash{})
	})
}

// A clock that was ahead once, and files that are gone, keep nobody from
// publishing what is newer.
func TestPublishAfterAClockThatWasAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, memory.Link{Delay: 20 * time.Millisecond})
		boot := w.start(w.config("boot"))
		owner := w.start(w.visitor("visitor", "owner", boot))
		key, err := testIdentity(t, "owner").NameKey("film")
		if err != nil {
			t.Fatal(err)
		}
		ahead := uint64(time.Now().Add(10 * 365 * 24 * time.Hour).UnixMilli())
		rec, err := dht.SignRecord(key, ahead, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := owner.Join(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := owner.dht.PutRecord(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		one := stc.Sum([]byte("one"))
		if p := mustPublish(t, owner, "film", one); p.Sequence != ahead+1 {
			t.Errorf("number %d after %d", p.Sequence, ahead)
		}
		wantName(t, boot, key.Name(), one)
		last, err := dht.SignRecord(key, math.MaxUint64, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := writeName(owner.cfg.NamesDir, "film", last); err != nil {
			t.Fatal(err)
		}
		if _, _, err := owner.PublishName(t.Context(), "film", one); err == nil {
			t.Error("publishes after the last sequence number")
		}
	})
}

// A node that is alone remembers the name and publishes it when others come.
func TestPublishAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, memory.Link{Delay: 20 * time.Millisecond})
		boot := w.start(w.config("boot"))
		one := stc.Sum([]byte("one"))
		p, nodes, err := boot.PublishName(within(t, time.Minute), "film", one)
		if nodes != 0 || !errors.Is(err, ErrNoPeers) {
			t.Errorf("alone: %d nodes, %v", nodes, err)
		}
		other := w.start(w.config("other", addressOf(boot)))
		time.Sleep(time.Minute)
		wantName(t, other, p.Name, one)
	})
}

// Files that are not what we wrote are said to be damaged, and publish nothing.
func TestDamagedNames(t *testing.T) {
	dir := t.TempDir()
	if names, err := Names(filepath.Join(dir, "missing")); len(names) != 0 || err != nil {
		t.Errorf("%v, %v", names, err)
	}
	key, err := testIdentity(t, "owner").NameKey("good")
	if err != nil {
		t.Fatal(err)
	}
	rec, err := dht.SignRecord(key, 1, bytes.Repeat([]byte{1}, 33))
	if err != nil {
		t.Fatal(err)
	}
	if err := writeName(dir, "good", rec); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "name-good"))
	if err != nil {
		t.Fatal(err)
	}
	b[40] ^= 1
	writeFile(t, filepath.Join(dir, "name-bad"), b)
	writeFile(t, filepath.Join(dir, "name-huge"), make([]byte, 1<<20))
	writeFile(t, filepath.Join(dir, ".tmp-1234"), b)
	writeFile(t, filepath.Join(dir, "name-../x"), b)
	names, err := Names(dir)
	if len(names) != 1 || names[0].Label != "good" || !errors.Is(err, dht.ErrBadRecord) {
		t.Errorf("%v, %v", names, err)
	}
	if err := ForgetName(dir, "../good"); !errors.Is(err, stc.ErrBadLabel) {
		t.Errorf("forgets outside of its directory: %v", err)
	}
}

// Who waits for a name ends with the context, and with the node.
func TestResolveEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, memory.Link{Delay: 20 * time.Millisecond})
		boot := w.start(w.config("boot"))
		n := w.start(w.config("n", addressOf(boot)))
		time.Sleep(time.Second)
		w.cut(n)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		if _, err := n.ResolveName(ctx, stc.Name{1}); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 6*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		done := make(chan error, 1)
		go func() {
			_, err := n.ResolveName(context.Background(), stc.Name{1})
			done <- err
		}()
		time.Sleep(time.Second)
		stopNode(t, n)
		if err := <-done; !errors.Is(err, ErrState) {
			t.Error(err)
		}
	})
}
