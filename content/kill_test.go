package content

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seigr/sttnode/stc"
)

// killedEnv tells this program, run again, that it is the process that TestKilled kills: "DIR SEED ROUND".
const killedEnv = "STT_TEST_KILLED"

// What the process says on its standard output, a line each, behind what it speaks of unless it says otherwise. N is the number of a
// content, from which its bytes follow.
const (
	saySeeded   = "seeded"   // N: stored, durable and pinned
	sayFetching = "fetching" // N: pinned as partial
	sayStored   = "stored"   // N FROM TO: these of its blobs, in the order of describe
	sayFetched  = "fetched"  // N: all of them, and pinned as complete
	sayRemoving = "removing" // N: before it is
	sayRemoved  = "removed"  // N
	sayFault    = "fault"    // whatever must not be
)

const killedWorkers = 3

// killedBytes returns the bytes of content n. Contents share chunks.
func killedBytes(seed, n uint64) []byte {
	r := rand.New(rand.NewPCG(seed, n))
	var data []byte
	for range r.IntN(8) {
		data = append(data, randomBlob(rand.New(rand.NewPCG(seed, 1e9+r.Uint64N(12))), 32<<10)...)
	}
	return append(data, randomBlob(r, r.IntN(40<<10))...)
}

// killedProcess seeds, fetches, reads, removes and collects until it is killed.
func killedProcess(args string) {
	var dir string
	var seed, round uint64
	if _, err := fmt.Sscan(args, &dir, &seed, &round); err != nil {
		panic(err)
	}
	say := func(args ...any) { os.Stdout.WriteString(fmt.Sprintln(args...)) } // one write, so that lines stay whole
	s, err := Open(filepath.Join(dir, "store"), Config{Key: [32]byte{1}})
	if err != nil {
		say(sayFault, "open:", err)
		return
	}
	var workers sync.WaitGroup
	for worker := range uint64(killedWorkers) {
		w := &killedWorker{store: s, files: dir, seed: seed, say: say, r: rand.New(rand.NewPCG(seed+round, worker)), next: round<<20 + worker}
		workers.Go(func() {
			for {
				if err := w.step(); err != nil {
					say(sayFault, err)
					return
				}
			}
		})
	}
	workers.Wait()
}

// killedWorker works on the contents whose numbers leave one rest, so that what becomes of them is known.
type killedWorker struct {
	store *Store
	files string // directory of the files that are seeded, which stay: chunks of others may lie in them
	seed  uint64
	say   func(...any)
	r     *rand.Rand
	next  uint64 // number of the next new content
}

func (w *killedWorker) step() error {
	ctx := context.Background()
	pins, err := w.store.Pins()
	if err != nil {
		return err
	}
	var mine []Pin
	for _, p := range pins {
		if n, err := strconv.ParseUint(p.Name, 10, 64); err != nil {
			return fmt.Errorf("a pin is named %q", p.Name)
		} else if n%killedWorkers == w.next%killedWorkers {
			mine = append(mine, p)
		}
	}
	act := w.r.IntN(8)
	if act < 5 && len(mine) > 8 {
		act = 5 // the store stays small
	}
	switch {
	case act < 2: // seed
		n := w.number()
		path := filepath.Join(w.files, fmt.Sprint(n))
		opts := ImportOptions{Name: fmt.Sprint(n), ChunkSize: 32 << 10, InPlace: w.r.IntN(2) == 0}
		err := os.WriteFile(path, killedBytes(w.seed, n), 0o600)
		if err == nil {
			_, err = w.store.Import(ctx, path, opts)
		}
		if err == nil {
			w.say(saySeeded, n)
		}
		return err
	case act < 4 || len(mine) == 0:
		return w.fetch(ctx, w.number())
	case act == 7:
		_, err := w.store.GC(ctx, false)
		return err
	}
	p := mine[w.r.IntN(len(mine))]
	n, _ := strconv.ParseUint(p.Name, 10, 64)
	switch {
	case act == 5:
		w.say(sayRemoving, n)
		_, err := w.store.Remove(ctx, p.Root)
		if err == nil {
			w.say(sayRemoved, n)
		}
		return err
	case p.State == PinPartial: // go on where a kill has ended it
		return w.fetch(ctx, n)
	}
	return exportsAs(w.store, p.Root, killedBytes(w.seed, n))
}

func (w *killedWorker) number() uint64 {
	n := w.next
	w.next += killedWorkers
	return n
}

// fetch does what a download does.
func (w *killedWorker) fetch(ctx context.Context, n uint64) error {
	root, blobs := describe(killedBytes(w.seed, n), fmt.Sprint(n))
	if err := w.store.Pin(ctx, root, PinInfo{Name: fmt.Sprint(n), State: PinPartial}); err != nil {
		return err
	}
	w.say(sayFetching, n)
	for from := 0; from < len(blobs); {
		to := min(len(blobs), from+1+w.r.IntN(4))
		var hashes []stc.Hash
		var missing [][]byte
		for _, b := range blobs[from:to] {
			if h := stc.Sum(b); to == from+1 && w.r.IntN(2) == 0 { // looked up only once what refers to it is stored
				if ok, err := w.store.Has(h); err != nil {
					return err
				} else if ok {
					continue
				}
			}
			hashes, missing = append(hashes, stc.Sum(b)), append(missing, b)
		}
		if err := w.store.PutVerified(ctx, hashes, missing); err != nil {
			return err
		}
		w.say(sayStored, n, from, to)
		from = to
	}
	if err := w.store.Pin(ctx, root, PinInfo{Name: fmt.Sprint(n), State: PinComplete}); err != nil {
		return err
	}
	w.say(sayFetched, n)
	return nil
}

