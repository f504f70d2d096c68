package swarm

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/seigr/sttnode/stc"
)

// Three equal peers on a fast path are drawn from equally, even when one of
// them comes first.
func TestSchedulerSharesEvenly(t *testing.T) {
	for _, delay := range []time.Duration{200 * time.Microsecond, 20 * time.Millisecond} {
		m := newSim(t, testSeed(t), 1024, 256<<10, schedulerConfig{budget: 32 * mega})
		m.window = 4096
		// One line for all: the fetcher is the bottleneck.
		first := m.join(&simPeer{rate: 400 * mega, delay: delay, all: true})
		peers := []*simPeer{first}
		for range 2 {
			m.at(5*time.Millisecond, func() {
				peers = append(peers, m.join(&simPeer{rate: 400 * mega, delay: delay, all: true}))
			})
		}
		took, ok := m.run(time.Minute)
		if !ok {
			t.Fatal("not complete")
		}
		for _, p := range peers {
			if share := float64(p.served) / float64(m.wire); share < 0.2 {
				t.Errorf("delay %v: a peer served %.0f %%", delay, 100*share)
			}
		}
		if limit := m.ideal(peers...) * 12 / 10; took > limit+4*delay {
			t.Errorf("delay %v: took %v, ideal is %v", delay, took, m.ideal(peers...))
		}
		if m.duplicate*100 > m.wire*2 {
			t.Errorf("delay %v: %d of %d bytes twice", delay, m.duplicate, m.wire)
		}
	}
}

// ideal is the time that the peers need at least when nothing is sent twice.
func (m *sim) ideal(peers ...*simPeer) time.Duration {
	rate := 0.0
	for _, p := range peers {
		rate += p.rate
	}
	return seconds(float64(m.chunks*m.chunk) / rate)
}

// Links as in the figures of DESIGN §10: 100 Mbit/s each.
func TestSchedulerFillsLinks(t *testing.T) {
	const link = 12.5e6
	for _, rtt := range []time.Duration{5, 20, 50, 100, 200} {
		m := newSim(t, testSeed(t), 2048, 256<<10, schedulerConfig{budget: 32 * mega})
		var peers []*simPeer
		for range 4 {
			peers = append(peers, m.join(&simPeer{rate: link, delay: rtt * time.Millisecond, all: true}))
		}
		took, ok := m.run(10 * time.Minute)
		ideal := m.ideal(peers...)
		if !ok || took > ideal*105/100 {
			t.Errorf("RTT %d ms: %v, ideal is %v", rtt, took, ideal)
		}
		if m.duplicate*100 > m.wire*2 {
			t.Errorf("RTT %d ms: %d of %d bytes twice", rtt, m.duplicate, m.wire)
		}
		t.Logf("RTT %d ms: %.3f of ideal, %d duplicate", rtt, took.Seconds()/ideal.Seconds(), m.duplicate)
	}
}

// One peer at a tenth of the others' rate costs next to nothing.
func TestSchedulerSlowPeer(t *testing.T) {
	const link = 12.5e6
	m := newSim(t, testSeed(t), 2048, 256<<10, schedulerConfig{budget: 32 * mega})
	peers := []*simPeer{m.join(&simPeer{rate: link / 10, delay: 20 * time.Millisecond, all: true})}
	for range 3 {
		peers = append(peers, m.join(&simPeer{rate: link, delay: 20 * time.Millisecond, all: true}))
	}
	took, ok := m.run(10 * time.Minute)
	ideal := m.ideal(peers...)
	if !ok || took > ideal*103/100 {
		t.Errorf("%v, ideal is %v", took, ideal)
	}
	if m.duplicate*100 > m.wire*2 {
		t.Errorf("%d of %d bytes twice", m.duplicate, m.wire)
	}
}

// Nine of ten peers trickle.
func TestSchedulerTrickle(t *testing.T) {
	const link = 12.5e6
	m := newSim(t, testSeed(t), 1024, 256<<10, schedulerConfig{budget: 32 * mega})
	var fast []*simPeer
	for i := range 20 {
		if i%10 == 5 {
			fast = append(fast, m.join(&simPeer{rate: link, delay: 20 * time.Millisecond, all: true}))
		} else {
			m.join(&simPeer{rate: 1000, delay: 20 * time.Millisecond, all: true})
		}
	}
	took, ok := m.run(10 * time.Minute)
	if ideal := m.ideal(fast...); !ok || took > ideal*13/10 {
		t.Errorf("%v, ideal is %v", took, ideal)
	}
}

