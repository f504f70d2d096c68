package integration

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// cluster is a network of processes on the loopback, with a bootstrap node that runs from the start.
type cluster struct {
	dir       string
	seed      string // the shared seed's file
	bootstrap *member
}

// member is one node of a cluster: a directory, and the process that uses it at the moment.
type member struct {
	*cluster
	name  string
	dir   string
	env   []string
	under []string // the command that its processes are started by; none if empty
	p     *process // the latest one
	ready readyFile
}

func newCluster(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{dir: t.TempDir()}
	c.seed = filepath.Join(c.dir, "shared.seed")
	boot := c.member(t, "bootstrap")
	boot.serve(t, "bootstrap")
	c.bootstrap = boot
	return c
}

// member makes a node's directory. It runs nothing yet.
func (c *cluster) member(t testing.TB, name string) *member {
	t.Helper()
	return c.memberAt(t, name, filepath.Join(c.dir, name))
}

func (c *cluster) memberAt(t testing.TB, name, dir string) *member {
	t.Helper()
	m := &member{cluster: c, name: name, dir: dir}
	m.run(t, "init", "--dir", m.dir, "--shared-seed-file", c.seed).expect(t, exitOK)
	return m
}

// run starts the program with exactly these arguments.
func (m *member) run(t testing.TB, args ...string) *process {
	t.Helper()
	return launchCommand(t, m.name+" "+args[0], m.cluster.dir, m.env, slices.Concat(m.under, []string{binary(t)}, args)...)
}

// start starts a command of the node on a free port, joined to the network by its bootstrap node.
// Later flags win, so args may override the common ones.
func (m *member) start(t testing.TB, command string, args ...string) *process {
	t.Helper()
	_ = os.Remove(m.readyPath())
	all := []string{command, "--json", "--dir", m.dir, "--shared-seed-file", m.seed, "--listen", "127.0.0.1:0", "--ready-file", m.readyPath()}
	if m.bootstrap != nil {
		all = append(all, "--bootstrap", m.bootstrap.ready.UDP)
	}
	m.p = m.run(t, append(all, args...)...)
	return m.p
}

func (m *member) readyPath() string { return m.dir + ".ready" }

// serve starts a command that runs until it is stopped, and waits until it listens.
func (m *member) serve(t testing.TB, command string, args ...string) *process {
	t.Helper()
	p := m.start(t, command, args...)
	m.ready = p.ready(t, m.readyPath())
	if !hashForm.MatchString(m.ready.NodeID) || m.ready.UDP == "" {
		t.Fatalf("%s: ready file holds %+v", m.name, m.ready)
	}
	return p
}

var hashForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// announced waits until a seeder has announced all its paths, and returns their hashes in that order.
func (m *member) announced(t testing.TB, paths ...string) []string {
	t.Helper()
	hashes := make([]string, len(paths))
	m.p.await(t, fmt.Sprintf("announcement of %q", paths), func() bool {
		for _, e := range m.p.events(t) {
			if i := slices.Index(paths, e.Path); i >= 0 && e.Hash != "" {
				hashes[i] = e.Hash
			}
		}
		return !slices.Contains(hashes, "")
	})
	for i, h := range hashes {
		if !hashForm.MatchString(h) {
			t.Fatalf("%s: hash of %s is %q", m.name, paths[i], h)
		}
	}
	return hashes
}

// seeders starts n nodes that seed the same paths, all at once, and waits until each has announced. It returns the hashes,
// which must be the same everywhere.
func (c *cluster) seeders(t testing.TB, n int, args []string, paths ...string) (members []*member, hashes []string) {
	t.Helper()
	for i := range n {
		m := c.member(t, fmt.Sprintf("seeder%d", i+1))
		m.serve(t, "seed", append(slices.Clone(args), paths...)...)
		members = append(members, m)
	}
	for _, m := range members {
		got := m.announced(t, paths...)
		if hashes != nil && !slices.Equal(got, hashes) {
			t.Fatalf("%s names the same content %v, others %v", m.name, got, hashes)
		}
		hashes = got
	}
	return members, hashes
}

// fetch fetches hash into out and returns the event at the end. It must succeed.
func (m *member) fetch(t testing.TB, hash, out string, args ...string) event {
	t.Helper()
	p := m.start(t, "fetch", append([]string{hash, "-o", out}, args...)...)
	p.expect(t, exitOK)
	return m.complete(t, p, hash)
}

// complete waits until a fetch reports that it is complete, whether it then ends or serves, and checks what the event promises
// whatever the network did.
func (m *member) complete(t testing.TB, p *process, hash string) event {
	t.Helper()
	var e event
	p.await(t, "complete fetch", func() bool {
		for _, e = range p.events(t) {
			if e.Event == "fetched" {
				return true
			}
		}
		return false
	})
	if e.Hash != hash {
		t.Fatalf("%s: %+v, want %s", p.name, e, hash)
	}
	for _, s := range e.Sources {
		if !hashForm.MatchString(s.Node) || s.Addr == "" || s.Bytes <= 0 {
			t.Errorf("%s: source %+v", p.name, s)
		}
	}
	// Manifests come on top of the bytes of files, the same bytes in many files come once.
	if got := e.ResumedBytes + e.fetched(); got > e.Bytes+e.Bytes/100+64<<10 || got < e.Bytes*9/10 {
		t.Errorf("%s: %d bytes resumed and %d fetched of %d", p.name, e.ResumedBytes, e.fetched(), e.Bytes)
	}
	t.Logf("%s: %d bytes in %d chunks, %.2f s, from %v, %d resumed, %d duplicate, %d bad", p.name, e.Bytes, e.Chunks, e.Seconds, e.Sources,
		e.ResumedBytes, e.DuplicateBytes, e.BadBytes)
	return e
}

// segmentBytes is how much has been written of the larger blobs in the node's store: a measure of progress from outside.
func (m *member) segmentBytes() int64 { return fileBytes(m.dir, ".seg") }

// remove frees the disk of a node that is no longer needed.
func (m *member) remove(t testing.TB) {
	t.Helper()
	if m.p != nil {
		m.p.kill()
	}
	if err := os.RemoveAll(m.dir); err != nil {
		t.Error(err)
	}
}

// decodeSeed returns the seed that a file made by init holds: hexadecimal digits.
func decodeSeed(t testing.TB, text []byte) []byte {
	t.Helper()
	seed, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatalf("the shared seed's file is not hexadecimal: %v", err)
	}
	return seed
}
