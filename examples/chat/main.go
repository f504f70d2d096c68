// Custom chat frames: two types of frames of this application's own, 0x80 for
// what somebody says and 0x81 for the receipt. The library opens them and hands
// them over; what they mean is decided here.
package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/seigr/sttnode/examples/internal/loopback"
	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/session"
)

const (
	say     frame.Type = 0x80 // room, zero byte, text
	receipt frame.Type = 0x81 // how many characters have been shown, as text
)

func main() {
	ctx := context.Background()
	network := loopback.Network()
	alice, bob := loopback.Start(network), loopback.Start(network)
	defer alice.Stop(ctx)
	defer bob.Stop(ctx)

	loopback.Check(bob.HandleFrame(say, func(ctx context.Context, f session.UserFrame) {
		room, text, ok := strings.Cut(string(f.Payload), "\x00")
		if !ok {
			return // whatever comes from elsewhere may be anything
		}
		fmt.Printf("#%s: %s\n", room, text)
		_ = f.Session.SendFrame(ctx, receipt, f.Stream, fmt.Append(nil, len(text)))
	}))
	receipts := make(chan string)
	loopback.Check(alice.HandleFrame(receipt, func(_ context.Context, f session.UserFrame) { receipts <- string(f.Payload) }))

	s, err := alice.Connect(ctx, bob.Addr().String())
	loopback.Check(err)
	for _, text := range []string{"Hello everybody", "How do frames work here?"} {
		loopback.Check(s.SendFrame(ctx, say, 1, []byte("general\x00"+text)))
		fmt.Println("shown:", <-receipts, "characters")
	}
	// A type that nobody handles is counted, and harms nobody.
	loopback.Check(s.SendFrame(ctx, 0x99, 1, []byte("?")))
	loopback.Check(s.SendFrame(ctx, say, 1, []byte("general\x00Still there?")))
	fmt.Println("shown:", <-receipts, "characters")
}
