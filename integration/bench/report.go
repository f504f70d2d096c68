package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

// row is one subject's figure in a case; its JSON is what DESIGN section 10
// promises.
type row struct {
	Bench   string  `json:"bench"`
	Case    string  `json:"case"`
	Subject string  `json:"subject"`
	Unit    string  `json:"unit"`
	Median  float64 `json:"median"`
	Min     float64 `json:"min"`
	Max     float64 `json:"max"`
	Runs    int     `json:"runs"`
}

func newRow(name, subject, unit string, figures []float64) row {
	r := row{Case: name, Subject: subject, Unit: unit, Runs: len(figures)}
	if len(figures) == 0 {
		return r
	}
	s := slices.Sorted(slices.Values(figures))
	r.Min, r.Max, r.Median = s[0], s[len(s)-1], s[len(s)/2]
	if len(s)%2 == 0 {
		r.Median = (s[len(s)/2-1] + s[len(s)/2]) / 2
	}
	return r
}

// report prints rows for people or for machines.
type report struct {
	bench  string // the command
	json   bool
	wanted []string // cases; empty: all
	headed bool
}

func (r *report) wantsName(name string) bool {
	return len(r.wanted) == 0 || slices.Contains(r.wanted, name)
}

func wants[M any](r *report, ms []metric[M]) bool {
	return slices.ContainsFunc(ms, func(m metric[M]) bool { return r.wantsName(m.name) })
}

// printMetrics prints the wanted figures of a case, those of the first subject, which is ours, first.
func printMetrics[M any](r *report, metrics []metric[M], subjects []string, taken map[string][]M) {
	for _, metric := range metrics {
		if !r.wantsName(metric.name) {
			continue
		}
		var rows []row
		for _, name := range subjects {
			var figures []float64
			for _, m := range taken[name] {
				figures = append(figures, metric.figure(m))
			}
			if len(figures) == 0 {
				continue // it has failed
			}
			rows = append(rows, newRow(metric.name, name, metric.unit, figures))
		}
		r.print(rows, metric.goals)
	}
}

// progress shows on a terminal that something is happening.
func (r *report) progress(task, subject string, round, runs int) {
	if fi, err := os.Stderr.Stat(); err == nil && fi.Mode()&os.ModeCharDevice != 0 {
		fmt.Fprintf(os.Stderr, "\r%s %s %d/%d\033[K\r", task, subject, round, runs)
	}
}

// print prints the rows of one case. The first row is ours; goals are about
// it.
func (r *report) print(rows []row, goals []goal) {
	if r.json {
		out := json.NewEncoder(os.Stdout)
		for _, row := range rows {
			row.Bench = r.bench
			_ = out.Encode(row)
		}
		return
	}
	if !r.headed {
		r.headed = true
		fmt.Printf("%-16s %-10s %12s %12s %12s  %-14s %-8s %s\n", "case", "subject", "median", "min", "max", "unit", "ratio", "goal")
	}
	for i, row := range rows {
		ratio, text := "", ""
		if i > 0 && row.Median > 0 {
			ratio = fmt.Sprintf("%.2f", rows[0].Median/row.Median)
		}
		for _, g := range goals {
			if g.than == row.Subject || g.than == "" && i == 0 {
				text = strings.TrimSpace(text + " " + g.judge(rows[0].Median, row))
			}
		}
		fmt.Printf("%-16s %-10s %12.4g %12.4g %12.4g  %-14s %-8s %s\n", row.Case, row.Subject, row.Median, row.Min, row.Max, row.Unit, ratio, text)
	}
}

// judge says what the goal is and whether ours reaches it.
func (g goal) judge(ours float64, other row) string {
	value := ours
	unit := "×"
	if g.than == "" {
		unit = " " + other.Unit
	} else if other.Median > 0 {
		value = ours / other.Median
	}
	sign, met := "≤", value <= g.ratio
	if g.least {
		sign, met = "≥", value >= g.ratio
	}
	word := "missed"
	if met {
		word = "met"
	}
	return fmt.Sprintf("%s %g%s: %s", sign, g.ratio, unit, word)
}
