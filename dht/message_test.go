package dht

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

// keyOf is a key that looks like one; nothing is sealed to it.
func keyOf(b byte) stc.PublicKey { return stc.PublicKey(bytes.Repeat([]byte{b & 0x7F}, 32)) }

func contactOf(b byte, addr string) Contact {
	return NewContact(keyOf(b), netip.MustParseAddrPort(addr))
}

// The bytes of each message, as drawn in the package documentation.
func TestMessageBytes(t *testing.T) {
	proof, grant := cookie(bytes.Repeat([]byte{0xAA}, 16)), cookie(bytes.Repeat([]byte{0xBB}, 16))
	target := stc.Hash(bytes.Repeat([]byte{0x11}, 32))
	const tx = "0102030405060708"
	aa, bb, t11 := strings.Repeat("aa", 16), strings.Repeat("bb", 16), strings.Repeat("11", 32)
	key22, key33 := strings.Repeat("22", 32), strings.Repeat("33", 32)
	four, six := contactOf(0x22, "10.1.2.3:4700"), contactOf(0x33, "[2001:db8::1]:4701")
	onlyWebSocket := contactOf(0x22, "10.1.2.4:0")
	onlyWebSocket.WebSocket = 4780
	// The shape is what counts here; the signature is not looked at.
	recordHex := key22 + "0000000000000003" + "0002" + "abcd" + strings.Repeat("44", 64)
	record, err := hex.DecodeString(recordHex)
	if err != nil {
		t.Fatal(err)
	}
	four22, six33 := "04"+"0a010203"+"125c"+key22, "06"+"20010db8000000000000000000000001"+"125d"+key33
	for _, test := range []struct {
		m    message
		want string
	}{
		{message{kind: kindPing}, "010100" + tx},
		{message{kind: kindPing, client: true, proof: proof, grant: grant}, "010107" + tx + aa + bb},
		{message{kind: kindPing, pad: 3}, "010100" + tx + "000000"},
		{message{kind: kindPing | kindAnswer, grant: grant}, "018104" + tx + bb},
		{message{kind: kindFindNode, proof: proof, target: target}, "010202" + tx + aa + t11},
		{message{kind: kindFindProviders, target: target}, "010300" + tx + t11},
		{message{kind: kindAddProvider, ttl: 172800, keys: []stc.Hash{target, target}}, "010400" + tx + "0002a300" + "0000" + "02" + t11 + t11},
		{message{kind: kindAddProvider, ttl: 1, webSocket: 4780, keys: []stc.Hash{target}}, "010400" + tx + "00000001" + "12ac" + "01" + t11},
		{message{kind: kindChallenge, grant: grant}, "018004" + tx + bb},
		{message{kind: kindFindNode | kindAnswer, nodes: []Contact{four, six}}, "018200" + tx + "02" + four22 + six33},
		{message{kind: kindFindProviders | kindAnswer, provides: true, providers: []Contact{six, onlyWebSocket}, nodes: []Contact{four}},
			"018308" + tx + "02" + six33 + "0000" + "04" + "0a010204" + "0000" + key22 + "12ac" + "01" + four22},
		{message{kind: kindAddProvider | kindAnswer, stored: 5}, "018400" + tx + "00000005"},
		{message{kind: kindDialBack}, "010500" + tx},
		{message{kind: kindDialBack | kindAnswer}, "018500" + tx + "00"},
		{message{kind: kindDialBack | kindAnswer, nodes: []Contact{four}}, "018500" + tx + "01" + four22},
		{message{kind: kindDial, nodes: []Contact{six}}, "010600" + tx + six33},
		{message{kind: kindDial | kindAnswer}, "018600" + tx},
		{message{kind: kindGetRecord, target: target, above: 0x1122}, "010700" + tx + t11 + "0000000000001122"},
		{message{kind: kindGetRecord | kindAnswer, nodes: []Contact{four}}, "018700" + tx + "00" + "01" + four22},
		{message{kind: kindGetRecord | kindAnswer, record: record, nodes: []Contact{four}}, "018700" + tx + "01" + recordHex + "01" + four22},
		{message{kind: kindGetRecord | kindAnswer, record: record, cut: true}, "018700" + tx + "02" + recordHex + "00"},
		{message{kind: kindPutRecord, ttl: 172800, record: record}, "010800" + tx + "0002a300" + recordHex},
		{message{kind: kindPutRecord | kindAnswer, code: putFull}, "018800" + tx + "02"},
	} {
		test.m.tx = 0x0102030405060708
		got := test.m.append(nil)
		if hex.EncodeToString(got) != test.want {
			t.Errorf("%v:\n got %x\nwant %s", test.m.kind, got, test.want)
		}
		if test.m.size() != len(got) {
			t.Errorf("%v: size() = %d, is %d", test.m.kind, test.m.size(), len(got))
		}
		back, err := decodeMessage(got)
		if err != nil || !reflect.DeepEqual(back, test.m) {
			t.Errorf("%v: decoded as %+v, %v", test.m.kind, back, err)
		}
	}
}

