package vectors

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/session"
	"github.com/seigr/sttnode/session/transport/memory"
	"github.com/seigr/sttnode/stc"
)

var (
	addrI = netip.MustParseAddrPort("192.0.2.1:4700")
	addrR = netip.MustParseAddrPort("192.0.2.2:4700")
)

// ends is a node on one side and the reference on the other.
type ends struct {
	t         *testing.T
	node      *session.Endpoint
	conn      *memory.Conn // the reference's
	to        netip.AddrPort
	own, peer node
	net       network
	waiting   [][]byte // datagrams that came together
}

func newEnds(t *testing.T, at, refAt netip.AddrPort, seed, refSeed byte) *ends {
	t.Helper()
	wire := memory.New(memory.Config{Link: memory.Link{Delay: 10 * time.Millisecond}})
	conn, err := wire.Listen(at)
	if err != nil {
		t.Fatal(err)
	}
	e, err := session.NewEndpoint(conn, session.Config{Identity: identity(t, count(seed)), Keyring: keyring(t, count(0x40))})
	if err != nil {
		t.Fatal(err)
	}
	w := &ends{t: t, node: e, to: at, own: newNode(count(refSeed)), peer: newNode(count(seed)), net: newNetwork(count(0x40))}
	if w.conn, err = wire.Listen(refAt); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *ends) close() {
	w.node.Close()
	w.conn.Close()
}

func (w *ends) send(b []byte) {
	w.t.Helper()
	if err := w.conn.Send(b, len(b), w.to); err != nil {
		w.t.Fatal(err)
	}
}

// receive returns the next datagram.
func (w *ends) receive() []byte {
	w.t.Helper()
	if len(w.waiting) == 0 {
		b := make([]byte, 1<<16)
		n, size, _, err := w.conn.Receive(b)
		if err != nil {
			w.t.Fatal(err)
		}
		w.waiting = slices.Collect(slices.Chunk(b[:n], size))
	}
	b := w.waiting[0]
	w.waiting = w.waiting[1:]
	return b
}

// payload returns the payload of the next frame of a type, whatever comes
// before it.
func (w *ends) payload(keys packetKeys, typ byte) (stream uint64, payload []byte) {
	w.t.Helper()
	for range 20 {
		b := w.receive()
		if b[0] != typ && (b[0] == 1 || b[0] == 5) {
			continue // a handshake message that is repeated
		}
		t, stream, payload, err := keys.open(b)
		if err != nil {
			w.t.Fatalf("frame %x: %v", b, err)
		}
		if t == typ {
			return stream, payload
		}
	}
	w.t.Fatalf("no frame of type %d", typ)
	return 0, nil
}

// stripData takes flags, an acknowledgement and the offset from DATA.
func (w *ends) stripData(b []byte) (fin bool, offset uint64, data []byte) {
	w.t.Helper()
	next := func() (v uint64) {
		n := 1 << (b[0] >> 6)
		for i, c := range b[:n] {
			if i == 0 {
				c &= 63
			}
			v = v<<8 | uint64(c)
		}
		b = b[n:]
		return v
	}
	flags := b[0]
	b = b[1:]
	if flags&2 != 0 {
		next()
		next()
		n := next()
		next()
		for range 2 * n {
			next()
		}
	}
	return flags&1 != 0, next(), b
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

var (
	ownParams    = cat(param(1, varint(1452)), param(2, varint(5000)), param(3, varint(5000)), param(4, varint(10)), param(5, varint(30000)))
	unknownParam = param(99, []byte("unknown"))
)

// TestReferenceDials lets the reference begin a session with a node.
func TestReferenceDials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnds(t, addrR, addrI, 0x20, 0x00)
		defer w.close()
		h, id, nonce := newNoise(true, w.own, w.net, random(32)), random(8), random(32)
		m1, _, _, err := h.WriteMessage(nil, cat([]byte{1}, nonce, []byte{77, 2}))
		if err != nil {
			t.Fatal(err)
		}
		w.send(helloFrame(id, nil, m1))
		b := w.receive()
		if !bytes.HasPrefix(b, cat(header(1, 0, id, 0, 0), []byte{2})) {
			t.Fatalf("RESPONSE is %x", b)
		}
		payload, _, _, err := h.ReadMessage(nil, b[13:])
		if err != nil || payload[0] != 1 || payload[33] != 2 || !bytes.Equal(h.PeerStatic(), w.peer.static.PublicKey().Bytes()) {
			t.Fatalf("payload 2 is %x, %v", payload, err)
		}
		m3, c1, c2, err := h.WriteMessage(nil, cat(ownParams, param(7, random(16)), unknownParam))
		if err != nil {
			t.Fatal(err)
		}
		secretI, secretR := traffic(h, c1, c2)
		out, in := newPacketKeys(secretI, 2, 0), newPacketKeys(secretR, 2, 0)
		sid := xor(nonce, payload[1:33], w.own.id, w.peer.id)
		w.send(cat(header(5, 0, id, 0, 0), []byte{1}, m3))
		w.send(out.seal(2, sid, 1, 0, cat([]byte{1, 0}, []byte("ping"))))

		s, err := w.node.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if sessionID, peer := s.ID(), s.PeerID(); !bytes.Equal(sessionID[:], sid) || !bytes.Equal(peer[:], w.own.id) {
			t.Errorf("session %x with %x, want %x with %x", sessionID, peer, sid, w.own.id)
		}
		_, final := w.payload(in, 5)
		if want := cat([]byte{2, 4, 192, 0, 2, 1}, binary.BigEndian.AppendUint16(nil, 4700)); len(final) != len(want)+16 || !bytes.HasPrefix(final, want) {
			t.Errorf("FINAL is %x", final)
		}
		st, err := s.AcceptStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(st); err != nil || string(got) != "ping" || st.ID() != 1 {
			t.Fatalf("stream %d: %q, %v", st.ID(), got, err)
		}
		_, _ = st.Write([]byte("pong"))
		_ = st.CloseWrite()
		stream, data := w.payload(in, 2)
		if fin, offset, got := w.stripData(data); stream != 1 || offset != 0 || string(got) != "pong" {
			t.Errorf("DATA of stream %d at %d: %q, FIN %v", stream, offset, got, fin)
		}
		// The next epoch, and the end.
		next := newPacketKeys(ratchet(secretI), 2, 1)
		w.send(next.seal(3, sid, 0, 1, cat([]byte{6}, varint(0x107), varint(3), []byte("bye"))))
		<-s.Done()
		var ce *session.CloseError
		if err := s.Err(); !errors.As(err, &ce) || !ce.Remote || ce.Code != 0x107 || ce.Reason != "bye" {
			t.Errorf("the session ended with %v", err)
		}
	})
}

