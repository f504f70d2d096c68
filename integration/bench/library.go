package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seigr/sttnode/session"
)

// What the case broadcast moves: the size, the rate and the key frames of a small video, 64 KB/s, to each of many sessions. A few of them
// read no more than an eighth of it.
const (
	castViewers = 2000
	castSlow    = 20 // more
	castSockets = 40 // of the viewers: one for all would be a burst of 6 MB at a single buffer
	castPiece   = 2560
	castEvery   = 40 * time.Millisecond
	castGroup   = 25 // pieces from one restart to the next
	castWindow  = 256 << 10
	castSettle  = 40 * time.Second // in which all catch up with what came while they connected, and the slow ones fill what is there for them
	castFor     = 20 * time.Second
)

// libraryCases are figures of the library's primitives alone: nothing else does just that.
var libraryCases = []loopbackCase{
	{"broadcast", "usage", []string{"stt"}, []metric[measured]{
		{"broadcast-lost", "pieces", []goal{{"", false, 0}}, func(m measured) float64 { return float64(m.client.Lost) }},
		{"broadcast-received", "received/sent", []goal{{"", true, 0.99}}, func(m measured) float64 {
			pieces := m.client.Seconds / castEvery.Seconds()
			return float64(m.client.Count) / (pieces * castViewers)
		}},
		{"broadcast-p50", "ms", nil, func(m measured) float64 { return m.client.P50 / 1e3 }},
		{"broadcast-p99", "ms", nil, func(m measured) float64 { return m.client.P99 / 1e3 }},
		{"broadcast-cpu", "CPU s/s", nil, func(m measured) float64 { return (m.after.CPU - m.before.CPU) / m.client.Seconds }},
		{"broadcast-viewers-cpu", "CPU s/s", nil, func(m measured) float64 { return m.client.CPU / m.client.Seconds }},
		{"broadcast-memory", "KiB/session", nil, func(m measured) float64 { return float64(m.after.RSS) / (castViewers + castSlow) / 1024 }},
		{"broadcast-others", "CPU s/s", nil, func(m measured) float64 { // what the figures above had to do without
			return (m.client.Machine - m.client.CPU - (m.after.CPU - m.before.CPU)) / m.client.Seconds
		}},
		{"broadcast-skipped", "pieces", nil, func(m measured) float64 { return float64(m.after.Skipped - m.before.Skipped) }},
	}},
}

// libraryBench is the command `library`.
func libraryBench(args []string) error {
	flags := flag.NewFlagSet("library", flag.ContinueOnError)
	names := flags.String("case", "", "run only these cases, separated by commas: broadcast, or its figures")
	asJSON := flags.Bool("json", false, "one JSON object a line instead of a table")
	runs := flags.Int("runs", 1, "runs")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || *runs < 1 {
		return fmt.Errorf("library: unexpected arguments %v", flags.Args())
	}
	rep := &report{bench: "library", json: *asJSON, wanted: split(*names)}
	var known []string
	for _, c := range libraryCases {
		for _, m := range c.metrics {
			known = append(known, m.name)
		}
	}
	if i := slices.Index(rep.wanted, "broadcast"); i >= 0 {
		rep.wanted = slices.Replace(rep.wanted, i, i+1, known...)
	}
	if err := checkNames(rep.wanted, known); err != nil {
		return err
	}
	for _, c := range libraryCases {
		if wants(rep, c.metrics) {
			if err := c.run(rep, *runs); err != nil {
				return err
			}
		}
	}
	return nil
}

// caster is a source that all streams of a server share. It begins with the first.
type caster struct {
	once sync.Once
	live session.Broadcaster
}

// begin sends pieces for as long as the process lives: number (8), time (8), zeros.
func (c *caster) begin() {
	c.live.Window = castWindow
	go func() {
		tick := time.NewTicker(castEvery)
		defer tick.Stop()
		for n := uint64(1); ; n++ {
			p := binary.BigEndian.AppendUint64(make([]byte, 0, castPiece), n)
			p = binary.BigEndian.AppendUint64(p, uint64(time.Now().UnixNano()))
			_ = c.live.Send(p[:castPiece], n%castGroup == 1)
			<-tick.C
		}
	}()
}

// broadcast reads the source on each of many sessions.
func (c *client) broadcast(string) (result, error) {
	_, streams, err := c.sessions(castViewers+castSlow, castSockets, opCast)
	if err != nil {
		return result{}, err
	}
	var measuring atomic.Bool
	var lost atomic.Int64
	delays := make([][]float64, castViewers)
	for i, st := range streams {
		go func() {
			p := make([]byte, castPiece)
			for next := uint64(0); ; {
				if _, err := io.ReadFull(st, p); err != nil {
					lost.Add(1)
					return
				}
				if i >= castViewers {
					time.Sleep(8 * castEvery)
					continue
				}
				number, sent := binary.BigEndian.Uint64(p), int64(binary.BigEndian.Uint64(p[8:]))
				if measuring.Load() {
					if next != 0 {
						lost.Add(int64(number - next))
					}
					delays[i] = append(delays[i], float64(time.Now().UnixNano()-sent)/1e3)
				}
				next = number + 1
			}
		}()
	}
	time.Sleep(castSettle)
	if err := c.begin(); err != nil {
		return result{}, err
	}
	machine := machineSeconds()
	measuring.Store(true)
	time.Sleep(castFor)
	measuring.Store(false)
	machine = machineSeconds() - machine
	r, err := c.end()
	r.Machine = machine
	time.Sleep(time.Second) // who has seen that it is measured has noted its delay
	all := slices.Concat(delays...)
	if len(all) == 0 {
		return r, io.ErrUnexpectedEOF
	}
	slices.Sort(all)
	r.Lost, r.Count, r.Bytes = lost.Load(), int64(len(all)), int64(len(all))*castPiece
	r.P50, r.P99 = all[len(all)/2], all[len(all)*99/100]
	return r, err
}

// machineSeconds is the time that all of the machine's cores have spent on anything, since it was started.
func machineSeconds() float64 {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	var name string
	var user, nice, system, idle, iowait, irq, softirq, steal float64
	if _, err := fmt.Sscan(string(b), &name, &user, &nice, &system, &idle, &iowait, &irq, &softirq, &steal); err != nil {
		return 0
	}
	return (user + nice + system + irq + softirq + steal) / 100 // USER_HZ, everywhere
}
