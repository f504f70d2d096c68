package session

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/session/transport/memory"
)

// TestUserFrames sends frames of all sizes over a bad network: each arrives
// once, whole, and in order.
func TestUserFrames(t *testing.T) {
	link := memory.Link{Delay: 10 * time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 0.1, Duplicate: 0.1, Reorder: 0.05}
	var d Dispatcher
	inWorld(t, testSeed(t), link, func(a, b *Config) { b.Frames = &d; a.Linger = time.Minute }, func(t *testing.T, w *world) {
		var mu sync.Mutex
		var got []UserFrame
		for _, typ := range []frame.Type{0x80, 0x81, 0xff} {
			if err := d.Handle(typ, func(_ context.Context, f UserFrame) {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, f)
			}); err != nil {
				t.Fatal(err)
			}
		}
		sa, sb := w.connect()
		var want []UserFrame
		sizes := []int{0, 1, 100, 1200, 5000, 0, 700_000, 3, MaxUserFrame}
		for i, n := range append(sizes, make([]int, 200)...) {
			f := UserFrame{Type: []frame.Type{0x80, 0x81, 0xff}[i%3], Stream: uint16(i), Payload: randomBytes(uint64(i), n)}
			want = append(want, f)
			if err := sa.SendFrame(t.Context(), f.Type, f.Stream, f.Payload); err != nil {
				t.Fatal(err)
			}
		}
		if err := sa.SendFrame(t.Context(), 0x90, 0, []byte("nobody listens")); err != nil {
			t.Fatal(err)
		}
		if err := sa.Close(); err != nil {
			t.Fatal(err)
		}
		<-sb.Done()
		synctest.Wait()
		if len(got) != len(want) || d.Handled() != uint64(len(want)) || d.Unknown() != 1 || w.b.Stats().Unhandled != 1 {
			t.Fatalf("%d frames of %d, %d handled, %d unknown, %d unhandled", len(got), len(want), d.Handled(), d.Unknown(), w.b.Stats().Unhandled)
		}
		for i, f := range got {
			if f.Type != want[i].Type || f.Stream != want[i].Stream || !bytes.Equal(f.Payload, want[i].Payload) || f.Session != sb {
				t.Fatalf("frame %d: type %v stream %d, %d bytes; want type %v stream %d, %d bytes", i, f.Type, f.Stream, len(f.Payload), want[i].Type, want[i].Stream, len(want[i].Payload))
			}
		}
	})
}

// TestSlowHandler checks that a handler that takes its time holds up its
// sender, but neither streams nor memory.
func TestSlowHandler(t *testing.T) {
	var d Dispatcher
	release := make(chan struct{})
	inWorld(t, 1, lan, func(a, b *Config) { b.Frames = &d }, func(t *testing.T, w *world) {
		release = make(chan struct{})
		_ = d.Handle(0x80, func(context.Context, UserFrame) { <-release })
		sa, sb := w.connect()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		sent := 0
		for ; ; sent += 10_000 {
			if err := sa.SendFrame(ctx, 0x80, 0, make([]byte, 10_000)); err != nil {
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				break
			}
		}
		if sent > 4*userWindow {
			t.Errorf("%d bytes were taken for a handler that does not return", sent)
		}
		transfer(t, sa, sb, randomBytes(1, 1<<20))
		close(release)
		if err := sa.SendFrame(t.Context(), 0x80, 0, nil); err != nil {
			t.Errorf("after the handler went on: %v", err)
		}
	})
}

func TestDispatcherContainsPanics(t *testing.T) {
	var d Dispatcher
	inWorld(t, 1, lan, func(a, b *Config) { b.Frames = &d }, func(t *testing.T, w *world) {
		got := make(chan string, 1)
		_ = d.Handle(0x80, func(_ context.Context, f UserFrame) { panic("handler") })
		_ = d.Handle(0x81, func(_ context.Context, f UserFrame) { got <- string(f.Payload) })
		_ = d.Handle(0x82, func(context.Context, UserFrame) { runtime.Goexit() })
		sa, _ := w.connect()
		_ = sa.SendFrame(t.Context(), 0x80, 0, nil)
		_ = sa.SendFrame(t.Context(), 0x82, 0, nil)
		_ = sa.SendFrame(t.Context(), 0x81, 0, []byte("alive"))
		if s := <-got; s != "alive" || d.Panics() != 1 {
			t.Errorf("%q, %d panics", s, d.Panics())
		}
		if err := d.Handle(0x7f, nil); !errors.Is(err, ErrFrameType) {
			t.Error("a reserved type got a handler")
		}
		if err := sa.SendFrame(t.Context(), frame.TypeData, 0, nil); !errors.Is(err, ErrFrameType) {
			t.Errorf("a frame of the protocol's own, sent for the application: %v", err)
		}
		if err := sa.SendFrame(t.Context(), 0x80, 0, make([]byte, MaxUserFrame+1)); !errors.Is(err, ErrMessageTooLong) {
			t.Errorf("oversized frame: %v", err)
		}
	})
}

// TestFrameAnswers asks on one session and is answered on it.
func TestFrameAnswers(t *testing.T) {
	var asked, answered Dispatcher
	inWorld(t, 1, lan, func(a, b *Config) { a.Frames, b.Frames = &answered, &asked }, func(t *testing.T, w *world) {
		_ = asked.Handle(0x90, func(ctx context.Context, f UserFrame) {
			if err := f.Answer(ctx, append(f.Payload, " is here"...)); err != nil {
				t.Error(err)
			}
		})
		got := make(chan UserFrame, 1)
		_ = answered.Handle(0x90, func(_ context.Context, f UserFrame) { got <- f })
		sa, _ := w.connect()
		if err := sa.SendFrame(t.Context(), 0x90, 7, []byte("Bob")); err != nil {
			t.Fatal(err)
		}
		if f := <-got; string(f.Payload) != "Bob is here" || f.Stream != 7 || f.Session != sa {
			t.Errorf("answered %q on stream %d", f.Payload, f.Stream)
		}
	})
}

