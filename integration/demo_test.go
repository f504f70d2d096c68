package integration

import (
	"os"
	"regexp"
	"testing"
)

// The first thing that a newcomer runs: it needs nothing, leaves nothing behind, and says what happened.
func TestDemo(t *testing.T) {
	dir := t.TempDir()
	p := launch(t, "demo", dir, []string{"TMPDIR=" + dir}, "demo")
	p.expect(t, exitOK)
	text := p.stdout.String() + p.stderr.String()
	for _, say := range []string{`(?i)seed`, `(?i)stopped`, `(?i)\d+ (peers|sources|seeders|nodes)`, `(?i)(equal|identical|same bytes|match)`} {
		if !regexp.MustCompile(say).MatchString(text) {
			t.Errorf("the summary does not say %q:\n%s", say, text)
		}
	}
	left, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range left {
		t.Errorf("the demo left %s behind", e.Name())
	}
}
