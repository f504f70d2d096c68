package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// linkCase is a measurement over emulated links, between the hosts nl0 and
// nl1 of netlab.
type linkCase struct {
	name     string
	unit     string
	goals    []goal
	lab      []string // arguments of netlab
	subjects []string
	measure  func(subject string) (float64, error)
}

// The rate of most cases; of it, 95.7 % can be goodput with IPv4, UDP and our
// own headers in datagrams that fill an Ethernet's 1,500 bytes.
const linkMbit = 100

func lossy(name, loss string, least float64) linkCase {
	return linkCase{
		name: name, unit: "Mbit/s", goals: []goal{{"", true, least * linkMbit}},
		lab:      []string{"-rate", "100mbit", "-delay", "25ms", "-loss", loss},
		subjects: []string{"stt", "quic-go", "tcp-cubic", "tcp-bbr"},
		measure:  steadyRate,
	}
}

var linkCases = []linkCase{
	lossy("loss0", "0", 0.95),
	lossy("loss1", "0.01", 0.85),
	lossy("loss5", "0.05", 0.70),
	{
		name: "fat", unit: "Mbit/s", goals: []goal{{"quic-go", true, 1}, {"tcp-bbr", true, 1}},
		lab:      []string{"-rate", "1gbit", "-delay", "10ms", "-loss", "0.001"},
		subjects: []string{"stt", "quic-go", "tcp-bbr"},
		measure:  steadyRate,
	},
	{
		name: "fair", unit: "fair shares", goals: []goal{{"", true, 0.5}},
		lab:      []string{"-rate", "50mbit", "-delay", "25ms"},
		subjects: []string{"stt", "quic-go", "tcp-bbr"},
		measure:  leastShare,
	},
	{
		name: "dark", unit: "s", goals: []goal{{"", false, 1}},
		lab:      []string{"-rate", "100mbit", "-delay", "25ms"},
		subjects: []string{"stt", "quic-go", "tcp-cubic"},
		measure:  resumeAfterDark,
	},
	{
		name: "reorder", unit: "of undisturbed", goals: []goal{{"", true, 0.9}},
		lab:      []string{"-rate", "100mbit", "-delay", "25ms"},
		subjects: []string{"stt", "quic-go", "tcp-cubic"},
		measure:  keptUnderReordering,
	},
}

// emulated runs the wanted cases that need netlab, each in a new network.
func emulated(rep *report, runs int, dir string, extra []string) error {
	var wanted []linkCase
	for _, c := range linkCases {
		if rep.wantsName(c.name) {
			wanted = append(wanted, c)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	binary, remove, err := buildNetlab(dir)
	if err != nil || binary == "" {
		return err
	}
	defer remove()
	var failed error
	for _, c := range wanted {
		c.subjects = append(c.subjects, extra...)
		figures, err := c.run(binary, runs)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", c.name, err))
			continue
		}
		var rows []row
		for _, s := range c.subjects {
			rows = append(rows, newRow(c.name, s, c.unit, figures[s]))
		}
		rep.print(rows, c.goals)
	}
	return failed
}

// buildNetlab makes the program that emulates links. Where it can't run, it says so and returns no path.
func buildNetlab(dir string) (binary string, remove func(), err error) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "bench: the cases over emulated links need root; skipped")
		return "", nil, nil
	}
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "netlab")
	}
	if _, err := os.Stat(filepath.Join(dir, "main.go")); err != nil {
		fmt.Fprintf(os.Stderr, "bench: no netlab in %s (-netlab DIR or STT_NETLAB says where it is); the cases over emulated links are skipped\n", dir)
		return "", nil, nil
	}
	scratch, err := os.MkdirTemp("", "stt-bench-")
	if err != nil {
		return "", nil, err
	}
	remove = func() { _ = os.RemoveAll(scratch) }
	binary = filepath.Join(scratch, "netlab")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Dir, build.Stderr = dir, os.Stderr
	if err := build.Run(); err != nil {
		remove()
		return "", nil, fmt.Errorf("building netlab: %w", err)
	}
	return binary, remove, nil
}

