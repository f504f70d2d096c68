package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/stc"
)

// rolePeer is the first argument of a process that is a node.
const rolePeer = "process-peer"

// peerOrder is what a peer is told to do, one a line on its stdin.
type peerOrder struct {
	Do   string   `json:"do"` // seed, fetch, stream, objects, limit or usage
	Path string   `json:"path,omitempty"`
	Root string   `json:"root,omitempty"`
	Many []string `json:"many,omitempty"`
	// Connected is how many sessions a fetch waits for.
	Connected int `json:"connected,omitempty"`
	// Up limits from now on the bytes of content that the peer sends in a second.
	Up node.Rate `json:"up,omitempty"`
}

// peerAnswer is what it says then.
type peerAnswer struct {
	Root string `json:"root,omitempty"`
	Sent int64  `json:"sent,omitempty"` // bytes of blobs
	fetchRun
}

// peer is that process: `process-peer DIR LISTEN [BOOTSTRAP…]`. It prints the address by which others join it, then answers
// orders until its stdin ends. A run of it counts from its start.
func peer(args []string) error {
	if len(args) < 2 {
		return errors.New("peer process: DIR LISTEN [BOOTSTRAP…]")
	}
	begun := time.Now()
	ctx := context.Background()
	n, err := newPeer(args[0], args[1], args[2:])
	if err != nil {
		return err
	}
	if err := n.Start(ctx); err != nil {
		return err
	}
	defer func() { _ = n.Stop(ctx) }()
	fmt.Printf("%v@%v\n", n.ID(), n.Addr())
	out, in := json.NewEncoder(os.Stdout), bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var o peerOrder
		if err := json.Unmarshal(in.Bytes(), &o); err != nil {
			return err
		}
		a, err := obey(ctx, n, o, begun)
		if err != nil {
			return fmt.Errorf("%s: %w", o.Do, err)
		}
		a.CPU, a.Peak = cpuSeconds(), peakBytes()
		if err := out.Encode(a); err != nil {
			return err
		}
	}
	return in.Err()
}

// newPeer makes a node whose identity follows from its directory, in a network that all of this benchmark share.
func newPeer(dir, listen string, bootstrap []string) (*node.Node, error) {
	id, keyring, err := benchKeys(dir)
	if err != nil {
		return nil, err
	}
	cfg := node.Config{Identity: id, Keyring: keyring, Dir: dir, Listen: listen}
	for _, b := range bootstrap {
		a, err := node.ParseAddress(b)
		if err != nil {
			return nil, err
		}
		cfg.Bootstrap = append(cfg.Bootstrap, a)
	}
	return node.New(cfg)
}

func obey(ctx context.Context, n *node.Node, o peerOrder, begun time.Time) (a peerAnswer, err error) {
	switch o.Do {
	case "seed":
		r, err := n.Seed(ctx, o.Path, node.ImportOptions{InPlace: len(o.Many) > 0})
		a.Root, a.Bytes = r.Root.String(), int64(r.Bytes)
		return a, err
	case "fetch":
		for n.Stats().Peers.Connected < o.Connected {
			time.Sleep(10 * time.Millisecond)
		}
		a.fetchRun, err = fetchOne(ctx, n, o.Root, o.Path)
		a.Seconds = time.Since(begun).Seconds()
		return a, err
	case "stream":
		if err := n.Join(ctx); err != nil {
			return a, err
		}
		a.fetchRun, err = streamOne(ctx, n, o.Root)
		return a, err
	case "objects":
		if err := n.Join(ctx); err != nil {
			return a, err
		}
		for _, root := range o.Many {
			start := time.Now()
			if _, err := fetchOne(ctx, n, root, ""); err != nil {
				return a, err
			}
			a.Waits = append(a.Waits, float64(time.Since(start))/1e6)
		}
		return a, nil
	case "limit":
		n.SetLimits(node.Limits{Rates: node.Rates{Up: o.Up}})
		return a, nil
	case "usage":
		a.Sent = int64(n.Stats().Serving.Bytes)
		return a, nil
	}
	return a, errors.New("no such order")
}

func fetchOne(ctx context.Context, n *node.Node, root, output string) (m fetchRun, err error) {
	h, err := stc.ParseHash(root)
	if err != nil {
		return m, err
	}
	r, err := n.Fetch(ctx, h, node.FetchOptions{Output: output})
	if err != nil {
		return m, err
	}
	m.Bytes, m.Fetched = int64(r.Bytes), int64(r.FetchedBytes)
	m.Duplicate, m.Bad = int64(r.DuplicateBytes), int64(r.BadBytes)
	return m, nil
}

// streamOne reads a byte at the begin of a content that is not here, and then at other places of it.
func streamOne(ctx context.Context, n *node.Node, root string) (m fetchRun, err error) {
	h, err := stc.ParseHash(root)
	if err != nil {
		return m, err
	}
	start := time.Now()
	file, err := n.Open(ctx, h, node.OpenOptions{})
	if err != nil {
		return m, err
	}
	defer file.Close()
	var b [1]byte
	if _, err := file.ReadAt(b[:], 0); err != nil {
		return m, err
	}
	m.FirstByte = time.Since(start).Seconds()
	for _, part := range []int64{7, 3, 9, 5, 1} {
		time.Sleep(300 * time.Millisecond) // the path is full of what is read ahead
		start := time.Now()
		if _, err := file.ReadAt(b[:], file.Size()*part/10); err != nil {
			return m, err
		}
		m.Waits = append(m.Waits, time.Since(start).Seconds())
	}
	return m, nil
}

// benchPeer is a peer process as the benchmark holds it.
type benchPeer struct {
	*process
	addr string
}

// startPeer starts a node in a network namespace, or in this one.
func startPeer(namespace, dir, listen string, bootstrap ...string) (*benchPeer, error) {
	p, err := start(namespace, append([]string{rolePeer, dir, listen}, bootstrap...)...)
	if err != nil {
		return nil, err
	}
	addr, err := p.line()
	if err != nil {
		p.stop()
		return nil, err
	}
	return &benchPeer{p, addr}, nil
}

func (p *benchPeer) order(o peerOrder) (a peerAnswer, err error) {
	question, err := json.Marshal(o)
	if err != nil {
		return a, err
	}
	return a, p.ask(string(question), &a)
}

// peers are processes that end together.
type peers []*benchPeer

func (ps peers) stop() {
	for _, p := range ps {
		p.stop()
	}
}

// account adds to a run what seeders have used since they were started.
func (ps peers) account(m *fetchRun) error {
	for i, p := range ps {
		a, err := p.order(peerOrder{Do: "usage"})
		if err != nil {
			return err
		}
		m.CPU += a.CPU
		m.SeederPeak = max(m.SeederPeak, a.Peak)
		if i == 0 && m.Bytes > 0 {
			m.SeederSent = float64(a.Sent) / float64(m.Bytes)
		}
	}
	return nil
}
