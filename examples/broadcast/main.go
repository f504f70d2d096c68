// One server to many: a source feeds twelve sessions at once. Those who keep up
// get every piece. Dora falls asleep: she holds up nobody and costs no memory
// beyond the window, and goes on at a piece that makes sense by itself.
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/seigr/sttnode/examples/internal/loopback"
	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/session"
	"github.com/seigr/sttnode/stc"
)

const (
	viewers   = 11 // and Dora
	scenes    = 20 // each begins with a picture that stands for itself
	perScene  = 50
	pieces    = scenes * perScene
	pieceSize = 8 << 10
)

func main() {
	ctx := context.Background()
	network := loopback.Network()
	live := session.Broadcaster{Window: 1 << 20}
	server := loopback.Start(network, func(cfg *node.Config) { cfg.Session.SendBuffer = 64 << 10 })
	defer server.Stop(ctx)
	loopback.Check(server.Handle("live/1", func(ctx context.Context, st *node.Stream) {
		for piece := range live.Pieces(ctx) {
			if st.SendMessage(piece.Data) != nil {
				return // gone
			}
		}
	}))

	scene := make(chan bool)    // somebody who keeps up has seen a whole scene
	results := make(chan audit) // of each in the end
	awake := make(chan bool)    // closed when it is over
	for range viewers {
		go func() { results <- watch(ctx, network, server, func() { scene <- true }) }()
	}
	dora := make(chan audit)
	go func() { dora <- watch(ctx, network, server, func() { <-awake }) }()

	for live.Stats().Subscribers < viewers+1 {
		time.Sleep(time.Millisecond) // the show begins when all are there
	}
	for number := uint64(1); number <= pieces; number++ {
		begins := number%perScene == 1
		piece := binary.BigEndian.AppendUint64(make([]byte, 0, pieceSize), number)
		loopback.Check(live.Send(piece[:pieceSize], begins))
		if number%perScene == 0 {
			for range viewers { // as fast as the viewers of this machine, so that it may be a slow one
				<-scene
			}
		}
	}
	loopback.Check(live.Close())
	all := 0
	for range viewers {
		if a := <-results; a.seen == pieces && a.jumps == 0 {
			all++
		}
	}
	fmt.Println(all, "viewers of", viewers, "have seen everything")
	close(awake)
	a := <-dora
	fmt.Println("Dora has missed some:", a.seen < pieces)
	fmt.Println("she went on at the beginning of a scene:", a.jumps > 0 && a.badJumps == 0)
	fmt.Println("and has seen the end:", a.last == pieces)
}

// audit is what a viewer has seen.
type audit struct {
	seen, jumps, badJumps int
	last                  uint64
}

// watch is a viewer: a node of its own. It is told of the end of each scene.
func watch(ctx context.Context, network *stc.Keyring, server *node.Node, sceneOver func()) (a audit) {
	viewer := loopback.Start(network, func(cfg *node.Config) { cfg.DialOnly = true })
	defer viewer.Stop(ctx)
	s, err := viewer.Connect(ctx, server.Addr().String())
	loopback.Check(err)
	st, err := viewer.OpenStream(ctx, s, "live/1")
	loopback.Check(err)
	defer st.Close()
	for {
		piece, err := st.ReceiveMessage(pieceSize)
		if err != nil {
			return a // io.EOF
		}
		number := binary.BigEndian.Uint64(piece)
		if number != a.last+1 {
			a.jumps++
			if number%perScene != 1 {
				a.badJumps++
			}
		}
		a.seen, a.last = a.seen+1, number
		if number%perScene == 0 {
			sceneOver()
		}
	}
}
