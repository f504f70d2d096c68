package dht

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/seigr/sttnode/stc"
)

// Bootstrap joins the network by the nodes that are known so far: it looks up
// our own ID, which makes us known where we belong. It returns when that is
// done, while the table goes on being filled; it may be repeated. Errors: ErrNoNodes if nobody
// is known, ErrNoAnswer if nobody answers, ctx's cause, ErrClosed.
func (d *DHT) Bootstrap(ctx context.Context) error {
	done := make(chan error, 1)
	if err := d.do(ctx, func(m *machine, now time.Time) {
		m.upkeep.bootstrap(now, func(err error) { done <- err })
	}); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Ping asks a node whether it is there and returns the round-trip time.
// Errors: ErrBadContact, ErrNoAnswer, ctx's cause, ErrClosed.
func (d *DHT) Ping(ctx context.Context, c Contact) (time.Duration, error) {
	c.Addr = normalAddr(c.Addr)
	if err := c.check(); err != nil {
		return 0, err
	}
	done := make(chan report, 3)
	if err := d.do(ctx, func(m *machine, now time.Time) {
		m.calls.call(now, c, message{kind: kindPing}, callOptions{}, func(_ time.Time, r report) { done <- r })
	}); err != nil {
		return 0, err
	}
	for {
		select {
		case r := <-done:
			switch r.outcome {
			case callAnswered:
				return r.rtt, nil
			case callFailed:
				return 0, fmt.Errorf("pinging %v: %w", c.Addr, ErrNoAnswer)
			}
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-d.closed:
			return 0, ErrClosed
		}
	}
}

// FindNode returns the nodes closest to target that answer, at most Config.K,
// the closest first, without ourselves. It returns what it has also with an
// error: ErrNoNodes, ErrNoAnswer, ErrBusy, ctx's cause, ErrClosed.
func (d *DHT) FindNode(ctx context.Context, target stc.Hash) ([]Contact, LookupStats, error) {
	r := d.search(ctx, PurposeNode, target, nil)
	<-r.done
	return r.result.closest, r.result.stats, r.result.err
}

// FindProviders begins to look for nodes that have the content of key, and
// returns at once. Records that we hold ourselves come first, without a
// packet; others as they arrive. The search ends when the closest nodes have
// all answered, after Config.LookupTimeout, or with ctx, which is to be
// cancelled when enough was found.
func (d *DHT) FindProviders(ctx context.Context, key stc.Hash) *Search {
	return &Search{r: d.search(ctx, PurposeProviders, key, make(chan Contact, d.maxProviders))}
}

// Search is a search for providers.
type Search struct{ r *running }

// Providers returns the channel on which providers come, each node once for
// every address that it is known at, at most Config.MaxProviders. It is closed
// when the search is over. Nothing blocks if nobody reads it. What comes here
// is what others say: whether a provider has the content, it has to show.
func (s *Search) Providers() <-chan Contact { return s.r.providers }

// Result waits until the search is over and says how it went. That no provider
// was found is not an error; whether that can be relied on is said by
// LookupStats.Complete. Errors: ErrNoNodes if there was nobody to ask,
// ErrNoAnswer if nobody answered, ErrBusy, ctx's cause, ErrClosed.
func (s *Search) Result() (LookupStats, error) {
	<-s.r.done
	return s.r.result.stats, s.r.result.err
}

// running is a search that a caller waits for.
type running struct {
	providers chan Contact
	done      chan struct{}
	result    searchResult // valid once done is closed
	once      sync.Once
}

func (r *running) end(result searchResult) {
	r.once.Do(func() {
		r.result = result
		if r.providers != nil {
			close(r.providers)
		}
		close(r.done)
	})
}

// search begins a search on behalf of a caller and has it end with ctx.
func (d *DHT) search(ctx context.Context, purpose Purpose, target stc.Hash, providers chan Contact) *running {
	return d.begin(ctx, providers, func(m *machine, now time.Time, done func(searchResult)) *search {
		var onProvider func(Contact)
		if providers != nil {
			onProvider = func(c Contact) { providers <- c } // has room for all that a search may report
		}
		return m.startSearch(now, purpose, target, onProvider, func(_ time.Time, result searchResult) { done(result) })
	})
}

// begin has the owner begin a search by start, which must tell done of its end.
func (d *DHT) begin(ctx context.Context, providers chan Contact, start func(m *machine, now time.Time, done func(searchResult)) *search) *running {
	r := &running{providers: providers, done: make(chan struct{})}
	err := d.do(ctx, func(m *machine, now time.Time) {
		if m.callers >= m.cfg.MaxLookups {
			r.end(searchResult{err: ErrBusy})
			return
		}
		m.callers++
		s := start(m, now, func(result searchResult) {
			m.callers--
			r.end(result)
		})
		if s.over || ctx.Done() == nil {
			return
		}
		stop := context.AfterFunc(ctx, func() {
			// Fails only if the DHT closes, which ends the search as well.
			_ = d.do(context.Background(), func(_ *machine, now time.Time) { s.cancel(now, context.Cause(ctx)) })
		})
		s.release = func() { stop() }
	})
	if err != nil {
		r.end(searchResult{err: err})
	}
	return r
}

// Provide makes key one that we provide: it is published now and every
// Config.RepublishInterval, and offered to nodes that turn up closer to it,
// until Unprovide. It returns how many nodes hold the record. With an error,
// none does yet, and it is tried again by itself: ErrNoNodes, ErrNoAnswer,
// ErrRefused; or ErrUnprovided, ctx's cause, ErrClosed. Keys that are provided
// together are published a few at a time.
func (d *DHT) Provide(ctx context.Context, key stc.Hash) (stored int, err error) {
	return d.await(ctx, func(m *machine, now time.Time, done func(int, error)) { m.publisher.provide(now, key, done) })
}

// Unprovide stops providing key and withdraws our record from the nodes that
// hold it. It returns how many of them confirmed that; the others forget it
// when it expires. A key that is not provided is nothing to do. Errors: ctx's
// cause, which stops the waiting only, and ErrClosed.
func (d *DHT) Unprovide(ctx context.Context, key stc.Hash) (withdrawn int, err error) {
	return d.unprovide(ctx, func(*machine) []stc.Hash { return []stc.Hash{key} })
}

// UnprovideAll does what Unprovide does for every key that we provide, with
// many keys in a datagram: for a clean stop. withdrawn counts records.
func (d *DHT) UnprovideAll(ctx context.Context) (withdrawn int, err error) {
	return d.unprovide(ctx, func(m *machine) []stc.Hash { return m.publisher.provided() })
}

func (d *DHT) unprovide(ctx context.Context, keys func(m *machine) []stc.Hash) (int, error) {
	done := make(chan int, 1)
	if err := d.do(ctx, func(m *machine, now time.Time) {
		m.publisher.unprovide(now, keys(m), func(n int) { done <- n })
	}); err != nil {
		return 0, err
	}
	select {
	case n := <-done:
		return n, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-d.closed:
		return 0, ErrClosed
	}
}
