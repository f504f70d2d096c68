package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/session/transport/memory"
	"github.com/seigr/sttnode/stc"
)

var lan = memory.Link{Delay: 2 * time.Millisecond}

// inBubble runs a test on a network in memory, in virtual time.
func inBubble(t *testing.T, link memory.Link, test func(t *testing.T, w *network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newNetwork(t, link)) })
}

func TestNobodyProvides(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		boot := w.start(w.config("boot"))
		for _, name := range []string{"a", "b", "c"} {
			n := w.start(w.config(name, addressOf(boot)))
			if err := n.Join(within(t, time.Minute)); err != nil {
				t.Fatal(err)
			}
		}
		f := w.start(w.config("f", addressOf(boot)))
		start := time.Now()
		_, err := f.Fetch(within(t, time.Hour), stc.Sum([]byte("nobody's")), FetchOptions{})
		var none *NoProviderError
		if !errors.Is(err, ErrNoProvider) || !errors.As(err, &none) {
			t.Fatalf("fetch of what nobody has: %v", err)
		}
		if none.Asked != 4 {
			t.Errorf("asked %d nodes of 4: %v", none.Asked, err)
		}
		if d := time.Since(start); d > 15*time.Second {
			t.Errorf("gave up after %v", d)
		}
		if pins, err := f.Store().Pins(); err != nil || len(pins) != 0 {
			t.Errorf("a fetch that found nothing left pins %v, %v", pins, err)
		}
	})
}

// A provider that died without a word is named by the DHT all the same.
func TestProviderIsDead(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		boot := w.start(w.config("boot"))
		seeder, root := w.seed(ctx, "s", "film", testBytes("film", 1000), addressOf(boot))
		w.cut(seeder)
		f := w.start(w.config("f", addressOf(boot)))
		start := time.Now()
		_, err := f.Fetch(ctx, root, FetchOptions{})
		var none *NoProviderError
		if !errors.As(err, &none) || none.Failed != 1 {
			t.Fatalf("fetch from a dead provider: %v", err)
		}
		if d := time.Since(start); d > 15*time.Second {
			t.Errorf("gave up after %v", d)
		}
	})
}

// A provider that comes while the search is on is found.
func TestProviderComesLate(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		boot := w.start(w.config("boot"))
		data := testBytes("film", 700<<10)
		// What the root will be is known from a node that is in no network.
		_, root := w.seed(ctx, "hermit", "film", data)
		f := w.start(w.config("f", addressOf(boot)))
		done := make(chan error, 1)
		go func() {
			_, err := f.Fetch(ctx, root, FetchOptions{})
			done <- err
		}()
		time.Sleep(4 * time.Second)
		w.seed(ctx, "s", "film", data, addressOf(boot))
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func TestFetchWithoutNetwork(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		root := stc.Sum([]byte("x"))
		alone := w.start(w.config("alone"))
		if _, err := alone.Fetch(ctx, root, FetchOptions{}); !errors.Is(err, ErrNoPeers) {
			t.Errorf("without peers: %v", err)
		}
		dead := Address{Host: "10.9.9.9", Port: 1}
		start := time.Now()
		lost := w.start(w.config("lost", dead))
		if _, err := lost.Fetch(ctx, root, FetchOptions{}); !errors.Is(err, ErrUnreachable) {
			t.Errorf("with a dead bootstrap node: %v", err)
		}
		if d := time.Since(start); d > 15*time.Second {
			t.Errorf("gave up after %v", d)
		}
		hasty := w.start(w.config("hasty", dead))
		if _, err := hasty.Fetch(ctx, root, FetchOptions{SearchTimeout: time.Second}); !errors.Is(err, ErrUnreachable) {
			t.Errorf("before the bootstrap node is known to be dead: %v", err)
		}
		boot := w.start(w.config("boot"))
		cfg := w.config("stranger", addressOf(boot))
		cfg.Keyring = testKeyring(t, "another")
		stranger := w.start(cfg)
		if _, err := stranger.Fetch(ctx, root, FetchOptions{}); !errors.Is(err, ErrWrongSeed) {
			t.Errorf("with another shared seed: %v", err)
		}
	})
}

