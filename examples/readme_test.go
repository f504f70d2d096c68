package examples

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/event"
	"github.com/seigr/sttnode/examples/internal/loopback"
	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/session"
	"github.com/seigr/sttnode/stc"
)

// The README's code, in programs that are compiled and run.

// pair starts two nodes of one network.
func pair() (alice, bob *node.Node, stop func()) {
	network := loopback.Network()
	alice, bob = loopback.Start(network), loopback.Start(network)
	return alice, bob, func() {
		alice.Stop(context.Background())
		bob.Stop(context.Background())
	}
}

func Example_packets() {
	ctx := context.Background()
	alice, bob, stop := pair()
	defer stop()

	session, err := alice.Connect(ctx, bob.Addr().String()) // or a node ID, or ws://…
	loopback.Check(err)
	err = alice.Send(ctx, []byte("Hello Bob!"), session.ID())
	loopback.Check(err)
	for packet, err := range bob.Receive(ctx) { // of all sessions
		loopback.Check(err)
		fmt.Printf("%s\n", packet.Data)
		break
	}
	// Output: Hello Bob!
}

func Example_streams() {
	ctx := context.Background()
	alice, bob, stop := pair()
	defer stop()
	s, err := alice.Connect(ctx, bob.Addr().String())
	loopback.Check(err)

	err = bob.Handle("shout/1", func(ctx context.Context, st *node.Stream) {
		text, _ := io.ReadAll(st)
		st.Write(bytes.ToUpper(text))
	})
	loopback.Check(err)
	st, err := alice.OpenStream(ctx, s, "shout/1") // an io.ReadWriteCloser; one of up to 65,535 in the session
	loopback.Check(err)
	fmt.Fprint(st, "is anybody there?")
	st.CloseWrite()
	answer, err := io.ReadAll(st)
	loopback.Check(err)
	fmt.Printf("%s\n", answer)
	// Output: IS ANYBODY THERE?
}

func Example_frames() {
	ctx := context.Background()
	alice, bob, stop := pair()
	defer stop()
	s, err := alice.Connect(ctx, bob.Addr().String())
	loopback.Check(err)
	heard := make(chan string)

	err = bob.HandleFrame(0x80, func(ctx context.Context, f session.UserFrame) { f.Answer(ctx, append(f.Payload, "!"...)) })
	loopback.Check(err)
	err = alice.HandleFrame(0x80, func(_ context.Context, f session.UserFrame) { heard <- string(f.Payload) })
	loopback.Check(err)
	err = s.SendFrame(ctx, 0x80, 0, []byte("typing")) // types 0x80 to 0xFF are the program's
	loopback.Check(err)
	fmt.Println(<-heard)
	// Output: typing!
}

func Example_segments() {
	network := loopback.Network()
	text := bytes.Repeat([]byte("all work and no play\n"), 1000)
	var file bytes.Buffer

	encoder, err := stc.NewStreamEncoder(network.StreamKey("my book"), stc.StreamConfig{Mode: stc.StreamBounded, Size: uint64(len(text))})
	loopback.Check(err)
	for segment, err := range encoder.Segments(bytes.NewReader(text)) { // or a StreamWriter; StreamLive needs no Size
		loopback.Check(err)
		file.Write(segment) // or send it, by whatever carries bytes
	}
	decoder, err := stc.NewStreamDecoder(network.StreamKey("my book"), stc.StreamDecoderConfig{Stream: encoder.ID()})
	loopback.Check(err)
	got, err := io.ReadAll(stc.NewStreamReader(&file, decoder)) // nil only if it is whole, in order and unaltered
	fmt.Println(bytes.Equal(got, text), err)
	// Output: true <nil>
}

