package dht

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/seigr/sttnode/stc"
)

// No input makes the machine panic, answer an unproven address with more than
// it sent, or send to somebody else.
func FuzzReceive(f *testing.F) {
	victimKey := testIdentity(f, 5, 0).PublicKey()
	a := newAttacker(f, 1, asker)
	for _, m := range []message{{kind: kindPing, pad: 50}, {kind: kindFindNode}, {kind: kindFindProviders, client: true},
		{kind: kindAddProvider, keys: []stc.Hash{{1}}}, {kind: kindPing | kindAnswer},
		{kind: kindGetRecord}, {kind: kindPutRecord, record: testRecord(f, 1, 1, 20).bytes()}} {
		f.Add(m.append(nil), true)
		f.Add(a.seal(f, victimKey, m), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, sealIt bool) {
		v := newVictim(t, nil)
		v.fill(3)
		if sealIt {
			b = a.sealBytes(t, v.key, b)
		}
		out := 0
		for _, d := range v.gets(b, a.addr) {
			if out += len(d.b); d.to != a.addr {
				t.Errorf("sends to %v", d.to)
			}
		}
		if out > len(b) {
			t.Errorf("%d bytes in, %d out", len(b), out)
		}
	})
}

func FuzzUnmarshalTable(f *testing.F) {
	tab := newTable(stc.Hash{}, new(estimate), newClock(t0), tableTestConfig)
	f.Add(tab.marshal(rtt{}))
	for n := range 5 {
		c := contactOf(byte(n+1), fmt.Sprintf("10.0.0.%d:1", n+1))
		tab.heard(t0, c, true)
	}
	f.Add(tab.marshal(rtt{smoothed: time.Second}))
	f.Fuzz(func(t *testing.T, b []byte) {
		// A hash that fits, or no input would get past it.
		if len(b) >= stc.HashSize {
			sum := stc.Sum(b[:len(b)-stc.HashSize])
			b = append(b[:len(b)-stc.HashSize:len(b)-stc.HashSize], sum[:]...)
		}
		entries, _, err := unmarshalTable(b)
		if err == nil && len(entries) != int(binary.BigEndian.Uint32(b[len(tableMagic)+8:])) {
			t.Errorf("%d entries", len(entries))
		}
		for _, e := range entries {
			if e.check() != nil {
				t.Errorf("entry %+v", e.Contact)
			}
		}
	})
}
