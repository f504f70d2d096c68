package session

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/frame"
)

// closeEndpoints closes a manager whose sinks return.
func closeEndpoints(t *testing.T, m *EndpointManager) {
	t.Helper()
	if err := m.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// abort closes a manager without waiting for its sinks.
func abort(m *EndpointManager) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = m.Close(ctx)
}

func TestEndpointManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m EndpointManager
		defer abort(&m)
		var mu sync.Mutex
		got := map[string][]string{}
		sink := func(name string) Sink {
			return func(_ context.Context, p []byte) error {
				mu.Lock()
				defer mu.Unlock()
				got[name] = append(got[name], string(p))
				return nil
			}
		}
		stuck := func(ctx context.Context, p []byte) error { <-ctx.Done(); return ctx.Err() }
		for name, o := range map[string]RouteOptions{
			"drops":  {Queue: 2, Overflow: OverflowDropOldest},
			"fails":  {Queue: 2},
			"blocks": {Queue: 2, Overflow: OverflowBlock},
		} {
			if err := m.Add(name, stuck, o); err != nil {
				t.Fatal(err)
			}
		}
		_ = m.Add("fast", sink("fast"), RouteOptions{})
		_ = m.Add("other", sink("other"), RouteOptions{})
		if err := m.Add("fast", stuck, RouteOptions{}); !errors.Is(err, ErrEndpointExists) {
			t.Errorf("second endpoint of a name: %v", err)
		}
		if err := m.Route(t.Context(), []byte("x"), "nobody"); !errors.Is(err, ErrNoEndpoint) {
			t.Errorf("unknown name: %v", err)
		}
		for range 5 {
			if err := m.Route(t.Context(), []byte("a"), "drops"); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		// One is with the sink, two wait, so the fourth is refused.
		for i := range 4 {
			err := m.Route(t.Context(), []byte("b"), "fails")
			if (i == 3) != errors.Is(err, ErrQueueFull) {
				t.Errorf("piece %d: %v", i, err)
			}
			synctest.Wait()
		}
		for range 3 {
			if err := m.Route(t.Context(), []byte("c"), "blocks"); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := m.Broadcast(ctx, []byte("all"))
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrQueueFull) {
			t.Errorf("broadcast: %v", err)
		}
		_ = m.Route(t.Context(), []byte("some"), "fast", "other")
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if f, o := got["fast"], got["other"]; len(f) == 0 || f[len(f)-1] != "some" || len(o) == 0 || o[len(o)-1] != "some" {
			t.Errorf("fast got %q, other got %q", f, o)
		}
		for st := range m.Stats() {
			if st.Name == "drops" && st.Dropped != 3 {
				t.Errorf("%+v, want 3 dropped", st)
			}
		}
	})
}

// routeStats returns the counters of one endpoint.
func routeStats(t *testing.T, m *EndpointManager, name string) RouteStats {
	t.Helper()
	for st := range m.Stats() {
		if st.Name == name {
			return st
		}
	}
	t.Fatalf("no endpoint %q", name)
	return RouteStats{}
}

// TestSlowEndpointDelaysNobody routes to endpoints that have no room: those
// behind them in the list have each piece at once, and each of them as soon as it
// has room itself.
func TestSlowEndpointDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m EndpointManager
		defer abort(&m)
		start := time.Now()
		var mu sync.Mutex
		at := map[string]time.Duration{}
		for name, delay := range map[string]time.Duration{"hour": time.Hour, "minute": time.Minute, "now": 0} {
			if err := m.Add(name, func(_ context.Context, p []byte) error {
				mu.Lock()
				at[name+" "+string(p)] = time.Since(start)
				mu.Unlock()
				time.Sleep(delay)
				return nil
			}, RouteOptions{Queue: 1, Overflow: OverflowBlock}); err != nil {
				t.Fatal(err)
			}
		}
		for _, p := range []string{"1", "2", "3"} {
			if p == "3" { // the sinks have 1, the queues 2
				time.Sleep(time.Second)
			}
			if err := m.Route(t.Context(), []byte(p), "hour", "minute", "now"); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if d := time.Since(start); d != time.Hour {
			t.Errorf("Route returned after %v, want as soon as the slowest has room", d)
		}
		time.Sleep(2 * time.Hour)
		mu.Lock()
		defer mu.Unlock()
		for what, want := range map[string]time.Duration{
			"now 3": time.Second, "minute 3": 2 * time.Minute, "hour 3": 2 * time.Hour,
		} {
			if at[what] != want {
				t.Errorf("%s was delivered after %v, want %v", what, at[what], want)
			}
		}
	})
}

