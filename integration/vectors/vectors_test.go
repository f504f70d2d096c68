package vectors

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"testing/cryptotest"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

var update = flag.Bool("update", false, "write docs/vectors.json")

// section is a step of the protocol with its inputs and what comes out, in
// hexadecimal digits unless the name says otherwise.
type section struct {
	Title  string  `json:"title"`
	Values []value `json:"values"`
}

type value struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func (s *section) add(name string, b []byte) {
	s.Values = append(s.Values, value{name, hex.EncodeToString(b)})
}

func count(from byte) []byte {
	b := make([]byte, 32)
	for i := range b {
		b[i] = from + byte(i)
	}
	return b
}

// drawn is what the packages draw first from a random source of this seed.
func drawn(t *testing.T, seed uint64, n int) []byte {
	cryptotest.SetGlobalRandom(t, seed)
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// Seeds of the random source under which the packages make the handshake's
// ephemeral keys and the datagram's nonce, so that they are these.
const (
	seedInitiator = 1
	seedResponder = 2
	seedDatagram  = 3
)

// TestVectors computes the vectors by the reference in this package, compares
// them with docs/vectors.json, and checks that the packages of the node make
// the same bytes of the same inputs. With -update it writes the file.
func TestVectors(t *testing.T) {
	nodeSeeds := [2][]byte{count(0x00), count(0x20)}
	shared := count(0x40)
	a, b, net := newNode(nodeSeeds[0]), newNode(nodeSeeds[1]), newNetwork(shared)
	var out []*section
	begin := func(title string) *section {
		s := &section{Title: title}
		out = append(out, s)
		return s
	}

	for i, n := range []node{a, b} {
		s := begin([]string{"identity of the initiator (section 2)", "identity of the responder (section 2)"}[i])
		s.add("node seed", nodeSeeds[i])
		s.add("node PRK", extract("stt v1 node seed", nodeSeeds[i]))
		s.add("counter", be32(n.counter))
		s.add("Ed25519 seed", n.edSeed)
		s.add("public key", n.public)
		s.add("node ID", n.id)
		s.add("static X25519 private key", n.static.Bytes())
		s.add("static X25519 public key", n.static.PublicKey().Bytes())
	}
	s := begin("network (section 2)")
	s.add("shared seed", shared)
	s.add("seed PRK", extract("stt v1 shared seed", shared))
	s.add("PSK", net.psk)
	s.add("outer key of datagrams", net.outer)
	s.add("pair secret", net.pair)
	s.add("inner key of datagrams between both", net.pairKey(a, b))

	// The handshake, section 4.
	ephemeral := [2][]byte{drawn(t, seedInitiator, 32), drawn(t, seedResponder, 32)}
	nonces := [2][]byte{count(0x60), count(0x80)}
	handshakeID := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	cookie := []byte("a cookie")
	params := cat(param(1, varint(1452)), param(2, varint(262144)), param(3, varint(16384)), param(4, varint(1024)), param(5, varint(30000)), param(6, varint(25)))
	tokens := [2][]byte{count(0xa0)[:16], count(0xb0)[:16]}
	payloads := [3][]byte{
		cat([]byte{1}, nonces[0], []byte{1, 2}),
		cat([]byte{1}, nonces[1], []byte{2}, params),
		cat(params, param(7, tokens[0])),
	}
	hi, hr := newNoise(true, a, net, ephemeral[0]), newNoise(false, b, net, ephemeral[1])
	m1, _, _, err := hi.WriteMessage(nil, payloads[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err = hr.ReadMessage(nil, m1); err != nil {
		t.Fatal(err)
	}
	m2, _, _, err := hr.WriteMessage(nil, payloads[1])
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err = hi.ReadMessage(nil, m2); err != nil {
		t.Fatal(err)
	}
	m3, c1, c2, err := hi.WriteMessage(nil, payloads[2])
	if err != nil {
		t.Fatal(err)
	}
	secretI, secretR := traffic(hi, c1, c2)
	id := xor(nonces[0], nonces[1], a.id, b.id)

	s = begin("handshake (section 4)")
	s.add("handshake ID", handshakeID)
	s.add("ephemeral private key of the initiator", ephemeral[0])
	s.add("ephemeral private key of the responder", ephemeral[1])
	s.add("nonce of the initiator", nonces[0])
	s.add("nonce of the responder", nonces[1])
	s.add("payload 1: version, nonce, suites 1 and 2", payloads[0])
	s.add("HELLO without a cookie, the whole datagram", helloFrame(handshakeID, nil, m1))
	s.add("RETRY", cat(header(1, 0, handshakeID, 0, 0), []byte{3}, cookie))
	s.add("HELLO with that cookie, the whole datagram", helloFrame(handshakeID, cookie, m1))
	s.add("payload 2: version, nonce, suite 2, parameters", payloads[1])
	s.add("RESPONSE", cat(header(1, 0, handshakeID, 0, 0), []byte{2}, m2))
	s.add("payload 3: parameters, token of UNKNOWN", payloads[2])
	s.add("AUTH_PROOF", cat(header(5, 0, handshakeID, 0, 0), []byte{1}, m3))
	s.add("Noise handshake hash", hi.ChannelBinding())
	k1, k2 := c1.UnsafeKey(), c2.UnsafeKey()
	s.add("k1 of Split", k1[:])
	s.add("k2 of Split", k2[:])
	s.add("session ID", id)

	keys := map[string]packetKeys{}
	for i, secret := range [][]byte{secretI, secretR} {
		who := []string{"initiator", "responder"}[i]
		s := begin("keys of the " + who + "'s direction (sections 2 and 3)")
		for epoch := range uint32(2) {
			e := []string{"epoch 0", "epoch 1"}[epoch]
			if epoch == 1 {
				secret = ratchet(secret)
			}
			s.add("traffic secret, "+e, secret)
			for suite := byte(1); suite <= 2; suite++ {
				k := newPacketKeys(secret, suite, epoch)
				n := []string{", suite 1, ", ", suite 2, "}[suite-1]
				s.add("packet key"+n+e, k.key)
				s.add("packet IV"+n+e, k.iv)
				keys[who+n+e] = k
			}
		}
	}

	ack := cat(varint(7), varint(1000), varint(1), varint(2), varint(0), varint(3)) // 5–7 and 0–3
	frames := begin("sealed frames (sections 3 to 6)")
	seal := func(name, key string, typ byte, stream, seq uint64, payload []byte) {
		k := keys[key]
		frames.add(name+": payload", payload)
		frames.add(name+": frame", k.seal(typ, id, stream, seq, payload))
	}
	const toR, toI, toI1, toR1, aes = "initiator, suite 2, epoch 0", "responder, suite 2, epoch 0", "responder, suite 2, epoch 1", "initiator, suite 2, epoch 1", "initiator, suite 1, epoch 0"
	seal("FINAL, responder, sequence 0, address 192.0.2.1:4700", toI, 5, 0, 0, cat([]byte{2, 4, 192, 0, 2, 1}, be16(4700), tokens[1]))
	seal("DATA, initiator, stream 1, sequence 0, offset 0, \"hello\" and FIN", toR, 2, 1, 0, cat([]byte{1}, varint(0), []byte("hello")))
	seal("the same with suite 1", aes, 2, 1, 0, cat([]byte{1}, varint(0), []byte("hello")))
	seal("DATA with ACK of 0–3 and 5–7 after 1 ms, responder, stream 1, sequence 100, offset 70000", toI, 2, 1, 100, cat([]byte{2}, ack, varint(70000), []byte("data")))
	seal("CONTROL with ACK of the same and MAX_DATA 1000000, initiator, sequence 20000", toR, 3, 0, 20000, cat([]byte{2}, ack, []byte{3}, varint(1000000)))
	seal("CONTROL with PING and 3 PADDING, responder, epoch 1, sequence 70000", toI1, 3, 0, 70000, []byte{1, 0, 0, 0})
	seal("CONTROL with CLOSE 0x07 \"the node stops\", initiator, epoch 1, sequence 20001", toR1, 3, 0, 20001, cat([]byte{6}, varint(7), varint(14), []byte("the node stops")))
	seal("STREAM_CONTROL of stream 65535, initiator, sequence 5: MAX_STREAM_DATA 300000, RESET 256 at 5, STOP_SENDING 257 of base 0", toR, 4, 65535, 5,
		cat([]byte{1}, varint(300000), []byte{2}, varint(256), varint(5), []byte{3}, varint(257), varint(0)))
	seal("frame of the application 0x80, responder, stream 3, sequence 6, whole, offset 0", toI, 0x80, 3, 6, cat([]byte{1}, varint(0), []byte("an event")))

	s = begin("datagram of the DHT from initiator to responder (section 7)")
	nonce := drawn(t, seedDatagram, 24)
	message := cat([]byte{1, 1, 0}, handshakeID)
	s.add("nonce", nonce)
	s.add("message: PING, transaction 0102030405060708", message)
	s.add("datagram", datagram(net, a, b, nonce, message))

	nameVectors(t, begin("name and signed record (sections 2 and 7)"), nodeSeeds[0])

	contentVectors(t, begin("content (section 8)"), shared, net)

	streamVectors(t, begin("stream of segments (section 12)"), shared)
	compare(t, out)
	checkIdentity(t, nodeSeeds, []node{a, b})
	checkHandshake(t, nodeSeeds, shared, payloads, [][]byte{m1, m2, m3}, secretI, secretR, keys)
	checkDatagram(t, nodeSeeds, shared, message, datagram(net, a, b, nonce, message))
}

// compare checks the file, or writes it.
func compare(t *testing.T, out []*section) {
	t.Helper()
	got, err := json.MarshalIndent(out, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	path := filepath.Join("..", "..", "docs", "vectors.json")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/vectors.json is not what the protocol says; -update writes it anew, and git diff shows the difference")
	}
}

func identity(t *testing.T, seed []byte) *stc.Identity {
	t.Helper()
	id, err := stc.NewIdentity(seed)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func keyring(t *testing.T, seed []byte) *stc.Keyring {
	t.Helper()
	kr, err := stc.NewKeyring(seed)
	if err != nil {
		t.Fatal(err)
	}
	return kr
}

func checkIdentity(t *testing.T, seeds [2][]byte, nodes []node) {
	t.Helper()
	for i, n := range nodes {
		id := identity(t, seeds[i])
		public, nodeID := id.PublicKey(), id.NodeID()
		montgomery, err := public.X25519()
		if err != nil || !bytes.Equal(public[:], n.public) || !bytes.Equal(nodeID[:], n.id) || !bytes.Equal(montgomery[:], n.static.PublicKey().Bytes()) {
			t.Errorf("node %d: public key %x, node ID %x, X25519 %x, %v", i, public[:], nodeID[:], montgomery, err)
		}
	}
}

// checkHandshake lets package stc make the same three messages.
func checkHandshake(t *testing.T, seeds [2][]byte, shared []byte, payloads [3][]byte, messages [][]byte, secretI, secretR []byte, keys map[string]packetKeys) {
	t.Helper()
	hi, err := stc.NewInitiator(identity(t, seeds[0]), keyring(t, shared), identity(t, seeds[1]).NodeID(), []byte("stt/1"))
	if err != nil {
		t.Fatal(err)
	}
	hr, err := stc.NewResponder(identity(t, seeds[1]), keyring(t, shared), []byte("stt/1"))
	if err != nil {
		t.Fatal(err)
	}
	from, to, random := hi, hr, []uint64{seedInitiator, seedResponder, 0}
	for i, payload := range payloads {
		cryptotest.SetGlobalRandom(t, random[i])
		m, err := from.WriteMessage(nil, payload)
		if err != nil || !bytes.Equal(m, messages[i]) {
			t.Fatalf("message %d is %x, %v", i+1, m, err)
		}
		if got, err := to.ReadMessage(nil, m); err != nil || !bytes.Equal(got, payload) {
			t.Fatalf("payload %d is %x, %v", i+1, got, err)
		}
		from, to = to, from
	}
	i, r, err := hi.Secrets()
	if err != nil || !bytes.Equal(i[:], secretI) || !bytes.Equal(r[:], secretR) {
		t.Fatalf("traffic secrets are %x and %x, %v", i[:], r[:], err)
	}
	for who, secret := range map[string]*stc.Secret{"initiator": i, "responder": r} {
		for epoch, e := range []string{"epoch 0", "epoch 1"} {
			if epoch > 0 {
				secret.Ratchet()
			}
			for suite, n := range []string{", suite 1, ", ", suite 2, "} {
				k, err := secret.PacketKey(stc.Suite(suite+1), uint32(epoch))
				if err != nil {
					t.Fatal(err)
				}
				const stream, seq = 65535, 20000
				h := frame.AppendHeader(nil, frame.Header{Type: frame.TypeData, Epoch: uint8(epoch), Stream: stream, Seq: seq})
				got := k.Seal(bytes.Clone(h), payloads[0], h, seq)
				if want := keys[who+n+e].seal(2, make([]byte, 8), stream, seq, payloads[0]); !bytes.Equal(got, want) {
					t.Errorf("%s%s%s seals to %x, want %x", who, n, e, got, want)
				}
			}
		}
	}
}

func checkDatagram(t *testing.T, seeds [2][]byte, shared, message, want []byte) {
	t.Helper()
	header := frame.AppendHeader(nil, frame.Header{Type: frame.TypeDHT})
	sealer := stc.NewDatagramSealer(identity(t, seeds[0]), keyring(t, shared), 0)
	to := identity(t, seeds[1])
	cryptotest.SetGlobalRandom(t, seedDatagram)
	got, err := sealer.Seal(bytes.Clone(header), to.PublicKey(), header, message)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("datagram is %x, %v", got, err)
	}
	opener := stc.NewDatagramSealer(to, keyring(t, shared), 0)
	opened, from, err := opener.Open(nil, header, want[len(header):])
	if err != nil || !bytes.Equal(opened, message) || from != identity(t, seeds[0]).PublicKey() {
		t.Errorf("opens to %x from %v, %v", opened, from, err)
	}
}
