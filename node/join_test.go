package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/seigr/sttnode/session/transport/memory"
	"github.com/seigr/sttnode/stc"
)

func TestJoin(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		boot := w.start(w.config("boot"))
		n := w.start(w.config("n", addressOf(boot)))
		if err := n.Join(ctx); err != nil {
			t.Fatal(err)
		}
		if n.State() != StateRunning {
			t.Errorf("state %v", n.State())
		}
		// Both know each other from then on.
		time.Sleep(time.Minute)
		for a, b := range map[*Node]*Node{n: boot, boot: n} {
			if c := a.dht.Contacts(); len(c) != 1 || c[0].ID != b.ID() {
				t.Errorf("contacts %v, want %v", c, b.ID())
			}
		}
		if err := boot.Join(ctx); err != nil {
			t.Errorf("a node that another one has joined by: %v", err)
		}
		if s, err := boot.Survey(ctx); err != nil || s.Table.Good != 1 {
			t.Errorf("it counts %d others, %v", s.Table.Good, err)
		}
	})
}

func TestClientStaysOutOfTables(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		boot := w.start(w.config("boot"))
		cfg := w.config("n", addressOf(boot))
		cfg.ClientOnly = true
		n := w.start(cfg)
		if err := n.Join(within(t, time.Hour)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if c := boot.dht.Contacts(); len(c) != 0 {
			t.Errorf("contacts %v", c)
		}
	})
}

// The address of a bootstrap node names who must answer there.
func TestJoinChecksNodeID(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		boot := w.start(w.config("boot"))
		right := addressOf(boot)
		right.Peer = boot.ID()
		if err := w.start(w.config("a", right)).Join(ctx); err != nil {
			t.Fatal(err)
		}
		wrong := addressOf(boot)
		wrong.Peer = stc.Sum([]byte("somebody else"))
		if err := w.start(w.config("b", wrong)).Join(ctx); !errors.Is(err, ErrUnreachable) {
			t.Fatalf("another node at the address: %v", err)
		}
	})
}

func TestJoinByOneOfSeveral(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		boot := w.start(w.config("boot"))
		start := time.Now()
		n := w.start(w.config("n", Address{Host: "10.9.9.9", Port: 9}, addressOf(boot)))
		if err := n.Join(within(t, time.Hour)); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d > time.Second {
			t.Errorf("a dead bootstrap address held up a live one for %v", d)
		}
	})
}

func TestJoinOwnAddress(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		conn := w.listen()
		cfg := w.config("n", Address{Host: conn.LocalAddr().Addr().String(), Port: conn.LocalAddr().Port()})
		cfg.Conn.Close()
		cfg.Conn = conn
		n := w.start(cfg)
		if err := n.Join(within(t, time.Hour)); !errors.Is(err, ErrUnreachable) {
			t.Fatalf("joining by the own address: %v", err)
		}
		if p := n.Stats().Peers; p.Connected != 0 {
			t.Errorf("peers %+v", p)
		}
	})
}

// A node whose bootstrap node is down keeps trying, and says what it sees.
func TestJoinRetries(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		bootCfg := w.config("boot")
		at := Address{Host: bootCfg.Conn.LocalAddr().Addr().String(), Port: bootCfg.Conn.LocalAddr().Port()}
		cfg := w.config("n", at)
		n, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		events := watch(t, n, 1000)
		defer events.Stop()
		if err := n.Start(ctx); err != nil {
			t.Fatal(err)
		}
		defer stopNode(t, n)
		if err := n.Join(ctx); !errors.Is(err, ErrUnreachable) {
			t.Fatalf("bootstrap node is down: %v", err)
		}
		if n.State() != StateStarted {
			t.Errorf("state %v", n.State())
		}
		data := testBytes("film", 1000)
		announced := make(chan error, 1)
		go func() {
			_, err := n.Seed(ctx, writeFile(t, filepath.Join(w.dir, "film"), data), ImportOptions{})
			announced <- err
		}()
		time.Sleep(10 * time.Minute)
		select {
		case err := <-announced:
			t.Fatalf("announced to nobody: %v", err)
		default:
		}
		w.start(bootCfg)
		// The longest pause between attempts, and a little.
		time.Sleep(joinBackoffMax + joinBackoffMax/4 + 10*time.Second)
		if err := n.Join(ctx); err != nil {
			t.Fatalf("bootstrap node is up: %v", err)
		}
		if err := <-announced; err != nil {
			t.Fatal(err)
		}
		failed, joined := 0, 0
		for _, e := range seen(events) {
			switch e.Kind {
			case EventJoinFailed:
				failed++
			case EventJoined:
				joined++
			}
		}
		// Ten minutes at up to a minute a time.
		if failed < 10 || failed > 20 || joined != 1 {
			t.Errorf("%d attempts failed, %d succeeded", failed, joined)
		}
	})
}

