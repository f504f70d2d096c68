package node

import (
	"bytes"
	"context"
	"hash/fnv"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/seigr/sttnode/session/transport"
	"github.com/seigr/sttnode/session/transport/memory"
	"github.com/seigr/sttnode/stc"
)

func TestMain(m *testing.M) {
	// LevelDB's own, which ends a second after the database is closed.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"))
}

// testSeed is the seed of everything random in a test: its name's hash, or
// STT_TEST_SEED to replay another.
func testSeed(t testing.TB) uint64 {
	t.Helper()
	h := fnv.New64a()
	h.Write([]byte(t.Name()))
	seed := h.Sum64()
	if s := os.Getenv("STT_TEST_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("STT_TEST_SEED=%d", seed)
	return seed
}

func testIdentity(t testing.TB, name string) *stc.Identity {
	t.Helper()
	seed := stc.Sum([]byte("node " + name))
	id, err := stc.NewIdentity(seed[:])
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func testKeyring(t testing.TB, network string) *stc.Keyring {
	t.Helper()
	seed := stc.Sum([]byte("network " + network))
	k, err := stc.NewKeyring(seed[:])
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// testLog writes to the test's log what is worth a look when it fails.
func testLog(t testing.TB, name string) *slog.Logger {
	level := slog.LevelError
	if testing.Verbose() && os.Getenv("STT_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: level})).With("on", name)
}

// network is a network in memory and the nodes on it.
type network struct {
	t   testing.TB
	net *memory.Network
	dir string
	n   byte
}

// newNetwork is for synctest bubbles.
func newNetwork(t testing.TB, link memory.Link) *network {
	// A goroutine of LevelDB outlives the database's Close by a second, of the
	// bubble's time.
	t.Cleanup(func() { time.Sleep(2 * time.Second) })
	return &network{t: t, net: memory.New(memory.Config{Seed: testSeed(t), Link: link}), dir: t.TempDir()}
}

// listen opens the next address, 10.0.0.n:4700.
func (w *network) listen() transport.Conn {
	w.t.Helper()
	w.n++
	c, err := w.net.Listen(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, w.n}), 4700))
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// config is that of a node by this name, in its own directory.
func (w *network) config(name string, bootstrap ...Address) Config {
	return Config{
		Identity:  testIdentity(w.t, name),
		Keyring:   testKeyring(w.t, "test"),
		Dir:       filepath.Join(w.dir, name),
		Conn:      w.listen(),
		Bootstrap: bootstrap,
		Logger:    testLog(w.t, name),
	}
}

// start starts a node, which is stopped at the end of the test.
func (w *network) start(cfg Config) *Node {
	w.t.Helper()
	n, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := n.Start(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { stopNode(w.t, n) })
	return n
}

func stopNode(t testing.TB, n *Node) {
	t.Helper()
	if err := n.Stop(context.Background()); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// addressOf is how other nodes are told to reach n.
func addressOf(n *Node) Address {
	return Address{Host: n.Addr().Addr().String(), Port: n.Addr().Port()}
}

// cut takes a node off the network without a word, for good.
func (w *network) cut(n *Node) {
	for i := byte(1); i <= 40; i++ {
		other := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, i}), 4700)
		w.net.SetLink(n.Addr(), other, memory.Link{Down: true})
		w.net.SetLink(other, n.Addr(), memory.Link{Down: true})
	}
}

// seed starts a node that seeds data as a file of that name.
func (w *network) seed(ctx context.Context, name, file string, data []byte, bootstrap ...Address) (*Node, stc.Hash) {
	w.t.Helper()
	n := w.start(w.config(name, bootstrap...))
	seeded, err := n.Seed(ctx, writeFile(w.t, filepath.Join(w.dir, "in-"+name, file), data), ImportOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return n, seeded.Root
}

// within fails a test that does not end in the time.
func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// testBytes returns n bytes that depend on the name.
func testBytes(name string, n int) []byte {
	h := stc.Sum([]byte(name))
	out := make([]byte, 0, n+stc.HashSize)
	for len(out) < n {
		out = append(out, h[:]...)
		h = stc.Sum(h[:])
	}
	return out[:n]
}

func writeFile(t testing.TB, path string, data []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func wantFile(t testing.TB, path string, data []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) {
		t.Fatalf("%s: %d bytes that differ from the %d expected", path, len(got), len(data))
	}
}