// What is here needs nobody: not even a network that can be reached.
func TestFetchOfWhatIsHere(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		data := testBytes("film", 20<<20)
		for name, bootstrap := range map[string][]Address{"alone": nil, "cut off": {{Host: "10.9.9.9", Port: 1}}} {
			n := w.start(w.config(name, bootstrap...))
			imported, err := n.Import(ctx, writeFile(t, filepath.Join(w.dir, "film"), data), ImportOptions{})
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			for range 5 {
				var out bytes.Buffer
				result, err := n.Fetch(ctx, imported.Root, FetchOptions{Writer: &out})
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if !bytes.Equal(out.Bytes(), data) || result.FetchedBytes != 0 {
					t.Fatalf("%s: %d bytes, %+v", name, out.Len(), result)
				}
			}
			if d := time.Since(start); d > time.Second {
				t.Errorf("%s: took %v", name, d)
			}
		}
	})
}

// A fetch that ends in the middle keeps what it has, and the next one asks for
// the rest only.
func TestFetchResumes(t *testing.T) {
	inBubble(t, memory.Link{Delay: 5 * time.Millisecond, Rate: 4 << 20}, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		boot := w.start(w.config("boot"))
		data := testBytes("film", 4<<20)
		_, root := w.seed(ctx, "s", "film", data, addressOf(boot))
		cfg := w.config("f", addressOf(boot))
		f := w.start(cfg)

		stopped := errors.New("enough")
		half, stop := context.WithCancelCause(ctx)
		var had uint64
		_, err := f.Fetch(half, root, FetchOptions{OnStored: func(n uint64) {
			if had = n; n >= 2<<20 {
				stop(stopped)
			}
		}})
		if !errors.Is(err, stopped) {
			t.Fatalf("cancelled fetch: %v", err)
		}
		if pin, ok, err := f.Store().PinInfo(root); err != nil || !ok || pin.State != content.PinPartial || pin.Name != "film" {
			t.Fatalf("pin of a partial content: %+v, %v, %v", pin, ok, err)
		}
		stopNode(t, f)

		cfg.Conn = w.listen()
		f = w.start(cfg)
		out := filepath.Join(w.dir, "out")
		result, err := f.Fetch(ctx, root, FetchOptions{Output: out})
		if err != nil {
			t.Fatal(err)
		}
		wantFile(t, out, data)
		if result.ResumedBytes+1<<10 < had || result.FetchedBytes+result.ResumedBytes > uint64(len(data))+1<<10 {
			t.Fatalf("stored %d, resumed %d, fetched %d of %d", had, result.ResumedBytes, result.FetchedBytes, len(data))
		}
	})
}

// The seeders go; who has fetched, and who is fetching, serve.
func TestFetcherServes(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		boot := w.start(w.config("boot"))
		data := testBytes("film", 1<<20)
		seeder, root := w.seed(ctx, "s", "film", data, addressOf(boot))
		first := w.start(w.config("f1", addressOf(boot)))
		if _, err := first.Fetch(ctx, root, FetchOptions{Provide: true}); err != nil {
			t.Fatal(err)
		}
		stopNode(t, seeder)
		second := w.start(w.config("f2", addressOf(boot)))
		var out bytes.Buffer
		result, err := second.Fetch(ctx, root, FetchOptions{Writer: &out})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out.Bytes(), data) {
			t.Fatal("the stream differs from the content")
		}
		if len(result.Sources) != 1 || result.Sources[0].Node != first.ID() {
			t.Fatalf("sources %+v, want the first fetcher", result.Sources)
		}
	})
}