// A peer that dies midway, one that is mute and one that lies cost what they
// held, not more.
func TestSchedulerBadPeers(t *testing.T) {
	const link = 12.5e6
	m := newSim(t, testSeed(t), 1024, 256<<10, schedulerConfig{budget: 32 * mega})
	a := m.join(&simPeer{rate: link, delay: 20 * time.Millisecond, all: true})
	b := m.join(&simPeer{rate: link, delay: 20 * time.Millisecond, all: true})
	m.join(&simPeer{rate: link, delay: 20 * time.Millisecond, all: true, lies: true})
	m.join(&simPeer{rate: link, delay: 20 * time.Millisecond, all: true, mute: true})
	m.join(&simPeer{rate: link, delay: 20 * time.Millisecond, all: true, denies: true})
	m.at(3*time.Second, func() { m.leave(a) })
	took, ok := m.run(10 * time.Minute)
	if !ok {
		t.Fatal("not complete")
	}
	if m.liars != 1 || m.useless != 1 {
		t.Errorf("%d liars and %d useless peers found, want 1 and 1", m.liars, m.useless)
	}
	if m.bad > 2*firstWindow {
		t.Errorf("%d bad bytes", m.bad)
	}
	rest := m.ideal(b) - 3*time.Second // what b alone had to do
	if took > 3*time.Second+rest*11/10 {
		t.Errorf("took %v", took)
	}
}

// A peer that falls silent for a while, being the only one, is asked again
// when it wakes up.
func TestSchedulerOnlyPeerPauses(t *testing.T) {
	m := newSim(t, testSeed(t), 400, 256<<10, schedulerConfig{budget: 32 * mega})
	p := m.join(&simPeer{rate: 12.5e6, delay: 20 * time.Millisecond, all: true})
	m.at(time.Second, func() { p.busy = p.busy.Add(12 * time.Second) })
	took, ok := m.run(time.Minute)
	if limit := m.ideal(p) + 13*time.Second; !ok || took > limit {
		t.Errorf("%v, %v; want at most %v", took, ok, limit)
	}
	if m.duplicate != 0 {
		t.Errorf("%d bytes came twice from one peer", m.duplicate)
	}
}

// Chunks that few have are asked for first, and fetchers that start together
// ask a single seeder for different ones.
func TestSchedulerOrder(t *testing.T) {
	seed := testSeed(t)
	now := time.Unix(0, 0)
	s := newScheduler(schedulerConfig{budget: 64 * mega, timeout: time.Minute, seed: seed})
	full, part := s.addPeer(now), s.addPeer(now)
	s.peerHasAll(full)
	s.proved(full)
	s.peerHas(part, []span{{0, 90}})
	for i := range uint64(100) {
		s.add(simHash(int(i)), 1<<10, false, span{i, i + 1})
	}
	// Whatever the full peer is asked for first is what only it has.
	var out plan
	s.byID[part].snubbed = true
	s.schedule(now, &out)
	for i, w := range out.wants[:10] {
		if w.peer != full || binary.BigEndian.Uint64(w.hash[:]) < 90 {
			t.Errorf("request %d is for chunk %d of peer %d", i, binary.BigEndian.Uint64(w.hash[:]), w.peer)
		}
	}

	taken := make(map[stc.Hash]int)
	const fetchers, each = 16, 16
	for f := range uint64(fetchers) {
		s := newScheduler(schedulerConfig{budget: each << 10, timeout: time.Minute, seed: seed + f})
		for i := range uint64(4096) {
			s.add(simHash(int(i)), 1<<10, false, span{i, i + 1})
		}
		id := s.addPeer(now)
		s.peerHasAll(id)
		s.proved(id)
		s.byID[id].est.sample(now, time.Millisecond, mega)
		var out plan
		s.schedule(now, &out)
		for _, w := range out.wants {
			taken[w.hash]++
		}
	}
	if len(taken) < fetchers*each*8/10 {
		t.Errorf("%d fetchers with %d requests each asked for %d different chunks", fetchers, each, len(taken))
	}

	s = newScheduler(schedulerConfig{budget: 64 * mega, timeout: time.Minute, sequential: true})
	for i := range uint64(100) {
		s.add(simHash(int(i)), 1<<10, false, span{i, i + 1})
	}
	all := s.addPeer(now)
	s.peerHasAll(all)
	s.proved(all)
	out.reset()
	s.schedule(now, &out)
	if !slices.IsSortedFunc(out.wants, func(a, b wantAction) int { return a.hash.Compare(b.hash) }) {
		t.Error("sequential order is not sequential")
	}
}

// Swarms at random: whenever the honest peers together are complete, the
// fetch ends, and the promises hold at every step.
func TestSchedulerRandomSwarms(t *testing.T) {
	seed := testSeed(t)
	rounds := 150
	if testing.Short() {
		rounds = 30
	}
	for round := range rounds {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			decisions := randomSwarm(t, seed+uint64(round))
			if round%10 == 0 && randomSwarm(t, seed+uint64(round)) != decisions {
				t.Errorf("seed %d: two runs decide differently", seed+uint64(round))
			}
		})
	}
}

