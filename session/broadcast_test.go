package session

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/session/transport/memory"
)

// numbered is a piece of n bytes that begins with its number in the source.
func numbered(number uint64, n int) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 0, n), number)[:n]
}

// follow checks what a subscriber of a source of numbered pieces gets: one behind
// the other, or a restart that says how many are missing. It returns how many
// came and were missed.
type follow struct{ next, got, skipped uint64 }

func (f *follow) take(t *testing.T, p Piece) {
	t.Helper()
	switch {
	case f.next == 0 && !p.Restart:
		t.Errorf("the first piece, number %d, is no restart", p.Number)
	case p.Number != binary.BigEndian.Uint64(p.Data):
		t.Errorf("piece %d has the bytes of %d", p.Number, binary.BigEndian.Uint64(p.Data))
	case f.next > 0 && p.Number != f.next+p.Skipped, p.Skipped > 0 && !p.Restart:
		t.Errorf("piece %d, restart %v, skipped %d, where %d was to come", p.Number, p.Restart, p.Skipped, f.next)
	}
	f.next = p.Number + 1
	f.got++
	f.skipped += p.Skipped
}

// What a subscriber has lost when the source ends is counted.
// Who waits for the first restart begins there, however many have come before he
// has had the time to look.
func TestBroadcastBeginsAtFirstRestart(t *testing.T) {
	var b Broadcaster
	if err := b.Send([]byte("change"), false); err != nil { // of what nobody has seen
		t.Fatal(err)
	}
	c := b.subscribe()
	for i := range 30 {
		if err := b.Send([]byte{byte(i)}, i%10 == 5); err != nil {
			t.Fatal(err)
		}
	}
	for want := uint64(7); want <= 31; want++ {
		if p, ok, _ := b.next(&c); !ok || p.Number != want || p.Skipped != 0 {
			t.Fatalf("%+v, %v, want piece %d", p, ok, want)
		}
	}
	if late := b.subscribe(); late.next != 27 {
		t.Errorf("who comes later begins at %d, want the newest restart", late.next)
	}
}

func TestBroadcastEndsWithoutRestart(t *testing.T) {
	b := Broadcaster{Window: 10 * (100 + pieceCost)}
	_ = b.Send(numbered(1, 100), true)
	got := 0
	for range b.Pieces(t.Context()) {
		if got++; got > 1 {
			continue
		}
		for n := range uint64(50) {
			_ = b.Send(numbered(n+2, 100), false)
		}
		_ = b.Close()
	}
	if s := b.Stats(); got != 1 || s.Skipped != 50 || s.Delivered != 1 {
		t.Errorf("got %d pieces, %+v", got, s)
	}
}