// While one node fetches slowly, another, which cannot reach the seeder, draws
// from it what it has, and so keeps up with it.
func TestServesWhileFetching(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		boot := w.start(w.config("boot"))
		data := testBytes("film", 8<<20)
		seeder, root := w.seed(ctx, "s", "film", data, addressOf(boot))
		first := w.start(w.config("f1", addressOf(boot)))
		second := w.start(w.config("f2", addressOf(boot)))
		w.net.SetLink(seeder.Addr(), first.Addr(), memory.Link{Delay: 2 * time.Millisecond, Rate: 256 << 10})
		w.net.SetLink(seeder.Addr(), second.Addr(), memory.Link{Down: true})
		firstDone := make(chan error, 1)
		go func() {
			_, err := first.Fetch(ctx, root, FetchOptions{})
			firstDone <- err
		}()
		var behind FetchProgress // of the second, when the first is done
		secondDone := make(chan error, 1)
		var result FetchResult
		go func() {
			var err error
			result, err = second.Fetch(ctx, root, FetchOptions{OnProgress: func(p FetchProgress) {
				if behind.Total == 0 && len(firstDone) > 0 {
					behind = p
				}
			}})
			secondDone <- err
		}()
		if err := <-secondDone; err != nil {
			t.Fatal(err)
		}
		if err := <-firstDone; err != nil {
			t.Fatal(err)
		}
		if len(result.Sources) != 1 || result.Sources[0].Node != first.ID() {
			t.Fatalf("sources %+v, want the other fetcher", result.Sources)
		}
		if behind.Bytes < uint64(len(data))*9/10 {
			t.Fatalf("when the first was done the second had %d bytes of %d", behind.Bytes, len(data))
		}
	})
}

// A fetcher that takes long announces what it has, and takes that back when it
// is done unless it shall stay a provider.
func TestPartIsAnnounced(t *testing.T) {
	inBubble(t, memory.Link{Delay: 2 * time.Millisecond, Rate: 100 << 10}, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		boot := w.start(w.config("boot"))
		_, root := w.seed(ctx, "s", "film", testBytes("film", 2<<20), addressOf(boot))
		for _, stay := range []bool{false, true} {
			f := w.start(w.config(map[bool]string{false: "goes", true: "stays"}[stay], addressOf(boot)))
			events := watch(t, f, 100)
			if _, err := f.Fetch(ctx, root, FetchOptions{Provide: stay}); err != nil {
				t.Fatal(err)
			}
			events.Stop()
			var announced []Event
			for _, e := range seen(events) {
				if e.Kind == EventProviding {
					announced = append(announced, e)
				}
			}
			// Once on the way, and once more when a node that stays is done.
			if want := map[bool]int{false: 1, true: 2}[stay]; len(announced) != want {
				t.Errorf("stays %v: announced %d times, want %d", stay, len(announced), want)
			}
			if got := f.Stats().DHT.Provided == 1; got != stay {
				t.Errorf("stays %v: a provider behind the fetch: %v", stay, got)
			}
		}
	})
}

