package event

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// subscribe begins a subscription whose options are right.
func subscribe(t testing.TB, e *Emitter, opts Options) *Subscription {
	t.Helper()
	s, err := e.Subscribe(opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// handle is subscribe with a handler.
func handle(t testing.TB, e *Emitter, handler func(context.Context, Event), opts Options) *Subscription {
	t.Helper()
	s, err := e.Handle(handler, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// closeEmitter closes an emitter whose handlers return.
func closeEmitter(t *testing.T, e *Emitter) {
	t.Helper()
	if err := e.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// queued takes what is queued for a subscription.
func queued(s *Subscription) (payloads []any) {
	for len(s.C()) > 0 {
		payloads = append(payloads, (<-s.C()).Payload)
	}
	return payloads
}

func TestNames(t *testing.T) {
	var e Emitter
	one := subscribe(t, &e, Options{Names: []string{"a"}})
	some := subscribe(t, &e, Options{Names: []string{"b", "a", "b"}})
	every := subscribe(t, &e, Options{})
	for i, name := range []string{"a", "b", "", "a", "c"} {
		e.Emit(name, i)
	}
	for _, tt := range []struct {
		name string
		s    *Subscription
		want []any
	}{{"one name", one, []any{0, 3}}, {"two names", some, []any{0, 1, 3}}, {"all", every, []any{0, 1, 2, 3, 4}}} {
		if got := queued(tt.s); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
	if st := e.Stats(); st.Subscriptions != 3 || st.Emitted != 5 || st.Dropped != 0 {
		t.Errorf("%+v", st)
	}
	for _, s := range []*Subscription{one, some, every, one} {
		s.Stop()
	}
	e.Emit("a", 5)
	if _, open := <-every.C(); open || every.Err() != nil {
		t.Errorf("an event after Stop: %v, %v", open, every.Err())
	}
	if st := e.Stats(); st.Subscriptions != 0 || len(e.named) != 0 || len(e.every) != 0 {
		t.Errorf("left behind: %+v, %v, %v", st, e.named, e.every)
	}
}

// Events of many goroutines reach every subscriber in one and the same order.
func TestOrder(t *testing.T) {
	const emitters, each = 8, 200
	var e Emitter
	var got [3][]any
	for i := range got {
		handle(t, &e, func(_ context.Context, ev Event) {
			if got[i] = append(got[i], ev.Payload); ev.Number != uint64(len(got[i])) {
				t.Errorf("event %d has number %d", len(got[i]), ev.Number)
			}
		}, Options{Queue: emitters * each})
	}
	var emitting sync.WaitGroup
	for i := range emitters {
		emitting.Go(func() {
			for j := range each {
				e.Emit(fmt.Sprint(i), [2]int{i, j})
			}
		})
	}
	emitting.Wait()
	closeEmitter(t, &e)
	if len(got[0]) != emitters*each || !slices.Equal(got[0], got[1]) || !slices.Equal(got[0], got[2]) {
		t.Errorf("%d, %d and %d events, in one order: %v, %v", len(got[0]), len(got[1]), len(got[2]),
			slices.Equal(got[0], got[1]), slices.Equal(got[0], got[2]))
	}
	next := [emitters]int{}
	for _, p := range got[0] {
		if p := p.([2]int); p[1] != next[p[0]] {
			t.Fatalf("event %v before number %d", p, next[p[0]])
		} else {
			next[p[0]]++
		}
	}
}

// A handler that hangs holds up neither who emits nor other handlers; what it
// loses is counted, and shows as a gap.
func TestOverflow(t *testing.T) {
	for _, tt := range []struct {
		name     string
		overflow Overflow
		want     []any
		numbers  []uint64
		dropped  uint64
		err      error
	}{
		{"newest", DropNewest, []any{0, 1, 2, 8}, []uint64{1, 2, 3, 9}, 5, ErrClosed},
		{"oldest", DropOldest, []any{0, 6, 7, 8}, []uint64{1, 7, 8, 9}, 5, ErrClosed},
		{"end", End, []any{0, 1, 2}, []uint64{1, 2, 3}, 1, ErrOverrun},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var e Emitter
				var got []any
				var numbers []uint64
				resume := make(chan struct{})
				slow := handle(t, &e, func(_ context.Context, ev Event) {
					got, numbers = append(got, ev.Payload), append(numbers, ev.Number)
					<-resume
				}, Options{Queue: 2, Overflow: tt.overflow})
				var quick [2]int
				for i := range quick {
					handle(t, &e, func(context.Context, Event) { quick[i]++ }, Options{})
				}
				for i := range 8 {
					e.Emit("n", i)
					synctest.Wait()
				}
				if quick != [2]int{8, 8} {
					t.Errorf("the other handlers have had %d events", quick)
				}
				close(resume)
				synctest.Wait()
				e.Emit("n", 8)
				closeEmitter(t, &e)
				if !slices.Equal(got, tt.want) || !slices.Equal(numbers, tt.numbers) {
					t.Errorf("got %v, numbered %v, want %v, numbered %v", got, numbers, tt.want, tt.numbers)
				}
				if slow.Dropped() != tt.dropped || e.Stats().Dropped != tt.dropped || slow.Err() != tt.err {
					t.Errorf("dropped %d, in all %d, ended with %v", slow.Dropped(), e.Stats().Dropped, slow.Err())
				}
			})
		})
	}
}

func TestPanicIsContained(t *testing.T) {
	var log bytes.Buffer
	e := Emitter{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	var got []any
	e.On("n", func(_ context.Context, ev Event) {
		if ev.Payload == 1 {
			panic("of no use")
		}
		got = append(got, ev.Payload)
	})
	for i := range 3 {
		e.Emit("n", i)
	}
	closeEmitter(t, &e)
	if want := []any{0, 2}; !slices.Equal(got, want) || e.Stats().Panics != 1 {
		t.Errorf("got %v, %+v", got, e.Stats())
	}
	if s := log.String(); !strings.Contains(s, "of no use") || !strings.Contains(s, "event_test.go") {
		t.Errorf("the log says %q", s)
	}
}

// Handlers may do everything with the emitter but close it.
func TestHandlerUsesEmitter(t *testing.T) {
	var e Emitter
	var s *Subscription
	ready := make(chan struct{})
	second := 0
	e.On("second", func(context.Context, Event) { second++ })
	s = e.On("first", func(context.Context, Event) {
		<-ready
		e.Emit("second", nil)
		e.On("third", func(context.Context, Event) {})
		e.Stats()
		s.Stop()
	})
	close(ready)
	e.Emit("first", nil)
	e.Emit("first", nil)
	<-s.Done()
	closeEmitter(t, &e)
	if second != 1 {
		t.Errorf("%d events of a handler that has stopped itself", second)
	}
}

func TestStopInterruptsHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e Emitter
		calls := 0
		s := e.On("n", func(ctx context.Context, _ Event) {
			calls++
			<-ctx.Done()
		})
		e.Emit("n", nil)
		e.Emit("n", nil)
		synctest.Wait()
		s.Stop()
		<-s.Done()
		if calls != 1 {
			t.Errorf("%d calls", calls)
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e Emitter
		handled := 0
		e.On("n", func(context.Context, Event) {
			time.Sleep(time.Second)
			handled++
		})
		read := subscribe(t, &e, Options{})
		for range 5 {
			e.Emit("n", nil)
		}
		start := time.Now()
		closeEmitter(t, &e)
		if d := time.Since(start); d != 5*time.Second || handled != 5 {
			t.Errorf("closed after %v, with %d events handled", d, handled)
		}
		e.Emit("n", nil)
		got := 0
		for ev := range read.All(context.Background()) {
			if got++; ev.Number != uint64(got) {
				t.Errorf("event %d is numbered %d", got, ev.Number)
			}
		}
		if got != 5 || !errors.Is(read.Err(), ErrClosed) {
			t.Errorf("%d events are left to read, then %v", got, read.Err())
		}
		late := e.On("n", func(context.Context, Event) { t.Error("called") })
		<-late.Done()
		if !errors.Is(late.Err(), ErrClosed) || e.Stats().Subscriptions != 0 {
			t.Errorf("late: %v, %+v", late.Err(), e.Stats())
		}
	})
}

// Close leaves a handler alone that does not return in time, and says so.
func TestCloseInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e Emitter
		calls, interrupted := 0, false
		e.On("n", func(ctx context.Context, _ Event) {
			calls++
			<-ctx.Done()
			interrupted = true
		})
		release := make(chan struct{})
		e.On("n", func(context.Context, Event) { <-release })
		e.Emit("n", nil)
		e.Emit("n", nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := e.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close: %v", err)
		}
		synctest.Wait()
		if calls != 1 || !interrupted {
			t.Errorf("%d calls, interrupted: %v", calls, interrupted)
		}
		close(release)
		if err := e.Close(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a second Close is content with what the first has dropped: %v", err)
		}
		if n := e.Stats().Dropped; n != 2 {
			t.Errorf("%d dropped events are counted, want one of each handler", n)
		}
	})
}

func TestLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e Emitter
		ctx, cancel := context.WithCancel(t.Context())
		var got []any
		over := make(chan struct{})
		go func() {
			defer close(over)
			for ev := range e.All(ctx, "n") {
				got = append(got, ev.Payload)
				if len(got) == 2 {
					cancel()
				}
			}
		}()
		synctest.Wait()
		for i := range 5 {
			e.Emit("n", i)
		}
		<-over
		if len(got) != 2 || e.Stats().Subscriptions != 0 {
			t.Errorf("got %v, %+v", got, e.Stats())
		}
		for range e.All(ctx) {
			t.Error("an event for a context that has ended")
		}
		// A loop that is left goes on where it was.
		s := subscribe(t, &e, Options{})
		for i := range 3 {
			e.Emit("n", i)
		}
		for range s.All(t.Context()) {
			break
		}
		for ev := range s.All(t.Context()) {
			if ev.Number != 2 {
				t.Errorf("number %d after number 1", ev.Number)
			}
			break
		}
	})
}

type reading struct{ celsius float64 }

const hot Topic[reading] = "hot"

func TestTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := Emitter{Logger: slog.New(slog.DiscardHandler)}
		var handled, looped []reading
		hot.On(&e, func(_ context.Context, r reading) { handled = append(handled, r) })
		read := subscribe(t, &e, Options{})
		over := make(chan struct{})
		go func() {
			defer close(over)
			for r := range hot.All(t.Context(), &e) {
				looped = append(looped, r)
			}
		}()
		synctest.Wait()
		hot.Emit(&e, reading{95.3})
		e.Emit("hot", "very")
		e.Emit("cold", reading{-3})
		hot.Emit(&e, reading{96})
		closeEmitter(t, &e)
		<-over
		want := []reading{{95.3}, {96}}
		if !slices.Equal(handled, want) || !slices.Equal(looped, want) {
			t.Errorf("handled %v, looped %v", handled, looped)
		}
		if n := e.Stats().Mismatched; n != 2 {
			t.Errorf("%d payloads of another type, want one for each of two subscribers", n)
		}
		if all := slices.Collect(Payloads[reading](read.All(t.Context()))); !slices.Equal(all, []reading{{95.3}, {-3}, {96}}) {
			t.Errorf("by type: %v", all)
		}
	})
}