// TestBroadcast has thousands of subscribers, some of which take their time or
// none at all. Those that keep up get every piece at once; the source waits for
// nobody, and no more than the window is held.
func TestBroadcast(t *testing.T) {
	const (
		pieces = 150
		size   = 1000
		every  = 20 * time.Millisecond
		group  = 25 // pieces from one restart to the next
		window = 50 * (size + pieceCost)
	)
	synctest.Test(t, func(t *testing.T) {
		b := Broadcaster{Window: window}
		var late atomic.Int64
		var working sync.WaitGroup
		subscribe := func(n int, pause time.Duration) []follow {
			all := make([]follow, n)
			for i := range all {
				working.Go(func() {
					for p := range b.Pieces(t.Context()) {
						if time.Since(p.Time) > 0 && pause == 0 {
							late.Add(1)
						}
						all[i].take(t, p)
						time.Sleep(pause)
					}
				})
			}
			return all
		}
		quick := subscribe(1000, 0)
		enough := subscribe(50, every)
		slow := subscribe(50, 5*every)
		stuck := subscribe(1, time.Hour)
		synctest.Wait()
		start := time.Now()
		for i := range uint64(pieces) {
			if err := b.Send(numbered(i+1, size), i%group == 0); err != nil {
				t.Fatal(err)
			}
			if s := b.Stats(); s.WindowBytes > window || s.Subscribers != 1101 {
				t.Fatalf("%+v", s)
			}
			time.Sleep(every)
		}
		if d := time.Since(start); d != pieces*every {
			t.Errorf("the source took %v", d)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		working.Wait()
		for _, f := range append(quick, enough...) {
			if f.got != pieces || f.skipped != 0 {
				t.Fatalf("one who keeps up got %d pieces of %d, and missed %d", f.got, pieces, f.skipped)
			}
		}
		for _, f := range slow {
			// It takes a fifth, and what is in the window at the end.
			if f.got < pieces/5 || f.got > pieces/5+window/size || f.got+f.skipped != pieces {
				t.Fatalf("a slow one got %d pieces of %d, and missed %d", f.got, pieces, f.skipped)
			}
		}
		if f := stuck[0]; f.got < 2 || f.skipped < pieces-2*window/size {
			t.Errorf("the one that is stuck got %d pieces and missed %d", f.got, f.skipped)
		}
		s := b.Stats()
		if late.Load() != 0 || s.Pieces != pieces || s.Bytes != pieces*size || s.Restarts == 0 || s.Skipped < 50*pieces/2 {
			t.Errorf("%d pieces came late; %+v", late.Load(), s)
		}
	})
}

// TestBroadcastRestarts goes step by step through where a subscriber begins, and
// goes on.
func TestBroadcastRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 100
		b := Broadcaster{Window: 4 * (size + pieceCost)}
		sent := uint64(0)
		send := func(restarts ...bool) {
			for _, restart := range restarts {
				sent++
				if err := b.Send(numbered(sent, size), restart); err != nil {
					t.Fatal(err)
				}
			}
		}
		type taken struct{ number, skipped uint64 }
		subscribe := func() (<-chan taken, context.CancelFunc) {
			ctx, cancel := context.WithCancel(t.Context())
			out := make(chan taken)
			go func() {
				defer close(out)
				for p := range b.Pieces(ctx) {
					select {
					case out <- taken{p.Number, p.Skipped}:
					case <-ctx.Done():
						return
					}
				}
			}()
			synctest.Wait()
			return out, cancel
		}
		want := func(what string, out <-chan taken, want ...taken) {
			t.Helper()
			for _, w := range want {
				synctest.Wait()
				select {
				case got := <-out:
					if got != w {
						t.Errorf("%s: got %+v, want %+v", what, got, w)
					}
				default:
					t.Errorf("%s: nothing comes, want %+v", what, w)
				}
			}
			synctest.Wait()
		}
		nothing := func(what string, out <-chan taken) {
			t.Helper()
			synctest.Wait()
			select {
			case got, open := <-out:
				t.Errorf("%s: got %+v, %v", what, got, open)
			default:
			}
		}
		send(false, false) // 1 2
		early, _ := subscribe()
		nothing("before any restart", early)
		send(true) // 3
		want("the restart that comes first", early, taken{3, 0})
		send(false, true, false) // 4 5 6
		want("the pieces behind it", early, taken{4, 0}, taken{5, 0})
		late, stop := subscribe()
		want("the newest restart in the window", late, taken{5, 0})
		// Both have 6 in their hands; the window is 9 to 12 when they come back.
		send(false, false, false, false, true, false) // 7 … 12, restart 11
		want("left behind", early, taken{6, 0}, taken{11, 4}, taken{12, 0})
		send(false) // 13
		synctest.Wait()
		send(false, false, false, false) // 14 … 17, which are the window
		want("what it had at hand", late, taken{6, 0})
		nothing("no restart", late)
		want("still in the window", early, taken{13, 0}, taken{14, 0})
		send(false, true) // 18, 19
		want("the next restart", late, taken{19, 12})
		stop()
		synctest.Wait()
		if _, open := <-late; open {
			t.Error("a piece behind the end of the context")
		}
		if s := b.Stats(); s.Subscribers != 1 || s.Restarts != 2 || s.Skipped != 4+12 {
			t.Errorf("%+v", s)
		}
		b.Close()
		if err := b.Send(nil, true); !errors.Is(err, ErrClosed) {
			t.Errorf("Send behind Close: %v", err)
		}
		last := uint64(0)
		for p := range early {
			last = p.number
		}
		if last != sent {
			t.Errorf("the last piece before the end was %d of %d", last, sent)
		}
		for range b.Pieces(t.Context()) {
			break // one that comes afterwards sees the rest
		}
	})
}

