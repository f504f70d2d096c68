// A DHT-discovered exchange: Alice knows neither Bob's address nor his ID, only
// the name of what she wants. Bob has announced that he provides it; the network
// says where he is.
package main

import (
	"context"
	"fmt"
	"io"

	"github.com/seigr/sttnode/examples/internal/loopback"
	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/stc"
)

func main() {
	ctx := context.Background()
	network := loopback.Network()
	first := loopback.Start(network) // the one whose address all know
	bob := loopback.Start(network, loopback.Joining(first))
	alice := loopback.Start(network, loopback.Joining(first))
	for _, n := range []*node.Node{first, bob, alice} {
		defer n.Stop(ctx)
	}
	loopback.Check(bob.Join(ctx))
	loopback.Check(alice.Join(ctx))

	// Any hash can be provided: of a content, a topic, a service.
	key := stc.Sum([]byte("the time, in Bob's opinion"))
	loopback.Check(bob.Handle("time/1", func(_ context.Context, st *node.Stream) { fmt.Fprint(st, "half past ten") }))
	_, err := bob.Announce(ctx, key)
	loopback.Check(err)

	for target, err := range alice.Providers(ctx, key) {
		loopback.Check(err)
		session, err := alice.Connect(ctx, target) // only who has this node ID is accepted
		loopback.Check(err)
		fmt.Println("the network has named Bob:", session.PeerID() == bob.ID())
		st, err := alice.OpenStream(ctx, session, "time/1")
		loopback.Check(err)
		answer, err := io.ReadAll(st)
		loopback.Check(err)
		fmt.Printf("it is %s\n", answer)
		break
	}
}