// A node finds its way back by those it knew, without its bootstrap node.
func TestRejoinBySavedTable(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		boot := w.start(w.config("boot"))
		data := testBytes("film", 1000)
		_, root := w.seed(ctx, "s", "film", data, addressOf(boot))
		cfg := w.config("n", addressOf(boot))
		n := w.start(cfg)
		if err := n.Join(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		stopNode(t, n)
		stopNode(t, boot)

		cfg.Conn, cfg.Bootstrap = w.listen(), nil
		n = w.start(cfg)
		if err := n.Join(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Fetch(ctx, root, FetchOptions{}); err != nil {
			t.Fatal(err)
		}
		stopNode(t, n)

		// A damaged table is no reason not to start.
		if err := os.WriteFile(filepath.Join(cfg.Dir, tableFileName), []byte("junk"), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg.Conn = w.listen()
		if err := w.start(cfg).Join(ctx); !errors.Is(err, ErrNoPeers) {
			t.Fatalf("with a damaged table: %v", err)
		}
	})
}

// A node that joined an hour ago, and one that has been there for three days,
// find providers: tables are refreshed, records expire and are published again.
func TestFindsProvidersAfterDays(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector, which shorter tests serve as well")
	}
	inBubble(t, memory.Link{Delay: 20 * time.Millisecond}, func(t *testing.T, w *network) {
		ctx := context.Background()
		boot := w.start(w.config("boot"))
		var nodes []*Node
		for _, name := range []string{"a", "b", "c"} {
			nodes = append(nodes, w.start(w.config(name, addressOf(boot))))
		}
		data := testBytes("film", 300<<10)
		_, root := w.seed(ctx, "s", "film", data, addressOf(boot))
		time.Sleep(time.Hour)
		if _, err := nodes[0].Fetch(ctx, root, FetchOptions{}); err != nil {
			t.Fatalf("after an hour: %v", err)
		}
		time.Sleep(72 * time.Hour)
		late := w.start(w.config("late", addressOf(boot)))
		result, err := late.Fetch(ctx, root, FetchOptions{})
		if err != nil {
			t.Fatalf("after three days: %v", err)
		}
		// The DHT has named it; it was not found by being connected already.
		if s := late.Stats(); len(result.Sources) != 1 || s.Fetching.ProvidersFound == 0 {
			t.Errorf("sources %+v, providers found %d", result.Sources, s.Fetching.ProvidersFound)
		}
		if s := nodes[0].Stats(); s.Sessions.Sessions != 0 {
			t.Errorf("%d idle sessions were kept for days", s.Sessions.Sessions)
		}
	})
}

// A clean stop takes the announcements back.
func TestStopWithdraws(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		boot := w.start(w.config("boot"))
		seeder, root := w.seed(ctx, "s", "film", testBytes("film", 1000), addressOf(boot))
		if s := boot.Stats(); s.DHT.Records != 1 {
			t.Fatalf("the bootstrap node holds %d records", s.DHT.Records)
		}
		stopNode(t, seeder)
		if s := boot.Stats(); s.DHT.Records != 0 {
			t.Fatalf("behind the stop it holds %d records", s.DHT.Records)
		}
		_, err := w.start(w.config("f", addressOf(boot))).Fetch(ctx, root, FetchOptions{})
		var none *NoProviderError
		if !errors.As(err, &none) || none.Failed != 0 {
			t.Fatalf("fetch: %v", err)
		}
	})
}
