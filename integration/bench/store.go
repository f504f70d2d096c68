package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// storeRun is what one run of a subject of the store's cases has measured. Which fields count depends on the case.
type storeRun struct {
	Seconds   float64 `json:"seconds,omitempty"`
	CPU       float64 `json:"cpu,omitempty"`        // seconds, user and system
	Peak      int64   `json:"peak,omitempty"`       // bytes resident, at most
	LargePeak int64   `json:"large_peak,omitempty"` // the same with -gib
	Bytes     int64   `json:"bytes,omitempty"`
	Count     int64   `json:"count,omitempty"`
	P999      float64 `json:"p999,omitempty"`  // milliseconds
	Freed     float64 `json:"freed,omitempty"` // share of the room of what was deleted that the disk has back
	Written   int64   `json:"written,omitempty"`
	OnDisk    int64   `json:"on_disk,omitempty"` // bytes of the blocks that what was written takes
}

func (m storeRun) rate() float64     { return float64(m.Bytes) / m.Seconds / 1e6 }
func (m storeRun) cpuPerGB() float64 { return m.CPU / float64(m.Bytes) * 1e9 }

// storeCase is a task that each of some subjects runs; it yields one or more figures.
type storeCase struct {
	task     string
	subjects []string
	run      func(b *storeBed, subject string) (storeRun, error)
	metrics  []metric[storeRun]
}

var storeCases = []storeCase{
	{"import", []string{"stt", "openssl", "cp", "files"}, (*storeBed).importFile, []metric[storeRun]{
		{"import", "MB/s", []goal{{"openssl", true, 1.35}}, storeRun.rate},
		{"import-cpu", "CPU s/GB", nil, storeRun.cpuPerGB},
		{"import-memory", "MB", []goal{{"", false, 112}}, func(m storeRun) float64 { return float64(m.Peak) / 1e6 }},
	}},
	{"import-inplace", []string{"stt", "openssl"}, (*storeBed).importInPlace, []metric[storeRun]{
		{"import-inplace", "MB/s", []goal{{"openssl", true, 2.3}}, storeRun.rate},
		{"import-inplace-cpu", "CPU s/GB", nil, storeRun.cpuPerGB},
	}},
	{"small-files", []string{"stt", "cp"}, (*storeBed).importTree, []metric[storeRun]{
		{"small-files", "files/s", []goal{{"", true, 10_000}}, func(m storeRun) float64 { return float64(m.Count) / m.Seconds }},
	}},
	{"read-cold", []string{"stt", "files"}, (*storeBed).readCold, []metric[storeRun]{
		{"read-cold", "MB/s", []goal{{"files", true, 0.7}}, storeRun.rate},
	}},
	{"read-warm", []string{"stt", "files"}, (*storeBed).readWarm, []metric[storeRun]{
		{"read-warm", "MB/s", []goal{{"", true, 1500}}, storeRun.rate},
		{"read-warm-cpu", "CPU s/GB", nil, storeRun.cpuPerGB},
	}},
	{"write-amplification", []string{"stt", "stt-4k", "cp"}, (*storeBed).amplification, []metric[storeRun]{
		{"write-amplification", "to disk/stored", []goal{{"", false, 1.2}}, func(m storeRun) float64 { return float64(m.Written) / float64(m.Bytes) }},
		{"store-overhead", "on disk/stored", []goal{{"", false, 1.02}}, func(m storeRun) float64 { return float64(m.OnDisk) / float64(m.Bytes) }},
	}},
	{"memory", []string{"stt"}, (*storeBed).memory, []metric[storeRun]{
		{"memory", "MB", []goal{{"", false, 112}}, func(m storeRun) float64 { return float64(m.Peak) / 1e6 }},
		{"memory-large", "MB", []goal{{"", false, 112}}, func(m storeRun) float64 { return float64(m.LargePeak) / 1e6 }},
	}},
	{"memory-inplace", []string{"stt"}, (*storeBed).memoryInPlace, []metric[storeRun]{
		{"memory-inplace", "MB", []goal{{"", false, 112}}, func(m storeRun) float64 { return float64(m.Peak) / 1e6 }},
	}},
	{"open", []string{"stt"}, (*storeBed).open, []metric[storeRun]{
		{"open", "s", []goal{{"", false, 0.2}}, func(m storeRun) float64 { return m.Seconds }},
	}},
	{"open-after-crash", []string{"stt"}, (*storeBed).openAfterCrash, []metric[storeRun]{
		{"open-after-crash", "s", []goal{{"", false, 2}}, func(m storeRun) float64 { return m.Seconds }},
	}},
	{"gc", []string{"stt", "files"}, (*storeBed).collect, []metric[storeRun]{
		{"gc", "% back", []goal{{"", true, 95}}, func(m storeRun) float64 { return 100 * m.Freed }},
		{"gc-read-p999", "ms", []goal{{"", false, 50}}, func(m storeRun) float64 { return m.P999 }},
		{"gc-seconds", "s", nil, func(m storeRun) float64 { return m.Seconds }},
	}},
}

