package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
)

// line is one line of the table: what is measured and what is to be reached.
type line struct {
	id, what string
	unit     string
	goals    [2][]float64 // in a network of 1,000 nodes, and of 10,000
	atLeast  []bool       // of each figure: more is better; missing is false
}

var more = []bool{true}

var lines = []line{
	{"first", "first provider p50 / p95 / p99, 2 h churn, warm", "RTT", [2][]float64{{0.8, 1.3, 2.0}, {0.9, 1.5, 2.5}}, nil},
	{"first-messages", "messages to the first provider p50 / p95", "", [2][]float64{{4, 6}, {5, 8}}, nil},
	{"complete", "negative lookup p50 / p95, messages", "RTT", [2][]float64{{3, 4.5, 25}, {3.5, 5, 28}}, nil},
	{"publish", "publish acknowledged by 15 p50 / p95, messages", "RTT", [2][]float64{{1.7, 2.2, 30}, {2.2, 2.9, 32}}, nil},
	{"placed", "records on the true 20 closest, 10 % stale tables", "mean", [2][]float64{{19.5}, {19.5}}, more},
	{"crash-30", "found after 30 % crash at once", "%", [2][]float64{{100}, {100}}, more},
	{"crash-50", "found after 50 % crash at once", "%", [2][]float64{{99.95}, {99.9}}, more},
	{"found-2h", "found at session median 2 h", "%", [2][]float64{{99.99}, {99.99}}, more},
	{"found-10m", "found at session median 10 min", "%", [2][]float64{{99.9}, {99.9}}, more},
	{"found-1.4m", "found at session median 1.4 min", "%", [2][]float64{{99}, {99}}, more},
	{"liars-20", "found with 20 % lying members", "%", [2][]float64{{99.99}, {99.99}}, more},
	{"liars-30", "found with 30 % lying members", "%", [2][]float64{{99.9}, {99.9}}, more},
	{"liars-50", "found with 50 % lying members", "%", [2][]float64{{99}, {99}}, more},
	{"omitters-20", "found with 20 % members that leave out all others", "%", [2][]float64{{99.99}, {99.99}}, more},
	{"omitters-30", "found with 30 % members that leave out all others", "%", [2][]float64{{99.9}, {99.9}}, more},
	{"omitters-50", "found with 50 % members that leave out all others", "%", [2][]float64{{99}, {99}}, more},
	{"ground", "found with 40 IDs ground next to the key, honest holders", "%", [2][]float64{{99.9, 10}, {99.9, 10}}, []bool{true, true}},
	{"upkeep", "upkeep a node at 2 h sessions: messages/s, bytes/s", "", [2][]float64{{0.3, 60}, {0.4, 80}}, nil},
	{"cold-join", "cold join from one bootstrap node, messages", "RTT", [2][]float64{{8, 150}, {10, 250}}, nil},
	{"warm-restart", "warm restart, half of the saved peers dead: first lookup", "RTT", [2][]float64{{2.5}, {3}}, nil},
	{"republish", "100,000 keys republished: region lookups", "", [2][]float64{{60}, {600}}, nil},
}

// report collects what the scenarios measure. Safe for concurrent use.
type report struct {
	mu       sync.Mutex
	measured map[string][]float64
	hashes   map[string]uint64
	sent     int
	joinErrs int
}

func newReport() *report {
	return &report{measured: map[string][]float64{}, hashes: map[string]uint64{}}
}

// add sets the figures of a line.
func (r *report) add(id string, figures ...float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.measured[id] = figures
}

// end takes note of how a scenario's world ended.
func (r *report) end(name string, w *world) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hashes[name] = w.Hash()
	r.sent += w.Sent()
	r.joinErrs += w.joinErr
}

// hash returns the event hash of all worlds together.
func (r *report) hash() uint64 {
	var h uint64
	for _, s := range scenarios {
		h = h*0x100000001b3 ^ r.hashes[s.name]
	}
	return h
}

// result is one line as it came out.
type result struct {
	Line     string    `json:"line"`
	What     string    `json:"what"`
	Unit     string    `json:"unit,omitempty"`
	Measured []float64 `json:"measured"`
	Goal     []float64 `json:"goal"`
	Met      bool      `json:"met"`
}

func (r *report) results(nodes int) (all []result) {
	column := 0
	if nodes > 3000 {
		column = 1
	}
	for _, l := range lines {
		measured, ok := r.measured[l.id]
		if !ok {
			continue
		}
		res := result{Line: l.id, What: l.what, Unit: l.unit, Measured: measured, Goal: l.goals[column], Met: true}
		for i, goal := range res.Goal {
			x := rounded(measured[i])
			if i < len(l.atLeast) && l.atLeast[i] {
				res.Met = res.Met && x >= goal
			} else {
				res.Met = res.Met && x <= goal
			}
		}
		all = append(all, res)
	}
	return all
}

// rounded is a figure as it is printed.
func rounded(x float64) float64 {
	y, err := strconv.ParseFloat(fmt.Sprintf("%.2f", x), 64)
	check(err)
	return y
}

// print writes the table, for people.
func (r *report) print(out io.Writer, o options) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%d nodes, seed %d\tmeasured\tgoal\t\n", o.nodes, o.seed)
	for _, res := range r.results(o.nodes) {
		verdict := "met"
		if !res.Met {
			verdict = "missed"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", strings.TrimSuffix(res.What+", "+res.Unit, ", "), figures(res.Measured), figures(res.Goal), verdict)
	}
	check(t.Flush())
	fmt.Fprintf(out, "%d datagrams, event hash %016x\n", r.sent, r.hash())
}

// printJSON writes one object a line, for scripts.
func (r *report) printJSON(out io.Writer, o options) {
	enc := json.NewEncoder(out)
	for _, res := range r.results(o.nodes) {
		check(enc.Encode(res))
	}
	check(enc.Encode(map[string]any{"nodes": o.nodes, "seed": o.seed, "datagrams": r.sent, "hash": fmt.Sprintf("%016x", r.hash())}))
}

func figures(x []float64) string {
	var all []string
	for _, f := range x {
		all = append(all, strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", f), "0"), "."))
	}
	return strings.Join(all, " / ")
}
