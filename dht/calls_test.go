package dht

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/seigr/sttnode/stc"
)

// callsBench is a calls with everything around it recorded.
type callsBench struct {
	*calls
	now     time.Time
	sent    []message
	refuse  error // what send returns
	reports []report
	failed  []Contact
	heard   []Contact
}

func newCallsBench() *callsBench {
	b := &callsBench{now: t0}
	b.calls = &calls{
		send: func(_ time.Time, _ Contact, m *message) error {
			if b.refuse == nil {
				b.sent = append(b.sent, *m)
			}
			return b.refuse
		},
		grant:    func(time.Time, Contact) cookie { return cookie{0xFF} },
		peers:    newPeers(100, newClock(t0), time.Hour),
		rng:      rand.New(rand.NewPCG(1, 1)),
		stats:    new(Stats),
		onAnswer: func(_ time.Time, from Contact, _ *message) { b.heard = append(b.heard, from) },
		onFail:   func(_ time.Time, to Contact, _ time.Time) { b.failed = append(b.failed, to) },
		byTx:     make(map[uint64]*call),
	}
	return b
}

var callee = Contact{ID: stc.Hash{1}, Key: stc.PublicKey{1}, Addr: netip.MustParseAddrPort("10.0.0.1:1")}

func (b *callsBench) ask(k kind) (tx uint64) {
	b.call(b.now, callee, message{kind: k}, callOptions{}, func(_ time.Time, r report) { b.reports = append(b.reports, r) })
	return b.sent[len(b.sent)-1].tx
}

func (b *callsBench) pass(d time.Duration) {
	b.now = b.now.Add(d)
	b.expire(b.now)
}

func (b *callsBench) outcomes() (all []outcome) {
	for _, r := range b.reports {
		all = append(all, r.outcome)
	}
	return all
}

func TestCallIsAnswered(t *testing.T) {
	b := newCallsBench()
	tx := b.ask(kindPing)
	b.pass(30 * time.Millisecond)
	if !b.answered(b.now, callee.Key, callee.Addr, &message{kind: kindPing | kindAnswer, tx: tx, grant: cookie{7}}) {
		t.Fatal("not taken")
	}
	if len(b.reports) != 1 || b.reports[0].outcome != callAnswered || b.reports[0].rtt != 30*time.Millisecond || len(b.heard) != 1 {
		t.Errorf("%+v", b.reports)
	}
	if b.peers.proof(b.now, callee) != (cookie{7}) {
		t.Error("the granted cookie is not kept")
	}
	if b.answered(b.now, callee.Key, callee.Addr, &message{kind: kindPing | kindAnswer, tx: tx}) {
		t.Error("a second answer is taken")
	}
	if !b.deadline().IsZero() || len(b.byTx) != 0 {
		t.Error("something is left")
	}
}

// An answer counts only from the node and the address that were asked, to the
// question that was asked, under its number.
func TestAnswersMustFit(t *testing.T) {
	b := newCallsBench()
	tx := b.ask(kindFindNode)
	elsewhere := netip.MustParseAddrPort("10.0.0.1:2")
	for name, got := range map[string]bool{
		"another number":  b.answered(b.now, callee.Key, callee.Addr, &message{kind: kindFindNode | kindAnswer, tx: tx + 1}),
		"another key":     b.answered(b.now, stc.PublicKey{2}, callee.Addr, &message{kind: kindFindNode | kindAnswer, tx: tx}),
		"another address": b.answered(b.now, callee.Key, elsewhere, &message{kind: kindFindNode | kindAnswer, tx: tx}),
		"another kind":    b.answered(b.now, callee.Key, callee.Addr, &message{kind: kindPing | kindAnswer, tx: tx}),
	} {
		if got {
			t.Errorf("%s is taken", name)
		}
	}
	if len(b.reports)+len(b.heard) != 0 {
		t.Errorf("%+v", b.reports)
	}
	if !b.answered(b.now, callee.Key, callee.Addr, &message{kind: kindFindNode | kindAnswer, tx: tx}) {
		t.Error("the right one is not taken any more")
	}
}

// A silent peer: asked once more when it takes longer than usual, then given
// up; its answer counts for a while even so.
func TestCallStallsFailsAndIsAnsweredLate(t *testing.T) {
	b := newCallsBench()
	tx := b.ask(kindFindNode)
	b.pass(defaultPatience)
	if got := b.outcomes(); len(got) != 2 || got[0] != callStalled || got[1] != callRepeated || len(b.sent) != 2 || b.sent[1].tx != tx {
		t.Fatalf("after a stall: %v, sent %d", got, len(b.sent))
	}
	b.pass(2 * defaultPatience)
	if got := b.outcomes(); len(got) != 3 || got[2] != callFailed || len(b.failed) != 1 || len(b.sent) != 2 {
		t.Fatalf("given up: %v, sent %d", got, len(b.sent))
	}
	b.pass(lateAnswers - 1)
	if !b.answered(b.now, callee.Key, callee.Addr, &message{kind: kindFindNode | kindAnswer, tx: tx}) {
		t.Fatal("a late answer is not taken")
	}
	if got := b.outcomes(); len(got) != 4 || got[3] != callAnswered {
		t.Errorf("%v", got)
	}
	if s := b.stats.RPC[MethodFindNode]; s != (RPCStats{Sent: 1, Repeated: 1, Failed: 1, Answered: 1, Late: 1}) {
		t.Errorf("%+v", s)
	}

	tx = b.ask(kindFindNode)
	b.pass(defaultPatience)
	b.pass(2 * defaultPatience)
	b.pass(lateAnswers)
	if b.answered(b.now, callee.Key, callee.Addr, &message{kind: kindFindNode | kindAnswer, tx: tx}) || len(b.byTx) != 0 {
		t.Error("waits for an answer for ever")
	}
}

