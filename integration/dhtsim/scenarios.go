package main

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/seigr/sttnode/dht"
)

// scenario is one simulated world and the lines that are measured in it.
type scenario struct {
	name string
	run  func(o options, r *report)
}

// scenarios begin in this order, the longest first.
var scenarios = []scenario{
	{"churn-1.4m", churning1m},
	{"warm", warm},
	{"churn-10m", churning10m},
	{"republish", republish},
	{"liars", liars},
	{"omitters", omitters},
	{"crash", crash},
}

// warm measures a network as it is on a good day: sessions with a median of
// two hours, and nodes that have been there for a while.
func warm(o options, r *report) {
	w := newWorld(o.seed, o.nodes)
	w.churn(o.churn)
	w.RunFor(40 * time.Minute)
	messages, bytes := w.upkeep(20 * time.Minute)
	r.add("upkeep", messages, bytes)

	const age = 20 * time.Minute
	keys, published := w.publish("warm", max(5, min(40, o.nodes/25)), 5, time.Second, age)
	r.add("publish", percentile(published, 50, tookRTT), percentile(published, 95, tookRTT), mean(published, messagesOf))

	found := w.find(keys, o.lookups, 200*time.Millisecond, age)
	r.add("first", percentile(found, 50, tookRTT), percentile(found, 95, tookRTT), percentile(found, 99, tookRTT))
	r.add("first-messages", percentile(found, 50, messagesOf), percentile(found, 95, messagesOf))
	r.add("found-2h", percentOK(found))

	nothing := w.findNothing(o.lookups/4, 200*time.Millisecond, age)
	r.add("complete", percentile(nothing, 50, tookRTT), percentile(nothing, 95, tookRTT), mean(nothing, messagesOf))

	joins := w.coldJoins(50, time.Second)
	r.add("cold-join", percentile(joins, 50, tookRTT), mean(joins, messagesOf))

	w.churn(0)
	w.crashShare(0.3)
	r.add("crash-30", percentOK(w.find(keys, o.lookups, 5*time.Millisecond, age)))
	r.end("warm", w)
}

// crash measures what survives when nodes end together.
func crash(o options, r *report) {
	w := newWorld(o.seed+1, o.nodes)
	w.RunFor(5 * time.Minute)
	w.crashShare(0.1)
	keys, published := w.publish("stale", max(5, min(40, o.nodes/25)), 5, 100*time.Millisecond, 0)
	r.add("placed", mean(published, placedOf))

	w.RunFor(5 * time.Minute)
	var saved [][]byte
	var restarting []*member
	for range min(40, o.nodes/10) {
		m := w.any(func(m *member) bool { return !m.hidden() && !m.pinned })
		saved, restarting = append(saved, m.MarshalTable()), append(restarting, m)
		w.crash(m)
	}
	w.crashShare(0.5)
	r.add("crash-50", percentOK(w.find(keys, o.lookups, 5*time.Millisecond, 0)))

	var first []sample
	for i, old := range restarting {
		m := w.start(old.id, old.contact.Addr, nil)
		_, err := m.RestoreTable(w.Now(), saved[i])
		check(err)
		w.findBy(m, keys[i%len(keys)], func(s sample) { first = append(first, s) })
		m.host.Settle()
		w.RunFor(100 * time.Millisecond)
	}
	w.RunFor(time.Minute)
	r.add("warm-restart", percentile(first, 50, tookRTT))
	r.end("crash", w)
}

// churning10m measures whether anything is found where nodes stay for minutes.
func churning10m(o options, r *report) {
	w := newWorld(o.seed+2, o.nodes)
	r.add("found-10m", w.foundInChurn(o, 10*time.Minute, 10*time.Minute, 10*time.Minute, 2*time.Minute))
	r.end("churn-10m", w)
}

// churning1m does where they hardly stay at all.
func churning1m(o options, r *report) {
	w := newWorld(o.seed+3, o.nodes)
	r.add("found-1.4m", w.foundInChurn(o, 84*time.Second, 5*time.Minute, 5*time.Minute, 30*time.Second))
	r.end("churn-1.4m", w)
}

