package dht

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/seigr/sttnode/stc"
)

var recordTestCaps = recordCaps{total: 1000, perKey: 10, perProvider: 100, perSubnet: 3, ttl: 48 * time.Hour}

func provider(n int) Contact {
	return Contact{ID: stc.Hash{0: byte(n), 1: byte(n >> 8), 2: 1}, Addr: testAddr(n + 1)}
}

func recordsOf(r *records, now time.Time, key stc.Hash) []Contact {
	return r.get(rand.New(rand.NewPCG(1, 1)), now, key, 1000, netip.AddrPort{})
}

func TestRecordsExpire(t *testing.T) {
	r := newRecords(stc.Hash{}, recordTestCaps)
	key := testKey(1)
	r.add(t0, key, provider(1), time.Hour)
	r.add(t0, key, provider(2), 1000*time.Hour) // no longer than the cap
	for _, test := range []struct {
		age  time.Duration
		want int
	}{{0, 2}, {time.Hour - 1, 2}, {time.Hour, 1}, {48*time.Hour - 1, 1}, {48 * time.Hour, 0}} {
		if got := recordsOf(r, t0.Add(test.age), key); len(got) != test.want {
			t.Errorf("after %v: %d records, want %d", test.age, len(got), test.want)
		}
	}
	if r.total != 0 || len(r.byKey) != 0 || len(r.owned) != 0 {
		t.Errorf("remembers %d records, %d keys, %d providers", r.total, len(r.byKey), len(r.owned))
	}

	r.add(t0, key, provider(1), time.Hour)
	r.add(t0.Add(30*time.Minute), key, provider(1), time.Hour) // renewed
	r.expire(t0.Add(time.Hour))
	if r.total != 1 {
		t.Error("a renewed record has expired at its old time")
	}
	r.expire(t0.Add(90 * time.Minute))
	if r.total != 0 || len(r.byKey) != 0 {
		t.Error("expire has left a record")
	}
}

func TestRecordsRenewAndWithdraw(t *testing.T) {
	r := newRecords(stc.Hash{}, recordTestCaps)
	key, p := testKey(1), provider(1)
	r.add(t0, key, p, time.Hour)
	p.Addr = testAddr(77)
	r.add(t0, key, p, time.Hour)
	if got := recordsOf(r, t0, key); len(got) != 1 || got[0] != p {
		t.Errorf("after a move: %v", got)
	}
	if r.remove(key, provider(2).ID) || r.remove(testKey(2), p.ID) {
		t.Error("removed what was not there")
	}
	if !r.remove(key, p.ID) || len(recordsOf(r, t0, key)) != 0 || r.total != 0 {
		t.Error("not withdrawn")
	}
}

func TestRecordCaps(t *testing.T) {
	r := newRecords(stc.Hash{}, recordTestCaps)
	// Per key: who would expire first makes room.
	for n := range 12 {
		if !r.add(t0, testKey(1), provider(n), time.Hour+time.Duration(n)) {
			t.Errorf("provider %d refused", n)
		}
	}
	if got := recordsOf(r, t0, testKey(1)); len(got) != 10 || countCommon(got, []Contact{provider(0), provider(1)}) != 0 {
		t.Errorf("%d providers of one key", len(got))
	}
	// Per provider.
	stored := 0
	for n := range 200 {
		if r.add(t0, testKey(1000+n), provider(50), time.Hour) {
			stored++
		}
	}
	if stored != 100 {
		t.Errorf("stored %d records of one provider", stored)
	}
	// Per subnet of a key: one network cannot push the others out.
	key := testKey(2)
	r.add(t0, key, provider(1), time.Hour)
	stored = 0
	for n := range 20 {
		p := Contact{ID: stc.Hash{5: byte(n + 1)}, Addr: netip.MustParseAddrPort(fmt.Sprintf("203.0.113.%d:1", n+1))}
		if r.add(t0, key, p, 40*time.Hour) {
			stored++
		}
	}
	if got := recordsOf(r, t0, key); stored != 3 || len(got) != 4 || countCommon(got, []Contact{provider(1)}) != 1 {
		t.Errorf("stored %d of one subnet, %d in all", stored, len(got))
	}
}

