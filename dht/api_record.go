package dht

import (
	"context"
	"fmt"
	"time"

	"github.com/seigr/sttnode/stc"
)

// GetRecord returns the newest record of a name that the nodes closest to it
// hold. It returns LookupStats with an error as well: ErrNoRecord if nodes
// answered and none has one, which can be relied on if LookupStats.Complete;
// ErrNoNodes, ErrNoAnswer, ErrBusy, ctx's cause, ErrClosed. Whoever holds the
// shared seed may keep a record from being found, and a few of the closest nodes
// together may show an old one; nobody but the owner can make one.
func (d *DHT) GetRecord(ctx context.Context, name stc.Name) (Record, LookupStats, error) {
	r := d.begin(ctx, nil, func(m *machine, now time.Time, done func(searchResult)) *search {
		return m.startRecordSearch(now, PurposeRecord, name, 0, func(_ time.Time, res searchResult) { done(res) })
	})
	<-r.done
	res := r.result
	if res.err == nil && res.record.IsZero() {
		res.err = fmt.Errorf("%w: %d nodes answered", ErrNoRecord, res.stats.Answered)
	}
	return res.record, res.stats, res.err
}

// PutRecord stores a record at the nodes closest to its name, once, and returns
// how many hold it now; they do for Config.RecordTTL. Errors: ErrStale if a newer
// record is there, ErrRefused, ErrNoNodes, ErrNoAnswer, ErrBusy; ctx's cause, which
// ends the waiting only; ErrClosed.
func (d *DHT) PutRecord(ctx context.Context, rec Record) (stored int, err error) {
	return d.await(ctx, func(m *machine, now time.Time, done func(int, error)) {
		if m.keeper.once >= maxOnce {
			done(0, ErrBusy)
			return
		}
		m.keeper.once++
		m.keeper.put(now, rec, func(_ time.Time, res putResult) {
			m.keeper.once--
			done(len(res.holders), res.err)
		})
	})
}

// KeepRecord stores a record as PutRecord does, and again every
// Config.RepublishInterval and when nodes turn up that should hold it, until
// DropRecord. It returns how many nodes hold it after the first time; with an
// error none does yet, and it is tried again by itself. A newer record of the name
// takes the place of the one that is kept, also one that is found in the network.
// Errors as of PutRecord: ErrStale if it is older than what is kept or found,
// ErrBusy if 1,024 names are kept, and ErrUnprovided.
func (d *DHT) KeepRecord(ctx context.Context, rec Record) (stored int, err error) {
	return d.await(ctx, func(m *machine, now time.Time, done func(int, error)) { m.keeper.keep(now, rec, done) })
}

// DropRecord keeps the record of a name published no longer. Those who hold it
// do until it expires.
func (d *DHT) DropRecord(name stc.Name) {
	_, _ = ask(d, func(m *machine, _ time.Time) struct{} { m.keeper.drop(name); return struct{}{} })
}

// KeptRecords returns the records that we keep published. None when the DHT is
// closed.
func (d *DHT) KeptRecords() []Record {
	records, _ := ask(d, func(m *machine, _ time.Time) []Record { return m.keeper.kept() })
	return records
}

// await has the owner run a command that tells done how it ended, and waits.
func (d *DHT) await(ctx context.Context, command func(m *machine, now time.Time, done func(int, error))) (int, error) {
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	if err := d.do(ctx, func(m *machine, now time.Time) {
		command(m, now, func(n int, err error) { done <- result{n, err} })
	}); err != nil {
		return 0, err
	}
	select {
	case r := <-done:
		return r.n, r.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-d.closed:
	}
	select {
	case r := <-done:
		return r.n, r.err
	default:
		return 0, ErrClosed
	}
}
