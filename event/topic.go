package event

import (
	"context"
	"fmt"
	"iter"
	"reflect"
)

// Topic is the name of events whose payloads are of type T. It may be a constant.
//
// Nothing keeps others from emitting something else by the same name. Subscribers
// of a topic don't see it; Stats counts it.
type Topic[T any] string

// Emit is [Emitter.Emit] of the topic.
func (t Topic[T]) Emit(e *Emitter, payload T) { e.Emit(string(t), payload) }

// On is [Emitter.On] for the topic's payloads.
func (t Topic[T]) On(e *Emitter, handler func(ctx context.Context, payload T)) *Subscription {
	return e.On(string(t), t.typed(e, handler))
}

// Handle is [Emitter.Handle] for the topic's payloads. Options.Names does not
// matter.
func (t Topic[T]) Handle(e *Emitter, handler func(ctx context.Context, payload T), opts Options) (*Subscription, error) {
	opts.Names = []string{string(t)}
	return e.Handle(t.typed(e, handler), opts)
}

// Subscribe is [Emitter.Subscribe] for the topic; [Payloads] of the
// subscription's All, or a type assertion behind its C, gives the payloads.
// Options.Names does not matter.
func (t Topic[T]) Subscribe(e *Emitter, opts Options) (*Subscription, error) {
	opts.Names = []string{string(t)}
	return e.Subscribe(opts)
}

// typed returns the handler of events that calls handler with their payloads, or
// nil for nil.
func (t Topic[T]) typed(e *Emitter, handler func(ctx context.Context, payload T)) func(context.Context, Event) {
	if handler == nil {
		return nil
	}
	return func(ctx context.Context, ev Event) {
		if v, ok := t.payload(e, ev); ok {
			handler(ctx, v)
		}
	}
}

// All is [Emitter.All] for the topic's payloads.
func (t Topic[T]) All(ctx context.Context, e *Emitter) iter.Seq[T] {
	return func(yield func(T) bool) {
		for ev := range e.All(ctx, string(t)) {
			if v, ok := t.payload(e, ev); ok && !yield(v) {
				return
			}
		}
	}
}

func (t Topic[T]) payload(e *Emitter, ev Event) (T, bool) {
	v, ok := payload[T](ev)
	if !ok {
		e.mismatched.Add(1)
		e.log("event with a payload that is not of its topic's type", "event", ev.Name,
			"type", fmt.Sprintf("%T", ev.Payload), "want", reflect.TypeFor[T]().String())
	}
	return v, ok
}

// payload returns an event's payload if it is of type T.
func payload[T any](ev Event) (v T, ok bool) {
	if v, ok = ev.Payload.(T); ev.Payload == nil {
		ok = reflect.TypeFor[T]().Kind() == reflect.Interface
	}
	return v, ok
}

// Payloads yields those payloads of events that are of type T, whatever the
// events' names.
func Payloads[T any](events iter.Seq[Event]) iter.Seq[T] {
	return func(yield func(T) bool) {
		for ev := range events {
			if v, ok := payload[T](ev); ok && !yield(v) {
				return
			}
		}
	}
}
