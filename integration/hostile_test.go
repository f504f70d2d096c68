package integration

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/stc"
)

// hostileNode is a member of the network who holds the seed and means harm: a node in this process, so that a test can put
// into its store what no import ever makes.
func hostileNode(t testing.TB, c *cluster) *node.Node {
	t.Helper()
	seed, err := os.ReadFile(c.seed)
	must(t, err)
	keyring, err := stc.NewKeyring(decodeSeed(t, seed))
	must(t, err)
	id, err := stc.NewIdentity(bytes.Repeat([]byte("hostile "), 8))
	must(t, err)
	n, err := node.New(node.Config{Identity: id, Keyring: keyring, Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	must(t, err)
	must(t, n.Start(context.Background()))
	t.Cleanup(func() { _ = n.Stop(context.Background()) })
	return n
}

// item is an entry of a handmade directory manifest.
type item struct {
	name string
	link string // target; empty for a file of the chunk
}

// directory encodes the manifest of a directory, as docs/PROTOCOL.md draws it, without asking whether anybody should.
// All lengths stay below 64, where a variable-length integer is one byte.
func directory(suggested string, chunk stc.Hash, size byte, items ...item) []byte {
	b := append([]byte("STM\x01"), 2, 1, 0, 0o755>>8, 0o755&0xff, byte(len(suggested)))
	b = append(b, suggested...)
	files := byte(0)
	for _, it := range items {
		if it.link == "" {
			files++
		}
	}
	b = append(b, byte(len(items)), files*size, files)
	for _, it := range items {
		b = append(append(b, byte(len(it.name))), it.name...)
		if it.link != "" {
			b = append(append(b, 3, 0, byte(len(it.link))), it.link...)
			continue
		}
		b = append(b, 1, 0o644>>8, 0o644&0xff, size, 1)
		b = append(b, chunk[:]...)
	}
	return b
}

// Manifests from somebody who tries to write outside of the target: refused with exit code 6, and not a byte anywhere.
func TestHostileManifests(t *testing.T) {
	c := newCluster(t)
	hostile := hostileNode(t, c)
	data := []byte("evil bytes")
	chunk, err := hostile.Store().Put(context.Background(), data)
	must(t, err)
	good := item{name: "good"}

	tests := []struct {
		name      string
		suggested string
		items     []item
		fine      bool
	}{
		// The first ones show that the hand that wrote the others knows the format.
		{name: "a file", suggested: "harmless", items: []item{good}, fine: true},
		{name: "a link inside", suggested: "harmless", items: []item{good, {name: "link", link: "good"}}, fine: true},

		{name: "the parent", items: []item{{name: ".."}}},
		{name: "below the parent", items: []item{{name: "../evil"}}},
		{name: "itself", items: []item{{name: "."}}},
		{name: "no name", items: []item{{name: ""}}},
		{name: "absolute", items: []item{{name: filepath.Join(c.dir, "evil")}}},
		{name: "a path", items: []item{{name: "a/evil"}}},
		{name: "a zero byte", items: []item{{name: "a\x00b"}}},
		{name: "no UTF-8", items: []item{{name: "a\xffb"}}},
		{name: "one name twice", items: []item{good, good}},
		{name: "out of order", items: []item{good, {name: "evil"}}},
		{name: "link to the parent", items: []item{good, {name: "link", link: ".."}}},
		{name: "link through the parent", items: []item{good, {name: "link", link: "x/../../evil"}}},
		{name: "absolute link", items: []item{good, {name: "link", link: "/etc/passwd"}}},
		{name: "suggested name is a path", suggested: "../evil", items: []item{good}},
		{name: "suggested name is the parent", suggested: "..", items: []item{good}},
		{name: "suggested name is absolute", suggested: filepath.Join(os.TempDir(), "evil"), items: []item{good}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			hash, err := hostile.Store().Put(context.Background(), directory(tt.suggested, chunk, byte(len(data)), tt.items...))
			must(t, err)
			fetcher := c.member(t, "fetcher "+strings.ReplaceAll(tt.name, " ", "-"))
			cwd := filepath.Join(c.dir, "in", strings.ReplaceAll(tt.name, " ", "-"), "cwd")
			must(t, os.MkdirAll(cwd, 0o755))
			before := listing(t, filepath.Dir(cwd))

			args := []string{"fetch", hash.String(), "--json", "--dir", fetcher.dir, "--shared-seed-file", c.seed,
				"--listen", "127.0.0.1:0", "--bootstrap", hostile.Addr().String()}
			if tt.suggested == "" {
				args = append(args, "-o", "target")
			}
			p := launch(t, "fetch", cwd, nil, args...)
			if tt.fine {
				p.expect(t, exitOK)
				got, err := os.ReadFile(filepath.Join(cwd, "harmless", "good"))
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("got %q (%v)", got, err)
				}
				return
			}
			p.expect(t, exitVerification)
			for name := range listing(t, filepath.Dir(cwd)) {
				if _, ok := before[name]; !ok {
					t.Errorf("%s was written", name)
				}
			}
			for _, dir := range []string{c.dir, os.TempDir()} {
				absent(t, filepath.Join(dir, "evil"))
			}
		})
	}
}
