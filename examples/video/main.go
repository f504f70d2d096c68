// Video-like fan-out, composed of four primitives: pictures go through a stream
// encoder in live mode; each segment is stored under its hash, routed to every
// viewer's endpoint, and told of by an event. A viewer who stands still delays
// nobody, and one who comes too late sees it all from the storage. The library
// moves bytes; that they are pictures is known here only.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/event"
	"github.com/seigr/sttnode/examples/internal/loopback"
	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/session"
	"github.com/seigr/sttnode/stc"
)

// SegmentSent is an event of this application: the hash of what was sent.
const SegmentSent event.Topic[stc.Hash] = "segment sent"

const pictures, pictureSize = 50, 20_000

func main() {
	ctx := context.Background()
	network := loopback.Network()
	camera := loopback.Start(network)
	defer camera.Stop(ctx)
	storage := content.NewMemory(content.MemoryConfig{})
	defer storage.Close()
	var endpoints session.EndpointManager
	var events event.Emitter

	// The index of the recording is made of events.
	var recording []stc.Hash
	index, err := SegmentSent.Handle(&events, func(_ context.Context, h stc.Hash) {
		recording = append(recording, h)
	}, event.Options{Queue: 1000}) // emitting waits for nobody
	loopback.Check(err)

	seen := make(chan string)
	for _, name := range []string{"alice", "bob"} {
		viewer := loopback.Start(network)
		defer viewer.Stop(ctx)
		loopback.Check(viewer.Handle("video/1", func(_ context.Context, st *node.Stream) {
			seen <- name + " has seen " + watch(network, messages(st))
		}))
		s, err := camera.Connect(ctx, viewer.Addr().String())
		loopback.Check(err)
		st, err := camera.OpenStream(ctx, s, "video/1")
		loopback.Check(err)
		loopback.Check(endpoints.Add(name, st.MessageSink(), session.RouteOptions{Overflow: session.OverflowBlock}))
	}
	// Those two are to see all of it: the camera, which is a file, goes at their pace. Carol does not look: her queue loses what has
	// waited longest.
	asleep := func(ctx context.Context, _ []byte) error { <-ctx.Done(); return nil }
	loopback.Check(endpoints.Add("carol", asleep, session.RouteOptions{Queue: 4, Overflow: session.OverflowDropOldest}))

	encoder, err := stc.NewStreamEncoder(network.StreamKey("camera 1"), stc.StreamConfig{SegmentSize: 8 << 10})
	loopback.Check(err)
	for segment, err := range encoder.SegmentsFrom(ctx, film()) {
		loopback.Check(err)
		segment = bytes.Clone(segment) // it is valid until the next one, and will be in queues
		h, err := storage.Put(ctx, segment)
		loopback.Check(err)
		loopback.Check(endpoints.Broadcast(ctx, segment))
		SegmentSent.Emit(&events, h)
	}
	first, second := <-seen, <-seen
	fmt.Println(min(first, second))
	fmt.Println(max(first, second))
	for route := range endpoints.Stats() {
		if route.Name == "carol" {
			fmt.Println("carol has missed segments, and nobody else:", route.Dropped > 0)
		}
	}
	loopback.Check(endpoints.Remove("carol"))
	loopback.Check(endpoints.Close(ctx)) // delivers what is queued

	// Dave comes when it is over.
	loopback.Check(events.Close(ctx)) // waits for the handler
	if index.Dropped() > 0 {
		fmt.Println("the recording is not complete")
	}
	fmt.Println("dave has seen", watch(network, func(yield func([]byte, error) bool) {
		for _, h := range recording {
			segment, err := storage.Get(nil, h)
			if !yield(segment, err) {
				return
			}
		}
	}), "in the recording")
}

// film is what a camera and its codec would give, picture by picture.
func film() <-chan []byte {
	c := make(chan []byte)
	go func() {
		defer close(c)
		for i := range pictures {
			c <- bytes.Repeat([]byte{byte(i)}, pictureSize)
		}
	}()
	return c
}

// messages yields the messages of a stream.
func messages(st *node.Stream) func(yield func([]byte, error) bool) {
	return func(yield func([]byte, error) bool) {
		for {
			segment, err := st.ReceiveMessage(64 << 10)
			if errors.Is(err, io.EOF) || !yield(segment, err) {
				return
			}
		}
	}
}

// watch decodes segments until the end of the stream, and looks at the pictures.
func watch(network *stc.Keyring, segments func(yield func([]byte, error) bool)) string {
	decoder, err := stc.NewStreamDecoder(network.StreamKey("camera 1"), stc.StreamDecoderConfig{})
	loopback.Check(err)
	var all bytes.Buffer
	for b, err := range decoder.Decode(segments) {
		loopback.Check(err)
		all.Write(b)
	}
	good := 0
	for i := range pictures {
		if picture := all.Next(pictureSize); bytes.Count(picture, []byte{byte(i)}) == pictureSize {
			good++
		}
	}
	return fmt.Sprint(good, " pictures of ", pictures)
}
