// Command dhtsim simulates networks of very many nodes of package dht in
// virtual time and prints how well they find things, beside what is to be
// reached.
//
//	go run ./integration/dhtsim --nodes 1000 --seed 7 [--churn 2h] [--lookups 2000] [--only warm,liars] [--json]
//
// The nodes run the code that runs in production. Replaced are the network
// (round trips lognormal around 100 ms with σ = 0.4, one datagram in a hundred
// lost, a tenth of the nodes behind a NAT), the clock, chance and the sealing
// of datagrams. A run repeats itself exactly from its seed, as the event hash
// shows.
package main

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
)

// memoryLimit is the memory above which garbage is collected whatever it costs.
const memoryLimit = 14 << 30

type options struct {
	nodes   int
	seed    uint64
	churn   time.Duration
	lookups int
	only    []string
	json    bool
	at      int
}

func main() {
	var o options
	flags := pflag.NewFlagSet("dhtsim", pflag.ContinueOnError)
	flags.IntVar(&o.nodes, "nodes", 1000, "size of the network, at least 50")
	flags.Uint64Var(&o.seed, "seed", 1, "decides everything")
	flags.DurationVar(&o.churn, "churn", 2*time.Hour, "median of the sessions where a line does not say another; 0 for none")
	flags.IntVar(&o.lookups, "lookups", 2000, "lookups for each line")
	flags.StringSliceVar(&o.only, "only", nil, "scenarios to run, of "+strings.Join(names(), ", ")+" (all)")
	flags.IntVar(&o.at, "at-once", 2, "scenarios that run at the same time")
	flags.BoolVar(&o.json, "json", false, "one JSON object a line")
	err := flags.Parse(os.Args[1:])
	if err == nil {
		err = o.check()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	debug.SetMemoryLimit(memoryLimit)
	o.run(os.Stdout)
}

func (o options) check() error {
	if o.nodes < 50 || o.lookups < 1 || o.churn < 0 || o.at < 1 {
		return fmt.Errorf("dhtsim: needs at least 50 nodes and one lookup")
	}
	for _, name := range o.only {
		if !slices.Contains(names(), name) {
			return fmt.Errorf("dhtsim: no scenario %q, there are %s", name, strings.Join(names(), ", "))
		}
	}
	return nil
}

func names() (all []string) {
	for _, s := range scenarios {
		all = append(all, s.name)
	}
	return all
}

func (o options) run(out io.Writer) *report {
	r := newReport()
	var group errgroup.Group
	group.SetLimit(o.at)
	for _, s := range scenarios {
		if len(o.only) > 0 && !slices.Contains(o.only, s.name) {
			continue
		}
		group.Go(func() error {
			began := time.Now()
			s.run(o, r)
			fmt.Fprintf(os.Stderr, "%s: %.1f s\n", s.name, time.Since(began).Seconds())
			return nil
		})
	}
	_ = group.Wait() // scenarios do not fail
	if o.json {
		r.printJSON(out, o)
	} else {
		r.print(out, o)
	}
	return r
}
