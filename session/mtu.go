package session

// Datagram sizes in bytes of UDP payload.
const (
	// minDatagram is what every path carries, RFC 9000 section 14.
	minDatagram = 1200
	// defaultMaxDatagram fills Ethernet's 1,500 bytes with IPv6 and UDP
	// headers.
	defaultMaxDatagram = 1452
	// mtuProbes is how often a size may be lost before it counts as too
	// large (MAX_PROBES of RFC 8899).
	mtuProbes = 3
	// mtuPrecision ends the search.
	mtuPrecision = 16
)

// mtuSearch finds the largest datagram that a path carries, RFC 8899: it
// tries the largest first, which most paths carry, and halves from there.
// Pure; the session sends the probes.
type mtuSearch struct {
	size    int // confirmed
	tooBig  int // least size known or believed not to pass
	probing int // size of the probe in flight, 0 if none
	lost    int // consecutive losses of that size
	largest int
	missing int // consecutive losses above minDatagram, probes aside
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
func (m *mtuSearch) next() int {
	if m.probing != 0 || m.tooBig-m.size <= 1 {
		return 0
	}
	if m.tooBig == m.largest+1 {
		return m.largest
	}
	if m.tooBig-m.size <= mtuPrecision {
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
func (m *mtuSearch) probeLost(size int) {
	m.probing = 0
	if m.lost++; m.lost >= mtuProbes {
		m.lost = 0
		m.tooBig = min(m.tooBig, size)
	}
}

// arrived records that a datagram of size, not a probe, has arrived.
func (m *mtuSearch) arrived(size int) {
	if size > minDatagram {
		m.missing = 0
	}
}

// vanished records that one has not, and reports whether the path carries no
// large datagrams any more: the size is then back at what every path carries
// (black hole detection, RFC 8899 section 4.3).
func (m *mtuSearch) vanished(size int) bool {
	if size <= minDatagram || m.size == minDatagram {
		return false
	}
	if m.missing++; m.missing < missingLimit {
		return false
	}
	m.tooBig = min(m.tooBig, m.size)
	m.size, m.probing, m.lost, m.missing = minDatagram, 0, 0, 0
	return true
}
