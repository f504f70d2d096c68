package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

const (
	loopback = "127.0.0.1:0"

	objectNodes = 20
	objectSize  = 4 << 10

	manyFiles = 10_000
)

// fetchBed is where the fetch cases lie: the store's bed, with stores that seeders have.
type fetchBed struct {
	*storeBed
	mib   int64
	lines int // nodes that were started on hosts of a lab
}

func newFetchBed(parent string, mib, gib int64) (*fetchBed, error) {
	b, err := newStoreBed(parent, gib)
	return &fetchBed{storeBed: b, mib: mib}, err
}

// present leaves out the subjects that this machine does not have, and says so.
func (b *fetchBed) present(subjects []string) (here []string) {
	for _, s := range subjects {
		if strings.HasPrefix(s, "libtorrent") && exec.Command(python, "-c", "import libtorrent").Run() != nil {
			fmt.Fprintf(os.Stderr, "bench: no libtorrent; apt-get install python3-libtorrent\n")
			continue
		}
		here = append(here, s)
	}
	return here
}

// content returns a file of random bytes of a size, in the page cache.
func (b *fetchBed) content(mib int64) (string, error) {
	return b.once(fmt.Sprintf("content-%d", mib), func(path string) error {
		return errors.Join(writeRandom(path, mib<<20), os.WriteFile(path+madeSuffix, nil, 0o600))
	})
}

// seeded returns a directory in whose store a seeder has a path already, and its root.
func (b *fetchBed) seeded(name, path string, how ...string) (dir, root string, err error) {
	dir, err = b.once("seeder-"+name, func(dir string) error {
		p, err := startPeer("", dir, loopback)
		if err != nil {
			return err
		}
		defer p.stop()
		a, err := p.order(peerOrder{Do: "seed", Path: path, Many: how})
		if err != nil {
			return err
		}
		return os.WriteFile(dir+madeSuffix, []byte(a.Root), 0o600)
	})
	if err != nil {
		return dir, "", err
	}
	r, err := os.ReadFile(dir + madeSuffix)
	return dir, string(r), err
}

// madeSuffix is of files beside what was made, for others who use the same bed; beside a store it holds the root that it seeds.
const madeSuffix = ".made"

// seeders starts n nodes, each of which has the content of some MiB, and which know each other. listen says where each is.
func (b *fetchBed) seeders(n int, mib int64, where func(i int) (namespace, listen string)) (all peers, root string, err error) {
	file, err := b.content(mib)
	if err != nil {
		return nil, "", err
	}
	for i := range n {
		dir, r, err := b.seeded(fmt.Sprintf("%d-%d", mib, i), file)
		if err != nil {
			return all, "", err
		}
		root = r
		namespace, listen := where(i)
		p, err := startPeer(namespace, dir, listen, all.addrs()...)
		if err != nil {
			return all, "", err
		}
		all = append(all, p)
	}
	return all, root, nil
}

func (ps peers) addrs() (list []string) {
	for _, p := range ps {
		list = append(list, p.addr)
	}
	return list
}

func here(int) (namespace, listen string) { return "", loopback }

// fetch starts a node, fetches into a new store and a new file, and adds up what that took at both ends.
func (b *fetchBed) fetch(namespace, listen, root string, from peers) (m fetchRun, err error) {
	return b.fetchBy(namespace, listen, root, from, from)
}

// fetchBy is fetch where only some of the seeders can tell what they have used.
func (b *fetchBed) fetchBy(namespace, listen, root string, from, accountable peers) (m fetchRun, err error) {
	f, err := b.fetcher(namespace, listen, from)
	if err != nil {
		return m, err
	}
	defer f.stop()
	return b.fetchOn(f, peerOrder{Root: root}, accountable)
}

// fetcher starts a node with a new store.
func (b *fetchBed) fetcher(namespace, listen string, from peers) (*benchPeer, error) {
	return startPeer(namespace, b.fresh("fetcher"), listen, from.addrs()...)
}

