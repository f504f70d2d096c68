package swarm

import (
	"container/heap"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/fnv"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/seigr/sttnode/stc"
)

// sim drives a scheduler against simulated peers in virtual time. It checks
// the promises of the scheduler at every step.
type sim struct {
	t      testing.TB
	s      *scheduler
	now    time.Time
	start  time.Time
	events simEvents
	seq    int
	peers  map[peerID]*simPeer
	rng    *rand.Rand

	chunks, chunk int // of the content
	added, window int
	stored        map[stc.Hash]bool
	index         map[stc.Hash]int // ordinal by hash
	verifyTime    time.Duration

	wire      int64 // bytes of all blobs
	duplicate int64
	bad       int64
	liars     int
	dead      int
	useless   int
	maxUsed   int
	decisions hash.Hash64
}

type simPeer struct {
	id      peerID
	rate    float64 // bytes per second
	delay   time.Duration
	all     bool
	have    rangeSet // announced
	lies    bool     // sends wrong bytes
	lied    int      // how many chunks of them
	denies  bool     // answers everything with MISSING
	mute    bool     // answers nothing
	gone    bool
	busy    time.Time // its line is busy until then
	answers map[uint32]*simAnswer
	served  int64
}

type simAnswer struct {
	start     time.Time
	cancelled bool
}

type simEvent struct {
	at  time.Time
	seq int
	do  func()
}

type simEvents []simEvent

func (e simEvents) Len() int { return len(e) }
func (e simEvents) Less(i, j int) bool {
	return e[i].at.Before(e[j].at) || e[i].at.Equal(e[j].at) && e[i].seq < e[j].seq
}
func (e simEvents) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *simEvents) Push(x any)   { *e = append(*e, x.(simEvent)) }
func (e *simEvents) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	*e = (*e)[:last]
	return x
}

func newSim(t testing.TB, seed uint64, chunks, chunk int, cfg schedulerConfig) *sim {
	start := time.Unix(1_000_000, 0)
	if cfg.timeout == 0 {
		cfg.timeout = 30 * time.Second
	}
	cfg.seed = seed
	return &sim{
		t: t, s: newScheduler(cfg), now: start, start: start,
		peers: make(map[peerID]*simPeer), rng: rand.New(rand.NewPCG(seed, 2)),
		chunks: chunks, chunk: chunk, window: 512,
		stored: make(map[stc.Hash]bool), index: make(map[stc.Hash]int),
		verifyTime: time.Millisecond,
		decisions:  fnv.New64a(),
	}
}

func (m *sim) at(d time.Duration, do func()) {
	m.seq++
	heap.Push(&m.events, simEvent{m.now.Add(d), m.seq, do})
}

func (m *sim) join(p *simPeer) *simPeer {
	p.id = m.s.addPeer(m.now)
	p.answers = make(map[uint32]*simAnswer)
	m.peers[p.id] = p
	if p.all {
		m.s.peerHasAll(p.id)
	} else if len(p.have.spans) > 0 {
		m.s.peerHas(p.id, p.have.spans)
	}
	return p
}

// gain announces more chunks of a partial peer.
func (m *sim) gain(p *simPeer, s span) {
	if !p.gone {
		p.have.add(s)
		m.s.peerHas(p.id, []span{s})
	}
}

func (m *sim) leave(p *simPeer) {
	if !p.gone {
		p.gone = true
		m.s.removePeer(p.id)
		delete(m.peers, p.id)
	}
}

func simHash(i int) (h stc.Hash) {
	binary.BigEndian.PutUint64(h[:], uint64(i))
	h[31] = 1
	return h
}

// run steps until all chunks are stored, or nothing happens any more, or
// limit has passed. It returns the virtual time taken.
func (m *sim) run(limit time.Duration) (time.Duration, bool) {
	var out plan
	for steps := 0; ; steps++ {
		for m.added < m.chunks && m.s.size() < m.window {
			h := simHash(m.added)
			m.index[h] = m.added
			at := uint64(m.added)
			m.s.add(h, m.chunk, false, span{at, at + 1})
			m.added++
		}
		m.s.draining = m.added == m.chunks
		out.reset()
		next := m.s.schedule(m.now, &out)
		m.obey(&out)
		m.check()
		if len(m.stored) == m.chunks {
			return m.now.Sub(m.start), true
		}
		switch {
		case len(m.events) > 0 && (next.IsZero() || !next.Before(m.events[0].at)):
			e := heap.Pop(&m.events).(simEvent)
			m.now = e.at
			e.do()
		case next.IsZero():
			return m.now.Sub(m.start), false
		default:
			if !next.After(m.now) {
				m.t.Fatalf("deadline %v is not in the future of %v", next, m.now)
			}
			m.now = next
		}
		if m.now.Sub(m.start) > limit {
			return m.now.Sub(m.start), false
		}
		if steps > 5_000_000 {
			m.t.Fatal("the scheduler does not come to an end")
		}
	}
}