// The sizes that the padding rules and the answers' room are made of.
func TestSizes(t *testing.T) {
	if sealOverhead != 100 || maxMessage != 1100 || barePing != 127 {
		t.Errorf("overhead %d, message %d, ping %d", sealOverhead, maxMessage, barePing)
	}
	// 20 IPv6 nodes fit into an answer.
	m := message{kind: kindFindNode | kindAnswer, grant: cookie{1}}
	for range 20 {
		m.nodes = append(m.nodes, contactOf(1, "[2001:db8::1]:1"))
	}
	if m.size() > maxMessage {
		t.Errorf("answer of 20 nodes is %d bytes", m.size())
	}
	full := message{kind: kindAddProvider, proof: cookie{1}, grant: cookie{1}, keys: make([]stc.Hash, maxKeys)}
	if full.size() > maxMessage {
		t.Errorf("ADD_PROVIDER of %d keys is %d bytes", maxKeys, full.size())
	}
	put := message{kind: kindPutRecord, proof: cookie{1}, grant: cookie{1}, record: Record{seq: 1, value: strings.Repeat("v", MaxRecordValue)}.bytes()}
	get := message{kind: kindGetRecord | kindAnswer, grant: cookie{1}, record: put.record, nodes: []Contact{contactOf(1, "[2001:db8::1]:1")}}
	if put.size() > maxMessage || get.size() > maxMessage {
		t.Errorf("the longest record makes a PUT_RECORD of %d bytes and an answer of %d", put.size(), get.size())
	}
	if h := frame.AppendHeader(nil, frame.Header{Type: frame.TypeDHT}); hex.EncodeToString(h) != "060000000000000000000000" {
		t.Errorf("header %x", h)
	}
}

