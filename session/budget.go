package session

import (
	"runtime"
	"sync"

	"github.com/seigr/sttnode/stc"
)

// guaranteedWindow is the credit in bytes that every session has, however
// scarce memory is: a first flight of RFC 9002 section 7.2, so that lending
// the rest when it is asked for costs no round trip.
const guaranteedWindow = 16 << 10

// firstFlight is the credit in bytes that takes what BBR sends at first.
const firstFlight = 48 << 10

// creditShare says of how much of its window a reader tells the sender anew: a
// quarter. Who doubles its rate every round trip has, by the time that the
// news of half a window arrives, come to the end of the next one.
const creditShare = 4

// budget is the memory that an endpoint lends to its peers: what a session may
// hold for readers that have not come, which is the credit that its peer has
// been told of. It also knows how many sessions each peer has.
//
// At any time the sum over all sessions of announced credit, used or not, is
// at most Config.Memory. Each session's guarantee is set aside for all
// Config.MaxSessions of them; the rest is lent, to a borrower never more than
// stays free for the others (the dynamic threshold of Choudhury and Hahne,
// 1998), so that many who hoard still leave a late one its share. What was
// lent is not asked back: a borrower returns it by using its credit up, RFC
// 9000 section 4.1.
type budget struct {
	sessions, perPeerSessions int // limits
	total, perPeer            int64

	mu    sync.Mutex // guards what follows, and the accounts
	lent  int64
	used  int // sessions
	peers map[stc.Hash]*peerAccount
}

// peerAccount is what all sessions with one node have.
type peerAccount struct {
	sessions int
	lent     int64
}

// account is what one borrower has: a session's streams, or its channel of
// the application's frames.
type account struct {
	of   *budget
	peer *peerAccount
	lent int64
}

func newBudget(cfg *Config) *budget {
	return &budget{
		sessions: cfg.MaxSessions, perPeerSessions: cfg.MaxPeerSessions,
		total: cfg.Memory - int64(cfg.MaxSessions)*cfg.guarantee(), perPeer: cfg.MaxPeerMemory,
		peers: make(map[stc.Hash]*peerAccount),
	}
}

// room says whether there is room for one more session with a peer.
func (b *budget) room(peer stc.Hash) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.check(peer)
}

func (b *budget) check(peer stc.Hash) error {
	if b.used >= b.sessions {
		return ErrTooManySessions
	}
	if p := b.peers[peer]; p != nil && p.sessions >= b.perPeerSessions {
		return errTooManyOfPeer
	}
	return nil
}

// admit counts a session in, and returns the account of its peer.
func (b *budget) admit(peer stc.Hash) (*peerAccount, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.check(peer); err != nil {
		return nil, err
	}
	p := b.peers[peer]
	if p == nil {
		p = &peerAccount{}
		b.peers[peer] = p
	}
	b.used++
	p.sessions++
	return p, nil
}

// leave counts a session out, whose accounts have been settled.
func (b *budget) leave(peer stc.Hash) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used--
	if p := b.peers[peer]; p != nil {
		if p.sessions--; p.sessions == 0 {
			delete(b.peers, peer)
		}
	}
}

// borrow changes what the account has to want, or to as much of it as there
// is, but at least to least, which must not exceed what it has; and returns
// what it has now. All in bytes.
func (a *account) borrow(least, want int64) int64 {
	b := a.of
	b.mu.Lock()
	defer b.mu.Unlock()
	free := b.total - b.lent + a.lent
	n := max(min(want, free/2, b.perPeer-a.peer.lent+a.lent), least, 0)
	b.lent += n - a.lent
	a.peer.lent += n - a.lent
	a.lent = n
	return n
}

// keep lowers what the account has to n bytes, if it is more.
func (a *account) keep(n int64) (kept int64) {
	b := a.of
	b.mu.Lock()
	defer b.mu.Unlock()
	n = min(n, a.lent)
	b.lent += n - a.lent
	a.peer.lent += n - a.lent
	a.lent = n
	return n
}

// inUse returns how much is lent.
func (b *budget) inUse() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lent
}

// lend moves the credit of the session on, to a window of l.dataWindow beyond
// what readers have taken, or what the budget has of it.
func (l *loop) lend(read uint64) {
	announced := int64(l.dataLimit - read)
	n := l.s.credit.borrow(announced-guaranteedWindow, int64(l.dataWindow)-guaranteedWindow)
	l.dataWindow = uint64(max(n, 0)) + min(guaranteedWindow, l.cfg.MaxSessionWindow)
	if limit := read + l.dataWindow; limit > l.dataLimit {
		l.dataLimit = limit
		l.pending |= ctlMaxData
	}
	l.s.creditAt.Store(l.dataLimit - l.dataWindow + l.dataWindow/creditShare)
}

// openWindow gives a peer that has begun to send the session's first window,
// and one that has been asked for something, room for a first flight. One to
// which neither applies costs no more than the guarantee.
func (l *loop) openWindow() {
	window := uint64(0)
	switch {
	case l.dataReceived > guaranteedWindow/8:
		window = l.cfg.SessionWindow
	case l.dataSent > 0 || !l.queue.empty():
		window = min(firstFlight, l.cfg.SessionWindow)
	}
	if window > l.opened {
		l.opened, l.dataWindow = window, window
		l.lend(l.s.consumed.Load())
	}
}

// settleAccounts returns what an ended session has borrowed. What lies there
// unread stays counted until it is read, or nobody refers to the session any
// more.
func (s *Session) settleAccounts(received uint64) {
	if !s.user.running {
		s.user.in.memory.keep(0)
	}
	s.creditAt.Store(received)
	if unread := received - min(s.consumed.Load(), received); s.credit.keep(int64(unread)) > 0 {
		runtime.AddCleanup(s, func(a *account) { a.keep(0) }, s.credit)
	}
}
