package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"time"
)

// fetchRun is what one run of a subject of the fetch cases has measured. Which fields count depends on the case.
type fetchRun struct {
	Seconds    float64   `json:"seconds,omitempty"`
	CPU        float64   `json:"cpu,omitempty"`         // seconds, user and system, of all processes
	Peak       int64     `json:"peak,omitempty"`        // bytes resident of the fetching process, at most
	SeederPeak int64     `json:"seeder_peak,omitempty"` // of the seeding process that took most
	Bytes      int64     `json:"bytes,omitempty"`       // of the content
	Count      int64     `json:"count,omitempty"`       // of its files
	Waits      []float64 `json:"waits,omitempty"`       // milliseconds that each of many fetches took, seconds of a crowd, round trips of seeks
	FirstByte  float64   `json:"first_byte,omitempty"`  // round trips
	Fetched    int64     `json:"fetched,omitempty"`     // bytes that counted, manifests included
	Duplicate  int64     `json:"duplicate,omitempty"`   // bytes that came twice
	Bad        int64     `json:"bad,omitempty"`         // bytes that were not what was asked for
	WorstLiar  int64     `json:"worst_liar,omitempty"`  // bad chunks of the peer that got through most
	Ideal      float64   `json:"ideal,omitempty"`       // seconds that the links, or the same without disturbance, would take
	SeederSent float64   `json:"seeder_sent,omitempty"` // what the first seeder has sent, in shares of the content
}

func (m fetchRun) rate() float64     { return float64(m.Bytes) / m.Seconds / 1e6 }
func (m fetchRun) mbit() float64     { return float64(m.Bytes) * 8 / m.Seconds / 1e6 }
func (m fetchRun) cpuPerGB() float64 { return m.CPU / float64(m.Bytes) * 1e9 }
func (m fetchRun) twice() float64    { return 100 * float64(m.Duplicate) / float64(m.Fetched) }
func (m fetchRun) overIdeal() float64 {
	return m.Seconds / m.Ideal
}
func (m fetchRun) p50() float64 { return median(m.Waits) }

// fetchCase is a task that each of some subjects runs; it yields one or more figures.
type fetchCase struct {
	task     string
	subjects []string
	lab      *lab // the network that it needs; nil for loopback
	run      func(b *fetchBed, subject string) (fetchRun, error)
	metrics  []metric[fetchRun]
}

// memoryMetrics are the peaks of both ends, which every transfer on loopback tells.
func memoryMetrics(name string) []metric[fetchRun] {
	return []metric[fetchRun]{
		{name, "MB", []goal{{"", false, 112}}, func(m fetchRun) float64 { return float64(m.Peak) / 1e6 }},
		{name + "-seeder", "MB", []goal{{"", false, 64}}, func(m fetchRun) float64 { return float64(m.SeederPeak) / 1e6 }},
	}
}

func duplicates(name string) metric[fetchRun] {
	return metric[fetchRun]{name + "-duplicate", "% of bytes", []goal{{"", false, 2}}, fetchRun.twice}
}

// The links of the cases with four seeders.
const (
	linksMbit = 100
	linksHost = 4
)

func overLinks(name string, rtt time.Duration, goals []goal, run func(b *fetchBed, subject string) (fetchRun, error)) fetchCase {
	return fetchCase{name, []string{"stt"}, &lab{hosts: linksHost + 1, rate: "100mbit", delay: rtt / 2, wide: []int{0}}, run, []metric[fetchRun]{
		{name, "Mbit/s", goals, fetchRun.mbit},
		duplicates(name),
	}}
}

func atLeast(share float64) []goal { return []goal{{"", true, share * linksMbit * linksHost}} }

func overRTT(rtt time.Duration) fetchCase {
	return overLinks(fmt.Sprintf("rtt%d", rtt.Milliseconds()), rtt, atLeast(0.9), (*fetchBed).fromFour)
}

