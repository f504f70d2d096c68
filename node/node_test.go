package node

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/session"
	"github.com/seigr/sttnode/session/transport/memory"
	"github.com/seigr/sttnode/stc"
)

func TestLifecycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, memory.Link{})
		n, err := New(w.config("a"))
		if err != nil {
			t.Fatal(err)
		}
		events := watch(t, n, 16)
		defer events.Stop()
		ctx := context.Background()
		wantState := func(want State) {
			t.Helper()
			if got := n.State(); got != want {
				t.Fatalf("state is %v, want %v", got, want)
			}
		}
		wantState(StateCreated)
		if _, err := n.Fetch(ctx, stc.Sum(nil), FetchOptions{}); !errors.Is(err, ErrState) {
			t.Fatalf("Fetch before Start: %v", err)
		}
		if err := n.Start(ctx); err != nil {
			t.Fatal(err)
		}
		wantState(StateRunning) // nobody to join
		if err := n.Start(ctx); !errors.Is(err, ErrState) {
			t.Fatalf("second Start: %v", err)
		}
		wantState(StateRunning)
		stopNode(t, n)
		wantState(StateStopped)
		stopNode(t, n)
		if err := n.Start(ctx); !errors.Is(err, ErrState) {
			t.Fatalf("Start after Stop: %v", err)
		}
		if _, err := n.Seed(ctx, ".", ImportOptions{}); !errors.Is(err, ErrState) {
			t.Fatalf("Seed after Stop: %v", err)
		}
		var states []State
		for _, e := range seen(events) {
			if e.Kind == EventState {
				states = append(states, e.State)
			}
		}
		if want := []State{StateStarted, StateRunning, StateStopped}; !slices.Equal(states, want) {
			t.Fatalf("state events: %v", states)
		}
	})
}

func TestStopWithoutStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, memory.Link{})
		cfg := w.config("a")
		n, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		stopNode(t, n)
		// The connection was the node's to close.
		if _, _, _, err := cfg.Conn.Receive(make([]byte, 64<<10)); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("connection after Stop: %v", err)
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	id, keyring := testIdentity(t, "a"), testKeyring(t, "test")
	for name, cfg := range map[string]Config{
		"no identity": {Keyring: keyring, Dir: "d"},
		"no keyring":  {Identity: id, Dir: "d"},
		"bad listen":  {Identity: id, Keyring: keyring, Dir: "d", Listen: "4700"},
		"bad limit":   {Identity: id, Keyring: keyring, Dir: "d", MaxSessions: -1},
		"bad session": {Identity: id, Keyring: keyring, Session: session.Config{MaxStreams: 40_000}},
		"short idle":  {Identity: id, Keyring: keyring, Session: session.Config{IdleTimeout: 1}},
		"no address":  {Identity: id, Keyring: keyring, Bootstrap: []Address{{}}},
		"deaf":        {Identity: id, Keyring: keyring, DialOnly: true, WebSocketListen: ":0"},
	} {
		if _, err := New(cfg); !errors.Is(err, ErrConfig) && !errors.Is(err, ErrAddress) {
			t.Errorf("%s: %v", name, err)
		}
	}
	cfg, err := Config{Identity: id, Keyring: keyring, Dir: "d", Background: true}.withDefaults()
	if err != nil || cfg.Session.Congestion != session.CongestionBackground {
		t.Errorf("in the background: %v, %v", cfg.Session.Congestion, err)
	}
}

func TestStoreLocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, memory.Link{})
		cfg := w.config("a")
		w.start(cfg)
		cfg.Conn = w.listen()
		second, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := second.Start(context.Background()); !errors.Is(err, content.ErrLocked) {
			t.Fatalf("second node on one directory: %v", err)
		}
		if second.State() != StateStopped {
			t.Fatalf("state after a failed Start: %v", second.State())
		}
		stopNode(t, second)
	})
}