// Who begin to fetch the same at the same moment know each other before much
// has come, and so do those who are in the middle of it and one who comes later.
func TestFetchersMeet(t *testing.T) {
	const soon = time.Second
	inBubble(t, memory.Link{Delay: 20 * time.Millisecond, Rate: 128 << 10}, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		data := make([]byte, announceSize)
		for at := 0; at < len(data); at += content.ChunkSize {
			binary.BigEndian.PutUint32(data[at:], uint32(at))
		}
		seeder, root := w.seed(ctx, "s", "film", data)
		ctx, enough := context.WithCancel(ctx)
		defer enough()
		var fetches sync.WaitGroup
		var peers [4]atomic.Int64
		begin := func(i int) {
			f := w.start(w.config(fmt.Sprint("f", i), addressOf(seeder)))
			fetches.Go(func() {
				_, err := f.Fetch(ctx, root, FetchOptions{OnProgress: func(p FetchProgress) { peers[i].Store(int64(p.Peers)) }})
				if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		}
		check := func(n int) {
			t.Helper()
			for i := range peers[:n] {
				if got := int(peers[i].Load()); got != n {
					t.Errorf("fetcher %d of %d draws from %d peers", i, n, got)
				}
			}
		}
		for i := range 3 {
			begin(i)
		}
		time.Sleep(soon)
		check(3)
		time.Sleep(9 * time.Second) // now they search every five seconds
		begin(3)
		time.Sleep(soon)
		check(4)
		enough()
		fetches.Wait()
	})
}

// A seeder dies without a word while it serves.
func TestSeederDiesMidway(t *testing.T) {
	inBubble(t, memory.Link{Delay: 2 * time.Millisecond, Rate: 2 << 20}, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		boot := w.start(w.config("boot"))
		data := testBytes("film", 8<<20)
		victim, root := w.seed(ctx, "s1", "film", data, addressOf(boot))
		w.seed(ctx, "s2", "film", data, addressOf(boot))
		f := w.start(w.config("f", addressOf(boot)))
		dead := false
		var out bytes.Buffer
		result, err := f.Fetch(ctx, root, FetchOptions{Writer: &out, OnStored: func(n uint64) {
			if !dead && n >= 4<<20 {
				dead = true
				w.cut(victim)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out.Bytes(), data) || len(result.Sources) != 2 || !dead {
			t.Fatalf("%d bytes, result %+v", out.Len(), result)
		}
	})
}

// Damage in the fetcher's own store is found when the content is written out,
// and repaired from the network.
func TestDamagedStoreIsRepaired(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		boot := w.start(w.config("boot"))
		data := testBytes("film", 2<<20)
		_, root := w.seed(ctx, "s", "film", data, addressOf(boot))
		cfg := w.config("f", addressOf(boot))
		f := w.start(cfg)
		if _, err := f.Fetch(ctx, root, FetchOptions{}); err != nil {
			t.Fatal(err)
		}
		stopNode(t, f)
		damageSegments(t, StoreDir(cfg.Dir))

		cfg.Conn = w.listen()
		f = w.start(cfg)
		out := filepath.Join(w.dir, "out")
		if _, err := f.Fetch(ctx, root, FetchOptions{Output: out}); err != nil {
			t.Fatal(err)
		}
		wantFile(t, out, data)
	})
}

// damageSegments flips a byte in the middle of each segment file of a store.
func damageSegments(t *testing.T, store string) {
	t.Helper()
	damaged := 0
	err := filepath.WalkDir(filepath.Join(store, "segments"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil || len(b) < 1<<20 {
			return err
		}
		b[1<<20] ^= 1
		damaged++
		return os.WriteFile(path, b, 0o600)
	})
	if err != nil || damaged == 0 {
		t.Fatalf("damaged %d segments: %v", damaged, err)
	}
}

func TestStopEndsFetch(t *testing.T) {
	inBubble(t, memory.Link{Delay: 2 * time.Millisecond, Rate: 100 << 10}, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		boot := w.start(w.config("boot"))
		_, root := w.seed(ctx, "s", "film", testBytes("film", 4<<20), addressOf(boot))
		f := w.start(w.config("f", addressOf(boot)))
		done := make(chan error, 1)
		go func() {
			_, err := f.Fetch(ctx, root, FetchOptions{Output: filepath.Join(w.dir, "out")})
			done <- err
		}()
		time.Sleep(5 * time.Second)
		start := time.Now()
		stopNode(t, f)
		if err := <-done; !errors.Is(err, ErrState) {
			t.Fatalf("fetch of a node that stops: %v", err)
		}
		if d := time.Since(start); d > stopTimeout {
			t.Fatalf("stop took %v", d)
		}
		if _, err := os.Stat(filepath.Join(w.dir, "out")); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("an incomplete output is there: %v", err)
		}
	})
}

func TestProgressIsReported(t *testing.T) {
	inBubble(t, memory.Link{Delay: 2 * time.Millisecond, Rate: 1 << 20}, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		boot := w.start(w.config("boot"))
		data := testBytes("film", 3<<20)
		_, root := w.seed(ctx, "s", "film", data, addressOf(boot))
		f := w.start(w.config("f", addressOf(boot)))
		var seen []FetchProgress
		if _, err := f.Fetch(ctx, root, FetchOptions{
			Output: filepath.Join(w.dir, "out"), OnProgress: func(p FetchProgress) { seen = append(seen, p) },
		}); err != nil {
			t.Fatal(err)
		}
		if len(seen) < 10 {
			t.Fatalf("%d reports in about 3 s", len(seen))
		}
		fetching := 0
		for i, p := range seen {
			if i > 0 && p.Phase < seen[i-1].Phase {
				t.Errorf("phase %v behind %v", p.Phase, seen[i-1].Phase)
			}
			if p.Phase == PhaseFetching && p.Peers == 1 && p.Total == uint64(len(data)) && p.Bytes > 0 && p.Bytes < p.Total {
				fetching++
			}
		}
		if last := seen[len(seen)-1]; last.Phase != PhaseWriting || last.Bytes != uint64(len(data)) || fetching < 5 {
			t.Errorf("%d reports on the way, last %+v", fetching, last)
		}
	})
}