// foundInChurn lets members stay for a median, publishes when that has settled,
// and looks for it some time later. Who publishes and who looks is of an age.
func (w *world) foundInChurn(o options, median, settle, between, age time.Duration) (percent float64) {
	w.churn(median)
	w.RunFor(settle)
	keys, _ := w.publish("churn", max(5, min(20, o.nodes/25)), 5, 100*time.Millisecond, age)
	w.RunFor(between)
	return percentOK(w.find(keys, o.lookups, 20*time.Millisecond, age))
}

// liars measures whether anything is found although members lie, and although
// somebody has put itself around a key.
func liars(o options, r *report) {
	w := newWorld(o.seed+4, o.nodes)
	w.RunFor(time.Minute)
	w.ground(o, r)
	w.foundAmong(o, r, w.newGang(20*o.nodes), "liars")
	r.end("liars", w)
}

// omitters measures the same with members that leave out all who are not of
// their gang, but name nobody who is not there.
func omitters(o options, r *report) {
	w := newWorld(o.seed+6, o.nodes)
	w.RunFor(time.Minute)
	w.foundAmong(o, r, w.newGang(0), "omitters")
	r.end("omitters", w)
}

// foundAmong has ever more members join a gang.
func (w *world) foundAmong(o options, r *report, g *gang, line string) {
	turned := 0
	for _, percent := range []int{20, 30, 50} {
		for ; turned < percent*o.nodes/100; turned++ {
			w.turn(w.any(func(m *member) bool { return !m.liar && !m.pinned && !m.hidden() }), g)
		}
		w.RunFor(time.Minute)
		name := fmt.Sprintf("%s-%d", line, percent)
		keys, _ := w.publish(name, max(5, min(20, o.nodes/25)), 5, 100*time.Millisecond, 0)
		w.RunFor(time.Minute)
		r.add(name, percentOK(w.find(keys, o.lookups, 20*time.Millisecond, 0)))
	}
}

// ground measures lookups of keys that somebody has surrounded: 40 nodes whose
// IDs are closer than any honest one, at addresses of four /24.
func (w *world) ground(o options, r *report) {
	g := w.newGang(0)
	var keys []provided
	holders := 0.0
	const attacked = 10
	for i := range attacked {
		key := w.newKey("attacked", i)
		near := w.closest(key, 3*closestK, nil)
		bits := 0
		for 1<<bits < 2*o.nodes {
			bits++
		}
		for j := range 40 {
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{60, byte(i), byte(j % 4), byte(j + 1)}), 4700)
			w.intrude(w.grind(key, bits, addr), g, near)
		}
		w.RunFor(10 * time.Second)
		keys = append(keys, provided{key: key})
	}
	w.RunFor(time.Minute)
	for i := range keys {
		m := w.settled(0)
		m.pinned = true
		keys[i].by = m
		over := false
		w.publishOne(m, keys[i].key, func(sample) { over = true })
		w.RunUntil(func() bool { return over }, w.Now().Add(time.Minute))
		holders += float64(w.holders(keys[i].key, w.closest(keys[i].key, 3*closestK, m))) / attacked
	}
	found := w.find(keys, o.lookups/2, 20*time.Millisecond, 0)
	r.add("ground", percentOK(found), holders)
}

// republish measures what it takes one node to keep very many keys known.
func republish(o options, r *report) {
	w := newWorld(o.seed+5, o.nodes)
	m := w.start(w.newIdentity(), memberAddr(1<<24), func(c *dht.Config) { c.RepublishInterval = 15 * time.Minute })
	joined := false
	w.join(m, func(error) { joined = true })
	w.RunUntil(func() bool { return joined }, w.Now().Add(time.Minute))
	w.RunFor(time.Minute)
	const keys = 100_000
	published := 0
	for i := range keys {
		m.Provide(w.Now(), w.newKey("many", i), func(int, error) { published++ })
	}
	m.host.Settle()
	lookups := func() uint64 {
		s := m.Stats(w.Now()).Lookups[dht.PurposePublish]
		return s.Found + s.NoAnswer + s.Cancelled
	}
	w.RunUntil(func() bool { return published == keys }, w.Now().Add(2*time.Hour))
	first, done := lookups(), m.Stats(w.Now()).Published
	for range 60 {
		if w.RunFor(time.Minute); m.Stats(w.Now()).Published >= done+keys {
			break
		}
	}
	r.add("republish", float64(lookups()-first))
	r.end("republish", w)
}
