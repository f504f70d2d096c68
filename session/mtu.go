package session

import "time"

// Datagram sizes in bytes of UDP payload.
const (
	// minDatagram is what every path carries, RFC 9000 section 14.
	minDatagram = 1200
	// defaultMaxDatagram is the most that UDP carries over IPv4: the search
	// goes up to what the interface takes.
	defaultMaxDatagram = 65507
	// mtuProbes is how often a size may be lost before it counts as too
	// large (MAX_PROBES of RFC 8899).
	mtuProbes = 3
	// mtuPrecision ends the search.
	mtuPrecision = 16
	// mtuRaise is after what time a size that did not pass is tried again
	// (PMTU_RAISE_TIMER of RFC 8899 section 5.1.1).
	mtuRaise = 10 * time.Minute
)

// mtuSizes are the sizes that links carry most often, less the headers of IP
// and UDP, in the order of trying: Ethernet with IPv6, which nearly every
// path carries; whatever is the most; jumbo frames; Ethernet with IPv4.
var mtuSizes = [...]int{1452, defaultMaxDatagram, 8972, 8952, 1472}

// mtuSearch finds the largest datagram that a path carries, RFC 8899: it
// tries the usual sizes, and below them halves what is left between. A size
// that the interface does not take costs nothing; one that a router drops,
// three datagrams. Pure; the session sends the probes.
type mtuSearch struct {
	size    int // confirmed
	tooBig  int // least size known or believed not to pass
	probing int // size of the probe in flight, 0 if none
	lost    int // consecutive losses of that size
	largest int
	missing int       // consecutive losses above minDatagram, probes aside
	since   time.Time // when the first of them had left
	raiseAt time.Time // when what was too big may be tried again; zero before anything was
}

// missingLimit is how many datagrams above minDatagram may be lost in a row
// before the path counts as shrunk. Congestion hardly ever takes that many
// and none between.
const missingLimit = 8

func newMTUSearch(largest int) mtuSearch {
	return mtuSearch{size: minDatagram, tooBig: largest + 1, largest: largest}
}

// next returns the size to probe now, or 0 if there is nothing to find or a
// probe is under way.
func (m *mtuSearch) next(now time.Time) int {
	if m.probing != 0 {
		return 0
	}
	if !m.raiseAt.IsZero() && !now.Before(m.raiseAt) {
		m.tooBig, m.raiseAt = m.largest+1, time.Time{}
	}
	for _, size := range mtuSizes {
		if size = min(size, m.largest); size > m.size && size < m.tooBig {
			return size
		}
	}
	if m.tooBig > mtuSizes[0] || m.tooBig-m.size <= mtuPrecision {
		return 0
	}
	return (m.size + m.tooBig) / 2
}

// sent records that a probe of size left.
func (m *mtuSearch) sent(size int) { m.probing = size }

// acked records that the probe arrived and reports whether size grew.
func (m *mtuSearch) acked(size int) bool {
	m.probing, m.lost = 0, 0
	if size <= m.size {
		return false
	}
	m.size = size
	return true
}

// probeLost records that the probe of size did not arrive.
func (m *mtuSearch) probeLost(now time.Time, size int) {
	m.probing = 0
	if m.lost++; m.lost >= mtuProbes {
		m.refused(now, size)
	}
}

// refused records that datagrams of size do not fit on the way.
func (m *mtuSearch) refused(now time.Time, size int) {
	m.probing, m.lost = 0, 0
	m.tooBig = min(m.tooBig, size)
	m.raiseAt = now.Add(mtuRaise)
}

// arrived records that a datagram of size, not a probe, has arrived.
func (m *mtuSearch) arrived(size int) {
	if size > minDatagram {
		m.missing = 0
	}
}

// vanished records that one that left at sent has not, and reports whether the
// path carries no large datagrams any more: the size is then back at what every
// path carries (black hole detection, RFC 8899 section 4.3). A full queue takes
// whole batches in a row, but not for as long as a probe timeout.
func (m *mtuSearch) vanished(now, sent time.Time, size int, pto time.Duration) bool {
	if size <= minDatagram || m.size == minDatagram {
		return false
	}
	if m.missing == 0 {
		m.since = sent
	}
	if m.missing++; m.missing < missingLimit || sent.Sub(m.since) < pto {
		return false
	}
	m.refused(now, m.size)
	m.size, m.missing = minDatagram, 0
	return true
}
