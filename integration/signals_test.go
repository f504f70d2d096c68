package integration

import (
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// SIGINT and SIGTERM stop every command cleanly: whoever serves ends with 0, whoever was not done with 130.
func TestSignals(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no signals to send")
	}
	rnd := random(t)
	c := newCluster(t)
	path := randomFile(t, rnd, filepath.Join(c.dir, "file"), 1<<20)

	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			m := c.member(t, "node of "+sig.String())

			p := m.serve(t, "bootstrap")
			p.signal(t, sig)
			p.expect(t, exitOK)

			m.serve(t, "seed", path)
			hash := m.announced(t, path)[0]
			m.p.signal(t, sig)
			m.p.expect(t, exitOK)

			// The only provider is gone: whatever the fetch does now, it is not done.
			other := c.member(t, "fetcher of "+sig.String())
			out := filepath.Join(c.dir, "out")
			p = other.start(t, "fetch", hash, "-o", out)
			p.ready(t, other.readyPath())
			p.signal(t, sig)
			if code := p.wait(t); code != exitInterrupted && code != exitNoProvider {
				t.Errorf("exit code %d of an interrupted fetch\n%s", code, p.report())
			}
			absent(t, out)

			// Nothing is locked, and nothing was lost.
			m.serve(t, "seed", path)
			if again := m.announced(t, path)[0]; again != hash {
				t.Errorf("hash %s after the restart, %s before", again, hash)
			}
			other.fetch(t, hash, out)
			same(t, path, out)
			must(t, os.Remove(out))
			m.p.stop(t)
		})
	}
}

// An interrupted fetch says so, keeps what it has, and goes on.
func TestInterruptedFetchResumes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no signals to send")
	}
	if !large {
		t.Skip("a small content is there before it can be interrupted: STT_INTEGRATION=1")
	}
	rnd := random(t)
	c := newCluster(t)
	const size = 512 << 20
	path := randomFile(t, rnd, filepath.Join(c.dir, "file"), size)
	_, hashes := c.seeders(t, 2, nil, path)
	fetcher := c.member(t, "fetcher")
	out := filepath.Join(c.dir, "out")

	p := fetcher.start(t, "fetch", hashes[0], "-o", out)
	p.await(t, "a quarter", func() bool { return fetcher.segmentBytes() >= size/4 })
	p.signal(t, os.Interrupt)
	p.expect(t, exitInterrupted)
	absent(t, out)
	held := fetcher.stored(t)
	if held < size/8 {
		t.Errorf("only %d bytes are stored after a quarter of %d", held, size)
	}
	e := fetcher.fetch(t, hashes[0], out)
	same(t, path, out)
	e.resumed(t, held)
}
