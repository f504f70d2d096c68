package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A fetcher that is killed over and over, at random points, with the same command after each: nothing that it had stored is
// fetched again, and the bytes are right in the end.
func TestKilledFetcherResumes(t *testing.T) {
	rnd := random(t)
	c := newCluster(t)
	size := pick[int64](8<<20+1, 512<<20)
	kills := pick(3, 20)
	path := randomFile(t, rnd, filepath.Join(c.dir, "file"), size)
	_, hashes := c.seeders(t, 2, nil, path)
	fetcher := c.member(t, "fetcher")
	out := filepath.Join(c.dir, "out")

	killed := 0
	for i := range kills {
		p := fetcher.start(t, "fetch", hashes[0], "-o", out)
		if rnd.IntN(4) == 0 { // wherever it is: in its start, its search, its handshakes
			select {
			case <-p.done:
			case <-time.After(time.Duration(rnd.Int64N(int64(pick(30*time.Millisecond, 300*time.Millisecond))))):
			}
		} else { // after some progress; each kill is left its share of the whole
			target := size * int64(i) / int64(kills)
			target += rnd.Int64N(size / int64(kills))
			p.await(t, "progress", func() bool { return fetcher.segmentBytes() >= target || p.exited() })
		}
		if p.exited() {
			p.expect(t, exitOK)
			break
		}
		p.kill()
		killed++
		if _, err := os.Stat(out); err == nil {
			t.Logf("kill %d came when the output was already in place", i+1)
			break
		}
	}
	t.Logf("%d kills", killed)
	if large && killed < kills {
		t.Errorf("the fetch was over after %d kills of %d", killed, kills)
	}

	held := fetcher.stored(t)
	e := fetcher.fetch(t, hashes[0], out)
	same(t, path, out)
	if e.Bytes != size {
		t.Errorf("event says %d bytes, the file has %d", e.Bytes, size)
	}
	e.resumed(t, held)
	if large && held < size/2 {
		t.Errorf("after %d kills spread over the whole only %d bytes of %d were stored", killed, held, size)
	}
	fetcher.run(t, "store", "verify", "--dir", fetcher.dir).expect(t, exitOK)
}

// resumed demands that a fetch took only what was missing from a store that held so many bytes. Manifests come on top.
func (e event) resumed(t testing.TB, held int64) {
	t.Helper()
	slack := e.Bytes/100 + 64<<10
	if missing := e.Bytes - held; e.fetched() > missing+slack {
		t.Errorf("fetched %d bytes with %d of %d stored: verified bytes were fetched again", e.fetched(), held, e.Bytes)
	}
	if diff := e.ResumedBytes - held; diff > 0 || -diff > slack {
		t.Errorf("resumed from %d bytes with %d stored", e.ResumedBytes, held)
	}
}

// stored is the number of bytes in the store of a node that does not run.
func (m *member) stored(t testing.TB) int64 {
	t.Helper()
	p := m.run(t, "store", "stat", "--json", "--dir", m.dir)
	p.expect(t, exitOK)
	var stat struct {
		Bytes int64 `json:"bytes"`
	}
	if err := json.Unmarshal([]byte(p.stdout.String()), &stat); err != nil {
		t.Fatalf("store stat prints %q: %v", p.stdout.String(), err)
	}
	return stat.Bytes
}

// A seeder that is killed has announced nothing that it cannot serve when it is started again, and repeats its hashes.
func TestKilledSeeder(t *testing.T) {
	rnd := random(t)
	c := newCluster(t)
	path := randomFile(t, rnd, filepath.Join(c.dir, "file"), pick[int64](4<<20, 256<<20))
	seeder := c.member(t, "seeder")
	for range pick(2, 10) {
		p := seeder.serve(t, "seed", path)
		target := rnd.Int64N(pick[int64](4<<20, 256<<20))
		p.await(t, "progress", func() bool { return seeder.segmentBytes() >= target })
		p.kill()
	}
	seeder.serve(t, "seed", path)
	hash := seeder.announced(t, path)[0]
	fetcher := c.member(t, "fetcher")
	out := filepath.Join(c.dir, "out")
	fetcher.fetch(t, hash, out)
	same(t, path, out)
	seeder.p.stop(t)
	seeder.run(t, "store", "verify", "--dir", seeder.dir).expect(t, exitOK)
}
