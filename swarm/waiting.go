package swarm

// Waiting counts the streams that a server serves by what each waits for at one
// moment. Its index is a [Limit].
type Waiting [limits]int

// Limit returns what most streams wait for, of those that wait for the server:
// LimitPeer if all wait for requests, LimitNone if there are none.
func (w *Waiting) Limit() Limit {
	most := LimitNone
	for _, l := range []Limit{LimitNetwork, LimitRate, LimitDisk, LimitMemory} {
		if w[l] > w[most] {
			most = l
		}
	}
	if most == LimitNone && w[LimitPeer] > 0 {
		return LimitPeer
	}
	return most
}

// waits returns what the stream waits for. What its writer waits for comes
// first: the reader of the store is ahead of it.
func (st *serverStream) waits() Limit {
	switch {
	case st.limited.Load():
		return LimitRate
	case st.writing.Load():
		return LimitNetwork
	}
	return Limit(st.reading.Load())
}

// waiting looks at all streams. The caller holds mu.
func (s *Server) waiting() (w Waiting) {
	for st := range s.streams {
		w[st.waits()]++
	}
	return w
}
