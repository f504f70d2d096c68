package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
)

// metric is one figure of a case, taken from what a run has measured.
type metric[M any] struct {
	name   string // the case that it is printed as
	unit   string
	goals  []goal
	figure func(M) float64
}

// goal compares our figure with another subject's.
type goal struct {
	than  string // subject; empty: the figure itself
	least bool   // at least that often; else at most
	ratio float64
}

// loopbackCase is a task that each of some subjects runs; it yields one or
// more figures.
type loopbackCase struct {
	task     string
	question string
	subjects []string
	metrics  []metric[measured]
}

func goodput(m measured) float64 { return float64(m.client.Bytes) / m.client.Seconds / 1e6 }

func cpuPerGB(m measured) float64 {
	return (m.client.CPU + m.after.CPU - m.before.CPU) / float64(m.client.Bytes) * 1e9
}

var loopbackCases = []loopbackCase{
	{"bulk:1", "usage", []string{"stt", "quic-go", "tls"}, []metric[measured]{
		{"bulk1", "MB/s", []goal{{"quic-go", true, 3}, {"tls", true, 1}}, goodput},
		{"cpu1", "CPU s/GB", []goal{{"quic-go", false, 0.5}}, cpuPerGB},
	}},
	{"bulk:8", "usage", []string{"stt", "quic-go", "yamux"}, []metric[measured]{
		{"bulk8", "MB/s", []goal{{"quic-go", true, 3}}, goodput},
	}},
	{"bulk:1", "usage", []string{"stt-ws", "tls"}, []metric[measured]{
		{"ws-bulk1", "MB/s", []goal{{"tls", true, 0.7}}, goodput},
	}},
	{"request", "usage", []string{"stt", "quic-go", "yamux"}, []metric[measured]{
		{"rr-p50", "µs", []goal{{"quic-go", false, 0.4}}, func(m measured) float64 { return m.client.P50 }},
		{"rr-p99", "µs", []goal{{"quic-go", false, 0.4}}, func(m measured) float64 { return m.client.P99 }},
	}},
	{"handshake", "usage", []string{"stt", "quic-go", "tls"}, []metric[measured]{
		{"handshakes", "1/s", []goal{{"quic-go", true, 2}}, func(m measured) float64 { return float64(m.after.Sessions-m.before.Sessions) / m.client.Seconds }},
	}},
	{"idle", "settle", []string{"stt", "quic-go", "yamux"}, []metric[measured]{
		{"idle-memory", "KiB", []goal{{"", false, 20}}, func(m measured) float64 {
			return float64(m.after.RSS-m.before.RSS) / float64(m.client.Count) / 1024
		}},
	}},
	{"live", "usage", []string{"stt", "quic-go"}, []metric[measured]{
		{"live5000", "received/sent", []goal{{"", true, 0.99}}, func(m measured) float64 {
			return float64(m.client.Bytes) / float64(m.after.Sent-m.before.Sent)
		}},
		{"live5000-cpu", "CPU s/s", nil, func(m measured) float64 { return (m.after.CPU - m.before.CPU) / m.client.Seconds }},
		{"live5000-memory", "KiB/session", nil, func(m measured) float64 {
			return float64(m.after.RSS) / float64(m.client.Count) / 1024
		}},
	}},
}

// sessionBench is the command `session`.
func sessionBench(args []string) error {
	flags := flag.NewFlagSet("session", flag.ContinueOnError)
	names := flags.String("case", "", "run only these cases, separated by commas")
	asJSON := flags.Bool("json", false, "one JSON object a line instead of a table")
	runs := flags.Int("runs", 5, "runs of each subject")
	lab := flags.String("netlab", os.Getenv("STT_NETLAB"), "directory of netlab's source (default ../../../shared/netlab)")
	extra := flags.String("subjects", "", "more subjects to run in the emulated cases: stt-cubic, stt-bbr")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || *runs < 1 {
		return fmt.Errorf("session: unexpected arguments %v", flags.Args())
	}
	rep := &report{bench: "session", json: *asJSON, wanted: split(*names)}
	if err := checkNames(rep.wanted, sessionNames()); err != nil {
		return err
	}
	var failed error
	for _, c := range loopbackCases {
		if !wants(rep, c.metrics) {
			continue
		}
		failed = errors.Join(failed, c.run(rep, *runs))
	}
	return errors.Join(failed, emulated(rep, *runs, *lab, split(*extra)))
}

func split(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

func sessionNames() (known []string) {
	for _, c := range loopbackCases {
		for _, m := range c.metrics {
			known = append(known, m.name)
		}
	}
	for _, c := range linkCases {
		known = append(known, c.name)
	}
	return known
}

func checkNames(names, known []string) error {
	for _, n := range names {
		if !slices.Contains(known, n) {
			return fmt.Errorf("no case %q; there are %s", n, strings.Join(known, " "))
		}
	}
	return nil
}

func (c loopbackCase) run(rep *report, runs int) error {
	taken, err := alternate(rep, c.task, c.subjects, runs, func(subject string) (measured, error) {
		return pair(subject, c.task, c.question)
	})
	if err == nil {
		printMetrics(rep, c.metrics, c.subjects, taken)
	}
	return err
}

// alternate runs the subjects in turn, once more than counted: the first round only warms the machine up. Another subject than the first,
// which is ours, may fail: that is said, and it has no figures.
func alternate[M any](rep *report, task string, subjects []string, runs int, run func(subject string) (M, error)) (map[string][]M, error) {
	taken := make(map[string][]M)
	failed := make(map[string]bool)
	for round := range runs + 1 {
		for i, name := range subjects {
			if failed[name] {
				continue
			}
			m, err := run(name)
			if err != nil {
				err = fmt.Errorf("%s %s: %w", task, name, err)
				if i == 0 {
					return nil, err
				}
				fmt.Fprintln(os.Stderr, "bench: no figures of", err)
				failed[name] = true
				delete(taken, name)
				continue
			}
			if round == 0 && runs > 1 {
				continue
			}
			taken[name] = append(taken[name], m)
			rep.progress(task, name, round, runs)
		}
		if runs == 1 {
			break
		}
	}
	return taken, nil
}
