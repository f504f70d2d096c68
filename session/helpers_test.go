package session

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/session/transport/memory"
	"github.com/seigr/sttnode/stc"
)

var (
	addrA = netip.MustParseAddrPort("10.0.0.1:4700")
	addrB = netip.MustParseAddrPort("10.0.0.2:4700")
)

// testSeed returns the seed of a randomised test, which it prints;
// STT_TEST_SEED replays one.
func testSeed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if v := os.Getenv("STT_TEST_SEED"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("STT_TEST_SEED=%d", seed)
	return seed
}

func identity(t testing.TB, name string) *stc.Identity {
	t.Helper()
	id, err := stc.NewIdentity([]byte(fmt.Sprintf("%-32s", "node seed of "+name)))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func keyring(t testing.TB, network string) *stc.Keyring {
	t.Helper()
	kr, err := stc.NewKeyring([]byte(fmt.Sprintf("%-32s", "shared seed of "+network)))
	if err != nil {
		t.Fatal(err)
	}
	return kr
}

// world is two endpoints on a network in memory.
type world struct {
	t          *testing.T
	net        *memory.Network
	a, b       *Endpoint
	connA      *memory.Conn
	connB      *memory.Conn
	cfgA, cfgB Config
}

func newWorld(t *testing.T, seed uint64, link memory.Link, change func(a, b *Config)) *world {
	t.Helper()
	w := &world{
		t: t, net: memory.New(memory.Config{Seed: seed, Link: link}),
		cfgA: Config{Identity: identity(t, "A"), Keyring: keyring(t, "one")},
		cfgB: Config{Identity: identity(t, "B"), Keyring: keyring(t, "one")},
	}
	if change != nil {
		change(&w.cfgA, &w.cfgB)
	}
	w.a, w.connA = w.endpoint(addrA, w.cfgA)
	w.b, w.connB = w.endpoint(addrB, w.cfgB)
	return w
}

func (w *world) endpoint(addr netip.AddrPort, cfg Config) (*Endpoint, *memory.Conn) {
	w.t.Helper()
	conn, err := w.net.Listen(addr)
	if err != nil {
		w.t.Fatal(err)
	}
	e, err := NewEndpoint(conn, cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return e, conn
}

// connect dials from A to B and returns both ends.
func (w *world) connect() (sa, sb *Session) {
	w.t.Helper()
	sa, err := w.a.Dial(w.t.Context(), addrB, w.cfgB.Identity.NodeID())
	if err != nil {
		w.t.Fatal(err)
	}
	sb, err = w.b.Accept(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return sa, sb
}

// close ends both endpoints. It is no Cleanup: the bubble must be empty when
// the test's function returns.
func (w *world) close() {
	w.t.Helper()
	done := make(chan struct{})
	go func() { w.a.Close(); close(done) }()
	w.b.Close()
	<-done
}

// inWorld runs f in virtual time with two endpoints.
func inWorld(t *testing.T, seed uint64, link memory.Link, change func(a, b *Config), f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed, link, change)
		defer w.close()
		f(t, w)
	})
}

func randomBytes(seed uint64, n int) []byte {
	var key [32]byte
	key[0], key[1], key[2] = byte(seed), byte(seed>>8), byte(seed>>16)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

func open(t *testing.T, s *Session) *Stream {
	t.Helper()
	st, err := s.OpenStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func accept(t *testing.T, s *Session) *Stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	st, err := s.AcceptStream(ctx)
	if err != nil {
		t.Fatalf("AcceptStream: %v", err)
	}
	return st
}

// transfer sends data from one session to the other on a new stream and
// checks what arrives.
func transfer(t *testing.T, from, to *Session, data []byte) {
	t.Helper()
	st := open(t, from)
	sent := make(chan error, 1)
	go func() {
		_, err := st.Write(data)
		if err == nil {
			err = st.CloseWrite()
		}
		sent <- err
	}()
	in := accept(t, to)
	got, err := io.ReadAll(in)
	if err != nil {
		t.Fatalf("read after %d of %d bytes: %v", len(got), len(data), err)
	}
	if !bytes.Equal(got, data) {
		t.Fatalf("%d bytes arrived, %d sent, or they differ", len(got), len(data))
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}

func newRNG(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// bareLoop is a session's loop without goroutines, on a carrier that swallows
// everything, and the keys of its peer's sending direction.
func bareLoop(t testing.TB, cfg Config, initiator bool) (*loop, *sealing) {
	t.Helper()
	cfg, err := cfg.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	e := &Endpoint{link: &link{datagrams: nowhere{}}, cfg: cfg, budget: newBudget(&cfg), sessions: map[frame.SessionID]*Session{}}
	s := &Session{
		ep: e, link: e.link, cfg: &e.cfg, id: frame.SessionID{1}, peerParams: cfg.params(), created: now, initiator: initiator,
		done: make(chan struct{}),
	}
	s.streams.init(initiator, cfg.MaxStreams, cfg.MaxStreams)
	l := newLoop(s, newMTUSearch(cfg.MaxDatagram), addrA, now)
	peer, err := newSealing(stc.SuiteChaCha20Poly1305, &stc.Secret{1}, now)
	if err != nil {
		t.Fatal(err)
	}
	if l.seal, err = newSealing(stc.SuiteChaCha20Poly1305, &stc.Secret{2}, now); err != nil {
		t.Fatal(err)
	}
	if l.open, err = newOpening(stc.SuiteChaCha20Poly1305, &stc.Secret{1}); err != nil {
		t.Fatal(err)
	}
	return l, peer
}
