// Package event is an emitter of events: any name, any payload, any number of
// subscribers, none of which can hold up who emits.
//
//	Emit ──► lock: number, time ──► queue ──► handler, on a goroutine of its own
//	         (never waits)     ├──► queue ──► channel
//	                           └──► queue ──► range loop
//
// The zero Emitter is ready. What names and payloads mean is the application's
// matter. A [Topic] ties a name to the type of its payloads:
//
//	const Overheated event.Topic[Reading] = "overheated"
//
//	var events event.Emitter
//	Overheated.On(&events, func(ctx context.Context, r Reading) { … })
//	Overheated.Emit(&events, Reading{Sensor: "cpu", Celsius: 95.3})
//	err := events.Close(ctx)                  // waits for the handlers
//
// # Guarantees
//
// Emit never waits for a subscriber, whatever that does, and may be called from
// anywhere, handlers included. Every subscription gets the events of its names in
// the one order in which the emitter took them, handlers one event at a time.
// Each has a queue of its own, of fixed length. When it is full the subscription's
// [Overflow] decides what is lost; that is counted, and seen by the subscriber as
// a gap in [Event].Number. A handler that panics, or ends its goroutine by
// runtime.Goexit, loses its event, not the program and not its subscription: it is
// logged and counted.
//
// # Goroutines
//
// A handler has one, from [Emitter.Handle] until its subscription has ended and
// it has returned; [Emitter.Close] waits for all of them. Channels and range loops
// need none.
package event