// How long we wait follows the peer, and who is unknown gets what the others
// need.
func TestPatience(t *testing.T) {
	b := newCallsBench()
	for range 20 {
		tx := b.ask(kindPing)
		b.pass(200 * time.Millisecond)
		b.answered(b.now, callee.Key, callee.Addr, &message{kind: kindPing | kindAnswer, tx: tx})
	}
	if got := b.peers.patience(callee); got < 200*time.Millisecond || got > 300*time.Millisecond || b.peers.stall(callee) >= got {
		t.Errorf("patience of %v with a peer that takes 200 ms", got)
	}
	stranger := callee
	stranger.ID = stc.Hash{9}
	if got := b.peers.patience(stranger); got < 200*time.Millisecond || got > 300*time.Millisecond {
		t.Errorf("patience of %v with a stranger where all take 200 ms", got)
	}
	var r rtt
	for range 20 {
		r.add(time.Microsecond)
	}
	if r.patience() != minPatience {
		t.Errorf("patience of %v on loopback", r.patience())
	}
	r = rtt{}
	if r.add(time.Minute); r.patience() != maxPatience {
		t.Errorf("patience of %v with a minute", r.patience())
	}
	if r = (rtt{}); r.patience() != defaultPatience {
		t.Errorf("patience of %v without a sample", r.patience())
	}
}

// An answer to a repeated request says nothing about the time it took (RFC
// 6298 section 3, Karn's algorithm).
func TestRepeatedRequestsAreNotMeasured(t *testing.T) {
	b := newCallsBench()
	tx := b.ask(kindPing)
	b.pass(defaultPatience)
	b.pass(time.Millisecond)
	b.answered(b.now, callee.Key, callee.Addr, &message{kind: kindPing | kindAnswer, tx: tx})
	if b.peers.rtt.known() {
		t.Errorf("measured %v", b.peers.rtt.smoothed)
	}
}

// The first request is padded; a challenge has it sent again, with the cookie
// and without padding, once.
func TestChallenge(t *testing.T) {
	b := newCallsBench()
	tx := b.ask(kindAddProvider)
	if m := b.sent[0]; m.proof != (cookie{}) || m.grant != (cookie{0xFF}) || m.pad != 0 {
		t.Errorf("first request %+v", m)
	}
	challenge := &message{kind: kindChallenge, tx: tx, grant: cookie{7}}
	b.answered(b.now, callee.Key, callee.Addr, challenge)
	if len(b.sent) != 2 || b.sent[1].proof != (cookie{7}) || b.sent[1].tx != tx || len(b.reports) != 0 || len(b.heard) != 0 {
		t.Fatalf("after the challenge: sent %+v, %v", b.sent, b.reports)
	}
	b.answered(b.now, callee.Key, callee.Addr, challenge)
	if len(b.sent) != 2 {
		t.Error("a second challenge has it sent again")
	}
	b.answered(b.now, callee.Key, callee.Addr, &message{kind: kindAddProvider | kindAnswer, tx: tx})
	if got := b.outcomes(); len(got) != 1 || got[0] != callAnswered {
		t.Errorf("%v", got)
	}

	b.ask(kindFindProviders)
	if m := b.sent[2]; m.proof != (cookie{7}) || m.pad != 0 {
		t.Errorf("second request %+v", m)
	}
	b.pass(time.Hour) // no cookie is worth showing after that
	b.ask(kindFindProviders)
	if m := b.sent[len(b.sent)-1]; m.proof != (cookie{}) || m.size() != maxMessage {
		t.Errorf("without a cookie: %d bytes, proof %v", m.size(), m.proof)
	}
	b.ask(kindPing)
	if m := b.sent[len(b.sent)-1]; m.size()+sealOverhead != 2*barePing {
		t.Errorf("ping of %d bytes", m.size()+sealOverhead)
	}
}

// What cannot be sent fails at once, but not before call has returned.
func TestUnsendableFailsAtOnce(t *testing.T) {
	b := newCallsBench()
	b.refuse = errors.New("no route")
	b.call(b.now, callee, message{kind: kindPing}, callOptions{}, func(_ time.Time, r report) { b.reports = append(b.reports, r) })
	if len(b.reports) != 0 {
		t.Fatal("reported from within call")
	}
	b.pass(0)
	if got := b.outcomes(); len(got) != 1 || got[0] != callFailed {
		t.Errorf("%v", got)
	}
}

func TestCallsAreBounded(t *testing.T) {
	b := newCallsBench()
	for range maxCalls {
		b.ask(kindPing)
	}
	n := len(b.sent)
	b.call(b.now, callee, message{kind: kindPing}, callOptions{}, func(_ time.Time, r report) { b.reports = append(b.reports, r) })
	b.pass(0)
	if got := b.outcomes(); len(b.sent) != n || len(got) != 1 || got[0] != callFailed {
		t.Errorf("beyond the bound: sent %d, %v", len(b.sent)-n, got)
	}
}

func TestPacer(t *testing.T) {
	p := pacer{interval: 10 * time.Millisecond, burst: 5}
	now, got := t0, 0
	for range 1000 { // a second, in milliseconds
		for p.allow(now) {
			got++
		}
		if next := p.next(); !next.After(now) || next.Sub(now) > 10*time.Millisecond {
			t.Fatalf("next in %v", next.Sub(now))
		}
		now = now.Add(time.Millisecond)
	}
	if got < 100 || got > 105 {
		t.Errorf("%d in a second", got)
	}
	now, got = now.Add(time.Hour), 0
	for p.allow(now) {
		got++
	}
	if got != 5 {
		t.Errorf("after a rest, a burst of %d", got)
	}
}
