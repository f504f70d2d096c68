package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/session"
	"github.com/seigr/sttnode/session/transport"
	"github.com/seigr/sttnode/stc"
	"github.com/seigr/sttnode/swarm"
)

// roleLiar is the first argument of a process that serves wrong bytes.
const roleLiar = "process-liar"

// lyingStore changes a bit of every chunk that is asked of it, and leaves manifests as they are.
type lyingStore struct {
	*content.Store
	lies atomic.Int64
}

func (s *lyingStore) Get(dst []byte, h stc.Hash) ([]byte, error) {
	out, err := s.Store.Get(dst, h)
	if len(out)-len(dst) == storeChunk {
		s.lies.Add(1)
		out[len(out)-1] ^= 1
	}
	return out, err
}

// liar is that process: `process-liar DIR`, with the store of a seeder. It prints its address, and for each line on its stdin how
// many wrong chunks it has got ready to send.
func liar(args []string) error {
	if len(args) != 1 {
		return errors.New("liar process: DIR")
	}
	id, keyring, err := benchKeys(args[0])
	if err != nil {
		return err
	}
	inner, err := content.Open(node.StoreDir(args[0]), content.Config{Key: id.StoreKey()})
	if err != nil {
		return err
	}
	defer inner.Close()
	udp, err := transport.ListenUDP(loopback)
	if err != nil {
		return err
	}
	e, err := session.NewEndpoint(udp, session.Config{Identity: id, Keyring: keyring})
	if err != nil {
		return err
	}
	defer e.Close()
	store := &lyingStore{Store: inner}
	go acceptAndLie(e, swarm.NewServer(store, swarm.ServerConfig{}))
	fmt.Printf("%v@%v\n", id.NodeID(), e.LocalAddr())
	out, in := json.NewEncoder(os.Stdout), bufio.NewScanner(os.Stdin)
	for in.Scan() {
		if err := out.Encode(peerAnswer{fetchRun: fetchRun{WorstLiar: store.lies.Load()}}); err != nil {
			return err
		}
	}
	return in.Err()
}

func acceptAndLie(e *session.Endpoint, server *swarm.Server) {
	ctx := context.Background()
	for {
		s, err := e.Accept(ctx)
		if err != nil {
			return
		}
		go func() {
			for {
				st, err := s.AcceptStream(ctx)
				if err != nil {
					return
				}
				go func() {
					defer st.Close()
					var preamble [1 + len("stt/swarm/1")]byte
					if _, err := io.ReadFull(st, preamble[:]); err == nil && string(preamble[1:]) == "stt/swarm/1" {
						_ = server.Serve(ctx, st, s.PeerID())
					}
				}()
			}
		}()
	}
}

// Of the peers that a fetch with liars has, that many lie.
const (
	liarsPeers = 10
	liarsLying = 3
	liarsMiB   = 128
)

func (b *fetchBed) withLiars(string) (m fetchRun, err error) {
	honest, root, err := b.seeders(liarsPeers-liarsLying, liarsMiB, here)
	defer func() { honest.stop() }()
	if err != nil {
		return m, err
	}
	file, err := b.content(liarsMiB)
	if err != nil {
		return m, err
	}
	all := append(peers(nil), honest...)
	var liars peers
	defer func() { liars.stop() }()
	for i := range liarsLying {
		dir, _, err := b.seeded(fmt.Sprintf("liar-%d", i), file)
		if err != nil {
			return m, err
		}
		p, err := start("", roleLiar, dir)
		if err != nil {
			return m, err
		}
		addr, err := p.line()
		liars = append(liars, &benchPeer{p, addr})
		if err != nil {
			return m, err
		}
	}
	f, err := b.fetcher("", loopback, append(all, liars...))
	if err != nil {
		return m, err
	}
	defer f.stop()
	// All are asked from the beginning, so that no liar comes when everything is here.
	if m, err = b.fetchOn(f, peerOrder{Root: root, Connected: liarsPeers}, honest); err != nil {
		return m, err
	}
	for _, p := range liars {
		a, err := p.order(peerOrder{Do: "usage"})
		if err != nil {
			return m, err
		}
		m.WorstLiar = max(m.WorstLiar, a.WorstLiar)
	}
	return m, nil
}

// benchKeys are the identity of a directory and the keys of the network that all of this benchmark share.
func benchKeys(dir string) (*stc.Identity, *stc.Keyring, error) {
	own := stc.Sum([]byte(filepath.Base(dir)))
	id, err := stc.NewIdentity(own[:])
	if err != nil {
		return nil, nil, err
	}
	shared := stc.Sum([]byte("benchmark"))
	keyring, err := stc.NewKeyring(shared[:])
	return id, keyring, err
}
