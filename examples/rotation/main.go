// Key rotation watched: the keys of a session are replaced after so many bytes,
// so much time or so many frames, whichever comes first, while data flows. Each
// replacement is an epoch; the key of the one before is erased.
package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/seigr/sttnode/examples/internal/loopback"
	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/session"
)

func main() {
	ctx := context.Background()
	network := loopback.Network()
	// By default 1 GiB, an hour, 100,000 frames. That would be a long example.
	often := func(cfg *node.Config) {
		cfg.Session.Rotation = session.Rotation{Bytes: 256 << 10, Interval: time.Hour, Messages: -1}
	}
	alice, bob := loopback.Start(network, often), loopback.Start(network, often)
	defer alice.Stop(ctx)
	defer bob.Stop(ctx)

	loopback.Check(bob.Handle("echo/1", func(_ context.Context, st *node.Stream) { _, _ = io.Copy(st, st) }))
	s, err := alice.Connect(ctx, bob.Addr().String())
	loopback.Check(err)
	st, err := alice.OpenStream(ctx, s, "echo/1")
	loopback.Check(err)
	defer st.Close()

	block := make([]byte, 64<<10)
	for epoch := uint32(0); epoch < 3; {
		_, err := st.Write(block)
		loopback.Check(err)
		_, err = io.ReadFull(st, block) // it came back: all of it was opened, whatever the key
		loopback.Check(err)
		for sealing := s.Stats().SendEpoch; epoch < sealing; {
			epoch++
			fmt.Println("Alice seals with the key of epoch", epoch)
		}
	}
	fmt.Println("Bob's keys have changed as well:", s.Stats().ReceiveEpoch >= 2)
}
