package dht

import "iter"

// lru is a map that forgets what was not used for longest. It lies in one
// array and one index, without an allocation for each element: a node
// remembers thousands of peers, and a simulation holds thousands of nodes. (An
// element of golang-lru's simplelru takes 180 bytes more.) Not safe for
// concurrent use.
type lru[K comparable, V any] struct {
	limit          int
	index          map[K]int32
	slots          []lruSlot[K, V]
	newest, oldest int32 // −1 for none
}

type lruSlot[K comparable, V any] struct {
	value        V
	key          K
	newer, older int32 // −1 for none
}

// newLRU returns an lru of at most limit elements, which is positive.
func newLRU[K comparable, V any](limit int) lru[K, V] {
	return lru[K, V]{limit: limit, index: make(map[K]int32), newest: -1, oldest: -1}
}

func (l *lru[K, V]) len() int { return len(l.slots) }

// peek returns the value of k, or nil. It is valid until the next put.
func (l *lru[K, V]) peek(k K) *V {
	if i, ok := l.index[k]; ok {
		return &l.slots[i].value
	}
	return nil
}

// get is peek and makes k the one used last.
func (l *lru[K, V]) get(k K) *V {
	i, ok := l.index[k]
	if !ok {
		return nil
	}
	l.use(i)
	return &l.slots[i].value
}

// put returns the value of k, a zero one if there was none, and makes k the one
// used last. It is valid until the next put.
func (l *lru[K, V]) put(k K) (v *V, added bool) {
	if v := l.get(k); v != nil {
		return v, false
	}
	var i int32
	if len(l.slots) < l.limit {
		i = int32(len(l.slots))
		l.slots = append(l.slots, lruSlot[K, V]{key: k})
	} else {
		i = l.oldest
		l.unlink(i)
		delete(l.index, l.slots[i].key)
		l.slots[i] = lruSlot[K, V]{key: k}
	}
	l.index[k] = i
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