var fetchCases = []fetchCase{
	{"one", []string{"stt", "curl-https", "libtorrent", "libtorrent-tuned"}, nil, (*fetchBed).fromOne, append([]metric[fetchRun]{
		{"one", "MB/s", []goal{{"curl-https", true, 0.7}, {"libtorrent-tuned", true, 1}}, fetchRun.rate},
		{"one-cpu", "CPU s/GB", nil, fetchRun.cpuPerGB},
	}, memoryMetrics("one-memory")...)},
	{"four", []string{"stt", "stt-one", "libtorrent-tuned"}, nil, (*fetchBed).fromSome, []metric[fetchRun]{
		{"four", "MB/s", []goal{{"stt-one", true, 1}, {"libtorrent-tuned", true, 1}}, fetchRun.rate},
		{"four-cpu", "CPU s/GB", nil, fetchRun.cpuPerGB},
		duplicates("four"),
	}},
	{"memory", []string{"stt"}, nil, (*fetchBed).large, memoryMetrics("memory")},
	{"small-object", []string{"stt"}, nil, (*fetchBed).smallObjects, []metric[fetchRun]{
		{"small-object", "ms", []goal{{"", false, 15}}, fetchRun.p50},
	}},
	{"files10k", []string{"stt"}, nil, (*fetchBed).manyFiles, []metric[fetchRun]{
		{"files10k", "files/s", []goal{{"", true, 3000}}, func(m fetchRun) float64 { return float64(m.Count) / m.Seconds }},
	}},
	overLinks("links4", 20*time.Millisecond, atLeast(0.95), (*fetchBed).fromFour),
	{"links4-loss1", []string{"stt"}, &lab{hosts: linksHost + 1, rate: "100mbit", delay: 10 * time.Millisecond, loss: 0.01, wide: []int{0}},
		(*fetchBed).fromFour, []metric[fetchRun]{
			{"links4-loss1", "Mbit/s", atLeast(0.85), fetchRun.mbit},
			duplicates("links4-loss1"),
		}},
	{"links4-kill", []string{"stt"}, &lab{hosts: linksHost + 1, rate: "100mbit", delay: 10 * time.Millisecond, wide: []int{0}},
		(*fetchBed).fromFourKilled, []metric[fetchRun]{
			{"links4-kill", "of ideal", []goal{{"", false, 1.1}}, fetchRun.overIdeal},
			duplicates("links4-kill"),
		}},
	{"links4-slow", []string{"stt"}, &lab{hosts: linksHost + 1, rate: "100mbit", delay: 10 * time.Millisecond, wide: []int{0}},
		(*fetchBed).fromFourSlow, []metric[fetchRun]{
			{"links4-slow", "of ideal", []goal{{"", false, 1.03}}, fetchRun.overIdeal},
			duplicates("links4-slow"),
		}},
	overRTT(5 * time.Millisecond), overRTT(50 * time.Millisecond), overRTT(100 * time.Millisecond), overRTT(200 * time.Millisecond),
	crowd{mbit: 50, mib: 64}.task("flash-crowd"), crowd{mbit: 10, mib: 64}.task("flash-crowd-10"),
	{"liars", []string{"stt"}, nil, (*fetchBed).withLiars, []metric[fetchRun]{
		{"liars", "% wasted", []goal{{"", false, 10}}, func(m fetchRun) float64 { return 100 * float64(m.Bad+m.Duplicate) / float64(m.Fetched) }},
		{"liars-chunks", "bad chunks of a liar", []goal{{"", false, 3}}, func(m fetchRun) float64 { return float64(m.WorstLiar) }},
	}},
	{"stream", []string{"stt"}, &lab{hosts: 2, rate: "100mbit", delay: streamRTT / 2},
		(*fetchBed).stream, []metric[fetchRun]{
			{"first-byte", "round trips", []goal{{"", false, 3}}, func(m fetchRun) float64 { return m.FirstByte }},
			{"seek", "round trips", []goal{{"", false, 3}}, fetchRun.p50},
		}},
	{"trickle", []string{"stt"}, &lab{hosts: tricklePeers + 1, rate: "0", delay: 10 * time.Millisecond},
		(*fetchBed).besideTricklers, []metric[fetchRun]{
			{"trickle", "of without", []goal{{"", false, 1.3}}, fetchRun.overIdeal},
			duplicates("trickle"),
		}},
}

