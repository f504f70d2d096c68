package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// The README's tables name every command, flag, variable, exit code and event.
func TestReadmeIsComplete(t *testing.T) {
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(b)
	want := func(what, text string) {
		t.Helper()
		if !strings.Contains(readme, text) {
			t.Errorf("README.md does not have the %s %s", what, text)
		}
	}
	for _, c := range commands() {
		want("command", "| `sttnode "+c.name)
		var o options
		fs, _ := c.flagSet(&o)
		fs.VisitAll(func(f *pflag.Flag) {
			want("flag", "`--"+f.Name)
			want("variable", "`"+envName(f.Name)+"`")
		})
	}
	for _, e := range exitCodeTexts {
		want("exit code", fmt.Sprintf("\n| %d |", e.code))
	}
	want("events", "\n| `damaged`, `missing` |")
	want("events", "\n| `pinned`, `unpinned` |")
	for _, event := range []string{"initialised", "listening", "file", "listed", "seeding", "ticket", "progress", "fetched", "published", "resolved", "name", "dht", "provider", "lookup", "node", "crawled", "content", "store", "verified", "repaired", "removed", "collected", "sent", "exposing", "forwarding", "version", "error"} {
		want("event", "\n| `"+event+"` |")
	}
}
