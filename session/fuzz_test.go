package session

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

// FuzzHandshakeMessages feeds the parsers that see bytes of strangers, or of
// holders of the seed, before there is a session.
func FuzzHandshakeMessages(f *testing.F) {
	f.Add(hello{version: 1, suites: []stc.Suite{1, 2}}.append(nil))
	f.Add(appendHello(nil, frame.SessionID{1}, []byte("cookie"), []byte("message"))[13:])
	f.Add(appendFinal(nil, addrA, resetToken{1}))
	f.Add((&Config{MaxDatagram: 1452, MaxStreams: 10, IdleTimeout: time.Minute}).params().append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := parseHello(b); err == nil && !bytes.Equal(m.append(nil), b) {
			t.Error("HELLO has two encodings")
		}
		_, _ = parseResponse(b)
		if a, k, err := parseFinal(b); err == nil && a.Addr().Is4() && !bytes.Equal(appendFinal(nil, a, k), b) {
			t.Error("FINAL has two encodings")
		}
		if c, m, err := splitHello(b); err == nil && len(c)+len(m) > len(b) {
			t.Error("HELLO yields more than it holds")
		}
		_, _ = parseParams(b)
	})
}

// nowhere is a carrier that swallows everything.
type nowhere struct{ closed chan struct{} }

func (nowhere) Send([]byte, int, netip.AddrPort) error { return nil }
func (n nowhere) Receive([]byte) (int, int, netip.AddrPort, error) {
	<-n.closed
	return 0, 0, netip.AddrPort{}, net.ErrClosed
}
func (nowhere) LocalAddr() netip.AddrPort { return addrB }
func (n nowhere) Close() error            { close(n.closed); return nil }

// fuzzFrame appends a frame to a script of FuzzFrames.
func fuzzFrame(script []byte, t frame.Type, stream uint16, payload []byte) []byte {
	script = append(script, byte(t), byte(stream>>8), byte(stream), byte(len(payload)))
	return append(script, payload...)
}

