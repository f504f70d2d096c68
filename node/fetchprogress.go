package node

import (
	"cmp"
	"sync"
	"time"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/stc"
	"github.com/seigr/sttnode/swarm"
)

// Limit is what keeps a fetch, or serving, from being faster.
type Limit = swarm.Limit

// What limits a fetch, or serving; see there.
const (
	LimitNone    = swarm.LimitNone
	LimitPeer    = swarm.LimitPeer
	LimitNetwork = swarm.LimitNetwork
	LimitHash    = swarm.LimitHash
	LimitDisk    = swarm.LimitDisk
	LimitRate    = swarm.LimitRate
	LimitReader  = swarm.LimitReader
	LimitMemory  = swarm.LimitMemory
)

// maxLeft is the longest time that a fetch is said to take.
const maxLeft = 30 * 24 * time.Hour

func (f *fetch) setPhase(p Phase) { f.phase.Store(int32(p)) }

// reportProgress calls OnProgress until the returned function is called, and
// then once more.
func (f *fetch) reportProgress() (stop func()) {
	report := f.opts.OnProgress
	if report == nil {
		return func() {}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(progressInterval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				report(f.progress())
			case <-done:
				report(f.progress())
				return
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}

// progress is how far the fetch is now.
func (f *fetch) progress() FetchProgress {
	p := FetchProgress{Root: f.root, Phase: Phase(f.phase.Load())}
	last := f.last()
	p.Bytes, p.Total, p.Peers, p.Providers, p.Rate = last.DoneSize, last.Size, last.Serving, len(last.Sources), last.Rate
	p.Limit, p.WastedBytes = last.Limit, last.Wasted()
	for _, s := range last.Sources {
		if s.State != swarm.SourceReserve {
			p.Tried++
		}
	}
	if p.Total == 0 {
		if node := f.rootNode(); node != nil {
			p.Total = node.Size
		}
	}
	if goal := f.goal.Load(); goal > 0 {
		p.Total = goal
		p.Bytes = min(max(p.Bytes, f.copied.Load()), goal)
		if f.opts.Range != nil {
			p.Bytes = f.copied.Load()
		}
	}
	if p.Phase == PhaseWriting && f.output.target != "" {
		p.Bytes = f.output.bytes.Load()
	}
	if p.Phase == PhaseWriting {
		p.Limit = swarm.LimitDisk
	}
	if left := float64(p.Total-min(p.Bytes, p.Total)) / p.Rate; p.Rate > 0 && left < maxLeft.Seconds() {
		p.Left = time.Duration(left * float64(time.Second))
	}
	if p.Phase == PhaseFetching && last.Fetched == 0 && p.Peers == 0 && !last.Complete {
		p.Phase = PhaseSearching
	}
	return p
}

// last returns the state of the download under way, or of the last one.
func (f *fetch) last() swarm.Progress {
	if d := f.download.Load(); d != nil {
		return d.Progress()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.past) == 0 {
		return swarm.Progress{}
	}
	return f.past[len(f.past)-1]
}

// all returns the states of the downloads that have ended and of the one under
// way.
func (f *fetch) all() []swarm.Progress {
	f.mu.Lock()
	all := append([]swarm.Progress(nil), f.past...)
	f.mu.Unlock()
	if d := f.download.Load(); d != nil {
		all = append(all, d.Progress())
	}
	return all
}

// addTo adds the fetch to totals.
func (f *fetch) addTo(t *TransferTotals) {
	for i, p := range f.all() {
		t.BytesFetched += p.Fetched
		t.DuplicateBytes += p.Duplicate
		t.BadBytes += p.Bad
		t.LateBytes += p.Late
		t.UnwantedBytes += p.Unwanted
		t.PartialBytes += p.Partial
		if i == 0 { // later ones find what the first has fetched
			t.BytesResumed += p.Reused
		}
	}
	t.ProvidersFound += f.sources.found()
}

// result is the account of a fetch that is complete.
func (f *fetch) result(d time.Duration) FetchResult {
	node := f.rootNode()
	r := FetchResult{
		Root: f.root, Name: node.Root.Name, Path: f.output.written, Directory: node.Kind == content.KindDirectory,
		Bytes: node.Size, Chunks: node.Chunks, Duration: d,
	}
	if f.partial && f.opts.selective() {
		r.Bytes, r.Chunks = f.goal.Load(), f.goalChunks
	}
	at := make(map[stc.Hash]int)
	for i, p := range f.all() {
		if i == 0 {
			r.ResumedBytes = p.Reused
		}
		r.FetchedBytes += p.Fetched
		r.DuplicateBytes += p.Duplicate
		r.LateBytes += p.Late
		r.BadBytes += p.Bad
		r.WastedBytes += p.Wasted()
		for _, s := range p.Sources {
			if s.Bytes == 0 {
				continue
			}
			j, ok := at[s.Node]
			if !ok {
				j = len(r.Sources)
				at[s.Node] = j
				r.Sources = append(r.Sources, Source{Node: s.Node, Addr: cmp.Or(f.sources.reached(s.Node), s.Addr)})
			}
			r.Sources[j].Bytes += s.Bytes
		}
	}
	return r
}
