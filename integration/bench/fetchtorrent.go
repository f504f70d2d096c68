package main

import (
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
)

// python is the interpreter that Debian's python3-libtorrent belongs to.
const python = "/usr/bin/python3"

//go:embed fetchtorrent.py
var torrentScript string

// torrent fetches the content by libtorrent from some seeders.
func (b *fetchBed) torrent(seeders int, tuned bool) (m fetchRun, err error) {
	file, err := b.content(b.mib)
	if err != nil {
		return m, err
	}
	script, err := b.once("fetchtorrent.py", func(path string) error { return os.WriteFile(path, []byte(torrentScript), 0o600) })
	if err != nil {
		return m, err
	}
	run := func(args ...string) (*process, error) {
		if tuned {
			args = append(args, "tuned")
		}
		return startCommand(python, append([]string{script}, args...)...)
	}
	var torrent string
	var ports []string
	var all []*process
	defer func() {
		for _, p := range all {
			p.stop()
		}
	}()
	for range seeders {
		p, err := run("seed", file)
		if err != nil {
			return m, err
		}
		all = append(all, p)
		if torrent, err = p.line(); err != nil {
			return m, err
		}
		port, err := p.line()
		if err != nil {
			return m, err
		}
		ports = append(ports, port)
	}
	dir := b.fresh("fetched")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return m, err
	}
	f, err := run(append([]string{"fetch", torrent, dir}, ports...)...)
	if err != nil {
		return m, err
	}
	defer f.stop()
	if err := f.result(&m); err != nil {
		return m, err
	}
	m.Fetched = m.Bytes
	var own fetchRun
	if err := f.ask("usage", &own); err != nil {
		return m, err
	}
	m.CPU, m.Peak = own.CPU, own.Peak
	for _, p := range all {
		var used fetchRun
		if err := p.ask("usage", &used); err != nil {
			return m, err
		}
		m.CPU += used.CPU
		m.SeederPeak = max(m.SeederPeak, used.Peak)
	}
	return m, exec.Command("cmp", "--silent", file, filepath.Join(dir, filepath.Base(file))).Run()
}
