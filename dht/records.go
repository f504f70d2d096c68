package dht

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/seigr/sttnode/stc"
)

// records holds what others asked us to remember: who provides what, until
// when. It is capped per key, per provider, per subnet of a key, and in total.
// When it is full, keys far from our ID make room for closer ones: those are
// the ones that people look for here. Pure state, not safe for concurrent use.
type records struct {
	self   stc.Hash
	caps   recordCaps
	byKey  map[stc.Hash]*keyRecords
	owned  map[stc.Hash]int // provider → number of its records
	total  int
	nearby [idBits + 1][]*keyRecords // keys by the length of the prefix they share with us
}

// recordCaps bounds records; no field is zero.
type recordCaps struct {
	total, perKey, perProvider int
	perSubnet                  int // providers of one key in one /24 or /48; <0: no limit
	ttl                        time.Duration
}

type keyRecords struct {
	key     stc.Hash
	list    []record
	class   int // index into nearby
	inClass int // index into nearby[class]
}

// record says that provider has the key's content.
type record struct {
	provider Contact
	expires  time.Time
}

func newRecords(self stc.Hash, caps recordCaps) *records {
	return &records{
		self:  self,
		caps:  caps,
		byKey: make(map[stc.Hash]*keyRecords),
		owned: make(map[stc.Hash]int),
	}
}

// add remembers that provider has key, for ttl but no longer than the cap, and
// reports whether it does. A provider that is known already is renewed, at the
// address that it has now.
func (r *records) add(now time.Time, key stc.Hash, provider Contact, ttl time.Duration) bool {
	rec := record{provider: provider, expires: now.Add(min(ttl, r.caps.ttl))}
	k := r.byKey[key]
	if k != nil {
		r.prune(now, k)
		if i := k.find(provider.ID); i >= 0 {
			k.list[i] = rec
			return true
		}
	}
	if r.owned[provider.ID] >= r.caps.perProvider {
		return false
	}
	if k != nil && !r.makeRoomIn(k, provider) {
		return false
	}
	if r.total >= r.caps.total && !r.makeRoomFor(key) {
		return false
	}
	if k = r.byKey[key]; k == nil { // also if making room has emptied it
		k = &keyRecords{key: key, class: commonPrefix(r.self, key)}
		k.inClass = len(r.nearby[k.class])
		r.nearby[k.class] = append(r.nearby[k.class], k)
		r.byKey[key] = k
	}
	k.list = append(k.list, rec)
	r.owned[provider.ID]++
	r.total++
	return true
}

// makeRoomIn makes room for one more provider of a key: the one that would
// expire first goes. Of one subnet there are never more than a few, so who
// wants to push others out needs many networks.
func (r *records) makeRoomIn(k *keyRecords, provider Contact) bool {
	if net, limited := subnetOf(provider.Addr); limited && r.caps.perSubnet > 0 {
		same := 0
		for i := range k.list {
			if s, ok := subnetOf(k.list[i].provider.Addr); ok && s == net {
				same++
			}
		}
		if same >= r.caps.perSubnet {
			return false
		}
	}
	if len(k.list) >= r.caps.perKey {
		r.drop(k, k.first())
	}
	return true
}

// makeRoomFor evicts one record of a key that is farther from us than key by
// at least one bit of prefix.
func (r *records) makeRoomFor(key stc.Hash) bool {
	for class := range commonPrefix(r.self, key) {
		if n := len(r.nearby[class]); n > 0 {
			k := r.nearby[class][n-1]
			r.drop(k, k.first())
			return true
		}
	}
	return false
}

// remove forgets that provider has key, and reports whether it was known.
func (r *records) remove(key, provider stc.Hash) bool {
	k := r.byKey[key]
	if k == nil {
		return false
	}
	i := k.find(provider)
	if i < 0 {
		return false
	}
	r.drop(k, i)
	return true
}

// get returns up to n providers of key, a random choice if there are more, for
// somebody at asker; who could not reach a provider's address does not get it.
func (r *records) get(rng *rand.Rand, now time.Time, key stc.Hash, n int, asker netip.AddrPort) []Contact {
	k := r.byKey[key]
	if k == nil {
		return nil
	}
	r.prune(now, k)
	found := make([]Contact, 0, len(k.list))
	for i := range k.list {
		p := k.list[i].provider
		if asker.IsValid() {
			if p = told(p); !relayable(p.Addr, asker) {
				continue
			}
		}
		found = append(found, p)
	}
	rng.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
	return found[:min(n, len(found))]
}

// told returns a provider as others are told of it: one that has come over a
// link at its IP alone, where it must take WebSocket.
func told(p Contact) Contact {
	if linked(p.Addr) && p.WebSocket != 0 {
		p.Addr = netip.AddrPortFrom(p.Addr.Addr().WithZone("").Unmap(), 0)
	}
	return p
}

// expire forgets all records whose time has come. Those are never handed out
// before it runs either; it gives their memory back.
func (r *records) expire(now time.Time) {
	for class := range r.nearby {
		for i := len(r.nearby[class]) - 1; i >= 0; i-- {
			r.prune(now, r.nearby[class][i])
		}
	}
}

// prune drops the expired records of one key. A key without records is
// forgotten, which moves another one into its place in its class.
func (r *records) prune(now time.Time, k *keyRecords) {
	for i := len(k.list) - 1; i >= 0; i-- {
		if !now.Before(k.list[i].expires) {
			r.drop(k, i)
		}
	}
}

func (r *records) drop(k *keyRecords, i int) {
	id := k.list[i].provider.ID
	if r.owned[id]--; r.owned[id] == 0 {
		delete(r.owned, id)
	}
	r.total--
	k.list = slices.Delete(k.list, i, i+1)
	if len(k.list) > 0 {
		return
	}
	delete(r.byKey, k.key)
	class := r.nearby[k.class]
	last := class[len(class)-1]
	class[k.inClass], last.inClass = last, k.inClass
	class[len(class)-1] = nil
	r.nearby[k.class] = class[:len(class)-1]
}

func (k *keyRecords) find(provider stc.Hash) int {
	return slices.IndexFunc(k.list, func(r record) bool { return r.provider.ID == provider })
}

// first returns the record that expires first.
func (k *keyRecords) first() int {
	best := 0
	for i := range k.list {
		if k.list[i].expires.Before(k.list[best].expires) {
			best = i
		}
	}
	return best
}
