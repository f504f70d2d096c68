package dht

import (
	"net/netip"
	"time"

	"github.com/seigr/sttnode/stc"
)

// maxVerifying bounds the nodes that are being pinged because they asked.
const maxVerifying = 64

// serve answers a request of size bytes, frame and all.
//
// Whoever shows a cookie that we granted to its key at its address receives
// there. Everybody else may have written somebody else's address on the
// envelope. To those, what we send because of one request is never longer than
// the request: a list only for a request that was padded to a full datagram,
// a challenge for any other, and no record is stored. Inside that allowance
// the asker is pinged, if the table has room for it: its answer proves it.
func (m *machine) serve(now time.Time, from Contact, req *message, size int) {
	if m.cfg.ClientOnly && req.kind != kindPing {
		m.drop(DropUnserved)
		return
	}
	answer := message{kind: req.kind | kindAnswer, tx: req.tx}
	limit := maxMessage
	validity := m.cookies.check(now, req.proof, from.Key, from.Addr)
	if linked(from.Addr) {
		validity = cookieFresh // it cannot be somebody else's
	}
	if validity == cookieInvalid {
		limit = size - sealOverhead
		switch {
		case req.kind == kindPing:
		case (req.kind == kindFindNode || req.kind == kindFindProviders || req.kind == kindGetRecord) && size == MaxDatagram:
			limit -= barePing // for the ping in return
		default:
			answer.kind = kindChallenge
		}
	} else {
		m.gate.proven(from.Addr)
		m.peers.granted(now, from, req.grant)
		switch {
		case req.client:
			m.retired(from)
		case !linked(from.Addr): // nobody else could call it there
			m.met(now, from, false)
		}
	}
	if validity != cookieFresh {
		answer.grant = m.cookies.grant(now, from.Key, from.Addr)
	}

	switch answer.kind {
	case kindFindNode | kindAnswer:
		answer.nodes = m.nodesFor(req, from, limit-answer.size())
	case kindFindProviders | kindAnswer:
		m.findProviders(now, &answer, req, from, limit)
	case kindAddProvider | kindAnswer:
		answer.stored = m.store(now, from, req)
	case kindGetRecord | kindAnswer:
		m.getRecord(now, &answer, req, from, limit)
	case kindPutRecord | kindAnswer:
		answer.code = m.putRecord(now, req, from)
	case kindDialBack | kindAnswer:
		answer.nodes = m.reach.dialBack(now, from)
	case kindDial | kindAnswer:
		m.reach.dial(now, req.nodes[0], from)
	}
	if answer.size() > limit {
		answer.grant = cookie{} // a challenge without it is useless, a pong is not
		if answer.kind == kindChallenge || answer.size() > limit {
			m.drop(DropAmplify)
			return
		}
	}
	sent := sealOverhead + answer.size()
	if m.send(now, from, &answer) != nil {
		return
	}
	method := &m.stats.RPC[methodOf(req.kind)]
	if answer.kind == kindChallenge {
		method.Refused++
	} else {
		method.Served++
	}
	if validity == cookieInvalid && !req.client && size-sent >= barePing {
		m.verify(now, from)
	}
}

// verify pings a node that asked us something and has not proven its address,
// if the table would take it.
func (m *machine) verify(now time.Time, c Contact) {
	if _, under := m.verifying[c.ID]; under || m.cfg.ClientOnly || len(m.verifying) >= maxVerifying {
		return
	}
	// One that is known elsewhere has moved, perhaps.
	if e := m.table.get(c.ID); e != nil && e.Addr == c.Addr || e == nil && !m.table.wants(c) {
		return
	}
	m.verifying[c.ID] = struct{}{}
	m.calls.call(now, c, message{kind: kindPing}, callOptions{bare: true}, func(_ time.Time, r report) {
		if !r.outcome.pending() {
			delete(m.verifying, c.ID)
		}
	})
}

// nodesFor returns the nodes to tell from about that fit into space bytes: the
// closest to what it asked for, but not itself, and only what it can reach.
func (m *machine) nodesFor(req *message, from Contact, space int) []Contact {
	closest := m.table.closest(req.target, 2*m.cfg.K, func(e *entry) bool {
		return shareable(e) && e.ID != from.ID && relayable(e.Addr, from.Addr)
	})
	chosen := diverse(m.chosen[:0], closest, m.cfg.K, m.answerPerSubnet(), func(e *entry) netip.AddrPort { return e.Addr })
	m.chosen = chosen
	return fitting(contactsOf(nil, chosen), space, nodeSize)
}

// answerPerSubnet is how many nodes of one /24 or /48 an answer or the result
// of a lookup holds if others are known.
func (m *machine) answerPerSubnet() int {
	if m.cfg.TablePerSubnet < 0 {
		return -1
	}
	return 2
}

// findProviders fills the answer to a FIND_PROVIDERS: if there are providers,
// they get at least half of the room, and all that the closest nodes leave.
func (m *machine) findProviders(now time.Time, answer, req *message, from Contact, limit int) {
	answer.provides = m.publisher.provides(req.target)
	space := limit - answer.size()
	providers := m.records.get(m.rng, now, req.target, maxMessage/providerSize(contactSize4), from.Addr)
	if linked(from.Addr) {
		providers = m.errands.extend(now, req.target, from, providers)
	}
	first := fitting(providers, space/2, providerSize)
	answer.nodes = m.nodesFor(req, from, space-listSize(first, providerSize))
	answer.providers = fitting(providers, space-listSize(answer.nodes, nodeSize), providerSize)
}

// store stores or withdraws the records of an ADD_PROVIDER, and returns the
// bits of the keys for which that was done.
func (m *machine) store(now time.Time, from Contact, req *message) uint32 {
	var stored uint32
	from.WebSocket = req.webSocket
	for i, key := range req.keys {
		if req.ttl == 0 {
			m.records.remove(key, from.ID) // gone is what was asked for, also if it never was here
			stored |= 1 << i
		} else if m.records.add(now, key, from, time.Duration(req.ttl)*time.Second) {
			stored |= 1 << i
		}
	}
	return stored
}

// fewNodes: an answer with a record that has fewer nodes, and could have had
// more, says so.
const fewNodes = 8

// getRecord fills the answer to a GET_RECORD: the record, if the asker has not
// the same, and the closest nodes that there is room for. A record that is too
// long for what an asker without proof is granted makes it a challenge.
func (m *machine) getRecord(now time.Time, answer, req *message, from Contact, limit int) {
	name := stc.Name(req.target)
	if linked(from.Addr) {
		m.errands.record(now, name)
	}
	rec := m.signed.get(now, name)
	nodes := m.nodesFor(req, from, maxMessage)
	if rec.seq > req.above {
		answer.record = rec.bytes()
		if answer.size() > limit {
			answer.kind, answer.record = kindChallenge, nil
			return
		}
	}
	answer.nodes = fitting(nodes, limit-answer.size(), nodeSize)
	answer.cut = answer.record != nil && len(answer.nodes) < min(len(nodes), fewNodes)
}

// putRecord holds the record of a PUT_RECORD, or says why not.
func (m *machine) putRecord(now time.Time, req *message, from Contact) putCode {
	ttl := time.Duration(req.ttl) * time.Second
	if code, known := m.signed.refuses(now, req.record, ttl); known {
		return code
	}
	rec, err := ParseRecord(req.record)
	if err != nil {
		return putInvalid
	}
	code := m.signed.add(now, rec, from, ttl)
	if code == putStored && linked(from.Addr) {
		m.keeper.relay(now, rec)
	}
	return code
}
