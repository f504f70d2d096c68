package content

// Stats says what a store holds.
type Stats struct {
	Blobs uint64
	Bytes uint64 // of the blobs
	// InPlaceBlobs and InPlaceBytes are those among them that lie in the user's files.
	InPlaceBlobs, InPlaceBytes uint64
	Segments                   int
	// SegmentBytes is what the segments' records of these blobs take, sealed; DeadBytes what is deleted of them, whose room the
	// file system has back where it can punch holes.
	SegmentBytes, DeadBytes uint64
}

// Stats returns what the store holds now. It costs nothing, and answers behind Close too.
func (s *Store) Stats() Stats {
	l := s.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	st := Stats{Blobs: l.totals.blobs, Bytes: l.totals.bytes, Segments: len(l.segments)}
	st.InPlaceBlobs, st.InPlaceBytes = l.totals.inPlaceBlobs, l.totals.inPlaceBytes
	for _, seg := range l.segments {
		st.SegmentBytes += uint64(seg.live)
		st.DeadBytes += uint64(seg.end - seg.live)
	}
	return st
}
