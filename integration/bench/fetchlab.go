package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seigr/sttnode/node"
)

// roleInLab is the first argument of this program inside netlab.
const roleInLab = "process-fetch-in-netlab"

// lab is a network of hosts with lines of their own.
type lab struct {
	hosts int
	rate  string
	delay time.Duration // of each host's egress
	loss  float64
	wide  []int // hosts whose line has no limit
}

// netShare is what of a line's rate can be goodput: the rest are headers and tags in datagrams that fill an Ethernet's 1,500 bytes.
const netShare = 0.957

// lineBytes is what a line of some Mbit/s delivers of a content in a second.
func lineBytes(mbit float64) float64 { return mbit * 1e6 / 8 * netShare }

// inLab runs a case in a new network and takes what it has measured.
func (c fetchCase) inLab(b *fetchBed, runs int, dir string) (map[string][]fetchRun, error) {
	binary, remove, err := buildNetlab(dir)
	if err != nil || binary == "" {
		return nil, err
	}
	defer remove()
	net := []string{"-hosts", strconv.Itoa(c.lab.hosts), "-rate", c.lab.rate, "-delay", c.lab.delay.String(), "-loss", fmt.Sprint(c.lab.loss)}
	var taken map[string][]fetchRun
	return taken, inNetlab(binary, net, &taken, roleInLab, c.task, strconv.Itoa(runs), b.dir, strconv.FormatInt(b.mib, 10))
}