// TestBroadcastBounds sends what no window holds, and what weighs nothing.
func TestBroadcastBounds(t *testing.T) {
	b := Broadcaster{Window: 1000}
	if err := b.Send(make([]byte, 1000-pieceCost+1), true); !errors.Is(err, ErrMessageTooLong) {
		t.Errorf("longer than the window: %v", err)
	}
	for range 1000 {
		if err := b.Send(nil, true); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(b.log); n > 1000/pieceCost {
		t.Errorf("%d empty pieces are in memory", n)
	}
	if err := b.Send(make([]byte, 1000-pieceCost), true); err != nil || len(b.log) != 1 {
		t.Errorf("as long as the window: %v, %d pieces", err, len(b.log))
	}
	if s := b.Stats(); s.Pieces != 1001 || s.WindowBytes != 1000 {
		t.Errorf("%+v", s)
	}
}

// TestBroadcastRandomly compares subscribers of random speed with the promise.
func TestBroadcastRandomly(t *testing.T) {
	r := rand.New(rand.NewPCG(testSeed(t), 1))
	synctest.Test(t, func(t *testing.T) {
		b := Broadcaster{Window: 5000}
		var working sync.WaitGroup
		for i := range 40 {
			speed, leave := rand.New(rand.NewPCG(r.Uint64(), 1)), r.IntN(2) == 0
			working.Go(func() {
				for range 3 { // comes again when it has left
					var f follow
					for p := range b.Pieces(t.Context()) {
						f.take(t, p)
						time.Sleep(time.Duration(speed.IntN(1+i*2)) * time.Millisecond)
						if leave && speed.IntN(100) == 0 {
							break
						}
					}
				}
			})
		}
		for i := range uint64(2000) {
			if err := b.Send(numbered(i+1, 8+r.IntN(500)), r.IntN(20) == 0); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(r.IntN(3)) * time.Millisecond)
		}
		b.Close()
		working.Wait()
		if s := b.Stats(); s.Subscribers != 0 || s.Skipped == 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestBroadcastOverSessions feeds sessions, of which one has a path that carries
// a quarter of the source. The others get all of it, as late as their path is
// long; that one goes from restart to restart and stays close behind.
func TestBroadcastOverSessions(t *testing.T) {
	const (
		viewers = 10
		size    = 1280
		every   = 20 * time.Millisecond // 64 KB/s
		pieces  = 1000                  // 20 s
		group   = 25
		delay   = 10 * time.Millisecond
		messy   = 2 * delay // within which a piece arrives on a path without loss
	)
	synctest.Test(t, func(t *testing.T) {
		net := memory.New(memory.Config{Seed: testSeed(t), Link: memory.Link{Delay: delay}})
		listen := func(name string, addr netip.AddrPort) *Endpoint {
			conn, err := net.Listen(addr)
			if err != nil {
				t.Fatal(err)
			}
			e, err := NewEndpoint(conn, Config{Identity: identity(t, name), Keyring: keyring(t, "one"), SendBuffer: 64 << 10})
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		server := listen("server", addrA)
		b := Broadcaster{Window: 64 << 10}
		var serving, viewing sync.WaitGroup
		var got [viewers]follow
		var worst [viewers]time.Duration
		var clients []*Endpoint
		start := time.Now()
		for i := range viewers {
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 1, byte(i)}), 4700)
			if i == 0 {
				net.SetLink(addrA, addr, memory.Link{Delay: delay, Rate: 16 << 10, Queue: 16 << 10})
			}
			e := listen("viewer "+addr.String(), addr)
			clients = append(clients, e)
			s, err := e.Dial(t.Context(), addrA, server.cfg.Identity.NodeID())
			if err != nil {
				t.Fatal(err)
			}
			out, err := server.Accept(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			st := open(t, out)
			serving.Go(func() {
				for p := range b.Pieces(t.Context()) {
					restart := byte(0)
					if p.Restart {
						restart = 1
					}
					if err := st.SendMessage(append([]byte{restart}, p.Data...)); err != nil {
						t.Error(err)
						return
					}
				}
				_ = st.CloseWrite()
			})
			viewing.Go(func() {
				in := accept(t, s)
				for {
					m, err := in.ReceiveMessage(2000)
					if err != nil {
						if err != io.EOF {
							t.Errorf("viewer %d: %v", i, err)
						}
						_ = in.Close()
						return
					}
					p := Piece{Data: m[1:], Number: binary.BigEndian.Uint64(m[1:]), Restart: m[0] == 1}
					if f := got[i]; f.next > 0 {
						p.Skipped = p.Number - f.next
					}
					got[i].take(t, p)
					worst[i] = max(worst[i], time.Since(start)-time.Duration(binary.BigEndian.Uint64(m[9:])))
				}
			})
		}
		synctest.Wait()
		for i := range uint64(pieces) {
			p := numbered(i+1, size)
			binary.BigEndian.PutUint64(p[8:], uint64(time.Since(start)))
			if err := b.Send(p, i%group == 0); err != nil {
				t.Fatal(err)
			}
			time.Sleep(every)
		}
		b.Close()
		serving.Wait()
		viewing.Wait()
		for i, f := range got[1:] {
			if f.got != pieces || f.skipped != 0 || worst[i+1] > messy {
				t.Errorf("viewer %d got %d pieces of %d, missed %d, the latest after %v", i+1, f.got, pieces, f.skipped, worst[i+1])
			}
		}
		// 16 KiB/s are 12 pieces of 50; what waits for it is 64 KiB of window, a
		// stream's buffer, and the path's queue, all of which takes 9 s.
		if f := got[0]; f.got < 200 || f.skipped < pieces/2 || worst[0] > 12*time.Second {
			t.Errorf("the slow viewer got %d pieces, missed %d, the latest came after %v", f.got, f.skipped, worst[0])
		}
		for _, e := range append(clients, server) {
			e.Close()
		}
	})
}

func BenchmarkBroadcast(b *testing.B) {
	const subscribers = 2000
	var live Broadcaster
	var working sync.WaitGroup
	for range subscribers {
		working.Go(func() {
			for range live.Pieces(context.Background()) {
			}
		})
	}
	p := make([]byte, 1280)
	for b.Loop() {
		_ = live.Send(p, true)
	}
	live.Close()
	working.Wait()
	s := live.Stats()
	b.ReportMetric(float64(s.Delivered)/float64(s.Pieces), "deliveries/op")
}