// TestCloseInterruptsFrameHandler closes an endpoint while a handler waits.
func TestCloseInterruptsFrameHandler(t *testing.T) {
	var d Dispatcher
	inWorld(t, 1, lan, func(a, b *Config) { b.Frames = &d }, func(t *testing.T, w *world) {
		interrupted := false
		begun := make(chan struct{})
		_ = d.Handle(0x80, func(ctx context.Context, _ UserFrame) {
			close(begun)
			<-ctx.Done()
			interrupted = true
		})
		sa, _ := w.connect()
		_ = sa.SendFrame(t.Context(), 0x80, 0, nil)
		<-begun
		if err := w.b.Close(); err != nil || !interrupted {
			t.Errorf("closed with %v, interrupted: %v", err, interrupted)
		}
	})
}

// TestUserChannel sends frames through the two halves of the channel alone, with
// packets of any size, lost and reordered, and credit that ends anywhere.
func TestUserChannel(t *testing.T) {
	seed := testSeed(t)
	for round := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, round))
		var held atomic.Int64
		var c userChannel
		c.init(false, &held)
		budget := newBudget(&Config{})
		c.in.memory = &account{of: budget, peer: &peerAccount{}}
		c.out.limit = uint64(rng.IntN(200))
		type piece struct {
			mark   userMark
			offset uint64
			data   []byte
			end    bool
		}
		var want, got [][]byte
		var flying []piece
		for steps := 0; len(got) < 100; steps++ {
			if steps > 1e6 {
				t.Fatalf("round %d: %d frames of %d arrived, then nothing", round, len(got), len(want))
			}
			if len(want) < 100 && c.out.buffered() < 2000 {
				p := randomBytes(rng.Uint64(), rng.IntN(3)*rng.IntN(100))
				want = append(want, p)
				c.out.push(frame.TypeUser, uint16(len(want)), p)
			}
			if c.out.wantsData() {
				mark, offset, n, end := c.out.pop(func(uint64) int { return 1 + rng.IntN(80) })
				if n == 0 && !end {
					t.Fatalf("round %d: a piece of nothing at %d", round, offset)
				}
				data := make([]byte, n)
				c.out.buf.readAt(data, offset)
				flying = append(flying, piece{mark, offset, data, end})
			}
			if len(flying) == 0 || rng.IntN(3) == 0 {
				c.out.onCredit(min(c.out.limit+uint64(rng.IntN(100)), c.in.limit))
				continue
			}
			i := rng.IntN(len(flying))
			p := flying[i]
			flying = slices.Delete(flying, i, i+1)
			if rng.IntN(4) == 0 {
				c.out.onLost(p.offset, len(p.data), p.end)
				continue
			}
			if err := c.in.onPiece(p.mark.typ, p.mark.stream, frame.Data{Offset: p.offset, Bytes: p.data, Fin: p.end}); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			c.out.onAcked(p.offset, len(p.data), p.end)
			for {
				f, ok, err := c.in.next()
				if err != nil {
					t.Fatalf("round %d: %v", round, err)
				} else if !ok {
					break
				}
				got = append(got, f.Payload)
				if i := len(got) - 1; !bytes.Equal(f.Payload, want[i]) || f.Stream != uint16(i+1) {
					t.Fatalf("round %d: frame %d is %x of stream %d, want %x", round, i+1, f.Payload, f.Stream, want[i])
				}
			}
			c.in.credit()
		}
	}
}

// TestEmptyFramesTakeCredit floods a peer whose handler hangs with frames of no
// bytes: credit ends them, so that their marks stay few.
func TestEmptyFramesTakeCredit(t *testing.T) {
	var c userChannel
	c.init(false, new(atomic.Int64))
	for end := uint64(firstUserWindow); end > 0; end -= endSize { // the worst order: each goes in front of all
		if err := c.in.onPiece(frame.TypeUser, 0, frame.Data{Offset: end - endSize, Fin: true}); err != nil {
			t.Fatalf("%d marks, then %v", len(c.in.marks), err)
		}
	}
	if n := len(c.in.marks); n != firstUserWindow/endSize {
		t.Errorf("%d marks for a window of %d bytes", n, firstUserWindow)
	}
	for offset, code := range map[uint64]uint64{1: CodeProtocol, endSize - 1: CodeProtocol, firstUserWindow - endSize + 1: CodeFlowControl} {
		err := c.in.onPiece(frame.TypeUser, 0, frame.Data{Offset: offset, Fin: true})
		if v := (*protocolError)(nil); !errors.As(err, &v) || v.code != code {
			t.Errorf("an end at %d: %v, want code %#x", offset, err, code)
		}
	}
}

// TestFramesWithoutDispatcher counts what an endpoint drops that handles none,
// whole frames and not their pieces.
func TestFramesWithoutDispatcher(t *testing.T) {
	inWorld(t, 1, lan, nil, func(t *testing.T, w *world) {
		sa, _ := w.connect()
		for range 3 {
			if err := sa.SendFrame(t.Context(), 0x80, 0, make([]byte, 100_000)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		time.Sleep(time.Second)
		if n := w.b.Stats().Unhandled; n != 3 {
			t.Errorf("%d frames are counted as unhandled", n)
		}
	})
}
