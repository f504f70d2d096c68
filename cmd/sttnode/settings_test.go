package main

import (
	"slices"
	"strings"
	"testing"
)

func TestParseSettings(t *testing.T) {
	got, err := parseSettings(strings.NewReader("\ufeff# all forms\n" +
		"bare = :4700 # comment\n" +
		" spaced  =  two words \n" +
		`quoted = "a # b, \"c\""` + "\r\n" +
		"host = [::1]:4700\n" +
		"commas = a, b ,c\n" +
		`mixed = "a,b", c` + "\n" +
		`list = [ "a", "b" ] # comment` + "\n" +
		`trailing = ["a",]` + "\n" +
		"empty = []\n\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []setting{
		{"bare", []string{":4700"}, 2},
		{"spaced", []string{"two words"}, 3},
		{"quoted", []string{`a # b, "c"`}, 4},
		{"host", []string{"[::1]:4700"}, 5},
		{"commas", []string{"a", "b", "c"}, 6},
		{"mixed", []string{"a,b", "c"}, 7},
		{"list", []string{"a", "b"}, 8},
		{"trailing", []string{"a"}, 9},
		{"empty", []string{}, 10},
	}
	if !slices.EqualFunc(got, want, func(a, b setting) bool {
		return a.name == b.name && a.line == b.line && slices.Equal(a.values, b.values)
	}) {
		t.Fatalf("got  %v\nwant %v", got, want)
	}
	for _, bad := range []string{
		"name", "= value", "name =", "name = # nothing", `name = "open`, `name = "a" b`, `name = ["a" "b"]`,
		`name = ["a", b]`, `name = ["a"`, "name = a,", "a = 1\na = 2", `name = "\q"`,
	} {
		if got, err := parseSettings(strings.NewReader(bad)); err == nil || !strings.HasPrefix(err.Error(), "line ") {
			t.Errorf("%q: %v, %v", bad, got, err)
		}
	}
}

func FuzzParseSettings(f *testing.F) {
	f.Add("a = b\n# c\nd = [\"e\", \"f\"]\n")
	f.Add("a = \"\\u0041\" # x")
	f.Add("a = [::1]:4700, [")
	f.Fuzz(func(t *testing.T, s string) {
		settings, err := parseSettings(strings.NewReader(s))
		if err != nil {
			return
		}
		for _, x := range settings {
			if x.name == "" || x.name != strings.TrimSpace(x.name) || x.line < 1 {
				t.Fatalf("%q reads as %+v", s, x)
			}
		}
	})
}

// Every flag of every command means the same everywhere, since they share one
// namespace in the environment and in settings files.
func TestFlagsShareOneNamespace(t *testing.T) {
	kinds := make(map[string]string)
	for _, c := range commands() {
		var o options
		fs, _ := c.flagSet(&o)
		for _, name := range settingNames() {
			f := fs.Lookup(name)
			if f == nil {
				continue
			}
			if kind, ok := kinds[name]; ok && kind != f.Value.Type() {
				t.Errorf("--%s of %s is a %s, elsewhere a %s", name, c.name, f.Value.Type(), kind)
			}
			kinds[name] = f.Value.Type()
			if strings.Contains(name, "_") || name != strings.ToLower(name) {
				t.Errorf("--%s is not a name for a variable", name)
			}
		}
	}
}
