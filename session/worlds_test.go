package session

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/session/transport/memory"
)

// TestAnyNetwork runs random worlds: in each, two nodes exchange streams,
// messages and frames over a network that loses, reorders, repeats, damages,
// shrinks, goes dark and changes addresses. Exactly the bytes sent arrive, in
// order, or both ends learn that the session is over; nothing hangs, nothing
// is left running.
//
// World i has the printed seed plus i. STT_TEST_WORLDS sets how many there
// are; with STT_TEST_SEED that a failure names and STT_TEST_WORLDS=1 it is
// that world alone again.
func TestAnyNetwork(t *testing.T) {
	seed := testSeed(t)
	runs := 200
	if testing.Short() {
		runs = 20
	}
	if v := os.Getenv("STT_TEST_WORLDS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		runs = n
	}
	var ended int
	for i := range uint64(runs) {
		p := newPlan(seed + i)
		cryptotest.SetGlobalRandom(t, p.seed)
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			w := &anyWorld{world: newWorld(t, p.seed, memory.Link{}, p.configure), plan: p, mortal: p.mortal}
			w.run()
			if w.over {
				ended++
			}
			if t.Failed() {
				t.Logf("STT_TEST_SEED=%d STT_TEST_WORLDS=1, after %v: %v", p.seed, time.Since(start), p)
			}
		})
	}
	t.Logf("in %d of %d worlds the session ended early", ended, runs)
	if ended > 10+runs/2 {
		t.Error("so many sessions end early that the others prove little")
	}
}

// worldLimit is the virtual time after which a world counts as hanging.
const worldLimit = time.Hour

// anyWorld is a plan that is carried out.
type anyWorld struct {
	*world
	plan     *plan
	sessions [2]*Session

	mu     sync.Mutex // guards what follows
	active []*event   // that concern the links
	moves  [2]int
	mortal bool // the session may end before its work is done
	over   bool // it has
	frames [2][]UserFrame

	// Closed when work is done: by the acceptor of each script, then by its
	// opener; and when all frames for a side have come.
	done  []chan struct{}
	heard [2]chan struct{}
}

func (p *plan) configure(a, b *Config) {
	p.change(a, b)
	a.Frames, b.Frames = &Dispatcher{}, &Dispatcher{}
}

func (w *anyWorld) run() {
	w.t.Helper()
	defer w.close()
	ctx, cancel := context.WithTimeout(w.t.Context(), worldLimit)
	defer cancel()
	w.applyLinks()
	for _, sc := range slices.Concat(w.plan.scripts[0], w.plan.scripts[1]) {
		done := make(chan struct{})
		if w.done = append(w.done, done); sc.act == actReset {
			close(done) // the reset may leave nothing to receive
		}
	}
	scripts := len(w.done)
	for range scripts {
		w.done = append(w.done, make(chan struct{}))
	}
	for side, cfg := range []Config{w.cfgA, w.cfgB} {
		w.heard[side] = make(chan struct{})
		_ = cfg.Frames.Handle(frame.TypeUser, func(_ context.Context, f UserFrame) { w.take(side, f) })
	}

	var wg sync.WaitGroup
	defer wg.Wait()
	working, quiet := context.WithCancel(ctx)
	defer quiet()
	wg.Go(func() { w.befall(working) })

	if !w.dial(ctx) {
		return
	}
	for side, s := range w.sessions {
		wg.Go(func() { w.accept(ctx, &wg, s) })
		for _, sc := range w.plan.scripts[side] {
			opened := w.done[int(sc.number)+scripts]
			wg.Go(func() {
				if err := w.open(ctx, s, sc); err != nil {
					w.check(s, sc, "opener", err)
				} else {
					close(opened)
				}
			})
		}
		wg.Go(func() { w.sendFrames(ctx, side, s) })
	}
	w.await(ctx)
	quiet()
	w.finish(ctx)
}

// dial makes the session, or checks that it fails as it may.
func (w *anyWorld) dial(ctx context.Context) bool {
	w.t.Helper()
	accepted := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
		defer cancel()
		s, err := w.b.Accept(ctx)
		w.mu.Lock()
		w.sessions[1] = s
		w.mu.Unlock()
		accepted <- err
	}()
	s, err := w.a.Dial(ctx, addrB, w.cfgB.Identity.NodeID())
	w.mu.Lock()
	w.sessions[0] = s
	w.mu.Unlock()
	acceptErr := <-accepted
	if err == nil && acceptErr == nil {
		return true
	}
	w.over = true
	// A damaged HELLO looks like one under another seed, and that hint is all that Dial may get.
	if err != nil && !errors.Is(err, ErrHandshakeTimeout) && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrWrongSeed) {
		w.t.Errorf("Dial: %v", err)
	}
	if acceptErr != nil && !errors.Is(acceptErr, context.DeadlineExceeded) && !errors.Is(acceptErr, ErrClosed) {
		w.t.Errorf("Accept: %v", acceptErr)
	}
	for side, s := range w.sessions {
		if s != nil {
			w.ends(ctx, side, s)
		}
	}
	return false
}

