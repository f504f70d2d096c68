package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A firewall that drops every datagram without a word lets a fetch through: it comes over WebSocket, from all who have the
// content, although their UDP addresses are what is known of them as well.
func TestUDPBlocked(t *testing.T) {
	if !large {
		t.Skip("makes network namespaces: STT_INTEGRATION=1, as root")
	}
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	for _, tool := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("there is no %s; Debian has it in iproute2 or nftables", tool)
		}
	}
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	inside := func(netns string, args ...string) []string {
		return append([]string{"ip", "netns", "exec", netns}, args...)
	}

	// Two hosts with a cable between them, and a firewall at the end of one.
	servers, client := fmt.Sprintf("stt-s-%d", os.Getpid()), fmt.Sprintf("stt-c-%d", os.Getpid())
	for _, netns := range []string{servers, client} {
		run("ip", "netns", "add", netns)
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", netns).Run() })
		run("ip", "-n", netns, "link", "set", "lo", "up")
	}
	run("ip", "link", "add", "stt0", "netns", servers, "type", "veth", "peer", "name", "stt0", "netns", client)
	for netns, addr := range map[string]string{servers: "10.99.0.1/24", client: "10.99.0.2/24"} {
		run("ip", "-n", netns, "addr", "add", addr, "dev", "stt0")
		run("ip", "-n", netns, "link", "set", "stt0", "up")
	}
	run(inside(servers, "nft", "add table inet block; add chain inet block in { type filter hook input priority 0; }; "+
		`add rule inet block in iifname "stt0" meta l4proto udp counter drop`)...)

	rnd := random(t)
	c := &cluster{dir: t.TempDir()}
	c.seed = filepath.Join(c.dir, "shared.seed")
	listen := []string{"--listen", "10.99.0.1:0", "--ws-listen", "10.99.0.1:0"}
	boot := c.member(t, "bootstrap")
	boot.under = inside(servers)
	boot.serve(t, "bootstrap", listen...)
	c.bootstrap = boot
	path := randomFile(t, rnd, filepath.Join(c.dir, "file"), 64<<20)
	hash := ""
	for i := range 2 {
		m := c.member(t, fmt.Sprintf("seeder%d", i+1))
		m.under = inside(servers)
		m.serve(t, "seed", append(listen, path)...)
		hash = m.announced(t, path)[0]
	}

	for _, test := range []struct{ name, bootstrap string }{
		{"told the WebSocket address", boot.ready.WS},
		{"told both addresses", boot.ready.UDP + "," + boot.ready.WS},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := c.member(t, test.name)
			m.under = inside(client)
			out := filepath.Join(c.dir, "out "+test.name)
			m.p = m.run(t, "fetch", hash, "-o", out, "--json", "--dir", m.dir, "--shared-seed-file", c.seed,
				"--listen", "10.99.0.2:0", "--bootstrap", test.bootstrap)
			m.p.expect(t, exitOK)
			m.complete(t, m.p, hash).overWebSocket(t, 2)
			same(t, path, out)
		})
	}

	t.Run("seeds from behind the block", func(t *testing.T) {
		m := c.member(t, "blocked")
		m.under = inside(client)
		own := randomFile(t, rnd, filepath.Join(c.dir, "own"), 8<<20)
		p := m.run(t, "seed", own, "--json", "--dir", m.dir, "--shared-seed-file", c.seed, "--listen", "10.99.0.2:0",
			"--ws-listen", "10.99.0.2:0", "--bootstrap", boot.ready.WS)
		m.p = p
		hash := m.announced(t, own)[0]
		other := c.member(t, "other")
		other.under = inside(servers)
		out := filepath.Join(c.dir, "out own")
		other.fetch(t, hash, out, "--listen", "10.99.0.1:0").overWebSocket(t, 1)
		same(t, own, out)
		p.stop(t)
	})
}
