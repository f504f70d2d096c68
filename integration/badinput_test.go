package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// What people get wrong must end with its own exit code and a message that names the thing, and lose nothing.
func TestBadInput(t *testing.T) {
	rnd := random(t)
	c := newCluster(t)
	path := randomFile(t, rnd, filepath.Join(c.dir, "file"), 2<<20)
	seeders, hashes := c.seeders(t, 1, nil, path)
	seeder, hash := seeders[0], hashes[0]
	nobodyHas := strings.Repeat("00ff", 16)
	search := pick("2s", "10s") // the latter is the default
	boot := c.bootstrap.ready.UDP

	out := filepath.Join(c.dir, "out")

	// A second network, to have a seed that is good and wrong.
	otherSeed := filepath.Join(c.dir, "other.seed")
	c.bootstrap.run(t, "init", "--dir", filepath.Join(c.dir, "elsewhere"), "--shared-seed-file", otherSeed).expect(t, exitOK)

	shortSeed := filepath.Join(c.dir, "short.seed")
	must(t, os.WriteFile(shortSeed, []byte("thirty-one bytes, one too short"), 0o600))
	noSeed := filepath.Join(c.dir, "no.seed")
	empty := filepath.Join(c.dir, "empty directory")
	must(t, os.Mkdir(empty, 0o700))

	// Each case has a node of its own, which knows nobody from an earlier run.
	var nodes []*member
	flags := func(seedFile, bootstrap string, more ...string) []string {
		m := c.member(t, fmt.Sprintf("node%d", len(nodes)))
		nodes = append(nodes, m)
		return append([]string{"--json", "--dir", m.dir, "--shared-seed-file", seedFile, "--listen", "127.0.0.1:0", "--bootstrap", bootstrap}, more...)
	}
	fetch := func(hash string, flags []string) []string {
		return append([]string{"fetch", hash, "-o", out}, flags...)
	}

	tests := []struct {
		name string
		args []string
		code int
		says string // a regular expression for the message
	}{
		{"seed too short", fetch(hash, flags(shortSeed, boot)), exitError, `short\.seed.*31 bytes.*32`},
		{"seed missing", fetch(hash, flags(noSeed, boot)), exitNotInitialised, `no\.seed.*sttnode init`},
		{"seed is a directory", fetch(hash, flags(c.dir, boot)), exitError, regexp.QuoteMeta(c.dir)},
		{"not initialised", []string{"seed", path, "--json", "--dir", empty, "--listen", "127.0.0.1:0"}, exitNotInitialised, `sttnode init`},
		{"wrong shared seed", fetch(hash, flags(otherSeed, boot)), exitWrongSeed, `shared seed`},
		{"a word for a hash", fetch("holiday.jpg", flags(c.seed, boot)), exitUsage, `holiday\.jpg`},
		{"a hash cut short", fetch(hash[:63], flags(c.seed, boot)), exitUsage, hash[:63]},
		{"no hash at all", append([]string{"fetch"}, flags(c.seed, boot)...), exitUsage, `(?i)hash`},
		{"a hash nobody has", fetch(nobodyHas, flags(c.seed, boot, "--search-timeout", search)), exitNoProvider, `asked \d+ node`},
		{"an address that does not resolve", fetch(hash, flags(c.seed, "no-such-host.invalid:4700")), exitError, `no-such-host\.invalid`},
		{"an address without a port", fetch(hash, flags(c.seed, "127.0.0.1")), exitUsage, `127\.0\.0\.1`},
		{"nobody at the address", fetch(hash, flags(c.seed, "127.0.0.1:1", "--search-timeout", search)), exitStalled, `127\.0\.0\.1:1\b`},
		{"a port in use", fetch(hash, flags(c.seed, boot, "--listen", boot)), exitError, regexp.QuoteMeta(boot)},
		{"an address to listen on that is no address", fetch(hash, flags(c.seed, boot, "--listen", "here")), exitUsage, `here`},
		{"a store that another process holds", append([]string{"seed", path}, flags(c.seed, boot, "--dir", seeder.dir)...), exitStoreLocked, regexp.QuoteMeta(seeder.dir)},
		{"a store that another process holds, listed", []string{"store", "ls", "--json", "--dir", seeder.dir}, exitStoreLocked, regexp.QuoteMeta(seeder.dir)},
		{"an output below a file", append([]string{"fetch", hash, "-o", filepath.Join(path, "out")}, flags(c.seed, boot)...), exitError, regexp.QuoteMeta(path)},
		{"nothing to seed", append([]string{"seed", filepath.Join(c.dir, "not there")}, flags(c.seed, boot)...), exitError, `not there`},
		{"an unknown flag", []string{"bootstrap", "--shared-seed", "secret"}, exitUsage, `shared-seed`},
		{"an unknown command", []string{"fetsch", hash}, exitUsage, `fetsch`},
		{"no command", nil, exitUsage, `command`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Cleanup(func() { _ = os.RemoveAll(out) })
			p := launch(t, tt.name, c.dir, nil, tt.args...)
			p.expect(t, tt.code)
			if got := p.stderr.String(); !regexp.MustCompile(`(?s)` + tt.says).MatchString(got) {
				t.Errorf("message %q does not say %q", got, tt.says)
			}
			for _, word := range []string{"panic:", "goroutine ", "%!"} {
				if strings.Contains(p.stderr.String(), word) {
					t.Errorf("message holds %q: %s", word, p.stderr.String())
				}
			}
			if len(tt.args) > 2 && strings.Contains(strings.Join(tt.args, " "), "--json") && tt.code != exitUsage {
				if e := p.last(t); e.Event != "error" || e.Code != tt.code || e.Error == "" {
					t.Errorf("last event %+v, want an error with code %d", e, tt.code)
				}
			}
			absent(t, out)
		})
	}

	t.Run("none of them has fetched a byte", func(t *testing.T) {
		for _, m := range nodes {
			if n := m.stored(t); n != 0 {
				t.Errorf("%d bytes are stored", n)
			}
		}
	})

	t.Run("a directory for the output that does not allow it", func(t *testing.T) {
		sealed := sealedDir(t, c.dir)
		m := c.member(t, "unwelcome")
		m.start(t, "fetch", hash, "-o", filepath.Join(sealed, "out")).expect(t, exitError)
		if n := m.stored(t); n != 0 {
			t.Errorf("%d bytes are stored", n)
		}
	})

	t.Run("a seed that everybody can read is used, with a warning", func(t *testing.T) {
		if runtime.GOOS == "windows" {
			t.Skip("modes say nothing there")
		}
		open := filepath.Join(c.dir, "open.seed")
		seed, err := os.ReadFile(c.seed)
		must(t, err)
		must(t, os.WriteFile(open, seed, 0o644))
		p := launch(t, "open seed", c.dir, nil, fetch(hash, flags(open, boot))...)
		p.expect(t, exitOK)
		if got := p.stderr.String(); !strings.Contains(got, "warning") || !strings.Contains(got, open) {
			t.Errorf("no warning about %s: %q", open, got)
		}
		same(t, path, out)
		must(t, os.Remove(out))
	})

	t.Run("after all that, everything still works", func(t *testing.T) {
		last := c.member(t, "last")
		last.fetch(t, hash, out)
		same(t, path, out)
		seeder.p.stop(t)
		seeder.run(t, "store", "verify", "--dir", seeder.dir).expect(t, exitOK)
	})
}

