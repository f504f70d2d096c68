// Alice and Bob exchange a message: two nodes, one session, packets both ways.
// All of it is here; the other examples begin with what start does, from a package
// that they share.
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log"

	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/stc"
)

func main() {
	ctx := context.Background()
	network, err := stc.NewKeyring(secret()) // both hold it; real ones read it from a file
	check(err)
	alice, bob := start(ctx, network), start(ctx, network)
	defer alice.Stop(ctx)
	defer bob.Stop(ctx)

	// Four messages go back and forth; then each knows who the other is.
	session, err := alice.Connect(ctx, bob.Addr().String())
	check(err)
	fmt.Println("connected with Bob:", session.PeerID() == bob.ID())

	check(alice.Send(ctx, []byte("Hello Bob!"), session.ID()))
	for packet, err := range bob.Receive(ctx) {
		check(err)
		fmt.Printf("Bob has got %q, from Alice: %v\n", packet.Data, packet.Peer == alice.ID())
		check(bob.Send(ctx, []byte("Hello Alice!"), packet.Session)) // the same session, the other way
		break
	}
	for packet, err := range alice.Receive(ctx) {
		check(err)
		fmt.Printf("Alice has got %q\n", packet.Data)
		break
	}
}

// start starts a node of the network with a new identity, on a free port of this
// machine, and without a store.
func start(ctx context.Context, network *stc.Keyring) *node.Node {
	identity, err := stc.NewIdentity(secret()) // it is the same node next time if its seed is
	check(err)
	n, err := node.New(node.Config{Identity: identity, Keyring: network, Listen: "127.0.0.1:0"})
	check(err)
	check(n.Start(ctx))
	return n
}

func secret() []byte {
	seed := make([]byte, stc.MinSeedSize)
	rand.Read(seed)
	return seed
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
