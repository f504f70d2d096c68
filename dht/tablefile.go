package dht

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/seigr/sttnode/stc"
)

// The saved table:
//
//	"sttnode table 1\n" │ RTT (4) │ its variation (4) │ count (4) │ count × entry │ SHA3-256 of all before (32)
//	entry: contact, as in messages │ first met (8) │ last heard of (8)
//
// Numbers are big-endian; RTTs, of all peers together, in µs; times in Unix
// seconds. The hash finds damage; it proves nothing.
const (
	tableMagic    = "sttnode table 1\n"
	tableOverhead = len(tableMagic) + 4 + 4 + 4 + stc.HashSize
	minEntrySize  = contactSize4 + 8 + 8
	// maxSavedAge: nodes not heard of for this long are not worth a packet.
	maxSavedAge = 30 * 24 * time.Hour
)

// savedEntry is what is saved of an entry.
type savedEntry struct {
	Contact
	added, heard time.Time
}

// marshal returns the saved form of the entries that have answered us, and of
// how long peers take to answer.
func (t *table) marshal(all rtt) []byte {
	b := []byte(tableMagic)
	b = binary.BigEndian.AppendUint32(b, uint32(all.smoothed/time.Microsecond))
	b = binary.BigEndian.AppendUint32(b, uint32(all.variation/time.Microsecond))
	b = append(b, 0, 0, 0, 0)
	count := uint32(0)
	for i := range t.buckets {
		for _, e := range t.buckets[i].entries {
			if !shareable(e.entry) || e.Addr.Addr().Zone() != "" {
				continue
			}
			count++
			b = appendContact(b, e.Contact)
			b = binary.BigEndian.AppendUint64(b, uint64(t.clock.time(e.added).Unix()))
			b = binary.BigEndian.AppendUint64(b, uint64(t.clock.time(e.heard).Unix()))
		}
	}
	binary.BigEndian.PutUint32(b[len(tableMagic)+8:], count)
	sum := stc.Sum(b)
	return append(b, sum[:]...)
}

// unmarshalTable reads what marshal wrote; everything else is ErrBadTable.
func unmarshalTable(b []byte) ([]savedEntry, rtt, error) {
	if len(b) < tableOverhead || string(b[:len(tableMagic)]) != tableMagic {
		return nil, rtt{}, fmt.Errorf("%w: %d bytes without its header", ErrBadTable, len(b))
	}
	body := b[:len(b)-stc.HashSize]
	if stc.Sum(body) != stc.Hash(b[len(body):]) {
		return nil, rtt{}, fmt.Errorf("%w: damaged", ErrBadTable)
	}
	r := reader{b: body[len(tableMagic):]}
	all := rtt{smoothed: r.micros(), variation: r.micros()}
	count := int64(binary.BigEndian.Uint32(r.take(4)))
	if count > int64(len(r.b)/minEntrySize) {
		return nil, rtt{}, fmt.Errorf("%w: %d entries in %d bytes", ErrBadTable, count, len(r.b))
	}
	entries := make([]savedEntry, 0, count)
	for range count {
		c, ok := r.node()
		e := savedEntry{Contact: c, added: r.time(), heard: r.time()}
		if !ok || r.bad || e.added.Unix() < 0 || e.heard.Unix() < 0 {
			return nil, rtt{}, fmt.Errorf("%w: entry %d", ErrBadTable, len(entries))
		}
		entries = append(entries, e)
	}
	if len(r.b) > 0 {
		return nil, rtt{}, fmt.Errorf("%w: %d bytes behind the entries", ErrBadTable, len(r.b))
	}
	return entries, all, nil
}

func (r *reader) micros() time.Duration {
	return time.Duration(binary.BigEndian.Uint32(r.take(4))) * time.Microsecond
}

func (r *reader) time() time.Time { return time.Unix(int64(binary.BigEndian.Uint64(r.take(8))), 0) }

// restoreTable puts saved nodes into the table, as ones that have yet to
// answer, and returns how many found a place.
func (m *machine) restoreTable(now time.Time, saved []byte) (restored int, err error) {
	entries, all, err := unmarshalTable(saved)
	if err != nil {
		return 0, err
	}
	if !m.peers.rtt.known() {
		m.peers.rtt = all
	}
	for _, e := range entries {
		if now.Sub(e.heard) > maxSavedAge || e.heard.After(now) {
			continue
		}
		if m.table.restore(e) {
			restored++
		}
	}
	if restored > 0 {
		m.upkeep.soon(now)
	}
	return restored, nil
}