// inLab is this program inside netlab: `process-fetch-in-netlab CASE RUNS DIR MIB`. It prints the runs as JSON.
func inLab(args []string) error {
	if len(args) != 4 {
		return errors.New("inside netlab: CASE RUNS DIR MIB")
	}
	i := slices.IndexFunc(fetchCases, func(c fetchCase) bool { return c.task == args[0] })
	runs, err := strconv.Atoi(args[1])
	mib, merr := strconv.ParseInt(args[3], 10, 64)
	if i < 0 || err != nil || merr != nil {
		return fmt.Errorf("inside netlab: %v", args)
	}
	c := fetchCases[i]
	b, err := reopenFetchBed(args[2], mib)
	if err != nil {
		return err
	}
	for _, host := range c.lab.wide {
		if err := setHost(host, "rate=0"); err != nil {
			return err
		}
	}
	taken := make(map[string][]fetchRun)
	for range runs {
		for _, s := range c.subjects {
			m, err := c.run(b, s)
			if err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
			taken[s] = append(taken[s], m)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(taken)
}

func setHost(host int, setting string) error {
	return setLinks(fmt.Sprintf("host=%d %s", host, setting))
}

// onHost puts a node on a host of the lab. Each has a port of its own, so that nothing of a former run is taken for it.
func (b *fetchBed) onHost(host int) (namespace, listen string) {
	b.lines++
	return fmt.Sprintf("nl%d", host), fmt.Sprintf("10.77.0.%d:%d", host+1, 4700+b.lines)
}

// four starts the seeders on the hosts behind the first.
func (b *fetchBed) four() (peers, string, error) {
	return b.seeders(linksHost, b.mib, func(i int) (string, string) { return b.onHost(i + 1) })
}

func (b *fetchBed) fromFour(string) (m fetchRun, err error) {
	seeders, root, err := b.four()
	defer func() { seeders.stop() }()
	if err != nil {
		return m, err
	}
	namespace, listen := b.onHost(0)
	return b.fetch(namespace, listen, root, seeders)
}

// fromFourKilled kills a seeder when half of the content should be there.
func (b *fetchBed) fromFourKilled(string) (m fetchRun, err error) {
	seeders, root, err := b.four()
	defer func() { seeders.stop() }()
	if err != nil {
		return m, err
	}
	half := float64(b.mib<<20) / 2
	until := half / lineBytes(linksHost*linksMbit)
	last := len(seeders) - 1
	kill := time.AfterFunc(time.Duration(until*float64(time.Second)), func() { _ = seeders[last].cmd.Process.Kill() })
	defer kill.Stop()
	namespace, listen := b.onHost(0)
	m, err = b.fetchBy(namespace, listen, root, seeders, seeders[:last])
	m.Ideal = until + half/lineBytes((linksHost-1)*linksMbit)
	return m, err
}

// fromFourSlow gives one seeder a tenth of the others' rate.
func (b *fetchBed) fromFourSlow(string) (m fetchRun, err error) {
	if err := setHost(linksHost, "rate=10mbit"); err != nil {
		return m, err
	}
	m, err = b.fromFour("")
	m.Ideal = float64(m.Bytes) / lineBytes((linksHost-0.9)*linksMbit)
	return m, err
}

// crowdSize is how many nodes fetch at once.
const crowdSize = 16

// crowd is a content that many fetch at the same moment from one, and the rate of each one's line.
type crowd struct{ mbit, mib int64 }

func (c crowd) task(name string) fetchCase {
	return fetchCase{name, []string{"stt"}, &lab{hosts: crowdSize + 1, rate: fmt.Sprintf("%dmbit", c.mbit), delay: 10 * time.Millisecond},
		c.fetch, []metric[fetchRun]{
			{name, "of sending once", []goal{{"", false, 1.6}}, fetchRun.overIdeal},
			{name + "-seeder", "of content", []goal{{"", false, 1.3}}, func(m fetchRun) float64 { return m.SeederSent }},
			{name + "-cpu", "cores busy, beside netlab", nil, func(m fetchRun) float64 { return m.CPU / m.Seconds }},
			duplicates(name),
		}}
}

// fetch lets the crowd begin. The time is the last one's.
func (c crowd) fetch(b *fetchBed, _ string) (m fetchRun, err error) {
	seeders, root, err := b.seeders(1, c.mib, func(int) (string, string) { return b.onHost(0) })
	defer func() { seeders.stop() }()
	if err != nil {
		return m, err
	}
	var crowd peers
	defer func() { crowd.stop() }()
	_ = b.fresh("served")
	for i := range crowdSize {
		namespace, listen := b.onHost(i + 1)
		p, err := startPeer(namespace, b.fresh(fmt.Sprintf("served/%d", i)), listen, seeders.addrs()...)
		if err != nil {
			return m, err
		}
		crowd = append(crowd, p)
	}
	var all errgroup.Group
	var mu sync.Mutex
	begun := time.Now()
	for i, p := range crowd {
		all.Go(func() error {
			a, err := p.order(peerOrder{Do: "fetch", Root: root, Path: b.path(fmt.Sprintf("served/%d/output", i))})
			mu.Lock()
			defer mu.Unlock()
			m.Bytes = a.Bytes
			m.Fetched += a.Fetched
			m.Duplicate += a.Duplicate
			m.Waits = append(m.Waits, time.Since(begun).Seconds())
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return m, err
	}
	m.Seconds, m.Ideal = slices.Max(m.Waits), float64(m.Bytes)/lineBytes(float64(c.mbit))
	if err := crowd.account(&m); err != nil {
		return m, err
	}
	return m, seeders.account(&m)
}

const (
	streamMiB = 128
	streamRTT = 50 * time.Millisecond
)

// stream reads a content that is not here yet.
func (b *fetchBed) stream(string) (m fetchRun, err error) {
	seeders, root, err := b.seeders(1, streamMiB, func(int) (string, string) { return b.onHost(1) })
	defer func() { seeders.stop() }()
	if err != nil {
		return m, err
	}
	namespace, listen := b.onHost(0)
	f, err := b.fetcher(namespace, listen, seeders)
	if err != nil {
		return m, err
	}
	defer f.stop()
	a, err := f.order(peerOrder{Do: "stream", Root: root})
	m = a.fetchRun
	m.FirstByte /= streamRTT.Seconds()
	for i := range m.Waits {
		m.Waits[i] /= streamRTT.Seconds()
	}
	return m, err
}

const (
	tricklePeers = 20
	trickleFast  = 2 // of them
	trickleMiB   = 128
	trickleRate  = node.Rate(linksMbit * 1e6 / 8) // of each of the fast
)

// besideTricklers fetches from two good peers, alone and then with nine times as many whose lines carry 1 kB/s. The lines of the others
// have no limit, since netlab lets what comes in late from a slow line hold up all that comes behind it; the good peers
// limit themselves.
func (b *fetchBed) besideTricklers(string) (m fetchRun, err error) {
	alone, err := b.besideSlow(trickleFast)
	if err != nil {
		return m, err
	}
	m, err = b.besideSlow(tricklePeers)
	m.Ideal = alone.Seconds
	return m, err
}

func (b *fetchBed) besideSlow(n int) (m fetchRun, err error) {
	if err := setLinks("host=all rate=0"); err != nil {
		return m, err
	}
	seeders, root, err := b.seeders(n, trickleMiB, func(i int) (string, string) { return b.onHost(i + 1) })
	defer func() { seeders.stop() }()
	if err != nil {
		return m, err
	}
	for _, p := range seeders[:trickleFast] {
		if _, err := p.order(peerOrder{Do: "limit", Up: trickleRate}); err != nil {
			return m, err
		}
	}
	for i := trickleFast; i < n; i++ {
		if err := setHost(i+1, "rate=8kbit"); err != nil {
			return m, err
		}
	}
	namespace, listen := b.onHost(0)
	return b.fetchBy(namespace, listen, root, seeders, seeders[:trickleFast])
}

// reopenFetchBed takes over a bed with what others have made in it.
func reopenFetchBed(dir string, mib int64) (*fetchBed, error) {
	b := &fetchBed{storeBed: &storeBed{dir: dir, made: make(map[string]bool)}, mib: mib}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), madeSuffix); ok {
			b.made[name] = true
		}
	}
	return b, err
}
