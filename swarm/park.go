package swarm

import (
	"context"
	"fmt"
	"time"

	"github.com/seigr/sttnode/content"
)

// A peer that takes what is read for it slowly, or not at all, holds memory that
// others wait for, and whoever can make many of itself could hold all of it. So
// a batch whose writing takes long is parked when there is somebody who waits:
// its memory is given back, but for the few bytes that come next. When those
// have gone out the peer queues for memory again, behind all who have held less
// for less time, and the rest is read once more.
//
// And nothing is read ahead for a stream that was not quick with its last batch,
// or has had none.

const (
	// parkAfter is how long a batch may hold memory before it is parked, and
	// within which a quick peer takes one; parkAfterNew is the former for a peer
	// that was not quick, or has had none yet.
	parkAfter    = time.Second
	parkAfterNew = parkAfter / 4
	// parkKeep is how much of the blob that is being written is kept: whoever
	// is parked again and again gets so much each time.
	parkKeep = 16 << 10
)

func (b *batch) size() int {
	if b.cached == nil {
		return len(b.buf)
	}
	return len(b.buf) + len(b.cached.data)
}

// from returns bytes of the batch from a place on, all of buf or of cached.
func (b *batch) from(at int) []byte {
	if at < len(b.buf) {
		return b.buf[at:]
	}
	return b.cached.data[at-len(b.buf):]
}

// putBatch writes a batch, at one go or parked in between.
func (st *serverStream) putBatch(ctx context.Context, b *batch) error {
	s, begun := st.server, time.Now()
	yield := func() bool { return time.Since(b.taken) >= s.ahead.patience(st.peer) && s.ahead.contended() }
	for at := 0; at < b.size(); {
		piece := b.from(at)
		n, err := st.putLimited(ctx, piece, yield)
		if at += n; err == nil && n < len(piece) {
			at, err = st.park(ctx, b, at)
		}
		if err != nil {
			return err
		}
	}
	st.quick.Store(time.Since(begun) < parkAfter)
	st.written.Add(1)
	select {
	case st.done <- struct{}{}:
	default:
	}
	s.blobs.Add(uint64(b.blobs))
	s.bytes.Add(uint64(b.bytes))
	return nil
}

// park gives back what a batch holds that has been written up to a place, and
// returns where to go on once it has it again.
func (st *serverStream) park(ctx context.Context, b *batch, at int) (int, error) {
	s, end := st.server, b.size()
	next, size := min(max(at, b.lastAt)+parkKeep, end), end-b.lastAt
	keep := make([]byte, 0, next-at)
	for at < next {
		piece := b.from(at)
		keep = append(keep, piece[:min(len(piece), next-at)]...)
		at = min(at+len(piece), next)
	}
	offset := next - b.lastAt
	s.free(st.peer, b, true)
	*b = batch{last: b.last, blobs: b.blobs, bytes: b.bytes}
	s.parked.Add(1)
	if _, err := st.putLimited(ctx, keep, func() bool { return false }); err != nil {
		return 0, err
	}
	if next == end {
		return 0, nil // of nothing
	}
	room := batchSize
	if size > batchSize {
		room = batchSizeLarge
	}
	if err := s.ahead.take(ctx, st.peer, int64(room)); err != nil {
		return 0, err
	}
	b.room, b.taken = int64(room), time.Now()
	b.buf = s.buffers.get(room)[:0]
	out, err := s.read(ctx, st.peer, b.buf, b.last)
	if err != nil {
		return 0, err
	}
	if b.buf = out; len(out) != size {
		return 0, fmt.Errorf("%w: a blob has %d bytes, and had %d", content.ErrCorrupt, len(out), size)
	}
	return offset, nil
}

// awaitWritten waits, for a stream that is not quick, until all batches that the
// writer was handed have been written. It returns false when ctx ends.
func (st *serverStream) awaitWritten(ctx context.Context, handed int64) bool {
	for !st.quick.Load() && st.written.Load() < handed {
		select {
		case <-st.done:
		case <-ctx.Done():
			return false
		}
	}
	return true
}