func TestSinkPanicIsContained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		m := EndpointManager{Logger: slog.New(slog.NewTextHandler(&log, nil))}
		var got []string
		_ = m.Add("x", func(_ context.Context, p []byte) error {
			if string(p) == "bad" {
				panic("of no use")
			}
			got = append(got, string(p))
			return nil
		}, RouteOptions{})
		for _, p := range []string{"a", "bad", "b"} {
			if err := m.Route(t.Context(), []byte(p), "x"); err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		if st := routeStats(t, &m, "x"); st.Delivered != 2 || st.Failed != 1 || !errors.Is(st.LastErr, ErrSinkPanic) {
			t.Errorf("%+v", st)
		}
		closeEndpoints(t, &m)
		if !slices.Equal(got, []string{"a", "b"}) || !strings.Contains(log.String(), "router_test.go") {
			t.Errorf("got %q, the log says %q", got, log.String())
		}
	})
}

// TestRemovedEndpoint removes an endpoint that its sink and a router wait for.
func TestRemovedEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m EndpointManager
		read := make(chan []byte)
		_ = m.Add("x", ChannelSink(read), RouteOptions{Queue: 1, Overflow: OverflowBlock})
		for _, p := range []string{"1", "2"} {
			_ = m.Route(t.Context(), []byte(p), "x")
			synctest.Wait()
		}
		if p := <-read; string(p) != "1" {
			t.Errorf("%q came first", p)
		}
		synctest.Wait()
		_ = m.Route(t.Context(), []byte("3"), "x")
		waiting := make(chan error, 1)
		go func() { waiting <- m.Route(t.Context(), []byte("4"), "x") }()
		synctest.Wait()
		if st := routeStats(t, &m, "x"); st.Queued != 1 || len(waiting) != 0 {
			t.Errorf("%+v, and nobody waits", st)
		}
		if err := m.Remove("x"); err != nil {
			t.Error(err)
		}
		if err := <-waiting; !errors.Is(err, ErrNoEndpoint) {
			t.Errorf("who waits for room: %v", err)
		}
		if err := m.Remove("x"); !errors.Is(err, ErrNoEndpoint) {
			t.Errorf("removed twice: %v", err)
		}
		closeEndpoints(t, &m)
		select {
		case p := <-read:
			t.Errorf("%q of an endpoint that is gone", p)
		default:
		}
		if err := m.Add("x", ChannelSink(read), RouteOptions{}); !errors.Is(err, ErrClosed) {
			t.Errorf("added to a manager that is closed: %v", err)
		}
	})
}

// What was routed before Close is delivered, and who waits for room is told.
func TestCloseDrainsEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m EndpointManager
		var got []string
		slow := func(_ context.Context, p []byte) error {
			time.Sleep(time.Second)
			got = append(got, string(p))
			return nil
		}
		if err := m.Add("x", slow, RouteOptions{Queue: 2, Overflow: OverflowBlock}); err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{"1", "2", "3"} {
			if err := m.Route(t.Context(), []byte(p), "x"); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		waiting := make(chan error, 1)
		go func() { waiting <- m.Route(t.Context(), []byte("4"), "x") }()
		synctest.Wait()
		start := time.Now()
		closeEndpoints(t, &m)
		if d := time.Since(start); d != 3*time.Second || !slices.Equal(got, []string{"1", "2", "3"}) {
			t.Errorf("closed after %v, delivered %q", d, got)
		}
		if err := <-waiting; !errors.Is(err, ErrClosed) {
			t.Errorf("who waited for room: %v", err)
		}
		if err1, err2 := m.Route(t.Context(), nil, "x"), m.Broadcast(t.Context(), nil); !errors.Is(err1, ErrClosed) || !errors.Is(err2, ErrClosed) {
			t.Errorf("routed behind Close: %v, %v", err1, err2)
		}
		closeEndpoints(t, &m) // a second time
		if st := routeStats(t, &m, "x"); st.Delivered != 3 {
			t.Errorf("behind Close: %+v", st)
		}
	})
}