func Example_storage() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example-storage-")
	loopback.Check(err)
	defer os.RemoveAll(dir)
	identity, err := stc.NewIdentity(bytes.Repeat([]byte("seed"), 8))
	loopback.Check(err)
	var storage content.Storage

	storage, err = content.Open(dir, content.Config{Key: identity.StoreKey()}) // or content.NewMemory
	loopback.Check(err)
	defer storage.Close()
	hash, err := storage.Put(ctx, []byte("21.5 °C")) // its SHA3-256
	loopback.Check(err)
	reading, err := storage.Get(nil, hash)
	fmt.Printf("%.8v: %s %v\n", hash, reading, err)
	// Output: 9a2c9d59: 21.5 °C <nil>
}

func Example_endpoints() {
	ctx := context.Background()
	picture := []byte("picture")
	screen, disk := make(chan []byte, 10), new(bytes.Buffer)

	var endpoints session.EndpointManager // a slow one never delays another
	err := endpoints.Add("screen", session.ChannelSink(screen), session.RouteOptions{Overflow: session.OverflowDropOldest})
	loopback.Check(err)
	err = endpoints.Add("disk", func(_ context.Context, p []byte) error { _, err := disk.Write(p); return err }, session.RouteOptions{})
	loopback.Check(err)
	err = endpoints.Route(ctx, picture, "screen", "disk") // Broadcast: to all
	loopback.Check(err)
	err = endpoints.Close(ctx) // delivers what is queued
	fmt.Printf("%s %s %v\n", <-screen, disk, err)
	// Output: picture picture <nil>
}

type Reading struct {
	Sensor  string
	Celsius float64
}

const Overheated event.Topic[Reading] = "overheated"

func Example_events() {
	ctx := context.Background()

	var events event.Emitter // of any names and payloads; waits for no subscriber
	Overheated.On(&events, func(_ context.Context, r Reading) { fmt.Println(r.Sensor, r.Celsius) })
	all, err := events.Subscribe(event.Options{}) // as a channel, or to range over
	loopback.Check(err)
	Overheated.Emit(&events, Reading{"cpu", 95.3}) // const Overheated event.Topic[Reading] = "overheated"
	err = events.Close(ctx)                        // behind what is queued
	fmt.Println((<-all.C()).Name, err)
	// Output:
	// cpu 95.3
	// overheated <nil>
}

func Example_broadcast() {
	ctx := context.Background()
	keyFrame, change := []byte("scene"), []byte(" change")
	viewer := new(bytes.Buffer)

	var live session.Broadcaster // one window in memory, for all
	err := live.Send(keyFrame, true)
	loopback.Check(err)
	err = live.Send(change, false)
	loopback.Check(err)
	live.Close()
	for piece := range live.Pieces(ctx) { // a subscriber, at its own speed; too slow, it goes on at a key frame
		viewer.Write(piece.Data)
	}
	fmt.Printf("%s\n", viewer)
	// Output: scene change
}

// TestReadme finds each piece of code of the README's part about the library in
// this file, so that it compiles, and does what it says.
func TestReadme(t *testing.T) {
	lines := func(name string) []string {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all := strings.Split(string(b), "\n")
		for i, line := range all {
			all[i] = strings.TrimSpace(line)
		}
		return slices.DeleteFunc(all, func(line string) bool { return line == "loopback.Check(err)" })
	}
	source := lines("readme_test.go")
	readme := lines("../README.md")
	from := slices.Index(readme, "### The primitives")
	if from < 0 {
		t.Fatal("the README has no such part")
	}
	blocks := 0
	for i := from; i < len(readme) && !strings.HasPrefix(readme[i], "## "); i++ {
		if readme[i] != "```go" {
			continue
		}
		n := slices.Index(readme[i+1:], "```")
		block := readme[i+1:][:n]
		found := false
		for at := range source {
			found = found || len(source)-at >= n && slices.Equal(source[at:at+n], block)
		}
		if !found {
			t.Errorf("not in this file:\n%s", strings.Join(block, "\n"))
		}
		if n > 12 {
			t.Errorf("%d lines of\n%s", n, strings.Join(block, "\n"))
		}
		blocks++
		i += n
	}
	if blocks < 8 {
		t.Errorf("%d pieces of code", blocks)
	}
}
