package dht

import (
	"time"

	"github.com/seigr/sttnode/stc"
)

// signedStore holds signed records for others, until they expire. It is capped in
// total, and in what one node and one subnet may take of that. When it is full,
// names far from our ID make room for closer ones, which people look for here.
// Pure state, not safe for concurrent use.
type signedStore struct {
	self     stc.Hash
	caps     signedCaps
	byName   map[stc.Name]*heldRecord
	bySender map[stc.Hash]int // node → records that it was the first to bring
	bySubnet map[subnet]int   // the same of public subnets
}

// signedCaps bounds a signedStore; no field is zero.
type signedCaps struct {
	total, perSender int
	perSubnet        int // <0: no limit
	ttl              time.Duration
}

// heldRecord is a record and who is charged for it: whoever brought the name
// here first, whoever brings later states of it.
type heldRecord struct {
	rec     Record
	expires time.Time
	sender  stc.Hash
	net     subnet // 0 if the sender's is not limited
}

// putCode says what became of a record that somebody was asked to hold.
type putCode uint8

const (
	putStored  putCode = 0 // it is held, or renewed
	putStale   putCode = 1 // a newer one is held
	putFull    putCode = 2 // a cap is reached
	putInvalid putCode = 3 // its signature is wrong
	putCodes   putCode = 4
)

func newSignedStore(self stc.Hash, caps signedCaps) *signedStore {
	return &signedStore{self: self, caps: caps, byName: make(map[stc.Name]*heldRecord),
		bySender: make(map[stc.Hash]int), bySubnet: make(map[subnet]int)}
}

// get returns the record of a name, the zero Record if there is none.
func (s *signedStore) get(now time.Time, name stc.Name) Record {
	h := s.byName[name]
	if h == nil || !now.Before(h.expires) {
		return Record{}
	}
	return h.rec
}

// refuses says without a look at the signature that the record in raw is not
// worth one: putStale if a newer one is held. A copy of what is held is renewed,
// which needs no look either, and comes back as putStored.
func (s *signedStore) refuses(now time.Time, raw []byte, ttl time.Duration) (code putCode, known bool) {
	name := rawName(raw)
	held := s.get(now, name)
	switch {
	case held.IsZero():
		return putStored, false
	case rawSequence(raw) < held.seq:
		return putStale, true
	case string(raw) == string(held.bytes()):
		s.renew(now, name, ttl)
		return putStored, true
	}
	return putStored, false
}

// renew makes a record last ttl from now on, unless it does anyway.
func (s *signedStore) renew(now time.Time, name stc.Name, ttl time.Duration) {
	if at := now.Add(min(ttl, s.caps.ttl)); at.After(s.byName[name].expires) {
		s.byName[name].expires = at
	}
}

// add holds a record for ttl, but no longer than the cap, on behalf of sender.
func (s *signedStore) add(now time.Time, rec Record, sender Contact, ttl time.Duration) putCode {
	name := rec.Name()
	if h := s.byName[name]; h != nil && !now.Before(h.expires) {
		s.drop(h)
	} else if h != nil {
		if h.rec.Newer(rec) {
			return putStale
		}
		h.rec = rec
		s.renew(now, name, ttl)
		return putStored
	}
	h := &heldRecord{rec: rec, expires: now.Add(min(ttl, s.caps.ttl)), sender: sender.ID}
	if net, limited := subnetOf(sender.Addr); limited && s.caps.perSubnet > 0 {
		h.net = net
	}
	if sender.ID != s.self && (s.bySender[sender.ID] >= s.caps.perSender || h.net != 0 && s.bySubnet[h.net] >= s.caps.perSubnet) {
		return putFull
	}
	if len(s.byName) >= s.caps.total && !s.makeRoom(now, name) {
		return putFull
	}
	s.byName[name] = h
	s.bySender[h.sender]++
	if h.net != 0 {
		s.bySubnet[h.net]++
	}
	return putStored
}

// makeRoom drops what has expired or else the name farthest from us, if that is
// farther than name.
func (s *signedStore) makeRoom(now time.Time, name stc.Name) bool {
	s.expire(now)
	if len(s.byName) < s.caps.total {
		return true
	}
	farthest := name
	for other := range s.byName {
		if compareDistance(s.self, stc.Hash(other), stc.Hash(farthest)) > 0 {
			farthest = other
		}
	}
	if farthest == name {
		return false
	}
	s.drop(s.byName[farthest])
	return true
}

// expire forgets the records whose time has come.
func (s *signedStore) expire(now time.Time) {
	for _, h := range s.byName {
		if !now.Before(h.expires) {
			s.drop(h)
		}
	}
}

func (s *signedStore) drop(h *heldRecord) {
	delete(s.byName, h.rec.Name())
	if s.bySender[h.sender]--; s.bySender[h.sender] == 0 {
		delete(s.bySender, h.sender)
	}
	if h.net != 0 {
		if s.bySubnet[h.net]--; s.bySubnet[h.net] == 0 {
			delete(s.bySubnet, h.net)
		}
	}
}