// init changes nothing when it is repeated, and never replaces a seed.
func TestInitTwice(t *testing.T) {
	dir := t.TempDir()
	seed := filepath.Join(dir, "shared.seed")
	home := filepath.Join(dir, "node")
	init := func() (event, map[string]entry) {
		p := launch(t, "init", dir, nil, "init", "--json", "--dir", home, "--shared-seed-file", seed)
		p.expect(t, exitOK)
		return p.last(t), listing(t, dir)
	}
	first, files := init()
	second, again := init()
	if !hashForm.MatchString(first.NodeID) || first.NodeID != second.NodeID {
		t.Errorf("node ID %q at first, then %q", first.NodeID, second.NodeID)
	}
	for name, e := range files {
		if again[name] != e {
			t.Errorf("%s was %v, is %v", name, e, again[name])
		}
	}
	if len(again) != len(files) {
		t.Errorf("%d files at first, then %d", len(files), len(again))
	}
}

// Every flag is also a variable; the flag wins.
func TestEnvironment(t *testing.T) {
	rnd := random(t)
	c := newCluster(t)
	path := randomFile(t, rnd, filepath.Join(c.dir, "file"), 300_000)
	_, hashes := c.seeders(t, 1, nil, path)
	fetcher := c.member(t, "fetcher")
	out := filepath.Join(c.dir, "out")
	p := launch(t, "fetch", c.dir, []string{
		"STTNODE_DIR=" + fetcher.dir,
		"STTNODE_SHARED_SEED_FILE=" + c.seed,
		"STTNODE_BOOTSTRAP=" + c.bootstrap.ready.UDP,
		"STTNODE_LISTEN=127.0.0.1:0",
		"STTNODE_JSON=true",
		"STTNODE_READY_FILE=" + filepath.Join(c.dir, "wrong", "place"),
	}, "fetch", hashes[0], "-o", out, "--ready-file", fetcher.readyPath())
	p.expect(t, exitOK)
	fetcher.complete(t, p, hashes[0])
	same(t, path, out)
	if _, err := os.Stat(fetcher.readyPath()); err != nil {
		t.Error(err)
	}
}
