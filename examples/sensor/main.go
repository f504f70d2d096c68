// A live sensor stream with events: readings of unknown number go out as sealed
// segments as soon as they are there. Who receives them puts them in order,
// reads them, and emits an event for each that is too high.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	"github.com/seigr/sttnode/event"
	"github.com/seigr/sttnode/examples/internal/loopback"
	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/stc"
)

// Overheated is an event of this application. Neither its name nor its payload
// means anything to the library.
const Overheated event.Topic[float32] = "overheated"

func main() {
	ctx := context.Background()
	network := loopback.Network()
	sensor, station := loopback.Start(network), loopback.Start(network)
	defer sensor.Stop(ctx)
	defer station.Stop(ctx)

	var events event.Emitter
	Overheated.On(&events, func(_ context.Context, celsius float32) { fmt.Printf("alarm: %.1f °C\n", celsius) })

	session, err := sensor.Connect(ctx, station.Addr().String())
	loopback.Check(err)
	received := make(chan string)
	go func() { received <- receive(ctx, station, network, &events) }()

	// The sensor measures, and the encoder seals what there is: live mode.
	readings := make(chan []byte)
	go func() {
		defer close(readings) // the end of the stream
		for _, celsius := range []float32{61.5, 74, 95.3, 80.2, 91.7, 70.1} {
			b, _ := binary.Append(nil, binary.BigEndian, celsius)
			readings <- b
		}
	}()
	encoder, err := stc.NewStreamEncoder(network.StreamKey("sensor"), stc.StreamConfig{})
	loopback.Check(err)
	for segment, err := range encoder.SegmentsFrom(ctx, readings) {
		loopback.Check(err)
		loopback.Check(sensor.Send(ctx, segment, session.ID()))
	}
	summary := <-received
	loopback.Check(events.Close(ctx)) // waits for the handlers
	fmt.Println(summary)
}

// receive decodes the segments that come as packets, until the stream's end.
func receive(ctx context.Context, station *node.Node, network *stc.Keyring, events *event.Emitter) string {
	decoder, err := stc.NewStreamDecoder(network.StreamKey("sensor"), stc.StreamDecoderConfig{})
	loopback.Check(err)
	segments := func(yield func([]byte, error) bool) {
		for packet, err := range station.Receive(ctx) {
			if !yield(packet.Data, err) {
				return
			}
		}
	}
	var bytesSoFar bytes.Buffer
	count := 0
	for b, err := range decoder.Decode(segments) {
		loopback.Check(err) // lost, forged, repeated: each a distinct error
		bytesSoFar.Write(b)
		for bytesSoFar.Len() >= 4 { // a segment's borders mean nothing
			var celsius float32
			_, _ = binary.Decode(bytesSoFar.Next(4), binary.BigEndian, &celsius)
			if count++; celsius > 90 {
				Overheated.Emit(events, celsius)
			}
		}
	}
	return fmt.Sprint(count, " readings, all of them: ", decoder.Finish() == nil)
}