// FuzzFrames feeds a session frames of a peer that holds the keys, of any
// type with any payload, in either role and in each state, through changes of
// key: they may end the session, but not crash it, make it spin, or make it
// hold more than its credits allow.
func FuzzFrames(f *testing.F) {
	ack := frame.AppendAck(nil, []frame.Range{{Start: 0, End: 2}}, time.Millisecond, 100)
	hello := func(stream uint16) []byte {
		b := fuzzFrame(nil, frame.TypeData, stream, append(frame.AppendDataHeader(nil, false, nil, 0), "hello"...))
		b = fuzzFrame(b, frame.TypeControl, 0, frame.AppendMaxData(frame.AppendPing(frame.AppendControlAck(nil, ack)), 1<<40))
		b = append(b, 0, 0, 0, 0) // the next epoch
		b = fuzzFrame(b, frame.TypeStreamControl, stream, frame.AppendStreamStopSending(frame.AppendStreamMaxData(nil, 1<<30), 7, 0))
		b = fuzzFrame(b, frame.TypeData, stream, append(frame.AppendDataHeader(nil, true, ack, 5), "again"...))
		b = fuzzFrame(b, frame.TypeData, stream, append(frame.AppendDataHeader(nil, true, nil, 11), "next life"...))
		b = fuzzFrame(b, frame.TypeUser, 9, append(frame.AppendDataHeader(nil, true, nil, 0), "event"...))
		b = fuzzFrame(b, frame.TypeStreamControl, 0, frame.AppendStreamMaxData(nil, 1<<20))
		return fuzzFrame(b, frame.TypeControl, 0, frame.AppendPathChallenge(frame.AppendPathResponse(nil, [8]byte{1}), [8]byte{2}))
	}
	for mode := range byte(16) {
		f.Add(mode, hello(1))
		f.Add(mode, hello(2))
	}
	f.Add(byte(3), fuzzFrame(nil, frame.TypeAuth, 0, appendFinal(nil, addrA, resetToken{1})))
	f.Add(byte(2), fuzzFrame(nil, frame.TypeControl, 0, frame.AppendClose(nil, CodeApplication, "bye")))
	f.Add(byte(2), fuzzFrame(nil, frame.TypeStreamControl, 1, frame.AppendStreamReset(nil, 1, 5)))
	id, kr := identity(f, "B"), keyring(f, "one")
	f.Fuzz(func(t *testing.T, mode byte, script []byte) {
		initiator, active, handlers, closing := mode&1 != 0, mode&2 != 0, mode&4 != 0, mode&8 != 0
		cfg := Config{Identity: id, Keyring: kr, MaxStreams: 16}
		if handlers {
			cfg.Frames = &Dispatcher{}
		}
		l, peer := bareLoop(t, cfg, initiator)
		s, now := l.s, time.Now()
		switch {
		case active:
			s.state.Store(int32(StateActive))
		case initiator:
			l.proof = []byte("proof")
		default:
			l.final = true
		}
		st, err := s.OpenStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = st.Write([]byte("ours"))
		if closing {
			s.requestClose(closeRequest{flush: true, by: now.Add(10 * time.Second)})
		}
		for seq := uint64(0); len(script) >= 4 && seq < 200; {
			typ, stream, n := frame.Type(script[0]), uint16(script[1])<<8|uint16(script[2]), int(script[3])
			script = script[4:]
			if typ == 0 {
				if err := peer.rotate(now, seq); err != nil {
					t.Fatal(err)
				}
				continue
			}
			n = min(n, len(script))
			b := frame.AppendHeader(nil, frame.Header{Type: typ, Epoch: uint8(peer.epoch), Session: s.id, Stream: stream, Seq: seq})
			h := len(b)
			b = peer.key.Seal(b, script[:n], b[:h:h], seq)
			script = script[n:]
			seq++
			l.receive(&run{data: b, size: len(b), from: addrA, at: now})
			now = fuzzStep(t, l, now, 5*time.Millisecond)
			fuzzBounds(t, l)
		}
		fuzzStep(t, l, now, time.Minute)
		fuzzBounds(t, l)
		l.end(ErrClosed)
		s.ep.wg.Wait()
	})
}

// fuzzStep lets a loop do what is due for a while, as run does.
func fuzzStep(t *testing.T, l *loop, now time.Time, span time.Duration) time.Time {
	for end, again := now.Add(span), 0; ; {
		l.takeIn()
		next := l.step(now)
		if l.s.State() == StateClosed || next.IsZero() || next.After(end) {
			return end
		}
		if next.After(now) {
			now, again = next, 0
		} else if again++; again > 1000 {
			t.Fatalf("the loop spins: it wants to be called %v ago", now.Sub(next))
		}
	}
}

// fuzzBounds checks that a session holds no more than it may.
func fuzzBounds(t *testing.T, l *loop) {
	if l.fault == nil && l.dataReceived > l.dataLimit {
		t.Errorf("took %d bytes for a limit of %d", l.dataReceived, l.dataLimit)
	}
	if n := l.s.streams.count(); n > 32 {
		t.Errorf("%d streams", n)
	}
	if n := len(l.recv.seen); n > frame.MaxAckRanges {
		t.Errorf("%d ranges of sequence numbers", n)
	}
	held := uint64(0)
	for _, st := range l.s.streams.all() {
		st.mu.Lock()
		held += st.in.got.total()
		st.mu.Unlock()
	}
	if held > l.dataLimit {
		t.Errorf("streams hold %d bytes for a limit of %d", held, l.dataLimit)
	}
	l.s.user.mu.Lock()
	defer l.s.user.mu.Unlock()
	if n := l.s.user.in.got.total(); n > 4*userWindow {
		t.Errorf("frames of the application hold %d bytes", n)
	}
}