const fetchNotes = `
stt: nodes of package node, a process each, with encryption and verification, stored to durable and written to a file; from the
start of the fetching node to the end of its fetch. curl-https: curl over TLS 1.3 from Go's server to a file. libtorrent: plain TCP,
clear, nothing verified but by its own hashes; tuned: larger queues. MB are of the content, CPU and memory of the processes named.
one, four: %[1]d MiB, random; memory: %[2]d GiB of distinct chunks of a sparse file. links4, rtt: four hosts with 100 Mbit/s each to one without limit, of which headers
take 4.5 %%. kill: one of them at half, ideal: what four and then three lines deliver. slow: one with 10 Mbit/s. flash-crowd: seventeen
nodes with 50 Mbit/s each, which is more than two cores can carry packet by packet: flash-crowd-10 is the same with 10 Mbit/s.
first-byte, seek: over a round trip of 50 ms and 100 Mbit/s, from the call to the byte: of the first, over a session that joining has left, root,
a node and a chunk of 4 KiB, in one answer; of a seek, a node and a chunk of 256 KiB, behind what of the read-ahead is on its way.
`

// fetchBench is the command `fetch`.
func fetchBench(args []string) error {
	flags := flag.NewFlagSet("fetch", flag.ContinueOnError)
	names := flags.String("case", "", "run only these cases, separated by commas")
	asJSON := flags.Bool("json", false, "one JSON object a line instead of a table")
	runs := flags.Int("runs", 5, "runs of each subject")
	mib := flags.Int64("mib", 1024, "size of the content in MiB")
	gib := flags.Int64("gib", 4, "size of the content of the case memory in GiB")
	netlab := flags.String("netlab", os.Getenv("STT_NETLAB"), "directory of netlab's source (default ../../../shared/netlab)")
	dir := flags.String("dir", "", "directory for stores and files (default: the system's for temporary files)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || *runs < 1 || *mib < 1 || *gib < 1 {
		return fmt.Errorf("fetch: unexpected arguments %v", args)
	}
	rep := &report{bench: "fetch", json: *asJSON, wanted: split(*names)}
	var known []string
	for _, c := range fetchCases {
		for _, m := range c.metrics {
			known = append(known, m.name)
		}
	}
	if err := checkNames(rep.wanted, known); err != nil {
		return err
	}
	bed, err := newFetchBed(*dir, *mib, *gib)
	if err != nil {
		return err
	}
	defer bed.remove()
	var failed error
	for _, c := range fetchCases {
		if wants(rep, c.metrics) {
			failed = errors.Join(failed, c.measure(rep, bed, *runs, *netlab))
			bed.clear()
		}
	}
	if !*asJSON {
		fmt.Printf(fetchNotes, *mib, *gib)
	}
	return failed
}

// measure runs a case, in a network of its own if it needs one, and prints its figures.
func (c fetchCase) measure(rep *report, bed *fetchBed, runs int, netlab string) error {
	subjects := bed.present(c.subjects)
	run := func() (map[string][]fetchRun, error) {
		return alternate(rep, c.task, subjects, runs, func(subject string) (fetchRun, error) { return c.run(bed, subject) })
	}
	if c.lab != nil {
		run = func() (map[string][]fetchRun, error) { return c.inLab(bed, runs, netlab) }
	}
	taken, err := run()
	if err == nil && taken != nil {
		printMetrics(rep, c.metrics, subjects, taken)
	}
	return err
}