func exportsAs(s *Store, root stc.Hash, want []byte) error {
	var out bytes.Buffer
	if _, err := s.ExportTo(context.Background(), root, &out, nil); err != nil {
		return fmt.Errorf("content %v: %w", root, err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		return fmt.Errorf("content %v: wrong bytes", root)
	}
	return nil
}

// killedContent is what is known of a content.
type killedContent struct {
	fate   fate
	stored map[int]bool // blobs that were acknowledged
}

// TestKilled kills a process that seeds, fetches, removes and collects, again and again. What it has acknowledged is there, what it
// has removed is not, no byte is wrong, and everything verifies. STT_TEST_ROUNDS says how often.
func TestKilled(t *testing.T) {
	seed := testSeed(t)
	r := rand.New(rand.NewPCG(seed, 7))
	dir := t.TempDir()
	known := make(map[uint64]*killedContent)
	said := 0
	rounds := testRounds(t, 8)
	for round := range rounds {
		said += killOne(t, r, fmt.Sprint(dir, " ", seed, " ", round), known)
		if t.Failed() || !checkKilled(t, dir, seed, known) {
			t.Fatalf("round %d", round)
		}
	}
	if said < rounds {
		t.Errorf("%d acknowledgements in %d rounds prove little", said, rounds)
	}
	t.Logf("%d kills, %d lines acknowledged, %d contents", rounds, said, len(known))
	s := openTest(t, filepath.Join(dir, "store"))
	ctx := context.Background()
	pins, err := s.Pins()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pins {
		if err := s.Unpin(ctx, p.Root); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.GC(ctx, false); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Blobs != 0 || st.Bytes != 0 || st.SegmentBytes != 0 {
		t.Errorf("kills have left what nobody can collect: %+v", st)
	}
}

// killOne runs the process, kills it after some of its lines, or while it opens the store, and notes all that it has said. It returns
// how many lines that were.
func killOne(t *testing.T, r *rand.Rand, args string, known map[uint64]*killedContent) (said int) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killedEnv+"="+args)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	last := r.IntN(60)
	delay := time.Duration(r.Int64N(int64(10 * time.Millisecond))) // where in an operation; nothing depends on it
	if last == 0 {
		delay *= 5
	}
	kill := func() { time.AfterFunc(delay, func() { _ = cmd.Process.Kill() }) }
	if last == 0 {
		kill()
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if said++; said == last {
			kill()
		}
		if what, rest, _ := strings.Cut(lines.Text(), " "); what == sayFault {
			t.Error(rest)
			_ = cmd.Process.Kill()
		} else {
			noteKilled(t, known, what, rest)
		}
	}
	_ = cmd.Wait()
	return said
}

// noteKilled notes a line of the process.
func noteKilled(t *testing.T, known map[uint64]*killedContent, what, rest string) {
	var n uint64
	var from, to int
	if got, err := fmt.Sscan(rest, &n, &from, &to); got == 0 {
		t.Fatalf("%s %s: %v", what, rest, err)
	}
	c := known[n]
	if c == nil {
		c = &killedContent{stored: make(map[int]bool)}
		known[n] = c
	}
	switch what {
	case saySeeded, sayFetched:
		c.fate = present
	case sayFetching:
		c.fate = coming
	case sayStored:
		for i := from; i < to; i++ {
			c.stored[i] = true
		}
	case sayRemoving:
		c.fate = leaving
	case sayRemoved:
		c.fate = absent
	}
}

// checkKilled compares the store with what is known of it, and settles what is not by what is there.
func checkKilled(t *testing.T, dir string, seed uint64, known map[uint64]*killedContent) bool {
	t.Helper()
	s, err := Open(filepath.Join(dir, "store"), Config{Key: [32]byte{1}})
	if err != nil {
		t.Errorf("open: %v", err)
		return false
	}
	defer s.Close()
	if report, err := s.Verify(context.Background(), nil); err != nil || !report.OK() {
		t.Errorf("verify: %+v %v", report, err)
	}
	pins, err := s.Pins()
	if err != nil {
		t.Error(err)
		return false
	}
	byNumber := make(map[uint64]Pin)
	for _, p := range pins {
		n, _ := strconv.ParseUint(p.Name, 10, 64)
		byNumber[n] = p
		if known[n] == nil {
			known[n] = &killedContent{fate: coming, stored: make(map[int]bool)}
		}
	}
	for n, c := range known {
		p, pinned := byNumber[n]
		var data []byte
		if pinned {
			data = killedBytes(seed, n)
		}
		switch {
		case c.fate == absent && pinned, c.fate == coming && !pinned, c.fate == present && (!pinned || p.State != PinComplete):
			t.Errorf("content %d in state %d, pinned %v as %v", n, c.fate, pinned, p.State)
		case !pinned:
			c.fate, c.stored = absent, make(map[int]bool)
		case p.State == PinComplete:
			if err := exportsAs(s, p.Root, data); err != nil {
				t.Errorf("content %d in state %d: %v", n, c.fate, err)
			}
			c.fate = present
		default:
			_, blobs := describe(data, p.Name)
			for i := range c.stored {
				got, err := s.Get(nil, stc.Sum(blobs[i]))
				if err != nil || !bytes.Equal(got, blobs[i]) {
					t.Errorf("blob %d of content %d was acknowledged: %d bytes, %v", i, n, len(got), err)
				}
			}
			c.fate = coming
		}
	}
	return !t.Failed()
}
