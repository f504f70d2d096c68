package integration

import (
	"bytes"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// contents are what the seeders of a test hold: a file of random bytes and a directory tree.
type contents struct {
	file, tree         string // paths
	fileHash, treeHash string
}

func (c *contents) paths() []string { return []string{c.file, c.tree} }

func makeContents(t testing.TB, rnd *rand.Rand, dir string) *contents {
	t.Helper()
	c := &contents{file: randomFile(t, rnd, filepath.Join(dir, "random file.bin"), pick[int64](6<<20+12_345, 256<<20))}
	if large {
		c.tree = sourceTree(t)
		if n := len(listing(t, c.tree)); n < 5_000 {
			t.Fatalf("%s holds %d names, want 5,000", c.tree, n)
		}
	} else {
		c.tree = smallTree(t, rnd, filepath.Join(dir, "a tree"))
	}
	return c
}

// evenly demands that all seeders took a part of the work worth the name. Contents that travel in the blink of an eye may come from any of them.
func evenly(t testing.TB, e event, seeders []*member) {
	t.Helper()
	served := map[string]int64{}
	for _, s := range e.Sources {
		served[s.Node] += s.Bytes
	}
	if got := e.fetched(); got < e.Bytes*9/10 {
		t.Errorf("sources sent %d bytes of %d", got, e.Bytes)
	}
	for _, m := range seeders {
		if large && served[m.ready.NodeID]*10 < e.Bytes {
			t.Errorf("%s served %d bytes of %d, want a tenth", m.name, served[m.ready.NodeID], e.Bytes)
		}
		delete(served, m.ready.NodeID)
	}
	if len(served) > 0 {
		t.Errorf("strangers served: %v", served)
	}
	if e.BadBytes != 0 {
		t.Errorf("%d bad bytes", e.BadBytes)
	}
}

// The main job: many seeders, one fetcher; one seeder rotten, one killed midway; and in the end the fetchers serve what they fetched.
func TestSeedAndFetch(t *testing.T) {
	rnd := random(t)
	c := newCluster(t)
	data := makeContents(t, rnd, c.dir)
	seeders, hashes := c.seeders(t, 3, nil, data.paths()...)
	data.fileHash, data.treeHash = hashes[0], hashes[1]
	// One fetcher for each content; both go on serving.
	fetchers := []*member{c.member(t, "fetcher1"), c.member(t, "fetcher2")}
	defer func() {
		for _, m := range fetchers {
			m.remove(t)
		}
	}()

	for i, want := range data.paths() {
		got := fetchers[i].dir + ".out"
		fetchers[i].serve(t, "fetch", hashes[i], "-o", got, "--serve")
		e := fetchers[i].complete(t, fetchers[i].p, hashes[i])
		same(t, want, got)
		evenly(t, e, seeders)
		if info, err := os.Stat(want); err == nil && info.Mode().IsRegular() && e.Bytes != info.Size() {
			t.Errorf("event says %d bytes, the file has %d", e.Bytes, info.Size())
		}
		must(t, os.RemoveAll(got))
	}

	t.Run("one seeder rotten", func(t *testing.T) {
		spots := rot(t, seeders[2].dir)
		t.Logf("%d bytes flipped in the store of %s", spots, seeders[2].name)
		other := c.member(t, "second")
		defer other.remove(t)
		for i, want := range data.paths() {
			got := filepath.Join(other.dir, "out", filepath.Base(want))
			must(t, os.MkdirAll(filepath.Dir(got), 0o755))
			e := other.fetch(t, hashes[i], got)
			same(t, want, got)
			if e.BadBytes != 0 {
				t.Errorf("%d bad bytes: a damaged record was served", e.BadBytes)
			}
		}
		if seeders[2].p.exited() {
			t.Errorf("the seeder with the damaged store has ended\n%s", seeders[2].p.report())
		}
		seeders[2].p.stop(t)
		verify := seeders[2].run(t, "store", "verify", "--dir", seeders[2].dir)
		if code := verify.wait(t); code != exitVerification {
			t.Errorf("store verify of a damaged store: exit code %d, want %d\n%s", code, exitVerification, verify.report())
		}
	})

	t.Run("one seeder killed midway", func(t *testing.T) {
		// The rotten one is gone by now: a new one takes its place, so that two remain after the kill.
		fresh := c.member(t, "fresh")
		defer fresh.remove(t)
		fresh.serve(t, "seed", data.paths()...)
		fresh.announced(t, data.paths()...)
		for i, want := range data.paths() {
			victim := c.member(t, "victim"+hashes[i][:4])
			victim.serve(t, "seed", want)
			victim.announced(t, want)
			other := c.member(t, "third"+hashes[i][:4])
			got := other.dir + ".out"
			p := other.start(t, "fetch", hashes[i], "-o", got)
			half := victim.segmentBytes() / 2
			p.await(t, "half of the content", func() bool { return other.segmentBytes() >= half || p.exited() })
			midway := !p.exited()
			victim.p.kill()
			p.expect(t, exitOK)
			e := other.complete(t, p, hashes[i])
			same(t, want, got)
			t.Logf("killed midway: %v, the killed one served %v", midway, servedBy(e, victim))
			if large && !midway {
				t.Errorf("the fetch was over before the kill")
			}
			must(t, os.RemoveAll(got))
			other.remove(t)
			victim.remove(t)
		}
		fresh.p.stop(t)
	})

	t.Run("the fetchers serve", func(t *testing.T) {
		for _, m := range seeders[:2] {
			m.p.stop(t)
		}
		sixth := c.member(t, "sixth")
		defer sixth.remove(t)
		for i, want := range data.paths() {
			got := filepath.Join(sixth.dir, "out", filepath.Base(want))
			must(t, os.MkdirAll(filepath.Dir(got), 0o755))
			e := sixth.fetch(t, hashes[i], got)
			same(t, want, got)
			evenly(t, e, fetchers[i:i+1])
			fetchers[i].p.stop(t)
		}
	})
}

func servedBy(e event, m *member) (sum int64) {
	for _, s := range e.Sources {
		if s.Node == m.ready.NodeID {
			sum += s.Bytes
		}
	}
	return sum
}

// rot flips a bit in many places of a store's segment files, as a dying disk does, and returns in how many.
// The step is no multiple of a record's length, so that headers, lengths, hashes and data are all hit.
func rot(t testing.TB, dir string) (spots int) {
	t.Helper()
	const step = 700_001
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".seg") {
			return err
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		b := make([]byte, 1)
		for off := int64(50_000); off < info.Size(); off += step {
			if _, err := f.ReadAt(b, off); err != nil {
				return err
			}
			b[0] ^= 0x10
			if _, err := f.WriteAt(b, off); err != nil {
				return err
			}
			spots++
		}
		return nil
	}))
	if spots == 0 {
		t.Fatalf("no segment files in %s", dir)
	}
	return spots
}