// The nil of an interface is a payload of its type.
func TestTopicOfInterface(t *testing.T) {
	var e Emitter
	var got []error
	const done Topic[error] = "done"
	done.On(&e, func(_ context.Context, err error) { got = append(got, err) })
	all := subscribe(t, &e, Options{})
	done.Emit(&e, nil)
	done.Emit(&e, ErrClosed)
	closeEmitter(t, &e)
	read := slices.Collect(Payloads[error](all.All(t.Context())))
	if want := []error{nil, ErrClosed}; !slices.Equal(got, want) || !slices.Equal(read, want) {
		t.Errorf("handled %v, read %v", got, read)
	}
}

// What cannot be is refused when it is asked for, with a reason.
func TestOptions(t *testing.T) {
	var e Emitter
	handler := func(context.Context, Event) {}
	for _, opts := range []Options{{Queue: -1}, {Queue: MaxQueue + 1}, {Queue: 1 << 62}, {Overflow: End + 1}} {
		_, err1 := e.Subscribe(opts)
		_, err2 := e.Handle(handler, opts)
		_, err3 := hot.Subscribe(&e, opts)
		_, err4 := hot.Handle(&e, func(context.Context, reading) {}, opts)
		for _, err := range []error{err1, err2, err3, err4} {
			if !errors.Is(err, ErrOptions) {
				t.Errorf("%+v: %v", opts, err)
			}
		}
	}
	_, err1 := e.Handle(nil, Options{})
	_, err2 := hot.Handle(&e, nil, Options{})
	if !errors.Is(err1, ErrOptions) || !errors.Is(err2, ErrOptions) {
		t.Errorf("no handler: %v, %v", err1, err2)
	}
	if n := e.Stats().Subscriptions; n != 0 {
		t.Errorf("%d subscriptions are left", n)
	}
}

// A topic's subscriptions take its name whatever the options say.
func TestTopicWithOptions(t *testing.T) {
	var e Emitter
	var got []reading
	s, err := hot.Handle(&e, func(_ context.Context, r reading) { got = append(got, r) }, Options{Names: []string{"cold"}, Overflow: End})
	if err != nil {
		t.Fatal(err)
	}
	read, err := hot.Subscribe(&e, Options{Queue: 1})
	if err != nil {
		t.Fatal(err)
	}
	e.Emit("cold", reading{-3})
	for i := range 2 {
		hot.Emit(&e, reading{float64(i)})
	}
	closeEmitter(t, &e)
	all := slices.Collect(Payloads[reading](read.All(t.Context())))
	if !slices.Equal(got, []reading{{0}, {1}}) || !slices.Equal(all, []reading{{0}}) || s.Dropped() != 0 || read.Dropped() != 1 {
		t.Errorf("handled %v, read %v, lost %d", got, all, read.Dropped())
	}
}

// A handler that ends its goroutine, as t.FailNow does, loses that event alone.
func TestHandlerGoexit(t *testing.T) {
	var e Emitter
	var got []any
	e.On("n", func(_ context.Context, ev Event) {
		if ev.Payload == 1 {
			runtime.Goexit()
		}
		got = append(got, ev.Payload)
	})
	for i := range 3 {
		e.Emit("n", i)
	}
	closeEmitter(t, &e)
	if want := []any{0, 2}; !slices.Equal(got, want) || e.Stats().Panics != 1 {
		t.Errorf("got %v, %+v", got, e.Stats())
	}
}

func BenchmarkEmit(b *testing.B) {
	for _, n := range []int{0, 1, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var e Emitter
			for range n {
				subscribe(b, &e, Options{Names: []string{"n"}, Overflow: DropOldest})
			}
			for b.Loop() {
				e.Emit("n", nil)
			}
		})
	}
}
