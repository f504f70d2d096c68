package integration

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// A node that runs learns new limits from its settings file at SIGHUP. What the command line says stays, and so does everything when
// the file is wrong.
func TestLimitsAreReread(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no signals to send")
	}
	rnd := random(t)
	c := newCluster(t)
	m := c.member(t, "seeder")
	path := randomFile(t, rnd, filepath.Join(c.dir, "file"), 1<<20)
	settings := func(lines string) {
		must(t, os.WriteFile(filepath.Join(m.dir, "config"), []byte(lines), 0o600))
	}
	settings("limit-up = 8M\nlimit-peer = 1M\n")
	p := m.serve(t, "seed", "--metrics", "127.0.0.1:0", "--limit-peer", "2M", path)
	hash := m.announced(t, path)[0]
	limits := func() string {
		resp, err := http.Get("http://" + m.ready.Metrics + "/metrics")
		must(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		var list []string
		for _, row := range limitRow.FindAllStringSubmatch(string(body), -1) {
			list = append(list, fmt.Sprintf("%s %s", row[1], row[2]))
		}
		return strings.Join(list, ", ")
	}
	awaitLimits := func(want string) {
		t.Helper()
		p.await(t, "limits "+want+" (now "+limits()+")", func() bool { return limits() == want })
	}
	awaitLimits("down 0, peer 2.097152e+06, up 8.388608e+06")

	settings("limit-up = 4M\nlimit = \"00:00-24:00 down 1M\", \"Mo-Su up 3M\"\n")
	p.signal(t, syscall.SIGHUP)
	awaitLimits("down 1.048576e+06, peer 2.097152e+06, up 3.145728e+06")

	settings("limit-up = 4\n")
	p.signal(t, syscall.SIGHUP)
	p.await(t, "complaint", func() bool { return strings.Contains(p.stderr.String(), "is a unit missing, as in 4M?") })
	awaitLimits("down 1.048576e+06, peer 2.097152e+06, up 3.145728e+06")

	settings("")
	p.signal(t, syscall.SIGHUP)
	awaitLimits("down 0, peer 2.097152e+06, up 0")

	out := filepath.Join(c.dir, "out")
	c.member(t, "fetcher").fetch(t, hash, out, "--limit-down", "20M")
	same(t, path, out)
	p.stop(t)
}

var limitRow = regexp.MustCompile(`(?m)^sttnode_limit_bytes_per_second\{direction="(\w+)"\} (\S+)$`)
