package main

import (
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/seigr/sttnode/dht"
)

var small = options{nodes: 50, seed: 7, churn: 2 * time.Hour, lookups: 40, only: []string{"crash"}, at: 1}

// The same seed gives the same run, datagram by datagram, and another seed
// another one.
func TestSameSeedSameRun(t *testing.T) {
	first, again := small.run(io.Discard), small.run(io.Discard)
	if first.hash() != again.hash() || first.sent != again.sent || first.sent == 0 {
		t.Errorf("%016x after %d datagrams, then %016x after %d", first.hash(), first.sent, again.hash(), again.sent)
	}
	other := small
	other.seed++
	if other.run(io.Discard).hash() == first.hash() {
		t.Error("another seed gives the same run")
	}
}

// Every line is judged by its figures: in which direction, and which of them.
func TestVerdicts(t *testing.T) {
	for _, test := range []struct {
		line     string
		nodes    int
		measured []float64
		met      bool
	}{
		{"first", 1000, []float64{0.8, 1.3, 2.004}, true},
		{"first", 1000, []float64{0.8, 1.3, 2.1}, false},
		{"first", 10_000, []float64{0.9, 1.5, 2.5}, true},
		{"crash-50", 1000, []float64{99.95}, true},
		{"crash-50", 1000, []float64{99.94}, false},
		{"ground", 1000, []float64{100, 9}, false},
		{"ground", 1000, []float64{100, 15}, true},
	} {
		r := newReport()
		r.add(test.line, test.measured...)
		var out strings.Builder
		r.printJSON(&out, options{nodes: test.nodes})
		var res result
		if err := json.NewDecoder(strings.NewReader(out.String())).Decode(&res); err != nil || res.Line != test.line || res.Met != test.met {
			t.Errorf("%v: %+v, %v", test, res, err)
		}
		out.Reset()
		r.print(&out, options{nodes: test.nodes})
		if strings.Contains(out.String(), "missed") == test.met {
			t.Errorf("%v: printed as\n%s", test, out.String())
		}
	}
}

// Liars stay in the tables of honest nodes, and what they say is taken for an
// answer: it leads lookups to nodes that do not exist.
func TestLiarsAreBelieved(t *testing.T) {
	w := newWorld(3, 50)
	g := w.newGang(2000)
	for range 15 {
		w.turn(w.any(func(m *member) bool { return !m.liar && !m.hidden() }), g)
	}
	w.RunFor(time.Minute)
	m := w.settled(0)
	known := 0
	for _, c := range m.Contacts() {
		for _, l := range g.liars {
			if c.ID == l.ID {
				known++
			}
		}
	}
	if known < 14 {
		t.Errorf("%d of 15 liars are in the table of an honest node", known)
	}
	var stats dht.LookupStats
	m.FindNode(w.Now(), w.newKey("nothing", 1), func(_ []dht.Contact, s dht.LookupStats, _ error) { stats = s })
	m.host.Settle()
	w.RunFor(time.Minute)
	if stats.Asked < stats.Answered+10 || stats.Answered < 20 {
		t.Errorf("asked %d nodes, %d answered: nobody was led astray", stats.Asked, stats.Answered)
	}
}

// Those who only leave out name their gang and nobody else, as far as it goes.
func TestOmittersNameTheirGang(t *testing.T) {
	w := newWorld(4, 60)
	g := w.newGang(0)
	for _, n := range []int{5, 30} {
		for len(g.liars) < n {
			w.turn(w.any(func(m *member) bool { return !m.liar && !m.hidden() }), g)
		}
		list := (&liar{w: w, gang: g}).appendNodes(nil, w.newKey("any", 1))
		if int(list[0]) != min(n, closestK) || len(list) != 1+int(list[0])*(1+4+2+32) {
			t.Errorf("%d omitters: %d nodes in %d bytes", n, list[0], len(list))
		}
	}
	for range 3 {
		m, key := w.settled(0), w.newKey("there", 1)
		var stats dht.LookupStats
		m.FindNode(w.Now(), key, func(_ []dht.Contact, s dht.LookupStats, _ error) { stats = s })
		m.host.Settle()
		w.RunFor(time.Minute)
		if stats.Answered < closestK || stats.Asked > stats.Answered+5 {
			t.Errorf("asked %d nodes, %d answered: who is not there was named", stats.Asked, stats.Answered)
		}
	}
}
