package event_test

import (
	"context"
	"fmt"

	"github.com/seigr/sttnode/event"
)

// Reading is what this application's sensors say.
type Reading struct {
	Sensor  string
	Celsius float64
}

// Overheated is emitted for every reading over the threshold.
const Overheated event.Topic[Reading] = "overheated"

// A name with its type of payload, and a handler of its own goroutine.
func Example() {
	var events event.Emitter
	Overheated.On(&events, func(_ context.Context, r Reading) {
		fmt.Printf("%s has %.1f °C\n", r.Sensor, r.Celsius)
	})
	for _, celsius := range []float64{61.5, 95.3, 99.9} {
		if celsius > 90 {
			Overheated.Emit(&events, Reading{"cpu", celsius})
		}
	}
	_ = events.Close(context.Background()) // the handler gets all of them first
	// Output:
	// cpu has 95.3 °C
	// cpu has 99.9 °C
}

// Any name and any payload, read by a loop. One who is too far behind loses
// something, and sees it.
func ExampleEmitter_Subscribe() {
	var events event.Emitter
	s, err := events.Subscribe(event.Options{Queue: 2, Overflow: event.DropOldest})
	if err != nil {
		panic(err)
	}
	events.Emit("door opened", "Alice")
	events.Emit("temperature", 21.5)
	events.Emit("door closed", nil)
	_ = events.Close(context.Background())

	for e := range s.All(context.Background()) {
		fmt.Println(e.Number, e.Name, e.Payload)
	}
	fmt.Println("lost:", s.Dropped())
	// Output:
	// 2 temperature 21.5
	// 3 door closed <nil>
	// lost: 1
}

// The channel form stands in a select among others.
func ExampleSubscription_C() {
	var events event.Emitter
	peers, err := events.Subscribe(event.Options{Names: []string{"peer connected"}})
	if err != nil {
		panic(err)
	}
	defer peers.Stop()
	stop := make(chan struct{})

	events.Emit("peer connected", "Bob")
	select {
	case e := <-peers.C():
		fmt.Println("hello", e.Payload)
	case <-stop:
	}
	// Output: hello Bob
}
