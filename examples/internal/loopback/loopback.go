// Package loopback starts nodes on this machine, so that the examples can be
// about something else. What it does is all that a node needs: an identity, the
// network's secret, and an address to listen on.
package loopback

import (
	"context"
	"crypto/rand"
	"log"

	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/stc"
)

// Network returns the secret of a network of its own. Real ones are read from a
// file that all members have been given.
func Network() *stc.Keyring {
	keyring, err := stc.NewKeyring(random())
	Check(err)
	return keyring
}

// Start starts a node of the network with a new identity, on a free port, without
// a store unless configure says otherwise.
func Start(network *stc.Keyring, configure ...func(*node.Config)) *node.Node {
	identity, err := stc.NewIdentity(random())
	Check(err)
	cfg := node.Config{Identity: identity, Keyring: network, Listen: "127.0.0.1:0"}
	for _, f := range configure {
		f(&cfg)
	}
	n, err := node.New(cfg)
	Check(err)
	Check(n.Start(context.Background()))
	return n
}

// Joining makes a node join the network by another one.
func Joining(other *node.Node) func(*node.Config) {
	addr, err := node.ParseAddress(other.Addr().String())
	Check(err)
	return func(cfg *node.Config) { cfg.Bootstrap = append(cfg.Bootstrap, addr) }
}

func random() []byte {
	seed := make([]byte, stc.MinSeedSize)
	rand.Read(seed)
	return seed
}

// Check ends the program if there is an error.
func Check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
