package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"
)

// flagGroup says which of the common flags a command has.
type flagGroup uint8

const (
	groupOutput flagGroup = 1 << iota // --json --quiet --log-level
	groupDir                          // --dir --config
	groupSeed                         // --shared-seed-file
	groupNet                          // --listen --ws-… --bootstrap --metrics --ready-file
	groupJoin                         // --bootstrap
	groupLimits                       // --limit-up --limit-down --limit-peer --limit
	groupPart                         // runs beside the node of the directory

	groupStore = groupOutput | groupDir
	groupNode  = groupStore | groupSeed | groupNet

	groupTransfer = groupNode | groupLimits
	groupBeside   = groupNode | groupPart
)

// ownSettings are the settings that no two processes can share: from the
// environment and the settings file they are for the node of the directory, and
// not for what runs beside it.
var ownSettings = []string{"listen", "ws-listen", "ws-cert", "ws-key", "metrics", "ready-file"}

// defaultListen is where a node listens unless told otherwise. The number is
// no registered service's.
const defaultListen = ":4700"

// options are the common settings.
type options struct {
	dir            string
	config         string
	sharedSeedFile string // empty: the one in dir
	listen         string
	wsListen       string
	wsCert, wsKey  string
	bootstrap      []string
	lan            bool
	metrics        string
	readyFile      string
	limits         limitOptions
	json, quiet    bool
	logLevel       string
}

// define adds the flags of the groups to fs, bound to o.
func (o *options) define(fs *pflag.FlagSet, group flagGroup) {
	if group&groupDir != 0 {
		fs.StringVar(&o.dir, "dir", defaultDir(), "directory `D` of this node: its seed, its store, its settings")
		if home, err := os.UserHomeDir(); err == nil {
			fs.Lookup("dir").DefValue = strings.Replace(defaultDir(), home, "~", 1) // in the usage text
		}
		fs.StringVar(&o.config, "config", "", "settings file `F` (default: the file config in --dir, if there is one)")
	}
	if group&groupSeed != 0 {
		fs.StringVar(&o.sharedSeedFile, "shared-seed-file", "", "file `F` with the network's shared seed (default: shared.seed in --dir)")
	}
	if group&groupNet != 0 {
		listen := defaultListen
		if group&groupPart != 0 {
			listen = ":0"
		}
		fs.StringVar(&o.listen, "listen", listen, "UDP `HOST:PORT` to listen on; port 0 takes a free one")
		fs.StringVar(&o.wsListen, "ws-listen", "", "take WebSocket connections on TCP `HOST:PORT` as well; port 0 takes a free one")
		fs.StringVar(&o.wsCert, "ws-cert", "", "speak TLS (wss://) on --ws-listen, with the certificate chain in PEM file `F`, self-signed or not")
		fs.StringVar(&o.wsKey, "ws-key", "", "PEM file `F` with the key of --ws-cert")
	}
	if group&(groupNet|groupJoin) != 0 {
		fs.StringSliceVar(&o.bootstrap, "bootstrap", nil, "`ADDR` of a node to join the network by, [nodeid@]host:port or [nodeid@]ws[s]://host:port/path; may be repeated")
	}
	if group&groupNet != 0 {
		fs.BoolVar(&o.lan, "lan", false, "find nodes on the local network, and let them find this one")
		fs.StringVar(&o.metrics, "metrics", "", "serve Prometheus metrics on http://`HOST:PORT`/metrics")
		fs.StringVar(&o.readyFile, "ready-file", "", "write file `F` with the addresses, as JSON, once the node listens")
	}
	if group&groupLimits != 0 {
		o.limits.define(fs)
	}
	if group&groupOutput != 0 {
		fs.BoolVar(&o.json, "json", false, "one JSON object a line on standard output")
		fs.BoolVarP(&o.quiet, "quiet", "q", false, "no notes and no progress on standard error")
		fs.StringVar(&o.logLevel, "log-level", "warn", "what is logged on standard error, from `LEVEL` debug, info, warn or error up")
	}
}

// defaultDir is ~/.sttnode, or .sttnode here for a user without a home.
func defaultDir() string {
	home, err := os.UserHomeDir()
	if err != nil {
		return ".sttnode"
	}
	return filepath.Join(home, ".sttnode")
}

func newLogger(w io.Writer, level string) (*slog.Logger, error) {
	var l slog.Level
	switch strings.ToLower(level) {
	case "debug":
		l = slog.LevelDebug
	case "info":
		l = slog.LevelInfo
	case "warn", "": // empty: the command has no such flag
		l = slog.LevelWarn
	case "error":
		l = slog.LevelError
	default:
		return nil, usagef("--log-level %q is not one of debug, info, warn, error", level)
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})), nil
}

// home knows where things lie in a node's directory.
type home string

func (h home) nodeSeed() string   { return filepath.Join(string(h), "node.seed") }
func (h home) sharedSeed() string { return filepath.Join(string(h), "shared.seed") }
func (h home) settings() string   { return filepath.Join(string(h), settingsFileName) }

// sharedSeedPath is where the network's seed lies for this run.
func (o *options) sharedSeedPath() string {
	if o.sharedSeedFile != "" {
		return o.sharedSeedFile
	}
	return home(o.dir).sharedSeed()
}

const storeLimitUsage = "keep no more than `SIZE` in the store, such as 500M or 2TiB (default: no limit)"

// parseLimit reads --store-limit; empty is none.
func parseLimit(text string) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := parseBytes(text)
	if err != nil {
		return 0, usagef("--store-limit: %v", err)
	}
	return n, nil
}

// noArgs refuses arguments of a command that takes none.
func noArgs(args []string) error {
	if len(args) > 0 {
		return usagef("unexpected argument %q", args[0])
	}
	return nil
}

// plural is "1 file", "2 files".
func plural[N int | int64 | uint64](n N, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
