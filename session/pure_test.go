package session

import (
	"errors"
	"testing"
	"time"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

// TestRangeSet compares the set with a plain map, over random operations.
func TestRangeSet(t *testing.T) {
	rng := newRNG(testSeed(t))
	const top = 60
	for range 300 {
		var s rangeSet
		want := map[uint64]bool{}
		for range 40 {
			a, b := rng.Uint64N(top), rng.Uint64N(top)
			add := rng.IntN(3) > 0
			for v := a; v < b; v++ {
				if add {
					want[v] = true
				} else {
					delete(want, v)
				}
			}
			if add {
				s.add(a, b)
			} else {
				s.sub(a, b)
			}
			for v := range uint64(top) {
				if s.contains(v) != want[v] {
					t.Fatalf("%v: contains(%d) = %v", s, v, !want[v])
				}
			}
			for i, r := range s {
				if r.Start >= r.End || i > 0 && s[i-1].End >= r.Start {
					t.Fatalf("%v is not in canonical form", s)
				}
				if s.endOf(r.Start) != r.End || !s.covers(r.Start, r.End) || s.covers(r.Start, r.End+1) {
					t.Fatalf("%v: endOf or covers of %v", s, r)
				}
			}
		}
	}
}

// TestBuffer writes and reads at random offsets beside a plain slice.
func TestBuffer(t *testing.T) {
	rng := newRNG(testSeed(t))
	for range 50 {
		var b buffer
		base := rng.Uint64N(100_000)
		b.reset(base)
		plain := make([]byte, 300_000)
		written := rangeSet{}
		for range 60 {
			switch rng.IntN(3) {
			case 0, 1:
				p := randomBytes(rng.Uint64(), rng.IntN(40_000))
				off := b.base + rng.Uint64N(100_000) - min(b.base, 500)
				if off+uint64(len(p)) > uint64(len(plain)) {
					continue
				}
				b.writeAt(p, off)
				for i, c := range p {
					if off+uint64(i) >= b.base {
						plain[off+uint64(i)] = c
					}
				}
				written.add(max(off, b.base), off+uint64(len(p)))
			case 2:
				if end := written.endOf(b.base); end > b.base {
					p := make([]byte, 1+rng.Uint64N(end-b.base))
					b.readAt(p, b.base)
					for i := range p {
						if p[i] != plain[b.base+uint64(i)] {
							t.Fatalf("offset %d differs", b.base+uint64(i))
						}
					}
					b.discard(b.base + uint64(len(p)))
					written.sub(0, b.base)
				}
			}
			if b.base == b.end && len(b.blocks) > 0 {
				t.Fatal("an empty buffer holds memory")
			}
		}
	}
}

func TestRecvHalfRefuses(t *testing.T) {
	code := func(err error) uint64 {
		var p *protocolError
		if errors.As(err, &p) {
			return p.code
		}
		return 0
	}
	fresh := func() *recvHalf {
		var h recvHalf
		h.init(100, 50)
		return &h
	}
	h := fresh()
	if _, _, err := h.onData(100, make([]byte, 51), false); code(err) != CodeFlowControl {
		t.Errorf("data over the limit: %v", err)
	}
	h = fresh()
	_, _, _ = h.onData(100, make([]byte, 10), true)
	if _, _, err := h.onData(110, []byte{1}, false); code(err) != CodeFinalSize {
		t.Errorf("data behind the end: %v", err)
	}
	if _, _, err := h.onData(100, make([]byte, 9), true); code(err) != CodeFinalSize {
		t.Errorf("a second end: %v", err)
	}
	if _, _, err := h.onReset(1, 120); code(err) != CodeFinalSize {
		t.Errorf("reset at another end: %v", err)
	}
	h = fresh()
	_, _, _ = h.onData(120, make([]byte, 10), false)
	if _, _, err := h.onData(100, make([]byte, 10), true); code(err) != CodeFinalSize {
		t.Errorf("end before bytes that have arrived: %v", err)
	}
	if _, _, err := h.onReset(1, 151); code(err) != CodeFlowControl {
		t.Errorf("reset over the limit: %v", err)
	}
	grown, dropped, err := h.onReset(1, 150)
	if err != nil || grown != 20 || dropped != 50 {
		t.Errorf("reset: grown %d, dropped %d, %v; all 50 bytes of credit must come back", grown, dropped, err)
	}
}

// detector sends n packets of 1,000 bytes, one a millisecond.
func detector(n int) (*lossDetector, time.Time) {
	d := &lossDetector{}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range n {
		d.sent(sentPacket{at: start.Add(time.Duration(i) * time.Millisecond), size: 1000, eliciting: true, length: i})
	}
	return d, start
}

func ackOf(t *testing.T, ranges ...frame.Range) frame.Ack {
	t.Helper()
	a, _, err := frame.ConsumeAck(frame.AppendAck(nil, ranges, 0, 1000))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestRTTOfLateAcknowledgement samples a path of 50 ms by an acknowledgement
// that repeats a lost one.
func TestRTTOfLateAcknowledgement(t *testing.T) {
	var r rtt
	r.update(time.Second, 950*time.Millisecond)
	if r.srtt() != 50*time.Millisecond || r.pto(maxAckDelay) > 200*time.Millisecond {
		t.Errorf("round trip %v, probe timeout %v", r.srtt(), r.pto(maxAckDelay))
	}
	for range 100 {
		r.update(time.Second, 950*time.Millisecond)
	}
	if r.srtt() != 50*time.Millisecond {
		t.Errorf("round trip %v after more of them", r.srtt())
	}
	r = rtt{}
	r.update(50*time.Millisecond, time.Hour) // a lie
	if r.srtt() != 50*time.Millisecond {
		t.Errorf("round trip %v by a peer that lies", r.srtt())
	}
}

func TestLossByPacketThreshold(t *testing.T) {
	d, start := detector(10)
	r := &rtt{}
	r.update(100*time.Millisecond, 0)
	now := start.Add(20 * time.Millisecond)
	res, err := d.onAck(now, ackOf(t, frame.Range{Start: 5, End: 6}), r, func(*sentPacket) {})
	if err != nil || res.bytes != 1000 || res.sample != 15*time.Millisecond {
		t.Fatalf("%+v, %v", res, err)
	}
	var lost []int
	out := d.detect(now, r, time.Second, func(p *sentPacket) { lost = append(lost, p.length) })
	if len(lost) != 3 || lost[0] != 0 || lost[2] != 2 {
		t.Errorf("lost %v, want 0, 1, 2: three and more below the largest acknowledged", lost)
	}
	if !out.any || out.persistent {
		t.Errorf("%+v", out)
	}
	if d.inFlight != 6000 {
		t.Errorf("%d bytes in flight, want 6000", d.inFlight)
	}
	// The rest of what is below follows by time.
	if want := start.Add(3*time.Millisecond + r.lossDelay()); d.lossTime != want {
		t.Errorf("loss timer at %v, want %v", d.lossTime, want)
	}
	lost = nil
	d.detect(d.lossTime.Add(time.Millisecond), r, time.Second, func(p *sentPacket) { lost = append(lost, p.length) })
	if len(lost) != 2 {
		t.Errorf("lost by time: %v, want 3 and 4", lost)
	}
	// One that was only late counts as spurious, not twice as flight.
	acked := 0
	if _, err := d.onAck(now, ackOf(t, frame.Range{Start: 0, End: 10}), r, func(*sentPacket) { acked++ }); err != nil {
		t.Fatal(err)
	}
	if d.spurious != 5 || acked != 9 || d.inFlight != 0 || d.outstanding != 0 || d.count != 0 {
		t.Errorf("spurious %d, acked %d, in flight %d, left %d", d.spurious, acked, d.inFlight, d.count)
	}
}

func TestLossRefusesWhatWasNeverSent(t *testing.T) {
	d, start := detector(3)
	if _, err := d.onAck(start, ackOf(t, frame.Range{Start: 3, End: 4}), &rtt{}, func(*sentPacket) {}); err == nil {
		t.Error("an acknowledgement of frame 3 of 0 to 2 was believed")
	}
}

func TestPersistentCongestion(t *testing.T) {
	d, start := detector(0)
	r := &rtt{}
	r.update(10*time.Millisecond, 0)
	pto := r.pto(0)
	d.firstSample = start
	for i := range 12 {
		d.sent(sentPacket{at: start.Add(time.Duration(i+1) * pto), size: 1000, eliciting: true})
	}
	now := start.Add(20 * pto)
	if _, err := d.onAck(now, ackOf(t, frame.Range{Start: 11, End: 12}), r, func(*sentPacket) {}); err != nil {
		t.Fatal(err)
	}
	if out := d.detect(now, r, pto, func(*sentPacket) {}); !out.persistent {
		t.Error("ten probe timeouts of nothing but loss are no persistent congestion")
	}
}

func TestPacer(t *testing.T) {
	var p pacer
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	sent := 0
	end := now.Add(time.Second)
	for now.Before(end) {
		p.update(now, 1_250_000, 1000)
		for p.allows() {
			p.sent(1000)
			sent += 1000
		}
		next := p.next(now, 1000)
		if !next.After(now) {
			t.Fatal("the pacer would spin")
		}
		now = next
	}
	if sent < 1_240_000 || sent > 1_275_000 {
		t.Errorf("%d bytes in a second, want 1,250,000", sent)
	}
}

func TestReceivedDecidesWhenToAck(t *testing.T) {
	var r received
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r.add(now, 0, true)
	if r.wanted(now) || !r.wanted(now.Add(maxAckDelay)) {
		t.Error("one packet is acknowledged after the delay, not at once")
	}
	r.add(now, 1, true)
	if !r.wanted(now) {
		t.Error("the second packet is acknowledged at once")
	}
	r.acknowledged()
	r.add(now, 5, true)
	if !r.wanted(now) {
		t.Error("a gap is news")
	}
	for _, seq := range []uint64{0, 1, 5} {
		if !r.duplicate(seq) {
			t.Errorf("%d is a duplicate", seq)
		}
	}
	if r.duplicate(4) {
		t.Error("4 has not been received")
	}
	r.forget(5)
	if !r.duplicate(4) {
		t.Error("below the floor everything is a duplicate")
	}
	// However the numbers jump, memory stays bounded.
	for i := range uint64(10_000) {
		r.add(now, 10+2*i, false)
	}
	if len(r.seen) > frame.MaxAckRanges {
		t.Errorf("%d ranges", len(r.seen))
	}
}

// TestAcksPerRoundTrip counts the acknowledgements of a steady flow.
func TestAcksPerRoundTrip(t *testing.T) {
	for _, test := range []struct{ perRTT, least, most int }{{4, 2, 3}, {40, 8, 12}, {1000, 30, 40}} {
		r := received{rtt: 100 * time.Millisecond}
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		acks := 0
		for seq := range 10 * test.perRTT {
			now = now.Add(r.rtt / time.Duration(test.perRTT))
			r.add(now, uint64(seq), true)
			if r.wanted(now) {
				r.acknowledged()
				if seq >= 5*test.perRTT {
					acks++
				}
			}
		}
		if acks < 5*test.least || acks > 5*test.most {
			t.Errorf("%d packets a round trip: %d acknowledgements in five, want %d to %d in each", test.perRTT, acks, test.least, test.most)
		}
	}
}

func TestEpochs(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	secret := func() *stc.Secret { return &stc.Secret{1, 2, 3} }
	seal, err := newSealing(stc.SuiteChaCha20Poly1305, secret(), now)
	if err != nil {
		t.Fatal(err)
	}
	open, err := newOpening(stc.SuiteChaCha20Poly1305, secret())
	if err != nil {
		t.Fatal(err)
	}
	seq := uint64(0)
	type sealed struct {
		epoch uint8
		seq   uint64
		b     []byte
	}
	next := func() sealed {
		s := sealed{uint8(seal.epoch), seq, seal.key.Seal(nil, []byte("hello"), []byte("header"), seq)}
		seal.messages++
		seq++
		return s
	}
	check := func(s sealed, at time.Time, want bool) {
		t.Helper()
		_, err := open.open(at, s.epoch, s.seq, []byte("header"), append([]byte(nil), s.b...), time.Second)
		if (err == nil) != want {
			t.Errorf("epoch %d at epoch %d: %v", s.epoch, open.epoch, err)
		}
	}
	rotate := func() {
		t.Helper()
		if err := seal.rotate(now, seq); err != nil {
			t.Fatal(err)
		}
	}
	late, older := next(), next()
	check(next(), now, true)
	forged := next()
	forged.epoch++
	check(forged, now, false) // must not move the epoch
	if open.epoch != 0 {
		t.Fatal("a forged frame changed the key")
	}
	rotate()
	check(next(), now, true)
	check(late, now.Add(time.Second/2), true)
	check(older, now.Add(time.Second), false) // the old key is gone
	// Two changes at once cannot be followed, so a sender waits for the
	// first to be confirmed.
	r := Rotation{Messages: 1}.withDefaults()
	if next(); seal.due(now, r) {
		t.Error("a change before the last one is confirmed")
	}
	seal.acked(0)
	if seal.due(now, r) {
		t.Error("an acknowledgement of the old epoch confirmed the new one")
	}
	seal.acked(seq - 1)
	if !seal.due(now, r) {
		t.Error("no change although due and confirmed")
	}
	// Epoch numbers on the wire wrap after 256 changes.
	for range 600 {
		rotate()
		check(next(), now, true)
	}
	if open.epoch != 601 {
		t.Errorf("epoch %d", open.epoch)
	}
}

func TestCookies(t *testing.T) {
	c := cookies{key: [32]byte{1}}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	k := c.make(now, addrA)
	if !c.valid(now.Add(cookieLifetime), addrA, k) {
		t.Error("a fresh cookie is refused")
	}
	if c.valid(now.Add(cookieLifetime+time.Second), addrA, k) || c.valid(now.Add(-time.Second), addrA, k) {
		t.Error("a cookie from another time is accepted")
	}
	if c.valid(now, addrB, k) {
		t.Error("a cookie for another address is accepted")
	}
	for i := range k {
		bad := append([]byte(nil), k...)
		bad[i] ^= 1
		if c.valid(now, addrA, bad) {
			t.Errorf("a cookie with byte %d changed is accepted", i)
		}
	}
}

// What cannot be is refused at once, not when the first peer comes.
func TestConfigIsChecked(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"identity":          func(c *Config) { c.Identity = nil },
		"HandshakeTimeout":  func(c *Config) { c.HandshakeTimeout = -1 },
		"IdleTimeout":       func(c *Config) { c.IdleTimeout = -1 },
		"MaxSessions":       func(c *Config) { c.MaxSessions = -1 },
		"MaxHalfOpen":       func(c *Config) { c.MaxHalfOpen = -1 },
		"MaxStreams":        func(c *Config) { c.MaxStreams = -4 },
		"Memory":            func(c *Config) { c.Memory = 1000 },
		"SendMemory":        func(c *Config) { c.SendMemory = -1 },
		"StreamWindow":      func(c *Config) { c.StreamWindow = 1 << 63 },
		"SessionWindow":     func(c *Config) { c.SessionWindow = 1 << 41 },
		"MaxStreamWindow":   func(c *Config) { c.MaxStreamWindow = 1<<64 - 1 },
		"SendBuffer":        func(c *Config) { c.SendBuffer = -1 },
		"MaxDatagram":       func(c *Config) { c.MaxDatagram = 1199 },
		"a longer datagram": func(c *Config) { c.MaxDatagram = 65508 },
		"Congestion":        func(c *Config) { c.Congestion = 99 },
	} {
		c := Config{Identity: identity(t, "A"), Keyring: keyring(t, "one")}
		change(&c)
		if _, err := c.withDefaults(); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParams(t *testing.T) {
	c, err := Config{Identity: identity(t, "A"), Keyring: keyring(t, "one")}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	want := c.params()
	want.reset = resetToken{7}
	got, err := parseParams(want.append(nil))
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	// An unknown parameter behind the known ones is skipped.
	if got, err := parseParams(append(want.append(nil), 63, 2, 9, 9)); err != nil || got != want {
		t.Errorf("unknown parameter: %v", err)
	}
	for name, b := range map[string][]byte{
		"none":         nil,
		"out of order": append(want.append(nil), 1, 1, 0),
		"cut":          want.append(nil)[:10],
	} {
		if _, err := parseParams(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestBurstIsNoBlackHole checks that a queue that overflows does not shrink the
// datagrams, however many it takes at once, and a path that has shrunk does.
func TestBurstIsNoBlackHole(t *testing.T) {
	const pto = 10 * time.Millisecond
	begin := time.Unix(1, 0)
	m := mtuSearch{size: 1452, tooBig: 1453, largest: 1452}
	for range 10 { // bursts, with something that arrives in between
		for range 10 * missingLimit {
			if m.vanished(begin, begin, 1452, pto) {
				t.Fatal("a burst counts as a black hole")
			}
		}
		m.arrived(1452)
		begin = begin.Add(pto)
	}
	for i := range missingLimit + 1 {
		sent := begin.Add(time.Duration(i) * pto / missingLimit)
		if got, want := m.vanished(sent, sent, 1452, pto), i == missingLimit; got != want {
			t.Fatalf("loss %d over %v: black hole %v", i+1, sent.Sub(begin), got)
		}
	}
	if m.size != minDatagram {
		t.Fatalf("size is still %d", m.size)
	}
}
