package dht

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seigr/sttnode/stc"
)

// testNameKey is the key of name number n of somebody.
func testNameKey(t testing.TB, n int) *stc.NameKey {
	t.Helper()
	k, err := testIdentity(t, 11, 0).NameKey(fmt.Sprintf("label-%d", n))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// testRecord is the state number seq of name number n, with a value of that size.
func testRecord(t testing.TB, n int, seq uint64, size int) Record {
	t.Helper()
	r, err := SignRecord(testNameKey(t, n), seq, bytes.Repeat([]byte{byte(seq)}, size))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The encoding, as docs/PROTOCOL.md draws it, and the signature, checked with the
// key alone.
func TestRecordBytes(t *testing.T) {
	key := testNameKey(t, 1)
	r, err := SignRecord(key, 0x0102, []byte("value"))
	if err != nil {
		t.Fatal(err)
	}
	sig := key.Sign([]byte("stt dht record v1" + "\x00\x00\x00\x00\x00\x00\x01\x02" + "value"))
	want := fmt.Sprintf("%v%s%s%x%x", key.PublicKey(), "0000000000000102", "0005", "value", sig)
	if got := hex.EncodeToString(r.bytes()); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	back, err := ParseRecord(r.bytes())
	if err != nil || back != r || back.Name() != key.Name() || back.Sequence() != 0x0102 || string(back.Value()) != "value" {
		t.Errorf("read as %+v, %v", back, err)
	}
}

// No byte of a record can be changed, added or left out.
func TestParseRecordRefuses(t *testing.T) {
	for _, size := range []int{0, 1, 33, MaxRecordValue} {
		good := testRecord(t, 1, 7, size).bytes()
		if _, err := ParseRecord(good); err != nil {
			t.Fatal(err)
		}
		bad := [][]byte{nil, good[1:], append(slices.Clone(good), 0)}
		for i := range good {
			changed := slices.Clone(good)
			changed[i] ^= 1
			bad = append(bad, changed, good[:i])
		}
		for i, b := range bad {
			if r, err := ParseRecord(b); !errors.Is(err, ErrBadRecord) || !r.IsZero() {
				t.Errorf("value of %d bytes, change %d: %+v, %v", size, i, r, err)
			}
		}
	}
	// A point of low order verifies any message.
	low := slices.Clone(testRecord(t, 1, 7, 0).bytes())
	copy(low, append([]byte{1}, make([]byte, 31)...))
	copy(low[recordHead:], append(append([]byte{1}, make([]byte, 31)...), make([]byte, 32)...))
	if _, err := ParseRecord(low); !errors.Is(err, ErrBadRecord) {
		t.Errorf("key of low order: %v", err)
	}
	for _, size := range []int{MaxRecordValue + 1, 70000} {
		if _, err := SignRecord(testNameKey(t, 1), 1, make([]byte, size)); !errors.Is(err, ErrBadRecord) {
			t.Errorf("signs a value of %d bytes: %v", size, err)
		}
	}
	if _, err := SignRecord(testNameKey(t, 1), 0, nil); !errors.Is(err, ErrBadRecord) {
		t.Errorf("signs number 0: %v", err)
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add(testRecord(f, 1, 1, 0).bytes())
	f.Add(testRecord(f, 1, 1, MaxRecordValue).bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRecord(b)
		if err == nil && !bytes.Equal(r.bytes(), b) {
			t.Errorf("not canonical: %x", b)
		}
		if err != nil && !errors.Is(err, ErrBadRecord) {
			t.Errorf("error %v", err)
		}
	})
}

// The newest state of a name is the one that is held; it lasts as long as it was
// last asked to be, and never longer than the cap.
func TestSignedStoreKeepsTheNewest(t *testing.T) {
	s := newSignedStore(stc.Hash{}, signedCaps{total: 10, perSender: 10, perSubnet: 10, ttl: 48 * time.Hour})
	sender, name := contactOf(1, "10.0.0.1:1"), testNameKey(t, 1).Name()
	old, now := testRecord(t, 1, 1, 5), testRecord(t, 1, 2, 5)
	if code := s.add(t0, now, sender, time.Hour); code != putStored {
		t.Fatalf("code %d", code)
	}
	if code := s.add(t0, old, sender, time.Hour); code != putStale || s.get(t0, name) != now {
		t.Errorf("an older one: code %d, holds %d", code, s.get(t0, name).seq)
	}
	if code, known := s.refuses(t0, old.bytes(), time.Hour); code != putStale || !known {
		t.Errorf("an older one is looked at: code %d, %v", code, known)
	}
	if _, known := s.refuses(t0, testRecord(t, 1, 3, 5).bytes(), time.Hour); known {
		t.Error("a newer one is not looked at")
	}
	// A forged copy with the number of the one that is held is looked at, too.
	forged := now.bytes()
	forged[len(forged)-1] ^= 1
	if _, known := s.refuses(t0, forged, 48*time.Hour); known {
		t.Error("a forged copy counts as known")
	}
	if _, known := s.refuses(t0.Add(30*time.Minute), now.bytes(), time.Hour); !known {
		t.Error("a copy is looked at")
	}
	if got := s.get(t0.Add(90*time.Minute-1), name); got != now {
		t.Error("a copy does not renew the record")
	}
	if got := s.get(t0.Add(90*time.Minute), name); !got.IsZero() {
		t.Error("the record has not expired")
	}
	at := t0.Add(100 * time.Hour)
	if code := s.add(at, old, sender, 1000*time.Hour); code != putStored || s.get(at, name) != old {
		t.Errorf("after it has expired an older one is refused: code %d", code)
	}
	if got := s.get(at.Add(48*time.Hour), name); !got.IsZero() {
		t.Error("a record outlives the cap")
	}
	s.expire(at.Add(48 * time.Hour))
	if len(s.byName)+len(s.bySender)+len(s.bySubnet) != 0 {
		t.Errorf("%d records, %d senders and %d subnets remain", len(s.byName), len(s.bySender), len(s.bySubnet))
	}
}

// Nobody and no subnet takes more than a share; who is full keeps what is
// closest.
func TestSignedStoreIsCapped(t *testing.T) {
	self := stc.Sum([]byte("self"))
	s := newSignedStore(self, signedCaps{total: 20, perSender: 4, perSubnet: 8, ttl: time.Hour})
	at := func(n int, addr string) Contact {
		return NewContact(testIdentity(t, 12, n).PublicKey(), netip.MustParseAddrPort(addr))
	}
	stored := 0
	for n := range 40 { // ten nodes of one subnet, four names each
		if s.add(t0, testRecord(t, n, 1, 1), at(n/4, fmt.Sprintf("203.0.113.%d:1", n/4+1)), time.Hour) == putStored {
			stored++
		}
	}
	if stored != 8 || s.bySender[at(0, "203.0.113.1:1").ID] != 4 {
		t.Errorf("%d of one subnet, %v", stored, s.bySender)
	}
	for n := range 4 { // later states do not count again
		if code := s.add(t0, testRecord(t, n, 2, 1), at(0, "203.0.113.1:1"), time.Hour); code != putStored {
			t.Errorf("a new state of what is held: code %d", code)
		}
	}
	if code := s.add(t0, testRecord(t, 50, 1, 1), at(0, "10.0.0.1:1"), time.Hour); code != putFull {
		t.Errorf("a fifth of one node: code %d", code)
	}
	for n := 100; n < 200; n++ {
		s.add(t0, testRecord(t, n, 1, 1), at(n, "10.0.0.1:1"), time.Hour)
	}
	var names []stc.Name
	for n := range 200 {
		if n < 8 || n >= 100 {
			names = append(names, testNameKey(t, n).Name())
		}
	}
	slices.SortFunc(names, func(a, b stc.Name) int { return compareDistance(self, stc.Hash(a), stc.Hash(b)) })
	for i, name := range names {
		if got := !s.get(t0, name).IsZero(); got != (i < 20) {
			t.Errorf("name %d by distance: held %v", i, got)
		}
	}
	if total := len(s.byName); total != 20 {
		t.Errorf("%d records", total)
	}
}

// PUT_RECORD is for who has proven its address and for valid signatures; an old
// state is refused with a code of its own.
func TestPutRecordIsChecked(t *testing.T) {
	v := newVictim(t, nil)
	a := newAttacker(t, 1, asker)
	put := func(rec []byte, proof cookie) message {
		t.Helper()
		got := v.asked(a, message{kind: kindPutRecord, tx: 1, ttl: 3600, record: rec, proof: proof})
		if len(got) != 1 {
			t.Fatalf("%d answers", len(got))
		}
		return got[0]
	}
	rec := testRecord(t, 1, 5, 100)
	if got := put(rec.bytes(), cookie{}); got.kind != kindChallenge || len(v.signed.byName) != 0 {
		t.Errorf("without proof: %v, %d records", got.kind, len(v.signed.byName))
	}
	proof := v.proof(a)
	forged := rec.bytes()
	forged[recordHead] ^= 1
	if got := put(forged, proof); got.code != putInvalid || len(v.signed.byName) != 0 {
		t.Errorf("forged: code %d, %d records", got.code, len(v.signed.byName))
	}
	for _, step := range []struct {
		seq  uint64
		want putCode
		held uint64
	}{{5, putStored, 5}, {5, putStored, 5}, {4, putStale, 5}, {9, putStored, 9}, {5, putStale, 9}} {
		if got := put(testRecord(t, 1, step.seq, 100).bytes(), proof); got.code != step.want || v.signed.get(v.now, rec.Name()).seq != step.held {
			t.Errorf("number %d: code %d, holds %d", step.seq, got.code, v.signed.get(v.now, rec.Name()).seq)
		}
	}
	get := func(above uint64) message {
		return v.asked(a, message{kind: kindGetRecord, target: stc.Hash(rec.Name()), above: above, proof: proof})[0]
	}
	if got, err := ParseRecord(get(8).record); err != nil || got.seq != 9 {
		t.Errorf("asked for more than 8: %+v, %v", got, err)
	}
	if got := get(9); got.record != nil {
		t.Error("asked for more than 9: a record comes")
	}
}

// With a long record there is no room for nodes; the asker is told, and asks
// for them.
func TestLongRecordLeavesNoRoomForNodes(t *testing.T) {
	v := newVictim(t, nil)
	v.fill(30)
	a := newAttacker(t, 1, "10.0.0.9:4700")
	proof := v.proof(a)
	for size, want := range map[int]struct {
		cut   bool
		nodes int
	}{33: {false, 20}, 600: {false, 9}, 700: {true, 7}, MaxRecordValue: {true, 2}} {
		rec := testRecord(t, size, 1, size)
		v.holdOwn(v.now, rec)
		m := v.asked(a, message{kind: kindGetRecord, target: stc.Hash(rec.Name()), proof: proof})[0]
		if m.record == nil || m.cut != want.cut || len(m.nodes) != want.nodes {
			t.Errorf("%d bytes: cut %v, %d nodes", size, m.cut, len(m.nodes))
		}
	}
}

func (n *simNode) putRecord(rec Record) (stored int, err error) {
	n.sim.t.Helper()
	over := false
	(&Machine{n.machine}).PutRecord(n.sim.Now(), rec, func(s int, e error) { stored, err, over = s, e, true })
	n.settle()
	n.sim.wait("put", func() bool { return over })
	return stored, err
}

func (n *simNode) keepRecord(rec Record) (stored int, err error) {
	n.sim.t.Helper()
	over := false
	n.keeper.keep(n.sim.Now(), rec, func(s int, e error) { stored, err, over = s, e, true })
	n.settle()
	n.sim.wait("put", func() bool { return over })
	return stored, err
}

func (n *simNode) getRecord(name stc.Name) (rec Record, stats LookupStats) {
	n.sim.t.Helper()
	over := false
	(&Machine{n.machine}).GetRecord(n.sim.Now(), name, func(r Record, s LookupStats, _ error) { rec, stats, over = r, s, true })
	n.settle()
	n.sim.wait("get", func() bool { return over })
	return rec, stats
}

// What one node puts, every other finds, in networks of all sizes and for records
// of all lengths; the K closest hold it.
func TestRecordsAreFound(t *testing.T) {
	for _, size := range []int{2, 5, 21, 60} {
		s := newSim(t, testSeed(t))
		nodes := s.network(size, nil)
		s.RunFor(10 * time.Second)
		for i, value := range []int{0, 33, 700, MaxRecordValue} {
			rec := testRecord(t, i, 1, value)
			if stored, err := nodes[1].putRecord(rec); stored != min(size-1, 20) || err != nil {
				t.Errorf("%d nodes, %d bytes: stored at %d, %v", size, value, stored, err)
			}
			for j, n := range nodes {
				if got, stats := n.getRecord(rec.Name()); got != rec || !stats.Complete {
					t.Errorf("%d nodes, %d bytes: node %d finds number %d, %+v", size, value, j, got.seq, stats)
				}
			}
		}
		if got, stats := nodes[0].getRecord(testNameKey(t, 99).Name()); !got.IsZero() || !stats.Complete {
			t.Errorf("%d nodes: what nobody has published is found: %+v", size, stats)
		}
	}
}

// A client, and one that has published long ago and is gone, are as good as
// others; the newest state wins wherever it comes from, and the older is refused.
func TestNewestRecordWins(t *testing.T) {
	s := newSim(t, testSeed(t))
	nodes := s.network(40, nil)
	client := s.add(100, func(cfg *Config) { cfg.ClientOnly = true })
	client.join(nodes[3])
	first, second, third := testRecord(t, 1, 10, 33), testRecord(t, 1, 20, 33), testRecord(t, 1, 30, 33)
	client.putRecord(first)
	if client.signed.get(s.Now(), first.Name()) != (Record{}) {
		t.Error("a client holds a record")
	}
	s.remove(client)
	if got, _ := nodes[30].getRecord(first.Name()); got != first {
		t.Errorf("found number %d", got.seq)
	}
	if stored, err := nodes[7].putRecord(second); stored < 20 || err != nil {
		t.Errorf("second: stored at %d, %v", stored, err)
	}
	if stored, err := nodes[9].putRecord(first); stored != 0 || !errors.Is(err, ErrStale) {
		t.Errorf("first again: stored at %d, %v", stored, err)
	}
	for i, n := range nodes {
		if got, _ := n.getRecord(first.Name()); got != second {
			t.Errorf("node %d finds number %d", i, got.seq)
		}
	}
	// One node of those that are asked that knows better is enough.
	closest := bruteForce(nodes, nodes[0], stc.Hash(first.Name()), 20)
	s.Host(closest[19].Addr).Node.(*Machine).m.holdOwn(s.Now(), third)
	if got, _ := nodes[0].getRecord(first.Name()); got != third {
		t.Errorf("found number %d", got.seq)
	}
}

// A record that is kept is there as long as its keeper, whatever happens to those
// who held it first, and expires 48 hours after.
func TestKeptRecordLives(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector, which shorter tests serve as well")
	}
	s := newSim(t, testSeed(t))
	nodes := s.network(24, func(cfg *Config) { cfg.K = 8 })
	rec, keeper, asker := testRecord(t, 1, 1, 33), nodes[5], nodes[20]
	if stored, err := keeper.keepRecord(rec); stored != 8 || err != nil {
		t.Fatalf("stored at %d, %v", stored, err)
	}
	s.RunFor(47 * time.Hour)
	for _, c := range bruteForce(nodes, keeper, stc.Hash(rec.Name()), 8) {
		if c.ID != asker.id {
			s.remove(s.node(nodes, c))
		}
	}
	s.RunFor(47 * time.Hour)
	if got, _ := asker.getRecord(rec.Name()); got != rec {
		t.Errorf("after four days number %d is found", got.seq)
	}
	next := testRecord(t, 1, 2, 33)
	if _, err := keeper.keepRecord(next); err != nil {
		t.Error(err)
	}
	if _, err := keeper.keepRecord(rec); !errors.Is(err, ErrStale) {
		t.Errorf("the old one is kept in place of the new: %v", err)
	}
	if got, _ := asker.getRecord(rec.Name()); got != next {
		t.Errorf("number %d is found, not the new one", got.seq)
	}
	keeper.keeper.drop(rec.Name())
	s.RunFor(47*time.Hour + 50*time.Minute)
	if got, _ := asker.getRecord(rec.Name()); got != next {
		t.Errorf("two days later number %d is found", got.seq)
	}
	s.RunFor(time.Hour)
	if got, _ := asker.getRecord(rec.Name()); !got.IsZero() {
		t.Error("a record that nobody keeps has not expired")
	}
}

// node returns the node of a contact.
func (s *sim) node(nodes []*simNode, c Contact) *simNode {
	return nodes[slices.IndexFunc(nodes, func(n *simNode) bool { return n.id == c.ID })]
}

// Who keeps a record while alone hands it to the first who comes, and to all
// others that come later; and who keeps an old state learns of the new one.
func TestKeeperFollowsTheNetwork(t *testing.T) {
	s := newSim(t, testSeed(t))
	keeper := s.add(0, nil)
	old, rec := testRecord(t, 1, 1, 33), testRecord(t, 1, 2, 33)
	if stored, err := keeper.keepRecord(old); stored != 0 || !errors.Is(err, ErrNoNodes) {
		t.Errorf("alone: stored at %d, %v", stored, err)
	}
	nodes := []*simNode{keeper}
	for i := range 12 {
		n := s.add(i+1, nil)
		n.join(nodes[0])
		nodes = append(nodes, n)
	}
	s.RunFor(time.Minute)
	for i, n := range nodes {
		if n.signed.get(s.Now(), old.Name()) != old {
			t.Errorf("node %d does not hold the record", i)
		}
	}
	if _, err := nodes[9].putRecord(rec); err != nil {
		t.Fatal(err)
	}
	s.RunFor(23 * time.Hour)
	if got := keeper.keeper.kept(); len(got) != 1 || got[0] != rec {
		t.Errorf("keeps %d records, number %d", len(got), got[0].seq)
	}
}

// Liars that answer with records of others, forged ones and old ones keep nobody
// from the newest.
func TestForgedRecordsAreNotBelieved(t *testing.T) {
	v := newVictim(t, nil)
	name := testRecord(t, 1, 3, 33).Name()
	other := testRecord(t, 2, 99, 33).bytes()
	forged := testRecord(t, 1, 4, 33).bytes()
	forged[recordHead] ^= 1
	answers := [][]byte{other, forged, testRecord(t, 1, 3, 33).bytes(), testRecord(t, 1, 2, 33).bytes()}
	var asked []*attacker
	for i := range answers {
		a := newAttacker(t, i, fmt.Sprintf("10.0.0.%d:4700", i+1))
		asked = append(asked, a)
		v.table.heard(v.now, a.contact(), true)
	}
	v.sent = nil
	var got searchResult
	v.startRecordSearch(v.now, PurposeRecord, name, 0, func(_ time.Time, r searchResult) { got = r })
	for _, d := range slices.Clone(v.sent) {
		for i, a := range asked {
			if a.addr == d.to {
				request := a.opens(t, d)
				v.gets(a.seal(t, v.key, message{kind: kindGetRecord | kindAnswer, tx: request.tx, record: answers[i]}), a.addr)
			}
		}
	}
	if got.record.seq != 3 || got.record.Name() != name || v.stats.BadRecords != 2 || got.stats.Answered != 4 {
		t.Errorf("found number %d; %d bad records, %d answers", got.record.seq, v.stats.BadRecords, got.stats.Answered)
	}
}

// The names of the new methods and purposes, as metrics have them.
func TestRecordMetricsHaveNames(t *testing.T) {
	if got := strings.Join([]string{MethodGetRecord.String(), MethodPutRecord.String(), PurposeRecord.String()}, " "); got != "get_record put_record record" {
		t.Error(got)
	}
}

// Who answers with a record that left no room for nodes is asked for these, and
// the search goes on with them.
func TestNodesAreAskedForBesideALongRecord(t *testing.T) {
	v := newVictim(t, nil)
	a, b := newAttacker(t, 1, "10.0.0.1:4700"), newAttacker(t, 2, "10.0.0.2:4700")
	v.table.heard(v.now, a.contact(), true)
	rec := testRecord(t, 1, 3, MaxRecordValue)
	v.sent = nil
	var got searchResult
	v.startRecordSearch(v.now, PurposeRecord, rec.Name(), 0, func(_ time.Time, r searchResult) { got = r })
	first := a.opens(t, v.sent[0])
	second := v.gets(a.seal(t, v.key, message{kind: kindGetRecord | kindAnswer, tx: first.tx, record: rec.bytes(), cut: true}), a.addr)
	if len(second) != 1 || second[0].to != a.addr {
		t.Fatalf("%d datagrams", len(second))
	}
	request := a.opens(t, second[0])
	if request.kind != kindFindNode || request.target != stc.Hash(rec.Name()) {
		t.Fatalf("then asks %v", request.kind)
	}
	third := v.gets(a.seal(t, v.key, message{kind: kindFindNode | kindAnswer, tx: request.tx, nodes: []Contact{b.contact()}}), a.addr)
	if len(third) == 0 || third[0].to != b.addr { // a PING may follow: the table has room
		t.Fatalf("%d datagrams", len(third))
	}
	// It wants nothing of the next but what is newer.
	if next := b.opens(t, third[0]); next.kind != kindGetRecord || next.above != 3 {
		t.Errorf("the next is asked %v above %d", next.kind, next.above)
	} else {
		v.gets(b.seal(t, v.key, message{kind: kindGetRecord | kindAnswer, tx: next.tx}), b.addr)
	}
	if got.record != rec || got.stats.Answered != 2 || !got.stats.Complete {
		t.Errorf("found number %d, %+v", got.record.seq, got.stats)
	}
}
