// A sensor network on storage: readings are kept under the hash of their bytes,
// the same reading once, whoever has sent it. What belongs together, and what is
// worth an event, is decided here. A reader asks for a reading by its hash and
// needs to trust nobody for it.
package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/event"
	"github.com/seigr/sttnode/examples/internal/loopback"
	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/stc"
)

// Frost is an event of this application: the hash of the reading.
const Frost event.Topic[stc.Hash] = "frost"

func main() {
	ctx := context.Background()
	network := loopback.Network()
	station := loopback.Start(network)
	defer station.Stop(ctx)
	storage := content.NewMemory(content.MemoryConfig{}) // content.Open is the same on the disk
	defer storage.Close()

	var events event.Emitter
	frosts := make(chan stc.Hash, 16)
	Frost.On(&events, func(_ context.Context, h stc.Hash) { frosts <- h })

	// Whoever asks for a hash gets the bytes.
	loopback.Check(station.Handle("reading/1", func(_ context.Context, st *node.Stream) {
		var h stc.Hash
		if _, err := io.ReadFull(st, h[:]); err != nil {
			return
		}
		if b, err := storage.Get(nil, h); err == nil {
			_, _ = st.Write(b)
		}
	}))

	readings := map[string][]string{
		"field":  {"+4.5 °C", "+1.0 °C", "-2.5 °C", "-2.5 °C"},
		"meadow": {"+4.0 °C", "+1.0 °C", "-1.5 °C", "-2.5 °C"},
		"wood":   {"+5.0 °C", "+4.5 °C", "+4.0 °C", "+4.0 °C"},
	}
	var sensors sync.WaitGroup
	for _, values := range readings {
		sensors.Go(func() { measure(ctx, network, station.Addr().String(), values) })
	}
	received, different := 0, make(map[stc.Hash]bool)
	for packet, err := range station.Receive(ctx) {
		loopback.Check(err)
		h, err := storage.Put(ctx, packet.Data)
		loopback.Check(err)
		different[h] = true
		if strings.HasPrefix(string(packet.Data), "-") {
			Frost.Emit(&events, h)
		}
		if received++; received == 12 {
			break
		}
	}
	sensors.Wait()
	loopback.Check(events.Close(ctx))
	fmt.Println(received, "readings,", len(different), "different ones are stored")
	fmt.Println(len(frosts), "of them were frost")

	// A reader, who was told one hash.
	reader := loopback.Start(network)
	defer reader.Stop(ctx)
	h := stc.Sum([]byte("-1.5 °C"))
	session, err := reader.Connect(ctx, station.Addr().String())
	loopback.Check(err)
	st, err := reader.OpenStream(ctx, session, "reading/1")
	loopback.Check(err)
	_, err = st.Write(h[:])
	loopback.Check(err)
	reading, err := io.ReadAll(st)
	loopback.Check(err)
	fmt.Printf("the reader has got %s, and its hash is right: %v\n", reading, stc.Sum(reading) == h)
}

// measure is a sensor: a node that only dials, sends what it measures, and ends.
func measure(ctx context.Context, network *stc.Keyring, station string, values []string) {
	sensor := loopback.Start(network, func(cfg *node.Config) { cfg.DialOnly = true })
	session, err := sensor.Connect(ctx, station)
	loopback.Check(err)
	for _, value := range values {
		loopback.Check(sensor.Send(ctx, []byte(value), session.ID()))
	}
	loopback.Check(sensor.Stop(ctx)) // what was sent is still delivered
}
