package arch

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/seigr/sttnode"

func TestArrowsPointDown(t *testing.T) {
	packages, err := Load(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	dirs := make([]string, len(packages))
	for i, p := range packages {
		dirs[i] = p.Dir
	}
	// Guards against a check that passes because it looked in the wrong place.
	for _, dir := range []string{"frame", "stc", "session/transport", "integration/arch"} {
		if !slices.Contains(dirs, dir) {
			t.Errorf("package %s is not among those that were read: %v", dir, dirs)
		}
	}
	for _, v := range Check(module, House, packages) {
		t.Error(v)
	}
}

func TestModulePath(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join("..", "..", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if first, _, _ := strings.Cut(string(mod), "\n"); strings.TrimSpace(first) != "module "+module {
		t.Fatalf("go.mod begins with %q, this test judges imports of %s", first, module)
	}
}

// Every import here is below the module, so the table reads as the arrows themselves.
func TestCheck(t *testing.T) {
	tests := []struct {
		name, from, to string
		inTest         bool
		want           string // part of the complaint; empty: the arrow is fine
	}{
		{name: "down one floor", from: "session", to: "frame"},
		{name: "session to its carrier", from: "session", to: "session/transport"},
		{name: "session to the memory carrier", from: "session", to: "session/transport/memory", inTest: true},
		{name: "below session is session", from: "session/internal/loss", to: "session"},
		{name: "cryptography to its own kernel", from: "stc", to: "stc/internal/gcm"},
		{name: "carrier to its own subpackage", from: "session/transport", to: "session/transport/internal/batch"},
		{name: "memory carrier to the interface", from: "session/transport/memory", to: "session/transport"},
		{name: "dht's tests use the memory carrier", from: "dht", to: "session/transport/memory", inTest: true},
		{name: "swarm to content", from: "swarm", to: "content"},
		{name: "swarm to a hash", from: "swarm", to: "stc"},
		{name: "node to session", from: "node", to: "session"},
		{name: "node to dht", from: "node", to: "dht"},
		{name: "node to swarm", from: "node", to: "swarm"},
		{name: "command to node", from: "cmd/sttnode", to: "node"},
		{name: "integration's tests to dht", from: "integration", to: "dht", inTest: true},

		{name: "floor 1 to floor 1", from: "frame", to: "stc", want: "share floor 1"},
		{name: "carrier to frame", from: "session/transport", to: "frame", want: "share floor 1"},
		{name: "carrier up to session", from: "session/transport", to: "session", want: "points up"},
		{name: "memory carrier up to session", from: "session/transport/memory", to: "session", want: "points up"},
		{name: "hash up to content", from: "stc", to: "content", want: "points up"},
		{name: "dht to session", from: "dht", to: "session", want: "share floor 2"},
		{name: "dht's tests to session", from: "dht", to: "session", inTest: true, want: "share floor 2"},
		{name: "dht's code to a carrier", from: "dht", to: "session/transport/memory", want: "may import only"},
		{name: "session to dht", from: "session", to: "dht", want: "share floor 2"},
		{name: "content to session", from: "content", to: "session", want: "share floor 2"},
		{name: "content up to swarm", from: "content", to: "swarm", want: "points up"},
		{name: "swarm to session", from: "swarm", to: "session", want: "may import only"},
		{name: "swarm's tests to session", from: "swarm", to: "session", inTest: true, want: "may import only"},
		{name: "swarm to dht", from: "swarm", to: "dht", want: "may import only"},
		{name: "swarm up to node", from: "swarm", to: "node", want: "points up"},
		{name: "below dht is dht", from: "dht/internal/table", to: "session", want: "share floor 2"},
		{name: "node up to the command", from: "node", to: "cmd/sttnode/internal/config", want: "points up"},
		{name: "command past node", from: "cmd/sttnode", to: "session", want: "may import only"},
		{name: "command to integration", from: "cmd/sttnode", to: "integration", want: "share floor 5"},
		{name: "unknown package", from: "util", to: "stc", want: "no package of the house"},
		{name: "a name that only begins alike", from: "dhtx", to: "stc", want: "no package of the house"},
		{name: "import of an unknown package", from: "node", to: "util", want: "no package of the house"},
		{name: "code at the root", from: ".", to: "stc", want: "no package of the house"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			imports := []string{"fmt", "golang.org/x/sync/errgroup", module + "x/other", module + "/" + tt.to}
			p := Package{Dir: tt.from, Imports: imports}
			if tt.inTest {
				p = Package{Dir: tt.from, TestImports: imports}
			}
			got := Check(module, House, []Package{p})
			switch {
			case tt.want == "" && len(got) != 0:
				t.Fatalf("forbidden: %v", got)
			case tt.want != "" && (len(got) != 1 || !strings.Contains(got[0].String(), tt.want)):
				t.Fatalf("got %v, want one complaint with %q", got, tt.want)
			case tt.want != "" && got[0].Test != (tt.inTest && got[0].To != ""):
				t.Fatalf("got %v, test file: %v", got, tt.inTest)
			}
		})
	}
}

// The table itself: rows point down, name known packages, and let nobody but node and the tests know everything.
func TestHouse(t *testing.T) {
	floors := map[string]int{}
	for _, r := range House {
		floors[r.Dir] = r.Floor
	}
	for _, r := range House {
		for _, dir := range slices.Concat(r.Imports, r.TestImports) {
			floor, known := floors[dir]
			if !known || floor >= r.Floor {
				t.Errorf("%s (floor %d) lists %s (floor %d, known: %v)", r.Dir, r.Floor, dir, floor, known)
			}
		}
		knows := slices.Contains(r.Imports, "session") && slices.Contains(r.Imports, "dht") && slices.Contains(r.Imports, "swarm")
		if knows != (r.Dir == "node" || r.Dir == "integration") {
			t.Errorf("%s knows session, dht and swarm: %v", r.Dir, knows)
		}
	}
}

// A tree on disk, so that what Load leaves out and what it reads is seen, too.
func TestLoad(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":                       "module " + module,
		"frame/frame.go":               "package frame\nimport \"fmt\"\n",
		"frame/frame_windows.go":       "//go:build windows\npackage frame\nimport _ \"" + module + "/stc\"\n",
		"frame/frame_test.go":          "package frame_test\nimport _ \"" + module + "/node\"\n",
		"frame/testdata/bad.go":        "not even Go",
		"frame/_old/old.go":            "package old\nimport _ \"" + module + "/node\"\n",
		"frame/.hidden.go":             "not even Go",
		"integration/bench/go.mod":     "module bench",
		"integration/bench/bench.go":   "package main\nimport _ \"" + module + "/cmd\"\n",
		"docs/notes.md":                "no Go here",
		"swarm/only_test.go":           "package swarm\nimport _ \"" + module + "/session\"\n",
		"session/transport/udp/udp.go": "package udp\nimport _ \"" + module + "/session/transport\"\n",
	} {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	packages, err := Load(root)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range Check(module, House, packages) {
		arrow := v.From + " → " + v.To
		if v.Test {
			arrow += " (test)"
		}
		got = append(got, arrow)
	}
	want := []string{"frame → stc", "frame → node (test)", "swarm → session (test)"}
	if !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	if err := os.WriteFile(filepath.Join(root, "frame", "broken.go"), []byte("not even Go"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(root); err == nil || !strings.Contains(err.Error(), "broken.go") {
		t.Fatalf("a file that does not parse: got error %v", err)
	}
}
