package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// composition is the network of docker-compose.yml under a project name, an image and volumes of its own.
type composition struct {
	command []string // docker-compose, or docker compose
	project string
	env     []string
}

// newComposition builds the image without a registry and takes everything away again at the test's end.
func newComposition(t *testing.T, contentDir string) *composition {
	t.Helper()
	c := &composition{project: fmt.Sprintf("stttest%d", os.Getpid())}
	switch {
	case exec.Command("docker", "compose", "version").Run() == nil:
		c.command = []string{"docker", "compose"}
	case exec.Command("docker-compose", "version").Run() == nil:
		c.command = []string{"docker-compose"}
	default:
		t.Fatal("neither 'docker compose' nor 'docker-compose' works")
	}
	image := "sttnode:" + c.project
	c.env = append(os.Environ(), "STT_IMAGE="+image, "STT_CONTENT="+contentDir)
	t.Cleanup(func() {
		_, _ = c.try("down", "--volumes", "--remove-orphans", "--timeout", "5")
		_ = exec.Command("docker", "image", "rm", "--force", image).Run()
	})
	if out, err := exec.Command("../scripts/image.sh", image).CombinedOutput(); err != nil {
		t.Fatalf("build the image: %v\n%s", err, out)
	}
	return c
}

// try runs a compose command. Its standard output is what it returns.
func (c *composition) try(args ...string) (string, error) {
	full := append(append([]string{}, c.command...), "--file", "../docker-compose.yml", "--project-name", c.project)
	full = append(full, args...)
	cmd := exec.Command(full[0], full[1:]...)
	cmd.Env = c.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w\n%s%s", strings.Join(args, " "), err, abridged(stdout.String()), abridged(stderr.String()))
	}
	return stdout.String(), nil
}

func (c *composition) do(t testing.TB, args ...string) string {
	t.Helper()
	out, err := c.try(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func docker(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// container returns the ID of a service's container.
func (c *composition) container(t testing.TB, service string) string {
	t.Helper()
	return strings.TrimSpace(c.do(t, "ps", "--quiet", service))
}

// announced waits until a seeder has printed the hash of /content.
func (c *composition) announced(t testing.TB, service string) string {
	t.Helper()
	id := c.container(t, service)
	line := regexp.MustCompile(`(?m)^([0-9a-f]{64})  /content$`)
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(200 * time.Millisecond) // each look starts a process
	defer tick.Stop()
	for ; ; <-tick.C {
		logs := docker(t, "logs", id)
		if m := line.FindStringSubmatch(logs); m != nil {
			return m[1]
		}
		if state := strings.TrimSpace(docker(t, "inspect", "--format", "{{.State.Status}}", id)); state != "running" || time.Now().After(deadline) {
			t.Fatalf("%s (%s) has announced nothing\n%s", service, state, abridged(logs))
		}
	}
}

// fetch runs the fetcher with its home in dir, copies what it has fetched out of the container, and compares.
func (c *composition) fetch(t testing.TB, dir, hash, want string) event {
	t.Helper()
	name := c.project + "-" + filepath.Base(dir)
	c.do(t, "run", "-T", "--rm", "--no-deps", "-e", "STTNODE_DIR="+dir, "fetcher", "init")
	out := c.do(t, "run", "-T", "--no-deps", "--name", name, "-e", "STTNODE_DIR="+dir, "fetcher", "fetch", hash, "-o", dir+"/out", "--json")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var e event
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &e); err != nil {
		t.Fatalf("the fetcher's last line is %q: %v", lines[len(lines)-1], err)
	}
	if e.Event != "fetched" || e.Hash != hash || e.BadBytes != 0 {
		t.Errorf("last event is %+v", e)
	}
	t.Logf("%d bytes in %.2f s from %v", e.Bytes, e.Seconds, e.Sources)
	got := filepath.Join(t.TempDir(), "got")
	docker(t, "cp", name+":"+dir+"/out", got)
	docker(t, "rm", "--volumes", name)
	same(t, want, got)
	return e
}

// The network of docker-compose.yml, as its comment says to use it, losing two of its three seeders on the way.
func TestCompose(t *testing.T) {
	if os.Getenv("STT_DOCKER") != "1" {
		t.Skip("needs docker: STT_DOCKER=1")
	}
	rnd := random(t)
	// The containers' user is nobody on this machine: it must be able to read what it seeds.
	content := smallTree(t, rnd, filepath.Join(t.TempDir(), "content"))
	for _, private := range []string{"one", "private", "private/several", "chunk and a byte", "many"} {
		must(t, os.Chmod(filepath.Join(content, private), 0o755))
	}
	must(t, os.Chmod(filepath.Dir(content), 0o755))
	must(t, os.Chmod(filepath.Dir(filepath.Dir(content)), 0o755))
	randomFile(t, rnd, filepath.Join(content, "large"), pick[int64](8<<20, 64<<20))
	c := newComposition(t, content)

	c.do(t, "up", "--detach", "--no-build")
	hash := c.announced(t, "seeder1")
	for _, service := range []string{"seeder2", "seeder3"} {
		if got := c.announced(t, service); got != hash {
			t.Fatalf("%s names the same content %s, seeder1 %s", service, got, hash)
		}
	}
	c.do(t, "run", "-T", "--rm", "fetcher", "version") // what the fetcher depends on runs, once

	t.Run("all there", func(t *testing.T) {
		e := c.fetch(t, "/data/first", hash, content)
		if large && len(e.Sources) < 3 {
			t.Errorf("fetched from %d sources, want 3", len(e.Sources))
		}
	})

	t.Run("one stopped and one cut off", func(t *testing.T) {
		c.do(t, "stop", "seeder1")
		if code := strings.TrimSpace(docker(t, "inspect", "--format", "{{.State.ExitCode}}", c.containerAll(t, "seeder1"))); code != "0" {
			t.Errorf("the stopped seeder ended with %s", code)
		}
		docker(t, "network", "disconnect", c.project+"_private", c.container(t, "seeder2"))
		c.fetch(t, "/data/second", hash, content)
	})

	t.Run("everything stops cleanly", func(t *testing.T) {
		c.do(t, "stop")
		for _, service := range []string{"bootstrap", "seeder2", "seeder3"} {
			if code := strings.TrimSpace(docker(t, "inspect", "--format", "{{.State.ExitCode}}", c.containerAll(t, service))); code != "0" {
				t.Errorf("%s ended with %s\n%s", service, code, abridged(docker(t, "logs", c.containerAll(t, service))))
			}
		}
	})
}

// containerAll finds a service's container even after it has stopped.
func (c *composition) containerAll(t testing.TB, service string) string {
	t.Helper()
	return strings.TrimSpace(docker(t, "ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project="+c.project, "--filter", "label=com.docker.compose.service="+service))
}