const storeNotes = `
openssl: openssl dgst -sha3-256. cp: cp -r, then sync. files: a plain file a blob, named by its hash, each synced.
import: 1 GiB of random bytes that are in the page cache, until all is durable. small-files: 50,000 of 4 KiB. read: the 256 KiB chunks
of that 1 GiB, each once, in random order, by as many readers as there are CPUs; our caches hold 12 MiB. stt-4k: the small files.
memory: of a process that imports 1 GiB and (-large, -inplace) -gib GiB, %[1]d, of distinct chunks, reads some at random and marks all.
open: a store of -gib GiB; after a crash: behind SIGKILL to a process that was storing in it. gc: half of 1,024 contents of 1 MiB, chosen at random, unpinned
and collected, while a reader reads what stays.
`

// storeBench is the command `store`.
func storeBench(args []string) error {
	flags := flag.NewFlagSet("store", flag.ContinueOnError)
	names := flags.String("case", "", "run only these cases, separated by commas")
	asJSON := flags.Bool("json", false, "one JSON object a line instead of a table")
	runs := flags.Int("runs", 5, "runs of each subject")
	gib := flags.Int64("gib", 4, "size of the large stores in GiB")
	dir := flags.String("dir", "", "directory for stores and files (default: the system's for temporary files)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || *runs < 1 || *gib < 1 {
		return fmt.Errorf("store: unexpected arguments %v", args)
	}
	rep := &report{bench: "store", json: *asJSON, wanted: split(*names)}
	var known []string
	for _, c := range storeCases {
		for _, m := range c.metrics {
			known = append(known, m.name)
		}
	}
	if err := checkNames(rep.wanted, known); err != nil {
		return err
	}
	bed, err := newStoreBed(*dir, *gib)
	if err != nil {
		return err
	}
	defer bed.remove()
	var failed error
	for _, c := range storeCases {
		if !wants(rep, c.metrics) {
			continue
		}
		taken, err := alternate(rep, c.task, c.subjects, *runs, func(subject string) (storeRun, error) { return c.run(bed, subject) })
		if err == nil {
			printMetrics(rep, c.metrics, c.subjects, taken)
		}
		failed = errors.Join(failed, err)
		bed.clear()
	}
	if !*asJSON {
		fmt.Printf(storeNotes, *gib)
		fmt.Println(bed.cacheNote())
	}
	return failed
}

// inProcess runs a task of ours in a process of its own, so that CPU time and memory are the task's.
func inProcess(task string, args ...string) (storeRun, error) {
	var m storeRun
	p, err := start("", append([]string{roleStore, task}, args...)...)
	if err != nil {
		return m, err
	}
	defer p.stop()
	return m, p.result(&m)
}

// command runs another program and what follows it, for which it is not accountable, such as syncing what it has written.
func command(after func() error, name string, args ...string) (storeRun, error) {
	var m storeRun
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	begin := time.Now()
	err := cmd.Run()
	if err == nil && after != nil {
		err = after()
	}
	m.Seconds = time.Since(begin).Seconds()
	if errors.Is(err, exec.ErrNotFound) {
		return m, fmt.Errorf("%w; apt-get install %s", err, name)
	}
	if err != nil {
		return m, fmt.Errorf("%s: %w", name, err)
	}
	if r, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		m.CPU = float64(r.Utime.Nano()+r.Stime.Nano()) / 1e9
		m.Peak = r.Maxrss << 10
	}
	return m, nil
}

func (b *storeBed) importFile(subject string) (m storeRun, err error) {
	source, err := b.file()
	if err != nil {
		return m, err
	}
	target := b.fresh("imported")
	switch subject {
	case "stt":
		m, err = inProcess("import", target, source)
	case "files":
		m, err = inProcess("import-files", target, source)
	case "openssl":
		m, err = command(nil, "openssl", "dgst", "-sha3-256", source)
	case "cp":
		m, err = command(func() error { return syncFile(target) }, "cp", source, target)
	}
	m.Bytes = storeFileSize
	return m, err
}

func (b *storeBed) importInPlace(subject string) (m storeRun, err error) {
	if subject != "stt" {
		return b.importFile(subject)
	}
	source, err := b.file()
	if err != nil {
		return m, err
	}
	m, err = inProcess("import", b.fresh("imported"), source, "in place")
	m.Bytes = storeFileSize
	return m, err
}

func (b *storeBed) importTree(subject string) (m storeRun, err error) {
	source, err := b.tree()
	if err != nil {
		return m, err
	}
	target := b.fresh("imported")
	if subject == "stt" {
		m, err = inProcess("import", target, source)
	} else {
		m, err = command(func() error { return syncFS(b.dir) }, "cp", "-r", source, target)
	}
	m.Count, m.Bytes = treeFiles, treeFiles*treeFileSize
	return m, err
}