// TestReferenceAnswers lets a node begin a session with the reference.
func TestReferenceAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnds(t, addrI, addrR, 0x00, 0x20)
		defer w.close()
		dialled := make(chan *session.Session, 1)
		go func() {
			s, err := w.node.Dial(t.Context(), addrR, stc.Hash(w.own.id))
			if err != nil {
				t.Error(err)
			}
			dialled <- s
		}()
		b := w.receive()
		if len(b) != 1200 || b[0] != 1 || b[12] != 1 || b[13] != 0 {
			t.Fatalf("HELLO is %x", b)
		}
		// Once more, with a cookie.
		id, cookie := bytes.Clone(b[2:10]), random(64)
		w.send(cat(header(1, 0, id, 0, 0), []byte{3}, cookie))
		b = w.receive()
		if len(b) != 1200 || b[13] != 64 || !bytes.Equal(b[14:78], cookie) {
			t.Fatalf("HELLO with a cookie is %x", b)
		}
		h, nonce := newNoise(false, w.own, w.net, random(32)), random(32)
		n := int(binary.BigEndian.Uint16(b[78:]))
		payload, _, _, err := h.ReadMessage(nil, b[80:80+n])
		if err != nil || payload[0] != 1 || !bytes.Contains(payload[33:], []byte{2}) {
			t.Fatalf("payload 1 is %x, %v", payload, err)
		}
		peerNonce := payload[1:33]
		m2, _, _, err := h.WriteMessage(nil, cat([]byte{1}, nonce, []byte{2}, ownParams, unknownParam))
		if err != nil {
			t.Fatal(err)
		}
		w.send(cat(header(1, 0, id, 0, 0), []byte{2}, m2))
		s := <-dialled
		b = w.receive()
		if !bytes.HasPrefix(b, cat(header(5, 0, id, 0, 0), []byte{1})) {
			t.Fatalf("AUTH_PROOF is %x", b)
		}
		_, c1, c2, err := h.ReadMessage(nil, b[13:])
		if err != nil || !bytes.Equal(h.PeerStatic(), w.peer.static.PublicKey().Bytes()) {
			t.Fatal(err)
		}
		secretI, secretR := traffic(h, c1, c2)
		out, in := newPacketKeys(secretR, 2, 0), newPacketKeys(secretI, 2, 0)
		sid := xor(peerNonce, nonce, w.peer.id, w.own.id)
		w.send(out.seal(5, sid, 0, 0, cat([]byte{2, 4, 192, 0, 2, 1}, binary.BigEndian.AppendUint16(nil, 4700), random(16))))
		st, err := s.OpenStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = st.Write([]byte("ping"))
		stream, data := w.payload(in, 2)
		if _, offset, got := w.stripData(data); stream != 1 || offset != 0 || string(got) != "ping" {
			t.Errorf("DATA of stream %d at %d: %q", stream, offset, got)
		}
		w.send(out.seal(2, sid, 1, 1, cat([]byte{3}, varint(0), varint(0), varint(0), varint(0), varint(0), []byte("pong"))))
		if got, err := io.ReadAll(st); err != nil || string(got) != "pong" {
			t.Errorf("%q, %v", got, err)
		}
		if sessionID := s.ID(); !bytes.Equal(sessionID[:], sid) || s.State() != session.StateActive || s.ObservedAddr() != addrI {
			t.Errorf("session %x, want %x; %v, seen at %v", sessionID, sid, s.State(), s.ObservedAddr())
		}
	})
}