// inNetlab puts netlab up and this program inside it, and decodes what that prints. A mount namespace of its
// own hides the network's names from any other netlab on the machine.
func inNetlab(netlab string, lab []string, answer any, role ...string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{"--mount", "sh", "-c", `mount -t tmpfs tmpfs /run && exec "$@"`, "sh", netlab}
	args = append(append(append(args, lab...), "--", self), role...)
	cmd := exec.Command("unshare", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	return json.Unmarshal(out, answer)
}

// run measures a case in a new network.
func (c linkCase) run(netlab string, runs int) (figures map[string][]float64, err error) {
	args := append([]string{roleInside, c.name, strconv.Itoa(runs)}, c.subjects...)
	return figures, inNetlab(netlab, append([]string{"-hosts", "2"}, c.lab...), &figures, args...)
}

// inside is this program inside netlab: `process-inside-netlab CASE RUNS
// SUBJECT…`. It prints the figures as JSON.
func inside(args []string) error {
	if len(args) < 3 {
		return errors.New("inside netlab: CASE RUNS SUBJECT…")
	}
	i := slices.IndexFunc(linkCases, func(c linkCase) bool { return c.name == args[0] })
	runs, err := strconv.Atoi(args[1])
	if i < 0 || err != nil {
		return fmt.Errorf("inside netlab: case %q, runs %q", args[0], args[1])
	}
	figures := make(map[string][]float64)
	for range runs {
		for _, s := range args[2:] {
			v, err := linkCases[i].measure(s)
			if err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
			figures[s] = append(figures[s], v)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(figures)
}

// flow is a transfer from nl0 to nl1 that is under way.
type flow struct{ server, client *process }

func startFlow(subject string, port int, d time.Duration) (*flow, error) {
	addr := fmt.Sprintf("10.77.0.2:%d", port)
	if subject == "stt" {
		subject = "stt-path"
	}
	server, err := start("nl1", roleServer, subject, addr)
	if err != nil {
		return nil, err
	}
	f := &flow{server: server}
	if _, err := server.line(); err != nil {
		f.stop()
		return nil, err
	}
	if f.client, err = start("nl0", roleClient, subject, "flow:"+d.String(), addr); err != nil {
		f.stop()
		return nil, err
	}
	return f, nil
}

func (f *flow) stop() {
	if f.client != nil {
		f.client.stop()
	}
	f.server.stop()
}

// wait lets the flow run to its end and returns what arrived when. between
// runs while it flows.
func (f *flow) wait(between func() error) (from int64, arrived []sample, err error) {
	defer f.stop()
	if err := awaitMark(f.client); err != nil {
		return 0, nil, err
	}
	if err := f.client.say("go"); err != nil {
		return 0, nil, err
	}
	if between != nil {
		if err := between(); err != nil {
			return 0, nil, err
		}
	}
	if err := awaitMark(f.client); err != nil {
		return 0, nil, err
	}
	if err := f.server.ask("flow", &arrived); err != nil {
		return 0, nil, err
	}
	if err := f.client.say("go"); err != nil {
		return 0, nil, err
	}
	s, err := f.client.line()
	if err != nil {
		return 0, nil, err
	}
	var r result
	err = json.Unmarshal([]byte(s), &r)
	return r.FlowFrom, arrived, err
}

// rate returns Mbit/s between two times after the flow's begin.
func rate(from int64, arrived []sample, begin, end time.Duration) float64 {
	at := func(d time.Duration) float64 {
		t := from + int64(d)
		i, _ := slices.BinarySearchFunc(arrived, t, func(s sample, t int64) int { return int(s.At - t) })
		switch {
		case len(arrived) == 0 || i == 0:
			return 0
		case i == len(arrived):
			return float64(arrived[i-1].Bytes)
		}
		a, b := arrived[i-1], arrived[i]
		return float64(a.Bytes) + float64(b.Bytes-a.Bytes)*float64(t-a.At)/float64(b.At-a.At)
	}
	return (at(end) - at(begin)) * 8 / 1e6 / (end - begin).Seconds()
}

// steadyRate is the goodput of ten seconds after two to start in.
func steadyRate(subject string) (float64, error) {
	const start, end = 2 * time.Second, 12 * time.Second
	f, err := startFlow(subject, 4700, end+100*time.Millisecond)
	if err != nil {
		return 0, err
	}
	from, arrived, err := f.wait(nil)
	return rate(from, arrived, start, end), err
}

// leastShare runs two flows of a subject beside one of TCP CUBIC and returns
// the smallest goodput in shares of a third of the link.
func leastShare(subject string) (float64, error) {
	const start, end = 5 * time.Second, 35 * time.Second
	type outcome struct {
		name string
		mbit float64
		err  error
	}
	done := make(chan outcome, 3)
	for i, name := range []string{subject, subject, "tcp-cubic"} {
		f, err := startFlow(name, 4700+i, end+time.Second)
		if err != nil {
			return 0, err
		}
		go func() {
			from, arrived, err := f.wait(nil)
			done <- outcome{name, rate(from, arrived, start, end), err}
		}()
	}
	least := 1e9
	var failed error
	for range 3 {
		o := <-done
		failed = errors.Join(failed, o.err)
		least = min(least, o.mbit/(50./3))
		fmt.Fprintf(os.Stderr, "fair: two of %s beside TCP CUBIC: %s got %.1f Mbit/s\n", subject, o.name, o.mbit)
	}
	return least, failed
}

// resumeAfterDark cuts the link for three seconds and returns how long after
// its return the first bytes arrive.
func resumeAfterDark(subject string) (float64, error) {
	f, err := startFlow(subject, 4700, 14*time.Second)
	if err != nil {
		return 0, err
	}
	var up int64
	_, arrived, err := f.wait(func() error {
		time.Sleep(4 * time.Second)
		if err := setLinks(bothHosts + "down=1"); err != nil {
			return err
		}
		time.Sleep(3 * time.Second)
		up = time.Now().UnixNano()
		return setLinks(bothHosts + "down=0")
	})
	if err != nil {
		return 0, err
	}
	for _, s := range arrived {
		if s.At > up {
			return float64(s.At-up) / 1e9, nil
		}
	}
	return 7, nil // not within what was left of the flow
}

// keptUnderReordering returns which share of the goodput is left with 10 ms
// of jitter and 1 % of the packets overtaking the rest.
func keptUnderReordering(subject string) (float64, error) {
	clean, err := steadyRate(subject)
	if err != nil {
		return 0, err
	}
	if err := setLinks(bothHosts + "jitter=10ms reorder=0.01"); err != nil {
		return 0, err
	}
	disturbed, err := steadyRate(subject)
	return disturbed / clean, errors.Join(err, setLinks(bothHosts+"jitter=0s reorder=0"))
}

// bothHosts are those of the cases with one path.
const bothHosts = "host=0 host=1 "

// setLinks changes links: the hosts, and what is to be set.
func setLinks(settings string) error {
	c, err := net.Dial("unix", "/run/netlab.sock")
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := fmt.Fprintln(c, settings); err != nil {
		return err
	}
	answer, err := io.ReadAll(c)
	if err == nil && string(answer) != "ok\n" {
		err = fmt.Errorf("netlab: %s", answer)
	}
	return err
}
