package session

import (
	"net/netip"
	"testing"
	"time"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/session/transport"
	"github.com/seigr/sttnode/stc"
)

// straight is a carrier that hands what is sent to the other session's loop,
// in the same goroutine.
type straight struct {
	nowhere
	to   *loop
	from netip.AddrPort
	now  *time.Time
	buf  [transport.MaxBatch]byte
	runs [][2]int // length and size of what waits
	used int
}

func (c *straight) Send(buf []byte, size int, _ netip.AddrPort) error {
	if c.used+len(buf) > len(c.buf) {
		return nil
	}
	copy(c.buf[c.used:], buf)
	c.used += len(buf)
	c.runs = append(c.runs, [2]int{len(buf), size})
	return nil
}

// deliver lets the other loop take in what waits.
func (c *straight) deliver() {
	at := 0
	for _, r := range c.runs {
		c.to.receive(&run{data: c.buf[at : at+r[0]], size: r[1], from: c.from, at: *c.now})
		at += r[0]
	}
	c.runs, c.used = c.runs[:0], 0
}

// BenchmarkPacketPath moves packets of one stream through both loops without
// goroutines or sockets. An operation is a packet, sealed, opened, read and
// acknowledged; it does not allocate.
func BenchmarkPacketPath(b *testing.B) {
	now := time.Now()
	cfg, err := Config{Identity: identity(b, "A"), Keyring: keyring(b, "one")}.withDefaults()
	if err != nil {
		b.Fatal(err)
	}
	cfg.Rotation = Rotation{Bytes: -1, Interval: -1, Messages: -1}
	cfg.StreamWindow, cfg.SessionWindow = 4<<20, 4<<20
	var loops [2]*loop
	var carriers [2]*straight
	for i, from := range []netip.AddrPort{addrA, addrB} {
		carriers[i] = &straight{from: from, now: &now}
		e := &Endpoint{link: &link{datagrams: carriers[i]}, cfg: cfg, budget: newBudget(&cfg), sessions: map[frame.SessionID]*Session{}}
		s := &Session{
			ep: e, link: e.link, cfg: &e.cfg, id: frame.SessionID{1}, peerParams: cfg.params(), created: now, initiator: i == 0,
			done: make(chan struct{}),
		}
		s.state.Store(int32(StateActive))
		s.streams.init(i == 0, 16, 16)
		l := newLoop(s, mtuSearch{size: 1452, tooBig: 1453, largest: 1452}, []netip.AddrPort{addrB, addrA}[i], now)
		if l.seal, err = newSealing(stc.SuiteAES256GCM, &stc.Secret{byte(i)}, now); err != nil {
			b.Fatal(err)
		}
		if l.open, err = newOpening(stc.SuiteAES256GCM, &stc.Secret{byte(1 - i)}); err != nil {
			b.Fatal(err)
		}
		loops[i] = l
	}
	carriers[0].to, carriers[1].to = loops[1], loops[0]
	st, err := loops[0].s.OpenStream(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	var in *Stream
	p := make([]byte, 1400*32)
	turn := func() {
		if _, err := st.Write(p); err != nil {
			b.Fatal(err)
		}
		loops[0].takeIn()
		for st.out.next < st.out.buf.end || loops[0].loss.outstanding > 0 {
			for i, l := range loops {
				l.takeIn()
				l.step(now)
				carriers[i].deliver()
			}
			now = now.Add(100 * time.Microsecond)
		}
		if in == nil {
			if in, err = loops[1].s.AcceptStream(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		for n := 0; n < len(p); {
			k, err := in.Read(p)
			if err != nil {
				b.Fatal(err)
			}
			n += k
		}
	}
	for range 200 {
		turn()
	}
	b.SetBytes(1400)
	b.ReportAllocs()
	for i := 0; i < b.N; i += 32 {
		turn()
	}
}
