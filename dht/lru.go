package dht

import (
	"hash/maphash"
	"iter"
)

// lru is a map that forgets what was not used for longest. It lies in one
// array, with an index of eight bytes a place beside it: a node remembers
// thousands of peers, and looks up several of them for each datagram, most of
// whom are in no cache of the CPU by then. (A Go map from keys to places takes
// four times the room and three times the cache lines.) Not safe for concurrent
// use.
type lru[K comparable, V any] struct {
	limit          int
	hash           func(maphash.Seed, K) uint64
	seed           maphash.Seed
	index          []lruPlace // a power of two of them, or none; half are free at least
	slots          []lruSlot[K, V]
	newest, oldest int32 // −1 for none
}

// lruPlace is a place of the index: a hash table with linear probing (Knuth, The
// Art of Computer Programming, volume 3, section 6.4). The zero value is free.
type lruPlace struct {
	hash uint32
	slot int32 // plus 1
}

type lruSlot[K comparable, V any] struct {
	value        V
	key          K
	newer, older int32 // −1 for none
}

// minIndex is how many places the index has at first.
const minIndex = 16

// newLRU returns an lru of at most limit elements, which is positive. Nobody
// can choose keys of which hash makes the same with a seed that he does not know.
func newLRU[K comparable, V any](limit int, hash func(maphash.Seed, K) uint64) lru[K, V] {
	return lru[K, V]{limit: limit, hash: hash, seed: maphash.MakeSeed(), newest: -1, oldest: -1}
}

func (l *lru[K, V]) len() int { return len(l.slots) }

// find returns the slot of k, or −1, and the hash of k.
func (l *lru[K, V]) find(k K) (slot int32, hash uint32) {
	hash = uint32(l.hash(l.seed, k))
	if len(l.index) == 0 {
		return -1, hash
	}
	for i := l.home(hash); l.index[i].slot != 0; i = l.after(i) {
		if p := l.index[i]; p.hash == hash && l.slots[p.slot-1].key == k {
			return p.slot - 1, hash
		}
	}
	return -1, hash
}

// home returns where in the index the search for a hash begins.
func (l *lru[K, V]) home(hash uint32) int { return int(hash) & (len(l.index) - 1) }

func (l *lru[K, V]) after(i int) int { return (i + 1) & (len(l.index) - 1) }

// place puts p into the index.
func (l *lru[K, V]) place(p lruPlace) {
	i := l.home(p.hash)
	for l.index[i].slot != 0 {
		i = l.after(i)
	}
	l.index[i] = p
}

// grow makes the index larger if it is half full.
func (l *lru[K, V]) grow() {
	if 2*len(l.slots) < len(l.index) {
		return
	}
	old := l.index
	l.index = make([]lruPlace, max(minIndex, 2*len(old)))
	for _, p := range old {
		if p.slot != 0 {
			l.place(p)
		}
	}
}

// displace takes slot, whose key is k, out of the index, and moves those behind
// it that would not be found any more.
func (l *lru[K, V]) displace(slot int32, k K) {
	i := l.home(uint32(l.hash(l.seed, k)))
	for l.index[i].slot != slot+1 {
		i = l.after(i)
	}
	for j := l.after(i); l.index[j].slot != 0; j = l.after(j) {
		// Who is at j may go to i unless its search begins between them.
		if home := l.home(l.index[j].hash); (j-home)&(len(l.index)-1) >= (j-i)&(len(l.index)-1) {
			l.index[i] = l.index[j]
			i = j
		}
	}
	l.index[i] = lruPlace{}
}

// peek returns the value of k, or nil. It is valid until the next put.
func (l *lru[K, V]) peek(k K) *V {
	if i, _ := l.find(k); i >= 0 {
		return &l.slots[i].value
	}
	return nil
}

// get is peek and makes k the one used last.
func (l *lru[K, V]) get(k K) *V {
	i, _ := l.find(k)
	if i < 0 {
		return nil
	}
	l.use(i)
	return &l.slots[i].value
}

// put returns the value of k, a zero one if there was none, and makes k the one
// used last. It is valid until the next put.
func (l *lru[K, V]) put(k K) (v *V, added bool) {
	i, hash := l.find(k)
	if i >= 0 {
		l.use(i)
		return &l.slots[i].value, false
	}
	if len(l.slots) < l.limit {
		i = int32(len(l.slots))
		l.slots = append(l.slots, lruSlot[K, V]{key: k})
		l.grow()
	} else {
		i = l.oldest
		l.unlink(i)
		l.displace(i, l.slots[i].key)
		l.slots[i] = lruSlot[K, V]{key: k}
	}
	l.place(lruPlace{hash, i + 1})
	l.link(i)
	return &l.slots[i].value, true
}

// all goes through all elements, in no order that means anything, but in the
// same one for the same history.
func (l *lru[K, V]) all() iter.Seq2[*K, *V] {
	return func(yield func(*K, *V) bool) {
		for i := range l.slots {
			if s := &l.slots[i]; !yield(&s.key, &s.value) {
				return
			}
		}
	}
}

func (l *lru[K, V]) use(i int32) {
	if i != l.newest {
		l.unlink(i)
		l.link(i)
	}
}

// link makes slot i, which is in no place, the newest.
func (l *lru[K, V]) link(i int32) {
	s := &l.slots[i]
	s.newer, s.older = -1, l.newest
	if l.newest >= 0 {
		l.slots[l.newest].newer = i
	} else {
		l.oldest = i
	}
	l.newest = i
}

func (l *lru[K, V]) unlink(i int32) {
	s := &l.slots[i]
	if s.newer >= 0 {
		l.slots[s.newer].older = s.older
	} else {
		l.newest = s.older
	}
	if s.older >= 0 {
		l.slots[s.older].newer = s.newer
	} else {
		l.oldest = s.newer
	}
}
