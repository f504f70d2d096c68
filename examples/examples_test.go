package examples

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Every example runs, ends by itself, and prints what lies beside it; and the
// package's documentation names it. With -short it is only the first: linking
// takes longer than all of them together.
func TestExamples(t *testing.T) {
	sources, err := filepath.Glob("*/main.go")
	if err != nil || len(sources) == 0 {
		t.Fatal("no examples", err)
	}
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	what := "./..."
	if testing.Short() {
		sources, what = []string{filepath.Join("hello", "main.go")}, "./hello"
	}
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin+string(filepath.Separator), what).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, source := range sources {
		name := filepath.Dir(source)
		if !strings.Contains(string(doc), "\n//\t"+name+" ") {
			t.Errorf("doc.go does not name %s", name)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(filepath.Join(name, "output.txt"))
			if err != nil {
				t.Fatal(err)
			}
			program := filepath.Join(bin, name)
			if runtime.GOOS == "windows" {
				program += ".exe"
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, program)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			got, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v\n%s%s", err, got, &stderr)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("it prints\n%swant\n%s", got, want)
			}
		})
	}
}
