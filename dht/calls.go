package dht

import (
	"container/heap"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/seigr/sttnode/stc"
)

// caller makes requests of other nodes. Lookups, publishing and upkeep know
// the network by this and nothing else.
type caller interface {
	// call sends a request and reports what becomes of it: at most one
	// stalled, at most one failed, and answered even after these if the answer
	// comes late. report is never called before call has returned.
	call(now time.Time, to Contact, request message, opts callOptions, report reportFunc)
}

type reportFunc func(now time.Time, r report)

// report is what became of a call.
type report struct {
	outcome outcome
	answer  *message      // answered: the answer; nobody changes it
	rtt     time.Duration // answered: since the request that was answered went out
}

type outcome uint8

const (
	callAnswered outcome = iota
	callStalled          // no answer in the time that this peer usually takes
	callRepeated         // nor in the longest that it might; asked once more
	callFailed           // given up; an answer counts still, for a while
)

// pending reports whether more is to come.
func (o outcome) pending() bool { return o == callStalled || o == callRepeated }

// callOptions vary a call from the usual.
type callOptions struct {
	// bare sends the request once, without padding: to an address that has not
	// proven itself and whose request paid for no more than this.
	bare bool
	// once sends the request once: where others can be asked instead.
	once bool
	// insist sends the request up to three times instead of twice: where there
	// is nobody else to ask, a lost packet or two must not decide.
	insist bool
}

const (
	// A call fails after this many times the patience with its peer, and the
	// request goes out at most as often.
	patienceToFail = 3
	// No call fails earlier than this.
	minCallTime = 500 * time.Millisecond
	// Answers are waited for this long after a call has failed.
	lateAnswers = 10 * time.Second
	// maxCalls bounds the calls that are waited for at a time.
	maxCalls = 8192
)

// call is one request that waits for its answer, or for a late one.
type call struct {
	tx         uint64
	to         Contact
	request    message
	opts       callOptions
	report     reportFunc
	state      callState
	began      time.Time // when it was called
	sent       time.Time // when the request went out last
	patience   time.Duration
	repeats    int  // how often the request went out again; an answer tells no RTT then
	challenged bool // a challenge was met already
	index      int  // in the heap of calls
}

// callState says what the call waits for. waiting → stalled → repeated → failed,
// by the clock; an answer ends the call in each of them.
type callState uint8

const (
	callStateWaiting callState = iota
	callStateStalled
	callStateRepeated
	callStateFailed
)

// calls keeps the calls that are out: it makes their datagrams, matches
// answers to them, repeats and gives up. An answer counts only if it comes
// from the node and the address that the request went to and names its
// transaction. Not safe for concurrent use.
type calls struct {
	send  func(now time.Time, to Contact, m *message) error // seals and sends
	grant func(now time.Time, to Contact) cookie            // zero if we do not want to be asked
	peers *peers
	rng   *rand.Rand
	stats *Stats

	// These are told first, before the report is made.
	onAnswer func(now time.Time, from Contact, answer *message)
	onFail   func(now time.Time, to Contact, began time.Time)

	byTx  map[uint64]*call
	queue callQueue // of all of them
}

var _ caller = (*calls)(nil)

func (c *calls) call(now time.Time, to Contact, request message, opts callOptions, report reportFunc) {
	k := &call{to: to, request: request, opts: opts, report: report, began: now, patience: c.peers.patience(to)}
	for k.tx = c.rng.Uint64(); c.byTx[k.tx] != nil; k.tx = c.rng.Uint64() {
	}
	k.request.tx = k.tx
	c.byTx[k.tx] = k
	wake := now.Add(c.peers.stall(to))
	if len(c.byTx) > maxCalls || !c.transmit(now, k) {
		k.state, wake = callStateRepeated, now // fails as soon as we are back in expire
	}
	heap.Push(&c.queue, k)
	c.wakeAt(k, wake)
	c.stats.RPC[methodOf(request.kind)].Sent++
}

// transmit sends the request of k, with the proof of our address that k's peer
// granted us. Without one the request is padded, so that the answer, which may
// not be longer, can say something.
func (c *calls) transmit(now time.Time, k *call) bool {
	m := k.request
	m.grant = c.grant(now, k.to)
	if !k.opts.bare {
		if m.proof = c.peers.proof(now, k.to); m.proof == (cookie{}) {
			m.pad = padding(m.kind, m.size())
		}
	}
	k.sent = now
	return c.send(now, k.to, &m) == nil
}

// padding returns how much to add to an unproven request of size bytes: to
// those that are answered with a list, as much as a datagram holds; to a PING,
// enough for its answer and for one PING in return.
func padding(k kind, size int) int {
	switch k {
	case kindFindNode, kindFindProviders, kindGetRecord:
		return maxMessage - size
	case kindPing, kindDialBack:
		return max(0, 2*barePing-sealOverhead-size)
	}
	return 0
}

