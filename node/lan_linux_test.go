package node

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// inNamespace runs the test again in a network namespace of its own, which has
// one interface beside the loopback one, and returns true there. Where the
// system does not allow that, the test is skipped.
func inNamespace(t *testing.T) bool {
	t.Helper()
	const inside = "STT_TEST_NAMESPACE"
	if os.Getenv(inside) == t.Name() {
		for _, args := range [][]string{
			{"link", "set", "lo", "up"},
			{"link", "add", "near", "type", "veth", "peer", "name", "far"},
			{"addr", "add", "192.0.2.1/24", "dev", "near"},
			{"link", "set", "near", "up"},
			{"link", "set", "far", "up"},
		} {
			if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
				lacking(t, fmt.Sprintf("ip %v: %v: %s", args, err, out))
			}
		}
		return true
	}
	if _, err := exec.LookPath("ip"); err != nil {
		lacking(t, err.Error())
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		t.Skip("a network namespace takes root")
	}
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	return false
}

// lacking ends a test that needs what the machine has not. CI has it.
func lacking(t *testing.T, what string) {
	if os.Getenv("CI") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// Nodes on one link that know nothing of each other find each other, fetch, and
// leave those of another network alone.
func TestLAN(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l, ctx := newLoopback(t), within(t, time.Minute)
	config := func(name string) Config {
		cfg := l.config(name)
		cfg.Listen, cfg.WebSocketListen, cfg.LAN = ":0", "", true
		return cfg
	}
	data := testBytes("film", 2<<20)
	seeder := l.start(config("s"))
	seeded, err := seeder.Seed(ctx, writeFile(t, filepath.Join(l.dir, "film"), data), ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	others := config("stranger")
	others.Keyring = testKeyring(t, "another")
	stranger := l.start(others)
	f := l.start(config("f"))
	out := filepath.Join(l.dir, "out")
	if _, err := f.Fetch(ctx, seeded.Root, FetchOptions{Output: out}); err != nil {
		t.Fatal(err)
	}
	wantFile(t, out, data)
	if err := f.Join(ctx); err != nil {
		t.Errorf("join: %v", err)
	}
	if s := f.Stats().LAN; s.Met != 1 || s.Heard == 0 || s.Sent == 0 || s.Refused == 0 {
		t.Errorf("%+v", s)
	}
	if s := stranger.Stats(); s.LAN.Met != 0 || s.LAN.Heard != 0 || s.LAN.Refused == 0 || s.Peers.Connected != 0 {
		t.Errorf("a node of another network: %+v", s.LAN)
	}
	if _, err := stranger.Fetch(ctx, seeded.Root, FetchOptions{SearchTimeout: time.Second}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("with nobody near: %v", err)
	}
}

// A node that only dials finds others, too.
func TestLANDialOnly(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l, ctx := newLoopback(t), within(t, time.Minute)
	cfg := l.config("s")
	cfg.Listen, cfg.WebSocketListen, cfg.LAN = ":0", "", true
	seeder := l.start(cfg)
	seeded, err := seeder.Seed(ctx, writeFile(t, filepath.Join(l.dir, "film"), testBytes("film", 1000)), ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cfg = l.config("f")
	cfg.Listen, cfg.WebSocketListen, cfg.LAN, cfg.DialOnly = ":0", "", true, true
	if _, err := l.start(cfg).Fetch(ctx, seeded.Root, FetchOptions{}); err != nil {
		t.Fatal(err)
	}
}