// When all is full, far keys make room for near ones and never the other way.
func TestFullRecordsKeepTheNearest(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, testSeed(t)))
	self := randomHash(rng)
	r := newRecords(self, recordTestCaps)
	for n := range 1000 {
		if !r.add(t0, randomID(rng, self, n%4), provider(n%50), time.Hour) {
			t.Fatalf("record %d refused", n)
		}
	}
	if r.add(t0, randomID(rng, self, 0), provider(99), time.Hour) {
		t.Error("a far key was stored")
	}
	for n := range 300 {
		if !r.add(t0, randomID(rng, self, 8), provider(100+n), time.Hour) {
			t.Fatalf("near record %d refused", n)
		}
	}
	count := map[int]int{}
	for key := range r.byKey {
		count[commonPrefix(self, key)]++
	}
	if r.total != 1000 || count[8] != 300 || count[0] != 0 || count[1] != 200 || count[2] != 250 {
		t.Errorf("%d records, by prefix %v", r.total, count)
	}
}

// A provider at an address that the asker cannot reach is not named to it.
func TestRecordsForTheAsker(t *testing.T) {
	r := newRecords(stc.Hash{}, recordTestCaps)
	rng := rand.New(rand.NewPCG(1, 1))
	key := testKey(1)
	for i, addr := range []string{"127.0.0.1:1", "192.168.0.1:1", "203.0.113.1:1"} {
		r.add(t0, key, Contact{ID: stc.Hash{byte(i + 1)}, Addr: netip.MustParseAddrPort(addr)}, time.Hour)
	}
	for asker, want := range map[string]int{"127.0.0.1:9": 3, "10.0.0.1:9": 2, "198.51.100.1:9": 1} {
		if got := r.get(rng, t0, key, 10, netip.MustParseAddrPort(asker)); len(got) != want {
			t.Errorf("%s gets %d", asker, len(got))
		}
	}
	for n := range 8 {
		r.add(t0, key, provider(n), time.Hour)
	}
	seen := map[stc.Hash]bool{}
	for range 100 {
		for _, c := range r.get(rng, t0, key, 2, netip.AddrPort{}) {
			seen[c.ID] = true
		}
	}
	if len(seen) != 10 {
		t.Errorf("of 10 providers, two at a time, %d are ever named", len(seen))
	}
}

func TestRecordInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		caps := recordCaps{total: 6, perKey: 3, perProvider: 4, perSubnet: 1, ttl: time.Hour}
		r := newRecords(stc.Hash{}, caps)
		now := t0
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "wait")) * time.Minute)
			key := stc.Hash{0: rapid.SampledFrom([]byte{0x80, 0x40, 0x20, 0x10, 1}).Draw(t, "key")}
			p := provider(rapid.IntRange(0, 5).Draw(t, "provider"))
			if rapid.Bool().Draw(t, "public") {
				p.Addr = netip.MustParseAddrPort("203.0.113.1:1")
			}
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0, 1:
				r.add(now, key, p, time.Duration(rapid.IntRange(0, 100).Draw(t, "ttl"))*time.Minute)
			case 2:
				r.remove(key, p.ID)
			case 3:
				r.expire(now)
			case 4:
				recordsOf(r, now, key)
			}
			total, owned, classes := 0, map[stc.Hash]int{}, 0
			for key, k := range r.byKey {
				if len(k.list) == 0 || len(k.list) > caps.perKey || k.key != key || r.nearby[k.class][k.inClass] != k {
					t.Fatalf("key %v: %d records, class %d", key, len(k.list), k.class)
				}
				for _, rec := range k.list {
					total++
					if owned[rec.provider.ID]++; owned[rec.provider.ID] > caps.perProvider {
						t.Fatalf("%d records of one provider", owned[rec.provider.ID])
					}
				}
			}
			for _, class := range r.nearby {
				classes += len(class)
			}
			if total != r.total || total > caps.total || len(owned) != len(r.owned) || classes != len(r.byKey) {
				t.Fatalf("%d records, counted %d; %d providers, counted %d; %d keys, %d in classes",
					total, r.total, len(owned), len(r.owned), len(r.byKey), classes)
			}
		}
	})
}