func TestUDPSocket(t *testing.T) {
	dir := t.TempDir()
	first, err := New(Config{Identity: testIdentity(t, "a"), Keyring: testKeyring(t, "test"), Dir: filepath.Join(dir, "a"), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	if b := first.SocketBuffers(); b.Wanted == 0 || b.Receive == 0 || b.Send == 0 {
		t.Errorf("socket buffers: %+v", b)
	}
	defer func() {
		stopNode(t, first)
		if b := first.SocketBuffers(); b.Wanted != 0 {
			t.Errorf("socket buffers after Stop: %+v", b)
		}
	}()
	second, err := New(Config{Identity: testIdentity(t, "b"), Keyring: testKeyring(t, "test"), Dir: filepath.Join(dir, "b"), Listen: first.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	err = second.Start(context.Background())
	var listen *ListenError
	if !errors.As(err, &listen) || !listen.InUse() {
		t.Fatalf("listening where another node does: %v", err)
	}
}

// Two seeders and a fetcher over links that lose, delay, reorder and duplicate.
func TestSeedAndFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, memory.Link{
			Delay: 10 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.02, Duplicate: 0.02, Reorder: 0.02,
		})
		ctx := within(t, 5*time.Minute)
		boot := w.start(w.config("boot"))
		data := testBytes("film", 3<<20+17)
		path := writeFile(t, filepath.Join(w.dir, "film.bin"), data)
		var root stc.Hash
		for _, name := range []string{"s1", "s2"} {
			n := w.start(w.config(name, addressOf(boot)))
			seeded, err := n.Seed(ctx, path, ImportOptions{})
			if err != nil {
				t.Fatal(err)
			}
			root = seeded.Root
			if seeded.Bytes != uint64(len(data)) || seeded.Name != "film.bin" {
				t.Fatalf("seeded %+v", seeded)
			}
		}
		f := w.start(w.config("f", addressOf(boot)))
		out := filepath.Join(w.dir, "out.bin")
		result, err := f.Fetch(ctx, root, FetchOptions{Output: out})
		if err != nil {
			t.Fatal(err)
		}
		wantFile(t, out, data)
		if result.Path != out || result.Name != "film.bin" || result.Bytes != uint64(len(data)) || len(result.Sources) != 2 {
			t.Fatalf("result %+v", result)
		}
		var sum uint64
		for _, s := range result.Sources {
			sum += s.Bytes
		}
		if sum != result.FetchedBytes || sum < result.Bytes {
			t.Fatalf("sources gave %d bytes, %d were fetched", sum, result.FetchedBytes)
		}
		if pin, ok, err := f.Store().PinInfo(root); err != nil || !ok || pin.State != content.PinComplete {
			t.Fatalf("pin %+v, %v, %v", pin, ok, err)
		}
		if s := f.Stats(); s.Fetching.Completed != 1 || s.Fetching.BytesFetched != result.FetchedBytes {
			t.Fatalf("statistics %+v", s.Fetching)
		}
	})
}

// The same over real sockets, a directory tree this time.
func TestSeedAndFetchOnLoopback(t *testing.T) {
	ctx := within(t, time.Minute)
	dir := t.TempDir()
	start := func(name string, bootstrap ...Address) *Node {
		t.Helper()
		n, err := New(Config{
			Identity: testIdentity(t, name), Keyring: testKeyring(t, "test"), Dir: filepath.Join(dir, name),
			Listen: "127.0.0.1:0", Bootstrap: bootstrap, Logger: testLog(t, name),
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Start(ctx); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { stopNode(t, n) })
		return n
	}
	tree := filepath.Join(dir, "tree")
	writeFile(t, filepath.Join(tree, "a", "one"), testBytes("one", 300<<10))
	writeFile(t, filepath.Join(tree, "a", "empty"), nil)
	writeFile(t, filepath.Join(tree, "two"), testBytes("two", 10))
	if err := os.Chmod(filepath.Join(tree, "two"), 0o755); err != nil {
		t.Fatal(err)
	}
	boot := start("boot")
	seeder := start("seeder", addressOf(boot))
	seeded, err := seeder.Seed(ctx, tree, ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	fetcher := start("fetcher", addressOf(boot))
	result, err := fetcher.Fetch(ctx, seeded.Root, FetchOptions{Output: filepath.Join(dir, "out") + "/"})
	if !errors.Is(err, content.ErrTarget) {
		t.Fatalf("into a directory that is not there: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "out"), 0o755); err != nil {
		t.Fatal(err)
	}
	result, err = fetcher.Fetch(ctx, seeded.Root, FetchOptions{Output: filepath.Join(dir, "out") + "/"})
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "out", "tree"); result.Path != want || !result.Directory {
		t.Fatalf("result %+v, want it at %s", result, want)
	}
	same, err := sameContent(ctx, seeder.Store(), seeded.Root, result.Path)
	if err != nil || !same {
		t.Fatalf("what was written is the content: %v, %v", same, err)
	}
	wantFile(t, filepath.Join(result.Path, "a", "one"), testBytes("one", 300<<10))
	if info, err := os.Stat(filepath.Join(result.Path, "two")); err != nil || info.Mode().Perm() != 0o755 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	if _, err := fetcher.Fetch(ctx, seeded.Root, FetchOptions{Writer: new(bytes.Buffer)}); !errors.Is(err, ErrDirectoryStream) {
		t.Fatalf("a directory as a stream: %v", err)
	}
}
