package dht

import (
	"hash/maphash"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// An lru does what a list in order of use does, however often hashes are alike.
func TestLRU(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 8).Draw(t, "limit")
		spread := rapid.IntRange(1, 13).Draw(t, "hashes")
		l := newLRU[int, int](limit, func(_ maphash.Seed, k int) uint64 { return uint64(minIndex - 2 + k%spread) })
		var want []int // keys, the one used last at the end; the value is the key times 10
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			k := rapid.IntRange(0, 12).Draw(t, "key")
			at := slices.Index(want, k)
			switch rapid.IntRange(0, 2).Draw(t, "step") {
			case 0:
				v, added := l.put(k)
				if added != (at < 0) || added && *v != 0 {
					t.Fatalf("put %d: added %v, value %d; had %v", k, added, *v, want)
				}
				*v = 10 * k
				if at >= 0 {
					want = slices.Delete(want, at, at+1)
				}
				want = append(want, k)
				want = want[max(0, len(want)-limit):]
			case 1:
				if v := l.get(k); (v != nil) != (at >= 0) || v != nil && *v != 10*k {
					t.Fatalf("get %d of %v: %v", k, want, v)
				}
				if at >= 0 {
					want = append(slices.Delete(want, at, at+1), k)
				}
			case 2:
				if v := l.peek(k); (v != nil) != (at >= 0) || v != nil && *v != 10*k {
					t.Fatalf("peek %d of %v: %v", k, want, v)
				}
			}
			got := 0
			for key, v := range l.all() {
				got++
				if *v != 10**key || !slices.Contains(want, *key) {
					t.Fatalf("holds %d: %d; want %v", *key, *v, want)
				}
			}
			if got != len(want) || l.len() != len(want) {
				t.Fatalf("%d elements, len %d, want %v", got, l.len(), want)
			}
		}
	})
}