// Close does not wait beyond its context: sinks are interrupted, and one that does
// not care is left alone.
func TestCloseEndpointsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m EndpointManager
		calls, interrupted, release := 0, false, make(chan struct{})
		_ = m.Add("waits", func(ctx context.Context, _ []byte) error {
			calls++
			<-ctx.Done()
			interrupted = true
			return ctx.Err()
		}, RouteOptions{})
		_ = m.Add("deaf", func(context.Context, []byte) error { <-release; return nil }, RouteOptions{})
		for range 2 {
			if err := m.Broadcast(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := m.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close: %v", err)
		}
		synctest.Wait()
		if calls != 1 || !interrupted {
			t.Errorf("%d calls, interrupted: %v", calls, interrupted)
		}
		close(release)
		if err := m.Close(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a second Close is content with what the first has dropped: %v", err)
		}
		if st := routeStats(t, &m, "waits"); st.Failed != 1 || st.Dropped != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// A sink that ends its goroutine, as t.FailNow does, has failed with its piece.
func TestSinkGoexit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m EndpointManager
		var got []string
		_ = m.Add("x", func(_ context.Context, p []byte) error {
			if string(p) == "bad" {
				runtime.Goexit()
			}
			got = append(got, string(p))
			return nil
		}, RouteOptions{})
		for _, p := range []string{"a", "bad", "b"} {
			if err := m.Route(t.Context(), []byte(p), "x"); err != nil {
				t.Error(err)
			}
		}
		closeEndpoints(t, &m)
		if st := routeStats(t, &m, "x"); st.Delivered != 2 || st.Failed != 1 || !errors.Is(st.LastErr, ErrSinkPanic) || !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("%+v, got %q", st, got)
		}
	})
}

func TestEndpointOptions(t *testing.T) {
	var m EndpointManager
	sink := func(context.Context, []byte) error { return nil }
	for _, opts := range []RouteOptions{{Queue: -1}, {Queue: 1 << 62}, {Overflow: OverflowBlock + 1}} {
		if err := m.Add("x", sink, opts); !errors.Is(err, ErrConfig) {
			t.Errorf("%+v: %v", opts, err)
		}
	}
	if err := m.Add("x", nil, RouteOptions{}); !errors.Is(err, ErrConfig) {
		t.Errorf("no sink: %v", err)
	}
}

// TestSessionSinks routes to the peer of a session, by frames and by a stream.
func TestSessionSinks(t *testing.T) {
	var d Dispatcher
	inWorld(t, 1, lan, func(a, b *Config) { b.Frames = &d }, func(t *testing.T, w *world) {
		frames := make(chan UserFrame, 10)
		_ = d.Handle(0x85, func(_ context.Context, f UserFrame) { frames <- f })
		sa, sb := w.connect()
		var m EndpointManager
		defer abort(&m)
		_ = m.Add("frames", sa.FrameSink(frame.TypeUser+5, 9), RouteOptions{})
		_ = m.Add("stream", open(t, sa).MessageSink(), RouteOptions{})
		for _, p := range []string{"one", "two"} {
			if err := m.Broadcast(t.Context(), []byte(p)); err != nil {
				t.Fatal(err)
			}
		}
		in := accept(t, sb)
		for _, want := range []string{"one", "two"} {
			f := <-frames
			p, err := in.ReceiveMessage(100)
			if string(f.Payload) != want || f.Stream != 9 || string(p) != want || err != nil {
				t.Errorf("got %q in a frame of stream %d and %q, %v on the stream, want %q", f.Payload, f.Stream, p, err, want)
			}
		}
		if st := routeStats(t, &m, "stream"); st.Delivered != 2 {
			t.Errorf("%+v", st)
		}
	})
}
