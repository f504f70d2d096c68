package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strings"

	"github.com/spf13/pflag"
)

// app is one run of the program: where it reads and writes, what the
// environment says, and the common settings once they are known.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	lookupEnv      func(string) (string, bool)

	options options
	reread  func() (options, error) // the common settings as they are now
	log     *slog.Logger
}

// runFunc does a command's work once its flags are known. ctx ends at the
// first signal.
type runFunc func(ctx context.Context, a *app, args []string) error

// command is one entry of the program's table of commands.
type command struct {
	name  string // one or two words: "seed", "store ls"
	args  string // of the usage line: "HASH [-o PATH]"
	short string // one line for the table of commands
	long  string // what a stranger must know to use it
	group flagGroup
	// setup defines the command's own flags and returns what runs with them.
	setup func(fs *pflag.FlagSet) runFunc
}

// commands is the table of commands in the order in which help shows them.
func commands() []*command {
	return []*command{
		initCommand(),
		bootstrapCommand(),
		seedCommand(),
		fetchCommand(),
		ticketCommand(),
		namePublishCommand(),
		nameResolveCommand(),
		nameListCommand(),
		nameRemoveCommand(),
		dhtStatCommand(),
		dhtFindCommand(),
		dhtGetCommand(),
		dhtCrawlCommand(),
		storeListCommand(),
		storeStatCommand(),
		storeVerifyCommand(),
		storePinCommand(),
		storeUnpinCommand(),
		storeRemoveCommand(),
		storeCollectCommand(),
		listenCommand(),
		sendCommand(),
		exposeCommand(),
		forwardCommand(),
		demoCommand(),
		versionCommand(),
	}
}

// findCommand returns the command that args begin with and what follows it.
func findCommand(args []string) (*command, []string, error) {
	for words := 2; words >= 1; words-- {
		if len(args) < words {
			continue
		}
		name := strings.Join(args[:words], " ")
		for _, c := range commands() {
			if c.name == name {
				return c, args[words:], nil
			}
		}
	}
	if family := commandsOf(args[0]); len(family) > 0 {
		known := strings.Join(family, ", ")
		if len(args) == 1 || strings.HasPrefix(args[1], "-") {
			return nil, nil, usagef("%s needs one of: %s", args[0], known)
		}
		return nil, nil, usagef("unknown command %q; %s knows: %s", args[0]+" "+args[1], args[0], known)
	}
	if strings.HasPrefix(args[0], "-") {
		return nil, nil, usagef("%s: flags come after the command, as in: sttnode seed %s …", args[0], args[0])
	}
	return nil, nil, usagef("unknown command %q", args[0])
}

// commandsOf returns the second words of the commands whose first one is this.
func commandsOf(first string) []string {
	var names []string
	for _, c := range commands() {
		if rest, ok := strings.CutPrefix(c.name, first+" "); ok {
			names = append(names, rest)
		}
	}
	return names
}

// main runs the program and returns its exit code.
func (a *app) main(ctx context.Context, args []string) int {
	err := a.dispatch(ctx, args)
	if err == nil {
		return exitOK
	}
	code, text := exitCode(err), errorText(err)
	if a.options.json {
		a.emit(errorEvent{Event: "error", Error: text, Code: code})
	}
	fmt.Fprintf(a.stderr, "sttnode: %s\n", text)
	var usage *usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(a.stderr, "Run 'sttnode %s' for how to use it.\n", strings.TrimSpace("help "+usage.command))
	}
	return code
}

// packagePrefix is what the errors of our packages begin with, which tells a
// programmer where they come from and a user nothing.
var packagePrefix = regexp.MustCompile(`\b(node|swarm|session|dht|content|stc): `)

// errorText is an error as a person reads it: one line, without the names of
// packages.
func errorText(err error) string {
	text := packagePrefix.ReplaceAllString(err.Error(), "")
	return strings.ReplaceAll(strings.TrimSpace(text), "\n", "; ")
}

type errorEvent struct {
	Event string `json:"event"`
	Error string `json:"error"`
	Code  int    `json:"code"`
}

func (a *app) dispatch(ctx context.Context, args []string) error {
	if len(args) == 0 {
		writeProgramUsage(a.stderr)
		return usagef("a command is needed")
	}
	switch args[0] {
	case "help", "-h", "--help":
		return a.help(args[1:])
	case "--version":
		args = []string{"version"}
	}
	c, rest, err := findCommand(args)
	if err != nil {
		return err
	}
	err = a.run(ctx, c, rest)
	var usage *usageError
	if errors.As(err, &usage) && usage.command == "" {
		usage.command = c.name
	}
	return err
}

func (a *app) run(ctx context.Context, c *command, args []string) error {
	fs, run := c.flagSet(&a.options)
	fs.Usage = func() {}
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			writeCommandUsage(a.stdout, c)
			return nil
		}
		return usagef("%v", err)
	}
	var except []string
	if c.group&groupPart != 0 {
		except = ownSettings
	}
	if err := applySettings(fs, a.lookupEnv, except); err != nil {
		return err
	}
	log, err := newLogger(a.stderr, a.options.logLevel)
	if err != nil {
		return err
	}
	a.log = log
	a.reread = func() (options, error) {
		var o options
		fs, _ := c.flagSet(&o)
		if err := fs.Parse(args); err != nil {
			return o, err
		}
		return o, applySettings(fs, a.lookupEnv, except)
	}
	return run(ctx, a, fs.Args())
}

// flagSet returns the flags of the command, all bound to fresh variables but
// the common ones, which are bound to o.
func (c *command) flagSet(o *options) (*pflag.FlagSet, runFunc) {
	fs := pflag.NewFlagSet(c.name, pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.SortFlags = false
	run := c.setup(fs)
	o.define(fs, c.group)
	return fs, run
}

func (a *app) help(args []string) error {
	if len(args) == 0 {
		writeProgramUsage(a.stdout)
		return nil
	}
	switch args[0] {
	case "settings":
		fmt.Fprint(a.stdout, settingsHelp)
		return nil
	case "exit-codes":
		writeExitCodes(a.stdout)
		return nil
	}
	if family := commandsOf(args[0]); len(args) == 1 && len(family) > 0 {
		for _, c := range commands() {
			if strings.HasPrefix(c.name, args[0]+" ") {
				fmt.Fprintf(a.stdout, "%-14s %s\n", c.name, c.short)
			}
		}
		return nil
	}
	c, _, err := findCommand(args)
	if err != nil {
		return err
	}
	writeCommandUsage(a.stdout, c)
	return nil
}

// emit writes one JSON object as a line on standard output.
func (a *app) emit(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // the types of our own events always marshal
	}
	_, _ = a.stdout.Write(append(b, '\n'))
}

// note tells a person what happens, on standard error, unless asked not to.
func (a *app) note(format string, args ...any) {
	if !a.options.quiet {
		fmt.Fprintf(a.stderr, format+"\n", args...)
	}
}

// warn says what a person should look into. It is not silenced.
func (a *app) warn(format string, args ...any) {
	fmt.Fprintf(a.stderr, "sttnode: warning: "+format+"\n", args...)
}