func (b *fetchBed) fetchOn(f *benchPeer, o peerOrder, accountable peers) (m fetchRun, err error) {
	o.Do, o.Path = "fetch", b.fresh("fetched")
	a, err := f.order(o)
	if err != nil {
		return m, err
	}
	return a.fetchRun, accountable.account(&a.fetchRun)
}

// clear removes what the last case has made and no other needs.
func (b *fetchBed) clear() {
	b.storeBed.clear()
	b.fresh("fetched")
	b.fresh("fetcher")
	b.fresh("served")
}

func (b *fetchBed) fromOne(subject string) (m fetchRun, err error) {
	switch subject {
	case "curl-https":
		return b.curl()
	case "libtorrent", "libtorrent-tuned":
		return b.torrent(1, subject == "libtorrent-tuned")
	}
	return b.fromPeers(1)
}

func (b *fetchBed) fromSome(subject string) (m fetchRun, err error) {
	switch subject {
	case "stt-one":
		return b.fromPeers(1)
	case "libtorrent-tuned":
		return b.torrent(4, true)
	}
	return b.fromPeers(4)
}

func (b *fetchBed) fromPeers(n int) (m fetchRun, err error) {
	seeders, root, err := b.seeders(n, b.mib, here)
	defer func() { seeders.stop() }()
	if err != nil {
		return m, err
	}
	return b.fetch("", loopback, root, seeders)
}

// large fetches distinct chunks of which almost all bytes are zeros, so that the source takes little room.
func (b *fetchBed) large(string) (m fetchRun, err error) {
	if _, err := b.once("sparse", func(string) error { _, err := b.sparse(b.gib); return err }); err != nil {
		return m, err
	}
	dir, root, err := b.seeded("sparse", b.path("sparse"), "in place")
	if err != nil {
		return m, err
	}
	p, err := startPeer("", dir, loopback)
	if err != nil {
		return m, err
	}
	seeders := peers{p}
	defer seeders.stop()
	return b.fetch("", loopback, root, seeders)
}

func (b *fetchBed) manyFiles(string) (m fetchRun, err error) {
	tree, err := b.once("files10k", func(path string) error { return writeTree(path, manyFiles) })
	if err != nil {
		return m, err
	}
	dir, root, err := b.seeded("files10k", tree)
	if err != nil {
		return m, err
	}
	p, err := startPeer("", dir, loopback)
	if err != nil {
		return m, err
	}
	seeders := peers{p}
	defer seeders.stop()
	if err := b.setAside("fetched"); err != nil {
		return m, err
	}
	m, err = b.fetch("", loopback, root, seeders)
	m.Count = manyFiles
	return m, err
}

// smallObjects lets a new node fetch an object from each of the others, to none of which it has a session yet.
func (b *fetchBed) smallObjects(string) (m fetchRun, err error) {
	var all peers
	defer func() { all.stop() }()
	var roots []string
	for i := range objectNodes - 1 {
		p, err := startPeer("", b.fresh(fmt.Sprintf("served/%d", i)), loopback, all[:min(i, 1)].addrs()...)
		if err != nil {
			return m, err
		}
		all = append(all, p)
		path := b.fresh(fmt.Sprintf("served/object%d", i))
		if err := writeRandom(path, objectSize); err != nil {
			return m, err
		}
		a, err := p.order(peerOrder{Do: "seed", Path: path})
		if err != nil {
			return m, err
		}
		roots = append(roots, a.Root)
	}
	f, err := startPeer("", b.fresh("fetcher"), loopback, all[0].addr)
	if err != nil {
		return m, err
	}
	defer f.stop()
	a, err := f.order(peerOrder{Do: "objects", Many: roots[1:]}) // with the first it has a session, having joined by it
	return a.fetchRun, err
}

func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(list))[len(list)/2]
}