func TestDecodeRefuses(t *testing.T) {
	const tx = "0102030405060708"
	zero16, t11 := strings.Repeat("00", 16), strings.Repeat("11", 32)
	node := "04" + "0a010203" + "125c" + strings.Repeat("22", 32)
	record := strings.Repeat("22", 32) + "0000000000000003" + "0002" + "abcd" + strings.Repeat("44", 64)
	for name, in := range map[string]string{
		"nothing":                    "",
		"short":                      "010100" + tx[:14],
		"version 0":                  "000100" + tx,
		"version 2":                  "020100" + tx,
		"kind 0":                     "010000" + tx,
		"kind 9":                     "010900" + tx,
		"answer 9":                   "018900" + tx,
		"above cut":                  "010700" + tx + t11 + "00000000000000",
		"record cut":                 "010800" + tx + "00000001" + record[:len(record)-2],
		"record of number 0":         "010800" + tx + "00000001" + record[:64] + "0000000000000000" + record[80:],
		"record of 901 bytes":        "010800" + tx + "00000001" + record[:80] + "0385" + strings.Repeat("00", 901+64),
		"record without a signature": "010800" + tx + "00000001" + record[:80] + "0042" + record[84:],
		"record without a ttl":       "010800" + tx + "0000",
		"record of state 3":          "018700" + tx + "03" + record + "00",
		"no record and one":          "018700" + tx + "00" + record + "00",
		"record without nodes":       "018700" + tx + "01" + record,
		"unknown code":               "018800" + tx + "04",
		"code cut":                   "018800" + tx,
		"dial nobody":                "010600" + tx,
		"dial two":                   "010600" + tx + node + node,
		"dialled by three":           "018500" + tx + "03" + node + node + node,
		"unknown flag":               "010110" + tx,
		"provides on a request":      "010308" + tx + t11,
		"provides on another answer": "018208" + tx + "00",
		"proof cut":                  "010102" + tx + "aabb",
		"zero proof":                 "010102" + tx + zero16,
		"zero grant":                 "010104" + tx + zero16,
		"target cut":                 "010200" + tx + t11[:62],
		"padding not zero":           "010200" + tx + t11 + "0001",
		"no keys":                    "010400" + tx + "00000001" + "0000" + "00",
		"33 keys":                    "010400" + tx + "00000001" + "0000" + "21" + strings.Repeat(t11, 33),
		"keys cut":                   "010400" + tx + "00000001" + "0000" + "02" + t11,
		"ttl cut":                    "010400" + tx + "0000",
		"bits cut":                   "018400" + tx + "0000",
		"answer padded":              "018100" + tx + "00",
		"challenge padded":           "018000" + tx + "00",
		"count without nodes":        "018200" + tx + "01",
		"node cut":                   "018200" + tx + "01" + node[:len(node)-2],
		"more nodes than counted":    "018200" + tx + "01" + node + node,
		"second list missing":        "018300" + tx + "01" + node,
		"provider of no port":        "018300" + tx + "01" + "040a010203" + "0000" + node[14:] + "0000" + "00",
		"family 5":                   "018200" + tx + "01" + "05" + node[2:],
		"port 0":                     "018200" + tx + "01" + "040a010203" + "0000" + node[14:],
		"unspecified address":        "018200" + tx + "01" + "0400000000" + node[10:],
		"multicast address":          "018200" + tx + "01" + "04e0000001" + node[10:],
		"IPv4 in IPv6 clothes":       "018200" + tx + "01" + "06" + strings.Repeat("00", 10) + "ffff0a010203" + node[10:],
		"zero key":                   "018200" + tx + "01" + node[:14] + strings.Repeat("00", 32),
		"key with sign bit":          "018200" + tx + "01" + node[:14] + strings.Repeat("22", 31) + "a2",
		"too long":                   "010100" + tx + strings.Repeat("00", maxMessage),
	} {
		b, err := hex.DecodeString(in)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if m, err := decodeMessage(b); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}

func TestFitting(t *testing.T) {
	cs := []Contact{contactOf(1, "10.0.0.1:1"), contactOf(2, "[fd00::1]:1"), contactOf(3, "10.0.0.3:1")}
	for _, test := range []struct{ space, want int }{{-5, 0}, {0, 0}, {38, 0}, {39, 1}, {89, 1}, {90, 2}, {128, 2}, {129, 3}, {500, 3}} {
		if got := len(fitting(cs, test.space, nodeSize)); got != test.want {
			t.Errorf("%d fit into %d bytes, want %d", got, test.space, test.want)
		}
	}
}

var anyContact = rapid.Custom(func(t *rapid.T) Contact {
	addr := netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.ByteRange(1, 200), 4, 4).Draw(t, "ip")))
	if rapid.Bool().Draw(t, "six") {
		addr = netip.AddrFrom16([16]byte(append([]byte{0x20}, rapid.SliceOfN(rapid.Byte(), 15, 15).Draw(t, "ip6")...)))
	}
	return NewContact(keyOf(rapid.ByteRange(1, 127).Draw(t, "key")), netip.AddrPortFrom(addr, rapid.Uint16Min(1).Draw(t, "port")))
})

// anyRecord has the shape of a record and no valid signature.
var anyRecord = rapid.Custom(func(t *rapid.T) []byte {
	r := Record{key: keyOf(1), seq: rapid.Uint64Min(1).Draw(t, "seq"), value: strings.Repeat("v", rapid.IntRange(0, MaxRecordValue).Draw(t, "length"))}
	return r.bytes()
})

func TestMessageRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := message{
			kind:   rapid.SampledFrom([]kind{0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88}).Draw(t, "kind"),
			client: rapid.Bool().Draw(t, "client"),
			tx:     rapid.Uint64().Draw(t, "tx"),
		}
		if rapid.Bool().Draw(t, "proof") {
			m.proof = cookie{rapid.ByteMin(1).Draw(t, "c")}
		}
		if rapid.Bool().Draw(t, "grant") {
			m.grant = cookie{15: rapid.ByteMin(1).Draw(t, "c")}
		}
		switch m.kind {
		case kindFindNode, kindFindProviders:
			m.target = anyHash.Draw(t, "target")
		case kindAddProvider:
			m.ttl = rapid.Uint32().Draw(t, "ttl")
			m.webSocket = rapid.Uint16().Draw(t, "ws")
			m.keys = rapid.SliceOfN(anyHash, 1, maxKeys).Draw(t, "keys")
		case kindAddProvider | kindAnswer:
			m.stored = rapid.Uint32().Draw(t, "stored")
		case kindFindProviders | kindAnswer:
			m.provides = rapid.Bool().Draw(t, "provides")
			m.providers = rapid.SliceOfN(anyContact, 0, 10).Draw(t, "providers")
			for i := range m.providers {
				m.providers[i].WebSocket = rapid.Uint16().Draw(t, "ws")
			}
			m.nodes = rapid.SliceOfN(anyContact, 0, 10).Draw(t, "nodes")
		case kindGetRecord:
			m.target = anyHash.Draw(t, "target")
			m.above = rapid.Uint64().Draw(t, "above")
		case kindPutRecord:
			m.ttl = rapid.Uint32().Draw(t, "ttl")
			m.record = anyRecord.Draw(t, "record")
		case kindPutRecord | kindAnswer:
			m.code = putCode(rapid.ByteMax(byte(putCodes-1)).Draw(t, "code"))
		case kindGetRecord | kindAnswer:
			if rapid.Bool().Draw(t, "found") {
				m.record, m.cut = anyRecord.Draw(t, "record"), rapid.Bool().Draw(t, "cut")
			}
			m.nodes = rapid.SliceOfN(anyContact, 0, 1).Draw(t, "nodes")
		case kindDial:
			m.nodes = rapid.SliceOfN(anyContact, 1, 1).Draw(t, "nodes")
		case kindDialBack | kindAnswer:
			m.nodes = rapid.SliceOfN(anyContact, 0, 2).Draw(t, "nodes")
		case kindFindNode | kindAnswer:
			m.nodes = rapid.SliceOfN(anyContact, 0, 20).Draw(t, "nodes")
		}
		if !m.kind.isAnswer() {
			m.pad = rapid.IntRange(0, maxMessage-m.size()).Draw(t, "pad")
		}
		b := m.append(nil)
		back, err := decodeMessage(b)
		if err != nil || len(b) != m.size() {
			t.Fatalf("%v of %d bytes, size() = %d: %v", m.kind, len(b), m.size(), err)
		}
		if again := back.append(nil); !bytes.Equal(again, b) {
			t.Fatalf("encoded again:\n%x\n%x", again, b)
		}
	})
}

// Whatever is accepted is the one encoding of what it means, and nothing
// panics or takes more memory than a few times its input.
func FuzzDecodeMessage(f *testing.F) {
	for _, m := range []message{
		{kind: kindPing, proof: cookie{1}},
		{kind: kindFindNode, target: stc.Sum(nil), pad: 7},
		{kind: kindFindProviders, grant: cookie{2}},
		{kind: kindAddProvider, ttl: 5, keys: []stc.Hash{stc.Sum(nil)}},
		{kind: kindChallenge, grant: cookie{3}},
		{kind: kindFindNode | kindAnswer, nodes: []Contact{contactOf(1, "10.0.0.1:1")}},
		{kind: kindFindProviders | kindAnswer, provides: true, providers: []Contact{contactOf(1, "[fd00::1]:1")}},
		{kind: kindAddProvider | kindAnswer, stored: 1},
		{kind: kindDialBack, pad: 40},
		{kind: kindGetRecord, target: stc.Sum(nil), above: 3, pad: 9},
		{kind: kindGetRecord | kindAnswer, record: Record{seq: 1, value: "v"}.bytes(), nodes: []Contact{contactOf(1, "10.0.0.1:1")}},
		{kind: kindPutRecord, ttl: 5, record: Record{seq: 1}.bytes()},
		{kind: kindPutRecord | kindAnswer, code: putStale},
		{kind: kindDialBack | kindAnswer, nodes: []Contact{contactOf(1, "10.0.0.1:1")}},
		{kind: kindDial, nodes: []Contact{contactOf(1, "[fd00::1]:1")}},
	} {
		f.Add(m.append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMessage(b)
		if err != nil {
			if !errors.Is(err, errMalformed) {
				t.Errorf("error %v", err)
			}
			return
		}
		if again := m.append(nil); !bytes.Equal(again, b) {
			t.Errorf("not canonical:\n%x\n%x", b, again)
		}
		if m.size() != len(b) {
			t.Errorf("size() = %d of %d bytes", m.size(), len(b))
		}
		for _, c := range m.nodes {
			if c.check() != nil {
				t.Errorf("node %+v", c)
			}
		}
		for _, c := range m.providers {
			if c.check() != nil && (c.WebSocket == 0 || !usableIP(c.Addr.Addr())) {
				t.Errorf("provider %+v", c)
			}
		}
	})
}
