// Alice and Bob exchange a message: two nodes, one session, packets both ways.
package main

import (
	"context"
	"fmt"

	"github.com/seigr/sttnode/examples/internal/loopback"
)

func main() {
	ctx := context.Background()
	network := loopback.Network() // the secret that both hold
	alice, bob := loopback.Start(network), loopback.Start(network)
	defer alice.Stop(ctx)
	defer bob.Stop(ctx)

	// Four messages go back and forth; then each knows who the other is.
	session, err := alice.Connect(ctx, bob.Addr().String())
	loopback.Check(err)
	fmt.Println("connected with Bob:", session.PeerID() == bob.ID())

	loopback.Check(alice.Send(ctx, []byte("Hello Bob!"), session.ID()))
	for packet, err := range bob.Receive(ctx) {
		loopback.Check(err)
		fmt.Printf("Bob has got %q, from Alice: %v\n", packet.Data, packet.Peer == alice.ID())
		loopback.Check(bob.Send(ctx, []byte("Hello Alice!"), packet.Session)) // the same session, the other way
		break
	}
	for packet, err := range alice.Receive(ctx) {
		loopback.Check(err)
		fmt.Printf("Alice has got %q\n", packet.Data)
		break
	}
}