func (m *sim) obey(out *plan) {
	fmt.Fprintln(m.decisions, m.now, out.wants, out.cancels, out.dead)
	for _, w := range out.wants {
		p := m.peers[w.peer]
		if p == nil {
			m.t.Fatal("request to a peer that has left")
		}
		i := m.index[w.hash]
		if !p.all && !p.have.contains(uint64(i)) {
			m.t.Fatalf("peer %d is asked for chunk %d, which it never announced", p.id, i)
		}
		if m.stored[w.hash] {
			m.t.Fatalf("chunk %d is asked for again", i)
		}
		if p.answers[w.request] != nil {
			m.t.Fatalf("request number %d is used twice", w.request)
		}
		if len(p.answers) >= maxOpenRequests {
			m.t.Fatalf("peer %d has %d open requests", p.id, len(p.answers))
		}
		m.request(p, w.request, i)
	}
	for _, c := range out.cancels {
		p := m.peers[c.peer]
		if a := p.answers[c.request]; a != nil && a.start.After(m.now.Add(p.delay/2)) {
			a.cancelled = true
		}
	}
	for _, id := range out.dead {
		if !m.peers[id].mute && m.peers[id].rate > 10_000 {
			m.t.Fatalf("peer %d is taken for dead", id)
		}
		m.dead++
		m.leave(m.peers[id])
	}
}

func (m *sim) request(p *simPeer, id uint32, chunk int) {
	a := &simAnswer{start: m.now.Add(p.delay / 2)}
	p.answers[id] = a
	if p.mute {
		return
	}
	size := m.chunk
	if p.denies {
		size = 0
	}
	if p.busy.After(a.start) {
		a.start = p.busy
	}
	p.busy = a.start.Add(seconds(float64(size) / p.rate))
	m.at(p.busy.Add(p.delay/2).Sub(m.now), func() {
		if !p.gone {
			delete(p.answers, id)
			m.answer(p, id, a, chunk)
		}
	})
}

func (m *sim) answer(p *simPeer, id uint32, a *simAnswer, chunk int) {
	var out plan
	switch {
	case a.cancelled:
		p.busy = p.busy.Add(-seconds(float64(m.chunk) / p.rate))
		if m.s.cancelled(p.id, id, m.now) != answerNoted {
			m.t.Fatal("CANCELLED not expected")
		}
		return
	case p.denies:
		switch m.s.missing(p.id, id, m.now) {
		case answerUseless:
			m.useless++
			m.leave(p)
		case answerUnasked:
			m.t.Fatal("MISSING not expected")
		}
		return
	}
	m.wire += int64(m.chunk)
	p.served += int64(m.chunk)
	if p.lies {
		if p.lied++; p.lied > unprovenChunks {
			m.t.Fatalf("liar %d has sent %d chunks", p.id, p.lied)
		}
	}
	it, v := m.s.received(p.id, id, m.chunk, m.now, &out)
	switch v {
	case answerWanted:
		m.at(m.verifyTime, func() {
			if p.lies {
				m.bad += int64(m.chunk)
				m.s.rejected(it)
				if !p.gone {
					m.liars++
				}
				m.leave(p)
				return
			}
			if m.stored[it.hash] {
				m.t.Fatalf("chunk %d is stored twice", chunk)
			}
			m.stored[it.hash] = true
			m.s.proved(p.id)
			m.s.handedOver(it)
			m.s.stored(it)
		})
	case answerDuplicate, answerLate:
		m.duplicate += int64(m.chunk)
	default:
		m.t.Fatalf("verdict %d", v)
	}
	m.obey(&out)
}

// check recounts everything that the scheduler keeps sums of.
func (m *sim) check() {
	s := m.s
	asked, held, waiting := 0, 0, 0
	for _, it := range s.items {
		switch it.state {
		case itemHeld:
			held += it.size
		case itemWaiting:
			waiting++
			if s.queues[it.queue].items[it.pos] != it {
				m.t.Fatal("item is not where it thinks it is")
			}
		case itemAsked:
			if len(it.requests) == 0 {
				m.t.Fatal("nobody is asked for an item that counts as asked")
			}
		}
	}
	for _, p := range s.peers {
		flight := 0
		for _, r := range p.open {
			flight += r.size
			if !r.late {
				asked += r.size
			}
		}
		if !p.proven && p.unjudged > unprovenChunks {
			m.t.Fatalf("%d chunks are asked of peer %d, of which none was verified", p.unjudged, p.id)
		}
		if flight != p.inFlight {
			m.t.Fatalf("peer %d: %d bytes in flight, counted %d", p.id, flight, p.inFlight)
		}
	}
	live := 0
	for i := range s.queues {
		live += s.queues[i].live
	}
	if live != waiting || asked != s.asked || held != s.held {
		m.t.Fatalf("sums: live %d waiting %d, asked %d %d, held %d %d", live, waiting, asked, s.asked, held, s.held)
	}
	m.maxUsed = max(m.maxUsed, asked+held)
}

const mega = 1 << 20