// readable returns where the chunks of the 1 GiB file lie for a subject, and makes that on the first call.
func (b *storeBed) readable(subject string) (dir string, err error) {
	source, err := b.file()
	if err != nil {
		return "", err
	}
	return b.once("readable-"+subject, func(dir string) error {
		task := "import"
		if subject == "files" {
			task = "import-files"
		}
		_, err := inProcess(task, dir, source)
		return err
	})
}

func (b *storeBed) readCold(subject string) (m storeRun, err error) {
	dir, err := b.readable(subject)
	if err == nil {
		err = b.dropCaches(dir)
	}
	if err != nil {
		return m, err
	}
	return inProcess("read-"+subject, dir)
}

func (b *storeBed) readWarm(subject string) (m storeRun, err error) {
	dir, err := b.readable(subject)
	if err != nil {
		return m, err
	}
	return inProcess("read-"+subject, dir, "warm")
}

// amplification imports the file, or the tree, and asks the kernel how many bytes reached the disk for it.
func (b *storeBed) amplification(subject string) (m storeRun, err error) {
	source, err := b.file()
	m.Bytes = storeFileSize
	if subject == "stt-4k" {
		source, err = b.tree()
		m.Bytes = treeFiles * treeFileSize
	}
	if err != nil {
		return m, err
	}
	meter, err := b.newMeter()
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, meter.close()) }()
	before, err := meter.written()
	if err != nil {
		return m, err
	}
	target := filepath.Join(meter.dir(), "target")
	if subject == "cp" {
		_, err = command(func() error { return syncFile(target) }, "cp", source, target)
	} else {
		_, err = inProcess("import", target, source)
	}
	if err != nil {
		return m, err
	}
	after, err := meter.written()
	if err != nil {
		return m, err
	}
	m.Written = after - before
	m.OnDisk, err = diskUsage(target)
	return m, err
}

// peak returns the memory of a process that imports a sparse file, reads at random and marks what a collection would.
func (b *storeBed) peak(gib int64, args ...string) (int64, error) {
	source, err := b.sparse(gib)
	if err != nil {
		return 0, err
	}
	m, err := inProcess("import-and-read", append([]string{b.fresh("imported"), source}, args...)...)
	return m.Peak, errors.Join(err, os.Remove(source))
}

func (b *storeBed) memory(string) (m storeRun, err error) {
	if m.Peak, err = b.peak(1); err == nil {
		m.LargePeak, err = b.peak(b.gib)
	}
	return m, err
}

func (b *storeBed) memoryInPlace(string) (m storeRun, err error) {
	m.Peak, err = b.peak(b.gib, "in place")
	return m, err
}

// large returns a store of -gib GiB.
func (b *storeBed) large() (string, error) {
	return b.once("large", func(dir string) error {
		source, err := b.sparse(b.gib)
		if err == nil {
			_, err = inProcess("import", dir, source)
			err = errors.Join(err, os.Remove(source))
		}
		return err
	})
}

func (b *storeBed) open(string) (m storeRun, err error) {
	dir, err := b.large()
	if err == nil {
		err = b.dropCaches(dir)
	}
	if err != nil {
		return m, err
	}
	return inProcess("open", dir)
}

func (b *storeBed) openAfterCrash(string) (m storeRun, err error) {
	dir, err := b.large()
	if err != nil {
		return m, err
	}
	p, err := start("", roleStore, "write", dir)
	if err != nil {
		return m, err
	}
	defer p.stop()
	if err := awaitMark(p); err != nil { // It has stored something, and goes on.
		return m, err
	}
	b.crashes++
	time.Sleep(time.Duration(b.crashes*137%400) * time.Millisecond)
	if err := p.cmd.Process.Kill(); err != nil {
		return m, err
	}
	_ = p.cmd.Wait()
	if err := b.dropCaches(dir); err != nil {
		return m, err
	}
	return inProcess("open", dir)
}

func (b *storeBed) collect(subject string) (m storeRun, err error) {
	dir := b.fresh("collected")
	if _, err := inProcess("fill-"+subject, dir); err != nil {
		return m, err
	}
	before, err := diskUsage(dir)
	if err != nil {
		return m, err
	}
	if m, err = inProcess("collect-"+subject, dir); err != nil {
		return m, err
	}
	if err := syncFS(dir); err != nil {
		return m, err
	}
	after, err := diskUsage(dir)
	m.Bytes = collectContents / 2 * collectChunks * storeChunk
	m.Freed = float64(before-after) / float64(m.Bytes)
	return m, err
}

// storeTasks are what a process does: `process-store TASK DIR ARG…`. It prints what it has measured as a line of JSON.
var storeTasks = map[string]func(dir string, args []string) (storeRun, error){
	"import": taskImport, "import-files": taskImportFiles, "import-and-read": taskImportAndRead,
	"read-stt": taskRead, "read-files": taskReadFiles, "open": taskOpen, "write": taskWrite,
	"fill-stt": taskFill, "fill-files": taskFillFiles, "collect-stt": taskCollect, "collect-files": taskCollectFiles,
}

func storeTaskNames() (names []string) {
	for name := range storeTasks {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
