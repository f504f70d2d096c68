package node_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log"

	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/session"
	"github.com/seigr/sttnode/stc"
)

// start starts a node of the network of that keyring, on a free port of this
// machine, with an identity of its own and without a store.
func start(keyring *stc.Keyring) *node.Node {
	seed := make([]byte, stc.MinSeedSize)
	rand.Read(seed)
	identity, err := stc.NewIdentity(seed)
	if err != nil {
		log.Fatal(err)
	}
	n, err := node.New(node.Config{Identity: identity, Keyring: keyring, Listen: "127.0.0.1:0"})
	if err != nil {
		log.Fatal(err)
	}
	if err := n.Start(context.Background()); err != nil {
		log.Fatal(err)
	}
	return n
}

// Alice sends Bob a message.
func Example() {
	ctx := context.Background()
	keyring, err := stc.NewKeyring([]byte("a secret of 32 bytes or more, which both hold"))
	if err != nil {
		log.Fatal(err)
	}
	alice, bob := start(keyring), start(keyring)
	defer alice.Stop(ctx)
	defer bob.Stop(ctx)

	session, err := alice.Connect(ctx, bob.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	if err := alice.Send(ctx, []byte("Hello Bob!"), session.ID()); err != nil {
		log.Fatal(err)
	}
	for packet, err := range bob.Receive(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s, from Alice: %v\n", packet.Data, packet.Peer == alice.ID())
		break
	}
	// Output: Hello Bob!, from Alice: true
}

// A protocol of the application: Bob answers each stream with what it brings.
func ExampleNode_Handle() {
	ctx := context.Background()
	keyring, err := stc.NewKeyring([]byte("a secret of 32 bytes or more, which both hold"))
	if err != nil {
		log.Fatal(err)
	}
	alice, bob := start(keyring), start(keyring)
	defer alice.Stop(ctx)
	defer bob.Stop(ctx)

	err = bob.Handle("echo/1", func(ctx context.Context, st *session.Stream) {
		_, _ = io.Copy(st, st)
	})
	if err != nil {
		log.Fatal(err)
	}

	s, err := alice.Connect(ctx, bob.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	st, err := alice.OpenStream(ctx, s, "echo/1")
	if err != nil {
		log.Fatal(err)
	}
	defer st.Close()
	fmt.Fprint(st, "Is anybody there?")
	_ = st.CloseWrite()
	answer, err := io.ReadAll(st)
	fmt.Printf("%s %v\n", answer, err)
	// Output: Is anybody there? <nil>
}
