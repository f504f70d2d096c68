package dht

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/seigr/sttnode/stc"
)

// The tests of this file attack a node that runs as in production, with its
// goroutine, its clock, the real cryptography and a UDP socket, by a client that
// knows no more than the protocol and the shared seed. Nothing waits for
// silence: the node handles datagrams in the order in which they arrive, so
// what was not answered before the PING behind it is never answered.

// liveNode is a DHT on a UDP socket of its own on the loopback.
type liveNode struct {
	*DHT
	id   *stc.Identity
	conn *net.UDPConn
	wg   sync.WaitGroup
}

func newLiveNode(t testing.TB, n int, change func(*Config)) *liveNode {
	t.Helper()
	l := &liveNode{id: testIdentity(t, 21, n), conn: loopback(t)}
	cfg := Config{Identity: l.id, Keyring: testKeyring(t, 's'), AssumeReachable: true,
		RateStrangers: 1e6, RateAddress: 1e6, QueueLength: 1 << 14, // every datagram of these tests is to be looked at
		Send: func(b []byte, to netip.AddrPort) error {
			_, err := l.conn.WriteToUDPAddrPort(b, to)
			return err
		}}
	if change != nil {
		change(&cfg)
	}
	var err error
	if l.DHT, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	l.wg.Go(func() {
		buf := make([]byte, 1<<16)
		for {
			n, from, err := l.conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			l.HandleDatagram(buf[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
		}
	})
	t.Cleanup(func() {
		l.conn.Close()
		l.wg.Wait()
		l.Close()
	})
	return l
}

func loopback(t testing.TB) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func addrOf(conn *net.UDPConn) netip.AddrPort {
	a := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// holds reports whether a node is in the table, whether others are told of it or
// not.
func (l *liveNode) holds(id stc.Hash) bool { return containsID(l.Contacts(), id) }

// hostileClient speaks the protocol as it likes, under one identity or several,
// from one socket.
type hostileClient struct {
	*attacker
	t    testing.TB
	conn *net.UDPConn
	node *liveNode
	tx   uint64

	barriers map[uint64]bool // transactions of the PINGs behind everything else
}

// client returns a client number n with a socket of its own.
func (l *liveNode) client(t testing.TB, n int) *hostileClient {
	t.Helper()
	conn := loopback(t)
	t.Cleanup(func() { conn.Close() })
	return l.clientAt(t, n, conn)
}

func (l *liveNode) clientAt(t testing.TB, n int, conn *net.UDPConn) *hostileClient {
	t.Helper()
	return &hostileClient{attacker: newAttacker(t, n, addrOf(conn).String()), t: t, conn: conn, node: l, tx: uint64(n+1) << 32,
		barriers: make(map[uint64]bool)}
}

func (c *hostileClient) sendRaw(b []byte) {
	c.t.Helper()
	if _, err := c.conn.WriteToUDPAddrPort(b, addrOf(c.node.conn)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *hostileClient) send(m message) {
	c.t.Helper()
	c.sendRaw(c.seal(c.t, c.node.id.PublicKey(), m))
}

// answers returns all that the node has sent here because of what was sent to it
// so far, answers and requests, but those of an earlier identity.
func (c *hostileClient) answers() (all []message) {
	c.t.Helper()
	c.tx++
	barrier := message{kind: kindPing, tx: c.tx}
	c.barriers[c.tx] = true
	c.send(barrier)
	buf := make([]byte, 1<<16)
	for tries := 0; ; {
		_ = c.conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		n, err := c.conn.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) && tries < 100 {
			tries++ // it did not fit into a buffer of the system's
			c.send(barrier)
			continue
		}
		if err != nil {
			c.t.Fatalf("the node does not answer any more: %v", err)
		}
		plain, _, err := c.sealer.Open(nil, dhtHeader, buf[len(dhtHeader):n])
		if err != nil {
			continue
		}
		m, err := decodeMessage(plain)
		if err != nil {
			c.t.Fatalf("the node sends %x: %v", plain, err)
		}
		if m.kind == kindPing|kindAnswer && m.tx == barrier.tx {
			return all
		}
		if c.barriers[m.tx] {
			continue
		}
		all = append(all, m)
	}
}

// ask sends one request and returns its answer.
func (c *hostileClient) ask(m message) message {
	c.t.Helper()
	c.tx++
	m.tx = c.tx
	c.send(m)
	for _, got := range c.answers() {
		if got.kind.isAnswer() && got.tx == m.tx {
			return got
		}
	}
	c.t.Fatalf("%v is not answered", m.kind)
	return message{}
}

// pinged makes the node ping the client, as it does with who asks for the first
// time, and returns that request.
func (c *hostileClient) pinged() message {
	c.t.Helper()
	c.send(message{kind: kindPing, tx: 1, pad: 300})
	for _, m := range c.answers() {
		if m.kind == kindPing {
			return m
		}
	}
	c.t.Fatal("the node does not ping who asks")
	return message{}
}

// join makes the client a node in the table.
func (c *hostileClient) join() {
	c.t.Helper()
	c.send(message{kind: kindPing | kindAnswer, tx: c.pinged().tx})
	c.answers()
}

// knows reports whether the node tells others about one.
func (c *hostileClient) knows(id stc.Hash) bool {
	c.t.Helper()
	request := message{kind: kindFindNode, target: id, proof: c.ask(message{kind: kindFindNode}).grant}
	return slices.ContainsFunc(c.ask(request).nodes, func(x Contact) bool { return x.ID == id })
}

// No list without proof of the address, none for the proof of another address or
// another key, and nothing is stored.
func TestLiveProofOfAddress(t *testing.T) {
	l := newLiveNode(t, 0, nil)
	for i := range 5 {
		l.client(t, 10+i).join()
	}
	a, b := l.client(t, 1), l.client(t, 2)
	sameKey, sameAddr := l.clientAt(t, 1, b.conn), l.clientAt(t, 3, a.conn)
	challenge := a.ask(message{kind: kindFindNode})
	if challenge.kind != kindChallenge {
		t.Fatalf("without proof: %v", challenge.kind)
	}
	proof := challenge.grant
	if got := a.ask(message{kind: kindFindNode, proof: proof}); len(got.nodes) < 5 {
		t.Errorf("with proof: %v of %d nodes", got.kind, len(got.nodes))
	}
	rec := testRecord(t, 1, 1, 20)
	for name, thief := range map[string]*hostileClient{"from another address": sameKey, "by another key": sameAddr, "by another": b} {
		for _, m := range []message{
			{kind: kindFindNode, proof: proof}, {kind: kindFindProviders, proof: proof}, {kind: kindGetRecord, proof: proof},
			{kind: kindAddProvider, proof: proof, ttl: 60, keys: []stc.Hash{testKey(1)}}, {kind: kindPutRecord, proof: proof, ttl: 60, record: rec.bytes()},
		} {
			if got := thief.ask(m); got.kind != kindChallenge || len(got.nodes) > 0 {
				t.Errorf("%v %s: %v of %d nodes", m.kind, name, got.kind, len(got.nodes))
			}
		}
	}
	if s := l.Stats(); s.Records != 0 || s.SignedRecords != 0 {
		t.Errorf("%d provider records and %d signed ones are stored", s.Records, s.SignedRecords)
	}
}

// Answers that nobody asked for change nothing, whatever they say.
func TestLiveUnsolicitedAnswers(t *testing.T) {
	l := newLiveNode(t, 0, nil)
	a, other := l.client(t, 1), l.client(t, 2)
	rec := testRecord(t, 1, 1, 20)
	for tx := range uint64(50) {
		for _, m := range []message{
			{kind: kindPing | kindAnswer, tx: tx, grant: cookie{1}}, {kind: kindChallenge, tx: tx, grant: cookie{1}},
			{kind: kindFindNode | kindAnswer, tx: tx, nodes: []Contact{other.contact()}},
			{kind: kindFindProviders | kindAnswer, tx: tx, provides: true, providers: []Contact{other.contact()}},
			{kind: kindGetRecord | kindAnswer, tx: tx, record: rec.bytes(), nodes: []Contact{other.contact()}},
			{kind: kindAddProvider | kindAnswer, tx: tx, stored: 1}, {kind: kindPutRecord | kindAnswer, tx: tx},
		} {
			a.send(m)
		}
		if got := a.answers(); len(got) != 0 {
			t.Fatalf("is answered by %v", got[0].kind)
		}
	}
	if s := l.Stats(); len(l.Contacts()) != 0 || s.Table.Candidates != 0 || s.SignedRecords != 0 || s.Dropped[DropUnsolicited] != 350 {
		t.Errorf("%d nodes, %+v, dropped %v", len(l.Contacts()), s.Table, s.Dropped)
	}
}

// The right request ID is worth nothing from another address or under another
// key; from the node that was asked it is.
func TestLiveAnswersOfOthers(t *testing.T) {
	l := newLiveNode(t, 0, nil)
	a, observer := l.client(t, 1), l.client(t, 9)
	pong := message{kind: kindPing | kindAnswer, tx: a.pinged().tx}
	elsewhere, otherKey := l.client(t, 2), l.clientAt(t, 2, a.conn)
	moved := l.clientAt(t, 1, elsewhere.conn) // the right key, from another address
	for name, c := range map[string]*hostileClient{"another address": moved, "another key": otherKey, "both": elsewhere} {
		c.send(pong)
		c.answers()
		if observer.knows(a.id.NodeID()) || observer.knows(c.id.NodeID()) || l.holds(a.id.NodeID()) || l.holds(c.id.NodeID()) {
			t.Errorf("an answer of %s counts", name)
		}
	}
	a.send(pong)
	a.answers()
	if !observer.knows(a.id.NodeID()) {
		t.Error("the right answer does not count")
	}
}

// Who sends and never answers, as a node behind a NAT that lets nothing in, is
// told about to nobody, however often it asks.
func TestLiveOneWayNATEntersNoTable(t *testing.T) {
	l := newLiveNode(t, 0, nil)
	a, observer := l.client(t, 1), l.client(t, 9)
	full := message{kind: kindFindNode, tx: 2}
	full.pad = maxMessage - full.size()
	for range 100 {
		a.send(full)
		a.send(message{kind: kindPing, tx: 3, pad: 300, grant: cookie{1}})
		a.send(message{kind: kindAddProvider, tx: 4, ttl: 60, keys: []stc.Hash{testKey(1)}})
	}
	a.answers()
	if observer.knows(a.id.NodeID()) || l.holds(a.id.NodeID()) {
		t.Error("it is in the table")
	}
	if s := l.Stats(); s.Records != 0 {
		t.Errorf("%d records", s.Records)
	}
}

// A node that is restarted under another ID at its address takes the place of the
// old one, once it has proven that, and the old one is told about no more.
func TestLiveChangedIDBehindAnAddress(t *testing.T) {
	l := newLiveNode(t, 0, func(cfg *Config) { cfg.CheckInterval = 100 * time.Millisecond })
	old, observer := l.client(t, 1), l.client(t, 9)
	old.join()
	if !observer.knows(old.id.NodeID()) {
		t.Fatal("the node is not in the table")
	}
	changed := l.clientAt(t, 2, old.conn)
	changed.send(message{kind: kindPing, tx: 1, pad: 300})
	if observer.knows(changed.id.NodeID()) {
		t.Error("the new ID counts before it is proven")
	}
	// It answers what it can open: nothing that is for its old ID.
	deadline := time.Now().Add(time.Minute)
	for observer.knows(old.id.NodeID()) || !observer.knows(changed.id.NodeID()) {
		if time.Now().After(deadline) {
			t.Fatalf("the table holds %v", l.Contacts())
		}
		changed.send(message{kind: kindPing, tx: 1, pad: 300})
		for _, m := range changed.answers() {
			if m.kind == kindPing {
				changed.send(message{kind: kindPing | kindAnswer, tx: m.tx})
			}
		}
	}
}

// A request that comes twice is answered twice by the same bytes, under the seal,
// whose nonce is random.
func TestLiveDuplicates(t *testing.T) {
	l := newLiveNode(t, 0, nil)
	for i := range 8 {
		l.client(t, 10+i).join()
	}
	a := l.client(t, 1)
	proof := a.ask(message{kind: kindFindNode}).grant
	rec := testRecord(t, 1, 7, 100)
	for _, m := range []message{
		{kind: kindPing, proof: proof}, {kind: kindFindNode, proof: proof, target: testKey(3)}, {kind: kindFindNode, target: testKey(3)},
		{kind: kindPutRecord, proof: proof, ttl: 60, record: rec.bytes()}, {kind: kindGetRecord, proof: proof, target: stc.Hash(rec.Name())},
		{kind: kindAddProvider, proof: proof, ttl: 60, keys: []stc.Hash{testKey(1)}}, {kind: kindFindProviders, proof: proof, target: testKey(1)},
	} {
		m.tx = 77
		b := a.seal(t, l.id.PublicKey(), m)
		a.sendRaw(b)
		a.sendRaw(b)
		got := slices.DeleteFunc(a.answers(), func(m message) bool { return !m.kind.isAnswer() })
		if len(got) != 2 || !bytes.Equal(got[0].append(nil), got[1].append(nil)) {
			t.Errorf("%v twice: %d answers, %+v", m.kind, len(got), got)
		}
	}
	if s := l.Stats(); s.Records != 1 || s.SignedRecords != 1 {
		t.Errorf("%d provider records, %d signed ones", s.Records, s.SignedRecords)
	}
}

// liveMessages are messages of all kinds.
func liveMessages(t testing.TB) (all []message) {
	node := contactOf(1, "127.0.0.9:4700")
	rec := testRecord(t, 1, 1, 50).bytes()
	for _, m := range []message{
		{kind: kindPing}, {kind: kindFindNode}, {kind: kindFindProviders}, {kind: kindAddProvider, ttl: 60, keys: []stc.Hash{{1}, {2}}},
		{kind: kindDialBack}, {kind: kindDial, nodes: []Contact{node}}, {kind: kindGetRecord}, {kind: kindPutRecord, ttl: 60, record: rec},
	} {
		all = append(all, m)
		m.proof, m.grant, m.client = cookie{1}, cookie{2}, true
		all = append(all, m)
		answer := message{kind: m.kind | kindAnswer, grant: cookie{1}}
		if answer.kind == kindFindNode|kindAnswer || answer.kind == kindGetRecord|kindAnswer {
			answer.nodes = []Contact{node}
		}
		all = append(all, answer)
	}
	return all
}

// Everything cut at every byte, below the seal and as a datagram, and everything
// longer than it may be: unanswered, or no more than a challenge, and survived.
func TestLiveTruncatedAndOversized(t *testing.T) {
	l := newLiveNode(t, 0, nil)
	a := l.client(t, 1)
	for _, m := range liveMessages(t) {
		plain := m.append(nil)
		for n := range plain {
			a.sendRaw(a.sealBytes(t, l.id.PublicKey(), plain[:n]))
		}
		sealed := a.seal(t, l.id.PublicKey(), m)
		for n := range sealed {
			a.sendRaw(sealed[:n])
		}
		for _, extra := range []int{1, 100, maxMessage, 1500, 9000, 60000} {
			a.sendRaw(append(slices.Clone(sealed), make([]byte, extra)...))
			if long := append(slices.Clone(plain), bytes.Repeat([]byte{1}, extra)...); len(long) < 60000 {
				a.sendRaw(a.sealBytes(t, l.id.PublicKey(), long))
			}
		}
		if !m.kind.isAnswer() { // padded to more than a datagram
			a.sendRaw(a.sealBytes(t, l.id.PublicKey(), append(slices.Clone(plain), make([]byte, maxMessage+1-len(plain))...)))
		}
		if got := a.answers(); len(got) != 0 {
			t.Errorf("%v cut or too long is answered by %v", m.kind, got[0].kind)
		}
	}
	if s := l.Stats(); len(l.Contacts()) != 0 || s.Records != 0 || s.SignedRecords != 0 {
		t.Errorf("%d nodes, %d and %d records", len(l.Contacts()), s.Records, s.SignedRecords)
	}
}

// What the fuzzers of the parsers begin with, and what chance makes of it, as
// datagrams and as messages under a valid seal, from an address that has proven
// itself: the node lives, and serves as before.
func TestLiveFuzz(t *testing.T) {
	l := newLiveNode(t, 0, nil)
	for i := range 5 {
		l.client(t, 10+i).join()
	}
	a := l.client(t, 1)
	proof := a.ask(message{kind: kindFindNode}).grant
	rng := rand.New(rand.NewPCG(8, testSeed(t)))
	for round := range 400 {
		for _, m := range liveMessages(t) {
			if !m.kind.isAnswer() && rng.IntN(2) == 0 {
				m.proof = proof
			}
			m.tx = rng.Uint64()
			plain := m.append(nil)
			for range 1 + rng.IntN(4) {
				switch i := rng.IntN(len(plain)); rng.IntN(4) {
				case 0:
					plain[i] ^= 1 << rng.IntN(8)
				case 1:
					plain = append(plain[:i:i], plain[min(len(plain), i+rng.IntN(40)):]...)
				case 2:
					plain = slices.Insert(plain, i, plain[:rng.IntN(i+1)]...)
				case 3:
					plain[i] = byte(rng.Uint32())
				}
				if len(plain) == 0 {
					plain = []byte{protocolVersion}
				}
			}
			if rng.IntN(8) == 0 {
				a.sendRaw(plain)
			} else {
				a.sendRaw(a.sealBytes(t, l.id.PublicKey(), plain))
			}
		}
		if round%20 == 0 {
			a.answers()
		}
	}
	a.answers() // what is still in the socket would leave no room for the answer
	if got := a.ask(message{kind: kindFindNode, proof: proof}); len(got.nodes) < 5 {
		t.Errorf("afterwards: %v of %d nodes", got.kind, len(got.nodes))
	}
}
