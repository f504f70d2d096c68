package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"
)

const programIntro = `sttnode: a private network that hands out files by their hash, from many peers at once.

Everybody in a network holds the same shared seed, a file with a secret. Nobody
without it gets a single byte.

Usage: sttnode COMMAND [ARGUMENTS] [FLAGS]

Commands:
`

const programOutro = `
A first try, which needs no set-up and leaves nothing behind: sttnode demo

Every flag is also an environment variable (--shared-seed-file is
STTNODE_SHARED_SEED_FILE) and a line of a settings file; see 'sttnode help
settings' for both. 'sttnode help COMMAND' explains a command.
`

const settingsHelp = `Where settings come from, the first one that says something wins:

  1. the flag                     --listen 127.0.0.1:4700
  2. the environment              STTNODE_LISTEN=127.0.0.1:4700
  3. the settings file            listen = "127.0.0.1:4700"
  4. the default

The name of a variable is the flag's in capitals, with _ for -, after STTNODE_.
Where a flag may be given more than once, the variable takes a list separated
by commas; STTNODE_LIMIT one separated by semicolons.

The settings file is the one named by --config, else the file config in the
node's directory if there is one. It holds a setting a line, named as the flag;
# begins a comment, quotes are optional, and a list is written as in TOML or
separated by commas:

  # the network of the office
  shared-seed-file = "/etc/sttnode/office.seed"
  listen           = ":4700"
  bootstrap        = ["boot1.example.org:4700", "boot2.example.org:4700"]
  quiet            = true

Limits of the rate, --limit-up, --limit-down and --limit-peer, hold at all times
that no --limit names. A --limit is days, times and rates, the former two as
needed, and several of them stand in quotes in a list, or with ; between them:

  limit-up   = 10M
  limit      = ["Mo-Fr 08:00-18:00 2M", "Fr,Sa 22:00-06:00 up none", "peer 1M"]

RATE is in bytes a second, 1.5M is 1.5 MiB/s, and none is no limit. A rate alone
is for both directions, "up RATE", "down RATE" and "peer RATE" are for one. Of
several that hold at the same time the last one counts, for each direction by
itself. The clock on the wall decides; a time that ends before it begins ends on
the next day. At SIGHUP a node that runs reads the limits, and nothing else,
again.

Settings of commands other than the one that runs are skipped; names that no
command knows are refused. A secret is never a setting: seeds live in files.
`

func writeProgramUsage(w io.Writer) {
	fmt.Fprint(w, programIntro)
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-14s %s\n", c.name, c.short)
	}
	fmt.Fprintf(w, "  %-14s %s\n", "help", "explain a command, or 'help settings', 'help exit-codes'")
	fmt.Fprint(w, programOutro)
}

func writeExitCodes(w io.Writer) {
	fmt.Fprint(w, "Exit codes:\n\n")
	for _, e := range exitCodeTexts {
		fmt.Fprintf(w, "  %3d  %s\n", e.code, e.text)
	}
}

func writeCommandUsage(w io.Writer, c *command) {
	fmt.Fprintf(w, "Usage: sttnode %s\n\n%s\n", strings.TrimSpace(c.name+" "+c.args), strings.TrimSpace(c.long))
	own := pflag.NewFlagSet(c.name, pflag.ContinueOnError)
	own.SortFlags = false
	c.setup(own)
	if own.HasFlags() {
		fmt.Fprintf(w, "\nFlags:\n%s", own.FlagUsages())
	}
	var o options
	common := pflag.NewFlagSet(c.name, pflag.ContinueOnError)
	common.SortFlags = false
	o.define(common, c.group)
	if common.HasFlags() {
		fmt.Fprintf(w, "\nCommon flags:\n%s", common.FlagUsages())
	}
}