// await waits until all work is done, or the session is over at both ends.
func (w *anyWorld) await(ctx context.Context) {
	w.t.Helper()
	over := make(chan struct{})
	go func() {
		<-w.sessions[0].Done()
		<-w.sessions[1].Done()
		close(over)
	}()
	for _, c := range append(w.done, w.heard[:]...) {
		select {
		case <-c:
			continue
		default:
		}
		select {
		case <-c:
		case <-over:
			w.over = true
			if w.mayNotEnd() {
				w.t.Errorf("the session ended early, with %v and %v", w.sessions[0].Err(), w.sessions[1].Err())
			}
			return
		case <-ctx.Done():
			w.t.Errorf("the world hangs: %+v\n%+v", w.sessions[0].Stats(), w.sessions[1].Stats())
			for _, s := range w.sessions {
				_ = s.CloseWithError(CodeNone, "")
			}
			return
		}
	}
}

func (w *anyWorld) mayNotEnd() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.mortal
}

// finish closes the session in order and checks that both ends end.
func (w *anyWorld) finish(ctx context.Context) {
	w.t.Helper()
	if err := w.sessions[0].Close(); err != nil && w.mayNotEnd() {
		w.t.Errorf("Close: %v", err)
	}
	for side, s := range w.sessions {
		w.ends(ctx, side, s)
	}
}

// ends checks that a session ends by itself, and why.
func (w *anyWorld) ends(ctx context.Context, side int, s *Session) {
	w.t.Helper()
	select {
	case <-s.Done():
	case <-ctx.Done():
		w.t.Errorf("session of side %d does not end: %+v", side, s.Stats())
		return
	}
	if err := s.Err(); !clean(err) {
		w.t.Errorf("session of side %d ended with %v", side, err)
	}
}

// clean reports whether a session may end so: by silence, or because one end
// wanted it, but never because one of them broke the protocol.
func clean(err error) bool {
	var ce *CloseError
	if errors.As(err, &ce) {
		return ce.Code == CodeNone || ce.Code == CodeShutdown || ce.Code >= CodeApplication
	}
	return errors.Is(err, ErrIdleTimeout) || errors.Is(err, ErrHandshakeTimeout) || errors.Is(err, ErrForgotten)
}

// check judges the error of one end of a stream: there is none unless the
// session has ended.
func (w *anyWorld) check(s *Session, sc script, who string, err error) {
	if err == nil {
		return
	}
	var se *StreamError
	switch {
	case errors.Is(err, ErrClosed): // a new stream, once the end has been asked for
		return
	case errors.As(err, &se) && se.Code == CodeRefused && !w.mayNotEnd():
		return // so an end that is closing refuses it
	case s.Err() != nil && clean(err):
		return
	}
	w.t.Errorf("%s of %+v: %v", who, sc, err)
}

// befall lets things happen.
func (w *anyWorld) befall(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, e := range w.plan.events {
		wg.Go(func() {
			if !pause(ctx, e.at) {
				return
			}
			switch e.what {
			case befallLink:
				w.setLinks(&e, true)
				if e.stay > 0 {
					pause(ctx, e.stay)
					w.setLinks(&e, false)
				}
			case befallRebind:
				w.rebind(e.side)
			case befallEndpointClose:
				_ = []*Endpoint{w.a, w.b}[e.side].Close()
			case befallSessionClose:
				w.mu.Lock()
				s := w.sessions[e.side]
				w.mu.Unlock()
				if s != nil {
					_ = s.CloseWithError(CodeApplication+7, "enough")
				}
			}
		})
	}
}

// pause waits, unless the world is over first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// setLinks begins or ends an event that concerns the links.
func (w *anyWorld) setLinks(e *event, begins bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.active = slices.DeleteFunc(w.active, func(o *event) bool { return o == e })
	if begins {
		w.active = append(w.active, e)
	}
	w.applyLinks()
}

// applyLinks tells the network about all addresses that the nodes have or
// will have.
func (w *anyWorld) applyLinks() {
	links := w.plan.links
	for _, e := range w.active {
		for side := range links {
			if e.side == side || e.side == 2 {
				e.link(&links[side])
			}
		}
	}
	const moves = 6
	for i := range moves {
		for j := range moves {
			w.net.SetLink(address(0, i), address(1, j), links[0])
			w.net.SetLink(address(1, j), address(0, i), links[1])
		}
	}
}

func (w *anyWorld) rebind(side int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, conn := range []*memory.Conn{w.connA, w.connB} {
		if side != i && side != 2 {
			continue
		}
		if s := w.sessions; s[0] == nil || s[1] == nil || s[0].State() == StateHandshake || s[1].State() == StateHandshake {
			w.mortal = true // a handshake is bound to its address
		}
		w.moves[i]++
		if err := conn.Rebind(address(i, w.moves[i])); err != nil {
			w.t.Error(err)
		}
	}
}
