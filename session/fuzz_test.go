package session

import (
	"bytes"
	"context"
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

// FuzzFrames feeds a session arbitrary payloads of a peer that holds the
// keys: it may end the session, but not crash it, hang it, or make it hold
// more than its credits allow.
func FuzzFrames(f *testing.F) {
	data := frame.AppendDataHeader(nil, true, nil, 0)
	f.Add(byte(frame.TypeData), uint16(1), append(data, "hello"...), uint16(3), []byte{0, 5, 1})
	f.Add(byte(frame.TypeControl), uint16(0), frame.AppendClose(frame.AppendPing(nil), 1, "x"), uint16(0), []byte{})
	f.Add(byte(frame.TypeStreamControl), uint16(1), frame.AppendStreamReset(frame.AppendStreamMaxData(nil, 99), 1, 5), uint16(1), data)
	id, kr := identity(f, "B"), keyring(f, "one")
	f.Fuzz(func(t *testing.T, typ byte, stream uint16, payload []byte, stream2 uint16, payload2 []byte) {
		l, seal := bareLoop(t, Config{Identity: id, Keyring: kr, MaxStreams: 16}, false)
		s := l.s
		st, err := s.OpenStream(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = st.Write([]byte("ours"))
		for i := range uint64(6) {
			k, n, p := frame.Type(typ), stream, payload
			if i%2 == 1 {
				k, n, p = frame.TypeData, stream2, payload2
			}
			b := frame.AppendHeader(nil, frame.Header{Type: k, Session: s.id, Stream: n, Seq: i})
			h := len(b)
			b = seal.key.Seal(b, p, b[:h:h], i)
			l.datagram(time.Now(), b, addrA)
			l.takeIn()
			l.step(time.Now())
		}
		if l.dataReceived > l.dataLimit {
			t.Errorf("took %d bytes for a limit of %d", l.dataReceived, l.dataLimit)
		}
		if s.streams.count() > 32 {
			t.Errorf("%d streams", s.streams.count())
		}
	})
}
