package session_test

import (
	"context"
	"fmt"
	"log"
	"net/netip"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/session"
	"github.com/seigr/sttnode/session/transport/memory"
	"github.com/seigr/sttnode/stc"
)

// endpoint opens an endpoint on a network in memory. On a real one the carrier
// is transport.ListenUDP(":4700").
func endpoint(network *memory.Network, name string, addr netip.AddrPort, frames *session.Dispatcher) *session.Endpoint {
	identity, err := stc.NewIdentity([]byte("the secret seed of the node called " + name))
	if err != nil {
		log.Fatal(err)
	}
	keyring, err := stc.NewKeyring([]byte("a secret of 32 bytes or more, which both hold"))
	if err != nil {
		log.Fatal(err)
	}
	conn, err := network.Listen(addr)
	if err != nil {
		log.Fatal(err)
	}
	e, err := session.NewEndpoint(conn, session.Config{Identity: identity, Keyring: keyring, Frames: frames})
	if err != nil {
		log.Fatal(err)
	}
	return e
}

// A protocol of the application's own: frames of type 0x80 are chat messages.
func ExampleDispatcher() {
	const chat = frame.Type(0x80)
	ctx := context.Background()
	network := memory.New(memory.Config{})
	var atAlice, atBob session.Dispatcher
	answered := make(chan string)
	_ = atAlice.Handle(chat, func(_ context.Context, f session.UserFrame) { answered <- string(f.Payload) })
	_ = atBob.Handle(chat, func(ctx context.Context, f session.UserFrame) {
		_ = f.Answer(ctx, []byte("Hello yourself! You said: "+string(f.Payload)))
	})
	alice := endpoint(network, "Alice", netip.MustParseAddrPort("10.0.0.1:4700"), &atAlice)
	bob := endpoint(network, "Bob", netip.MustParseAddrPort("10.0.0.2:4700"), &atBob)
	defer bob.Close()
	defer alice.Close()

	s, err := alice.Dial(ctx, bob.LocalAddr(), stc.Hash{}) // whoever answers there
	if err != nil {
		log.Fatal(err)
	}
	if err := s.SendFrame(ctx, chat, 0, []byte("Hello Bob!")); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-answered)
	// Output: Hello yourself! You said: Hello Bob!
}

// One piece of bytes goes to some endpoints, the next to all. That a viewer
// reads nothing delays no other.
func ExampleEndpointManager() {
	ctx := context.Background()
	var endpoints session.EndpointManager
	recorded, screen := make(chan []byte), make(chan []byte)
	_ = endpoints.Add("recorder", session.ChannelSink(recorded), session.RouteOptions{})
	_ = endpoints.Add("screen", session.ChannelSink(screen), session.RouteOptions{
		Queue: 1, Overflow: session.OverflowDropOldest,
	})
	_ = endpoints.Add("log", func(_ context.Context, p []byte) error {
		return fmt.Errorf("no room for %d bytes", len(p)) // counted, and kept
	}, session.RouteOptions{})

	for _, p := range []string{"one", "two", "three"} {
		if err := endpoints.Route(ctx, []byte(p), "recorder", "screen"); err != nil {
			log.Fatal(err)
		}
	}
	_ = endpoints.Broadcast(ctx, []byte("end"))
	for range 4 {
		fmt.Printf("recorded %s\n", <-recorded)
	}
	for p := range screen {
		if string(p) == "end" { // whatever came before it, nothing waits behind it
			fmt.Println("the screen is up to date")
			break
		}
	}
	_ = endpoints.Close(ctx)
	// Output:
	// recorded one
	// recorded two
	// recorded three
	// recorded end
	// the screen is up to date
}
