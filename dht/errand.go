package dht

import (
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/seigr/sttnode/stc"
)

// errands are searches for providers and signed records on behalf of those who ask over a link.
// They may reach nobody but us, while the records that they look for lie with
// nodes that only datagrams lead to. So whoever asks over a link is answered at
// once with what we hold, as everybody is, and with what the last search of
// ours has found; if there was none lately, one begins, and the asker finds its
// result when it asks again. Not safe for concurrent use.
type errands struct {
	m       *machine
	byKey   *simplelru.LRU[stc.Hash, *errand]
	names   *simplelru.LRU[stc.Name, time.Time] // when a record of it was last searched for
	running int
}

// errand is one key that somebody has asked for over a link.
type errand struct {
	began time.Time
	found []Contact
}

const (
	maxErrands     = 16  // under way at a time
	maxErrandKeys  = 512 // remembered
	maxErrandFound = 20  // providers of a key
	// errandTTL is how long the result of a search is handed out, and
	// emptyErrandTTL how long that nothing was found.
	errandTTL      = time.Minute
	emptyErrandTTL = 5 * time.Second
)

func newErrands(m *machine) *errands {
	byKey, err := simplelru.NewLRU[stc.Hash, *errand](maxErrandKeys, nil)
	if err != nil {
		panic("dht: errands: " + err.Error()) // only for a size that is not positive
	}
	names, err := simplelru.NewLRU[stc.Name, time.Time](maxErrandKeys, nil)
	if err != nil {
		panic("dht: errands: " + err.Error())
	}
	return &errands{m: m, byKey: byKey, names: names}
}

// extend appends to known, providers of key, those that a search has found, for
// a node that asks over a link; and begins a search if need be.
func (e *errands) extend(now time.Time, key stc.Hash, asker Contact, known []Contact) []Contact {
	k, ok := e.byKey.Get(key)
	if (!ok || !k.valid(now)) && e.running < maxErrands && e.m.table.len() > 0 {
		k = e.begin(now, key)
	}
	if k == nil {
		return known
	}
	for _, p := range k.found {
		if p = told(p); p.ID != asker.ID && relayable(p.Addr, asker.Addr) && !containsID(known, p.ID) {
			known = append(known, p)
		}
	}
	return known
}

func (k *errand) valid(now time.Time) bool {
	age := now.Sub(k.began)
	return age < emptyErrandTTL || len(k.found) > 0 && age < errandTTL
}

func (e *errands) begin(now time.Time, key stc.Hash) *errand {
	k := &errand{began: now}
	e.byKey.Add(key, k)
	e.running++
	e.m.startSearch(now, PurposeProviders, key, func(p Contact) {
		if len(k.found) < maxErrandFound {
			k.found = append(k.found, p)
		}
	}, func(time.Time, searchResult) { e.running-- })
	return k
}

// record searches for the record of a name for a node that asks over a link, if
// that was not done lately. What is found is held here for the next who asks.
func (e *errands) record(now time.Time, name stc.Name) {
	last, known := e.names.Get(name)
	age := now.Sub(last)
	if known && (age < emptyErrandTTL || age < errandTTL && !e.m.signed.get(now, name).IsZero()) ||
		e.running >= maxErrands || e.m.table.len() == 0 {
		return
	}
	e.names.Add(name, now)
	e.running++
	e.m.startRecordSearch(now, PurposeRecord, name, 0, func(now time.Time, r searchResult) {
		e.running--
		if !r.record.IsZero() {
			e.m.signed.add(now, r.record, Contact{ID: e.m.id}, 2*errandTTL)
		}
	})
}
