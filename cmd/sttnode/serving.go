package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/seigr/sttnode/node"
)

// servingInterval is how often it is looked and said what is served.
const servingInterval = time.Second

// servingEvent comes once a second while something is sent to peers.
type servingEvent struct {
	Event   string  `json:"event"`
	Peers   int     `json:"peers"`
	Streams int     `json:"streams"`
	Bytes   uint64  `json:"bytes"` // sent since the start
	Rate    float64 `json:"rate"`
	Limit   string  `json:"limit"`
}

// serveContent serves what the node has, and shows how that goes, until a
// signal comes.
func (r *runningNode) serveContent(ctx context.Context) error {
	var showing sync.WaitGroup
	line := r.app.startLine("serving")
	if line != nil || r.app.options.json {
		showing.Go(func() { r.showServing(ctx, line) })
	}
	<-ctx.Done()
	showing.Wait()
	line.finish()
	return r.serveUntilSignal(ctx)
}

func (r *runningNode) showServing(ctx context.Context, line *bar) {
	var m meter
	sent := uint64(0)
	tick := time.NewTicker(servingInterval)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			s := r.Stats().Serving
			m.add(now, int64(s.Bytes))
			limit := s.Waiting.Limit()
			line.set(int64(s.Bytes), 0, whyServing(s.Peers, limit))
			if r.app.options.json && s.Bytes > sent {
				r.app.emit(servingEvent{"serving", s.Peers, s.Streams, s.Bytes, m.rate(), limit.String()})
			}
			sent = s.Bytes
		case <-ctx.Done():
			return
		}
	}
}

// whyServing is what a person is told of who is served.
func whyServing(peers int, limit node.Limit) string {
	text := plural(peers, "peer")
	switch limit {
	case node.LimitNone:
		return text
	case node.LimitPeer:
		return text + ", waiting for requests"
	}
	return fmt.Sprintf("%s, limited by the %v", text, limit)
}