// randomSwarm returns a hash of everything that the scheduler decided.
func randomSwarm(t *testing.T, seed uint64) uint64 {
	rng := rand.New(rand.NewPCG(seed, 3))
	chunks := 1 + rng.IntN(400)
	chunk := 1 << (10 + rng.IntN(9))
	budget := 4*mega + rng.IntN(28*mega)
	m := newSim(t, seed, chunks, chunk, schedulerConfig{budget: budget, sequential: rng.IntN(4) == 0})
	m.window = 16 + rng.IntN(1024)
	n := 1 + rng.IntN(12)
	honest := rangeSet{}
	random := func() *simPeer {
		p := &simPeer{
			rate:  float64(int(20_000) << rng.IntN(14)),
			delay: time.Duration(rng.IntN(200_000)) * time.Microsecond,
		}
		switch rng.IntN(10) {
		case 0:
			p.lies = true
		case 1:
			p.denies = true
		case 2:
			p.mute = true
		}
		p.all = rng.IntN(3) == 0
		if !p.all {
			for range rng.IntN(10) {
				lo := rng.Uint64N(uint64(chunks))
				p.have.add(span{lo, min(uint64(chunks), lo+1+rng.Uint64N(uint64(chunks)))})
			}
		}
		return p
	}
	var stays []*simPeer
	for range n {
		p := random()
		m.at(time.Duration(rng.IntN(5000))*time.Millisecond, func() { m.join(p) })
		if p.lies || p.denies || p.mute {
			continue
		}
		if rng.IntN(3) == 0 {
			m.at(time.Duration(5000+rng.IntN(5000))*time.Millisecond, func() { m.leave(p) })
			continue
		}
		stays = append(stays, p)
		if p.all {
			honest.add(span{0, uint64(chunks)})
		}
		for _, s := range p.have.spans {
			honest.add(s)
		}
	}
	if !honest.covers(span{0, uint64(chunks)}) {
		// Somebody who stays gains what is missing, piece by piece.
		if len(stays) == 0 {
			p := &simPeer{rate: 1e6, delay: time.Millisecond}
			m.join(p)
			stays = append(stays, p)
		}
		for i := range chunks {
			if !honest.contains(uint64(i)) {
				p := stays[rng.IntN(len(stays))]
				var gain func()
				gain = func() {
					if p.id == 0 { // not joined yet
						m.at(time.Second, gain)
						return
					}
					m.gain(p, span{uint64(i), uint64(i) + 1})
				}
				m.at(time.Duration(rng.IntN(20_000))*time.Millisecond, gain)
			}
		}
	}
	took, ok := m.run(2 * time.Hour)
	if !ok {
		t.Fatalf("seed %d: %d of %d chunks after %v", seed, len(m.stored), chunks, took)
	}
	if m.maxUsed > budget+n*chunk {
		t.Errorf("seed %d: %d bytes asked or held with a budget of %d", seed, m.maxUsed, budget)
	}
	if m.s.size() != 0 || m.s.held != 0 {
		t.Errorf("seed %d: %d items and %d bytes left", seed, m.s.size(), m.s.held)
	}
	return m.decisions.Sum64()
}

// BenchmarkScheduler measures the time that the scheduler takes for one chunk
// on its whole way, with a window of 4096.
func BenchmarkScheduler(b *testing.B) {
	for _, peers := range []int{1, 4, 32} {
		b.Run(fmt.Sprintf("peers=%d", peers), func(b *testing.B) {
			const chunk = 256 << 10
			now := time.Unix(0, 0)
			s := newScheduler(schedulerConfig{budget: 32 * mega, timeout: time.Minute, seed: 1})
			for i := range peers {
				id := s.addPeer(now)
				if i == 0 {
					s.peerHasAll(id)
				} else {
					s.peerHas(id, []span{{uint64(i), 1 << 40}})
				}
			}
			var out plan
			var queue []wantAction
			added, done := 0, 0
			b.ReportAllocs()
			for b.Loop() {
				for s.size() < 4096 {
					s.add(simHash(added), chunk, false, span{uint64(added), uint64(added) + 1})
					added++
				}
				out.reset()
				s.schedule(now, &out)
				queue = append(queue, out.wants...)
				w := queue[0]
				queue = queue[1:]
				now = now.Add(time.Millisecond)
				it, v := s.received(w.peer, w.request, chunk, now, &out)
				if v == answerWanted {
					s.proved(w.peer)
					s.stored(it)
					done++
				}
			}
		})
	}
}