// answered takes an answer. It reports whether it belonged to a call.
func (c *calls) answered(now time.Time, from stc.PublicKey, addr netip.AddrPort, m *message) bool {
	k := c.byTx[m.tx]
	if k == nil || k.to.Key != from || !sameAddr(k.to.Addr, addr) {
		return false
	}
	if m.kind != kindChallenge && m.kind != k.request.kind|kindAnswer {
		return false
	}
	c.peers.granted(now, k.to, m.grant)
	if k.repeats == 0 && k.state != callStateFailed {
		c.peers.measured(k.to, now.Sub(k.sent))
		c.stats.RPC[methodOf(k.request.kind)].took(now.Sub(k.sent))
	}
	rpc := &c.stats.RPC[methodOf(k.request.kind)]
	if m.kind == kindChallenge {
		c.challenged(now, k, m)
		return true
	}
	delete(c.byTx, k.tx)
	heap.Remove(&c.queue, k.index)
	rpc.Answered++
	if k.state == callStateFailed {
		rpc.Late++
	}
	c.onAnswer(now, k.to, m)
	k.report(now, report{outcome: callAnswered, answer: m, rtt: now.Sub(k.sent)})
	return true
}

// challenged repeats the request with the cookie that was granted, once.
func (c *calls) challenged(now time.Time, k *call, m *message) {
	if k.challenged || m.grant == (cookie{}) || k.state == callStateFailed {
		return
	}
	c.stats.RPC[methodOf(k.request.kind)].Challenged++
	k.challenged, k.repeats = true, 0
	if !c.transmit(now, k) {
		return
	}
	k.patience = c.peers.patience(k.to)
	wait := k.patience
	switch k.state {
	case callStateWaiting:
		wait = c.peers.stall(k.to)
	case callStateRepeated:
		wait = k.remaining()
	}
	c.wakeAt(k, now.Add(wait))
}

// wakeAt changes when something is to be done about a call.
func (c *calls) wakeAt(k *call, at time.Time) {
	c.queue[k.index].wake = c.peers.clock.at(at)
	heap.Fix(&c.queue, k.index)
}

// remaining is how long a call goes on after it was repeated until it fails.
func (k *call) remaining() time.Duration {
	return max((patienceToFail-1)*k.patience, minCallTime-k.patience)
}

// repeat sends the request of a call once more, as far as it may.
func (c *calls) repeat(now time.Time, k *call) {
	wait := k.remaining()
	if !k.opts.bare && !k.opts.once {
		c.stats.RPC[methodOf(k.request.kind)].Repeated++
		k.repeats++
		c.transmit(now, k)
	}
	if k.opts.insist {
		wait /= 2 // once in each half
	}
	c.wakeAt(k, now.Add(wait))
}

// deadline returns when expire wants to be called; the zero time for never.
func (c *calls) deadline() time.Time {
	if len(c.queue) == 0 {
		return time.Time{}
	}
	return c.peers.clock.time(c.queue[0].wake)
}

// expire repeats, gives up and forgets what is due.
func (c *calls) expire(now time.Time) {
	for at := c.peers.clock.at(now); len(c.queue) > 0 && c.queue[0].wake <= at; {
		k := c.queue[0].call
		switch k.state {
		case callStateWaiting:
			k.state = callStateStalled
			c.wakeAt(k, k.sent.Add(max(k.patience, now.Sub(k.sent))))
			k.report(now, report{outcome: callStalled})
		case callStateStalled:
			k.state = callStateRepeated
			c.repeat(now, k)
			if k.repeats > 0 {
				k.report(now, report{outcome: callRepeated})
			}
		case callStateRepeated:
			if k.opts.insist && k.repeats == 1 {
				c.repeat(now, k)
				continue
			}
			k.state = callStateFailed
			c.wakeAt(k, now.Add(lateAnswers))
			c.stats.RPC[methodOf(k.request.kind)].Failed++
			c.onFail(now, k.to, k.began)
			k.report(now, report{outcome: callFailed})
		case callStateFailed:
			delete(c.byTx, k.tx)
			heap.Remove(&c.queue, k.index)
		}
	}
}

// callQueue orders calls by the time at which something is to be done.
type callQueue []queuedCall

type queuedCall struct {
	wake stamp
	*call
}

func (q callQueue) Len() int { return len(q) }
func (q callQueue) Less(i, j int) bool {
	if q[i].wake != q[j].wake {
		return q[i].wake < q[j].wake
	}
	return q[i].tx < q[j].tx // any order, as long as it is one
}
func (q callQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}
func (q *callQueue) Push(x any) {
	k := x.(*call)
	k.index = len(*q)
	*q = append(*q, queuedCall{never, k})
}
func (q *callQueue) Pop() any {
	old := *q
	k := old[len(old)-1].call
	old[len(old)-1] = queuedCall{}
	*q = old[:len(old)-1]
	return k
}