// When the only seeder is rotten, the fetch must fail, with nothing at the output, and go on where it was once somebody has the bytes.
func TestOnlySeederRotten(t *testing.T) {
	rnd := random(t)
	c := newCluster(t)
	path := randomFile(t, rnd, filepath.Join(c.dir, "file"), 3<<20)
	seeders, hashes := c.seeders(t, 1, nil, path)
	rot(t, seeders[0].dir)

	fetcher := c.member(t, "fetcher")
	out := filepath.Join(c.dir, "out")
	fetcher.start(t, "fetch", hashes[0], "-o", out, "--stall-timeout", "2s").expect(t, exitStalled)
	absent(t, out)

	second := c.member(t, "second")
	second.serve(t, "seed", path)
	second.announced(t, path)
	e := fetcher.fetch(t, hashes[0], out)
	same(t, path, out)
	if e.BadBytes != 0 {
		t.Errorf("%d bad bytes", e.BadBytes)
	}
	if got := e.fetched(); got >= e.Bytes {
		t.Errorf("fetched %d of %d bytes again, although a part was stored", got, e.Bytes)
	}
}

// Where a fetch writes when -o does not name a new path, and what it leaves alone.
func TestFetchOutputs(t *testing.T) {
	rnd := random(t)
	c := newCluster(t)
	file := randomFile(t, rnd, filepath.Join(c.dir, "named file"), 700_000)
	tree := smallTree(t, rnd, filepath.Join(c.dir, "named tree"))
	empty := randomFile(t, rnd, filepath.Join(c.dir, "empty"), 0)
	_, hashes := c.seeders(t, 1, nil, file, tree, empty)
	fetcher := c.member(t, "fetcher")

	t.Run("without -o the suggested name is used", func(t *testing.T) {
		dir := t.TempDir()
		for i, want := range []string{file, tree, empty} {
			p := launch(t, "fetch", dir, nil, "fetch", hashes[i], "--dir", fetcher.dir, "--shared-seed-file", c.seed,
				"--listen", "127.0.0.1:0", "--bootstrap", c.bootstrap.ready.UDP)
			p.expect(t, exitOK)
			same(t, want, filepath.Join(dir, filepath.Base(want)))
		}
	})

	t.Run("-o - streams", func(t *testing.T) {
		p := fetcher.start(t, "fetch", hashes[0], "-o", "-", "--json=false")
		p.expect(t, exitOK)
		want, err := os.ReadFile(file)
		must(t, err)
		if got := p.stdout.String(); !bytes.Equal([]byte(got), want) {
			t.Errorf("streamed %d bytes that differ from the file's %d", len(got), len(want))
		}
	})

	t.Run("an output that is something else stays as it is", func(t *testing.T) {
		out := filepath.Join(c.dir, "precious")
		must(t, os.WriteFile(out, []byte("do not touch"), 0o644))
		p := fetcher.start(t, "fetch", hashes[1], "-o", out)
		if code := p.wait(t); code == exitOK {
			t.Errorf("a tree was fetched over a file\n%s", p.report())
		}
		if got, err := os.ReadFile(out); err != nil || string(got) != "do not touch" {
			t.Errorf("the file holds %q (%v)", got, err)
		}
	})

	t.Run("two fetches into the same output are one", func(t *testing.T) {
		out := filepath.Join(c.dir, "twice")
		fetcher.fetch(t, hashes[1], out)
		e := fetcher.fetch(t, hashes[1], out)
		same(t, tree, out)
		if got := e.fetched(); got != 0 || e.ResumedBytes != e.Bytes {
			t.Errorf("fetched %d bytes and found %d of %d, although all were stored", got, e.ResumedBytes, e.Bytes)
		}
	})
}

// Nothing in a node's directory or on its command line gives content or seeds away.
func TestNothingInClear(t *testing.T) {
	c := newCluster(t)
	secret := bytes.Repeat([]byte("a sentence that must not be found on the disk. "), 20_000)
	path := filepath.Join(c.dir, "plain")
	must(t, os.WriteFile(path, secret, 0o600))
	seeders, hashes := c.seeders(t, 1, nil, path)
	fetcher := c.member(t, "fetcher")
	out := filepath.Join(c.dir, "out")
	fetcher.fetch(t, hashes[0], out)
	same(t, path, out)
	seeders[0].p.stop(t)
	for _, m := range []*member{seeders[0], fetcher} {
		if found := contains(t, m.dir, secret[:40]); found != "" {
			t.Errorf("%s holds the content in clear", found)
		}
	}
	if runtime.GOOS == "windows" {
		return
	}
	for _, name := range []string{c.seed, filepath.Join(fetcher.dir, "node.seed")} {
		info, err := os.Stat(name)
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
}
