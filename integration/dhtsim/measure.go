package main

import (
	"slices"
	"time"

	"github.com/seigr/sttnode/dht"
	"github.com/seigr/sttnode/stc"
)

// provided is a key and who provides it.
type provided struct {
	key stc.Hash
	by  *member
}

// sample is what one measured operation took.
type sample struct {
	ok       bool
	took     time.Duration
	messages int
	placed   int // publishes: how many of the true closest nodes hold the record
}

// publish has members publish keys, perMember each, one every interval, and
// returns what was published and what each took until 15 nodes had
// acknowledged it. Messages are all requests that were sent for it. The
// providers stay.
func (w *world) publish(name string, members, perMember int, every, age time.Duration) (keys []provided, samples []sample) {
	var by []*member
	for range members {
		m := w.settled(age)
		m.pinned = true
		by = append(by, m)
	}
	open := 0
	for i := range members * perMember {
		m, key := by[i%members], w.newKey(name, i)
		keys = append(keys, provided{key, m})
		open++
		w.publishOne(m, key, func(s sample) {
			samples = append(samples, s)
			open--
		})
		w.RunFor(every)
	}
	w.RunUntil(func() bool { return open == 0 }, w.Now().Add(2*time.Minute))
	return keys, samples
}

const acknowledged = 15

func (w *world) publishOne(m *member, key stc.Hash, done func(sample)) {
	began, before := w.Now(), m.Stats(w.Now())
	s := sample{}
	var watch func()
	watch = func() {
		switch {
		case s.took > 0:
		case m.Holders(key) >= acknowledged:
			s.took = w.Now().Sub(began)
		default:
			w.After(time.Millisecond, watch)
		}
	}
	m.Provide(began, key, func(stored int, _ error) {
		if s.ok = stored >= acknowledged; s.took == 0 {
			s.took = w.Now().Sub(began)
		}
		w.After(5*time.Second, func() { // for what is still under way
			after := m.Stats(w.Now())
			for _, method := range []dht.Method{dht.MethodFindNode, dht.MethodAddProvider} {
				a, b := after.RPC[method], before.RPC[method]
				s.messages += int(a.Sent + a.Repeated + a.Challenged - b.Sent - b.Repeated - b.Challenged)
			}
			s.placed = w.holders(key, w.closest(key, closestK, m))
			done(s)
		})
	})
	m.host.Settle()
	watch()
}

// find has settled members look for keys, one every interval, each until the
// first provider comes; samples are ok if the right one did.
func (w *world) find(keys []provided, n int, every, age time.Duration) []sample {
	return w.lookups(n, every, age, func(i int, m *member, done func(sample)) { w.findBy(m, keys[i%len(keys)], done) })
}

// findBy has m look for a key.
func (w *world) findBy(m *member, k provided, done func(sample)) {
	began := w.Now()
	over := false
	var lookup dht.Lookup
	end := func(ok bool, messages int) {
		if !over {
			over = true
			w.After(0, func() { // not from within the callback
				done(sample{ok: ok, took: w.Now().Sub(began), messages: messages})
				lookup.Cancel(w.Now())
			})
		}
	}
	lookup = m.FindProviders(began, k.key, func(c dht.Contact) {
		switch {
		case c.ID != k.by.contact.ID:
		case w.Now().Equal(began): // we hold the record ourselves
			end(true, 0)
		default:
			end(true, lookup.Stats(w.Now()).Requests)
		}
	}, func(stats dht.LookupStats, _ error) { end(false, stats.Requests) })
	m.host.Settle()
}

// findNothing has settled members look for what nobody has, to the end.
func (w *world) findNothing(n int, every, age time.Duration) []sample {
	return w.lookups(n, every, age, func(i int, m *member, done func(sample)) {
		m.FindProviders(w.Now(), w.newKey("nothing", i), func(dht.Contact) {}, func(stats dht.LookupStats, _ error) {
			done(sample{ok: stats.Complete, took: stats.Duration, messages: stats.Requests})
		})
	})
}

func (w *world) lookups(n int, every, age time.Duration, one func(i int, m *member, done func(sample))) (samples []sample) {
	open := 0
	for i := range n {
		m := w.settled(age)
		m.pinned = true
		open++
		one(i, m, func(s sample) {
			samples = append(samples, s)
			m.pinned = false
			open--
			w.mayEnd(m)
		})
		m.host.Settle()
		w.RunFor(every)
	}
	w.RunUntil(func() bool { return open == 0 }, w.Now().Add(time.Minute))
	return samples
}

// coldJoins has n new nodes join, each by one member, one every interval.
func (w *world) coldJoins(n int, every time.Duration) (samples []sample) {
	open := 0
	for range n {
		m := w.addDialable()
		m.pinned = true
		open++
		began := w.Now()
		w.join(m, func(err error) {
			s := sample{ok: err == nil, took: w.Now().Sub(began)}
			w.After(2*time.Second, func() { // for what goes on after it has joined
				s.messages = int(m.Stats(w.Now()).DatagramsOut)
				samples = append(samples, s)
				m.pinned = false
				open--
			})
		})
		w.RunFor(every)
	}
	w.RunUntil(func() bool { return open == 0 }, w.Now().Add(time.Minute))
	return samples
}

// upkeep returns how many datagrams and bytes a node sends in a second.
func (w *world) upkeep(d time.Duration) (messages, bytes float64) {
	total := func() (out, b uint64) {
		for _, m := range w.members {
			s := m.Stats(w.Now())
			out, b = out+s.DatagramsOut, b+s.BytesOut
		}
		return out, b
	}
	w.ended.datagrams, w.ended.bytes = 0, 0
	datagrams, sent := total()
	w.RunFor(d)
	after, sentAfter := total()
	nodeSeconds := float64(len(w.members)) * d.Seconds()
	return float64(after+w.ended.datagrams-datagrams) / nodeSeconds, float64(sentAfter+w.ended.bytes-sent) / nodeSeconds
}

// percentile returns the p-th percentile of what f says of all samples: one
// that failed counts with what it took until then.
func percentile(samples []sample, p float64, f func(sample) float64) float64 {
	var values []float64
	for _, s := range samples {
		values = append(values, f(s))
	}
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[min(int(p/100*float64(len(values))), len(values)-1)]
}

func tookRTT(s sample) float64    { return float64(s.took) / float64(rtt) }
func messagesOf(s sample) float64 { return float64(s.messages) }
func placedOf(s sample) float64   { return float64(s.placed) }
func percentOK(s []sample) float64 {
	return 100 * mean(s, func(s sample) float64 { return oneIf(s.ok) })
}
func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func mean(samples []sample, f func(sample) float64) (sum float64) {
	for _, s := range samples {
		sum += f(s)
	}
	return sum / float64(max(1, len(samples)))
}
