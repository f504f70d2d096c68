package node_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log"

	"github.com/seigr/sttnode/event"
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

// Frames of the application's own types: short messages on a session, answered
// on it.
func ExampleNode_HandleFrame() {
	const question, answer = 0x80, 0x81
	ctx := context.Background()
	keyring, err := stc.NewKeyring([]byte("a secret of 32 bytes or more, which both hold"))
	if err != nil {
		log.Fatal(err)
	}
	alice, bob := start(keyring), start(keyring)
	defer alice.Stop(ctx)
	defer bob.Stop(ctx)

	answered := make(chan string)
	_ = bob.HandleFrame(question, func(ctx context.Context, f session.UserFrame) {
		_ = f.Session.SendFrame(ctx, answer, f.Stream, []byte("42"))
	})
	_ = alice.HandleFrame(answer, func(_ context.Context, f session.UserFrame) {
		answered <- fmt.Sprintf("%s, to question %d", f.Payload, f.Stream)
	})

	s, err := alice.Connect(ctx, bob.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	if err := s.SendFrame(ctx, question, 7, []byte("What is it?")); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-answered)
	// Output: 42, to question 7
}

// Named endpoints in front of a node: each has its own queue, so that a peer who
// reads slowly delays nobody.
func ExampleNode_Send_endpoints() {
	ctx := context.Background()
	keyring, err := stc.NewKeyring([]byte("a secret of 32 bytes or more, which all hold"))
	if err != nil {
		log.Fatal(err)
	}
	source, alice, bob := start(keyring), start(keyring), start(keyring)
	defer source.Stop(ctx)
	defer alice.Stop(ctx)
	defer bob.Stop(ctx)

	var endpoints session.EndpointManager
	defer endpoints.Close(ctx)
	for name, viewer := range map[string]*node.Node{"viewer alice": alice, "viewer bob": bob} {
		s, err := source.Connect(ctx, viewer.Addr().String())
		if err != nil {
			log.Fatal(err)
		}
		_ = endpoints.Add(name, func(ctx context.Context, p []byte) error {
			return source.Send(ctx, p, s.ID())
		}, session.RouteOptions{Queue: 16, Overflow: session.OverflowDropOldest})
	}
	if err := endpoints.Route(ctx, []byte("for Alice alone"), "viewer alice"); err != nil {
		log.Fatal(err)
	}
	if err := endpoints.Broadcast(ctx, []byte("for both")); err != nil {
		log.Fatal(err)
	}
	for _, viewer := range []*node.Node{alice, bob} {
		for packet, err := range viewer.Receive(ctx) {
			if err != nil {
				log.Fatal(err)
			}
			fmt.Printf("%s\n", packet.Data)
			if string(packet.Data) == "for both" {
				break
			}
		}
	}
	// Output:
	// for Alice alone
	// for both
	// for both
}

// A program hears what its node does, and tells it to others by events of its
// own.
func ExampleNode_Events() {
	ctx := context.Background()
	keyring, err := stc.NewKeyring([]byte("a secret of 32 bytes or more, which both hold"))
	if err != nil {
		log.Fatal(err)
	}
	alice, bob := start(keyring), start(keyring)
	defer alice.Stop(ctx)

	met := make(chan bool)
	node.EventPeerConnected.On(bob.Events(), func(_ context.Context, e node.Event) {
		met <- e.Peer == alice.ID()
	})
	if _, err := alice.Connect(ctx, bob.Addr().String()); err != nil {
		log.Fatal(err)
	}
	fmt.Println("Alice has come:", <-met)

	greeted, err := bob.Events().Subscribe(event.Options{Names: []string{"greeted"}})
	if err != nil {
		log.Fatal(err)
	}
	bob.Events().Emit("greeted", "Alice")
	_ = bob.Stop(ctx) // ends all subscriptions
	for e := range greeted.All(ctx) {
		fmt.Println(e.Name, e.Payload)
	}
	// Output:
	// Alice has come: true
	// greeted Alice
}

// One server to many: every viewer's stream is fed at the viewer's own speed from
// one window of pieces, by its handler.
func Example_broadcast() {
	ctx := context.Background()
	keyring, err := stc.NewKeyring([]byte("a secret of 32 bytes or more, which all hold"))
	if err != nil {
		log.Fatal(err)
	}
	camera := start(keyring)
	defer camera.Stop(ctx)
	var live session.Broadcaster
	_ = camera.Handle("live/1", func(ctx context.Context, st *session.Stream) {
		for p := range live.Pieces(ctx) {
			if st.SendMessage(p.Data) != nil {
				return // the viewer has gone
			}
		}
	})

	_ = live.Send([]byte("key frame 1"), true)
	_ = live.Send([]byte("  what has changed"), false)
	_ = live.Send([]byte("key frame 2"), true)

	for _, name := range []string{"Alice", "Bob"} {
		viewer := start(keyring)
		defer viewer.Stop(ctx)
		s, err := viewer.Connect(ctx, camera.Addr().String())
		if err != nil {
			log.Fatal(err)
		}
		st, err := viewer.OpenStream(ctx, s, "live/1")
		if err != nil {
			log.Fatal(err)
		}
		defer st.Close()
		frame, err := st.ReceiveMessage(1 << 20)
		fmt.Printf("%s begins at %s %v\n", name, frame, err)
	}
	live.Close()
	// Output:
	// Alice begins at key frame 2 <nil>
	// Bob begins at key frame 2 <nil>
}
