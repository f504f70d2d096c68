package content

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/seigr/sttnode/stc"
)

// sequence produces units from what one goroutine has to read from its beginning to its end: a stream, or a large file whose
// content defines the chunks, for each of them begins where the one before ends. It finds the borders; the workers do the rest
// with the same bytes.
type sequence struct {
	*importer
	r      io.Reader
	source *source // of a file
	off    int64   // where the next chunk begins
}

// stream is the producer for readers.
func (im *importer) stream(ctx context.Context, r io.Reader) error {
	q := &sequence{importer: im, r: r}
	return q.file(ctx, step{kind: stepEnd})
}

// file produces all units of a file, which the step end finishes.
func (q *sequence) file(ctx context.Context, end step) error {
	if err := q.emit(ctx, &unit{steps: []step{{kind: stepBegin}}}); err != nil {
		return err
	}
	if err := q.parts(ctx); err != nil {
		return err
	}
	if q.source != nil && q.off != q.source.info.Size() {
		return fmt.Errorf("%w: %s", ErrChanged, q.source.path)
	}
	return q.emit(ctx, &unit{steps: []step{end}})
}

// parts reads to the end and produces what lies between.
func (q *sequence) parts(ctx context.Context) error {
	buf, err := q.buffer(ctx)
	if err != nil {
		return err
	}
	have := 0 // bytes of the next chunk that are in buf already
	for {
		if skipped, err := q.skipHole(ctx, q.source, q.off); err != nil {
			return err
		} else if skipped > 0 {
			have, q.off = 0, q.off+skipped
			q.r = q.source.from(q.off)
		}
		n, err := io.ReadFull(q.r, buf[have:])
		last := err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return err
		}
		sizes, cut := q.cutAll(buf[:have+n], last)
		next, err := q.buffer(ctx)
		if err != nil {
			return err
		}
		rest := copy(next, buf[cut:have+n]) // before a worker has the buffer
		if err := q.part(ctx, buf, sizes, cut); err != nil {
			return err
		}
		buf, have, q.off = next, rest, q.off+int64(cut)
		if last {
			q.buffers <- buf
			return nil
		}
	}
}

// cutAll cuts all chunks of b whose end it can tell; last says that the file ends with b.
func (q *sequence) cutAll(b []byte, last bool) (sizes []int, end int) {
	for end < len(b) && (last || len(b)-end >= q.chunking.longest()) {
		size := q.cut(b[end:], q.off+int64(end))
		sizes, end = append(sizes, size), end+size
	}
	return sizes, end
}

// part emits the first n bytes of a buffer.
func (q *sequence) part(ctx context.Context, buf []byte, sizes []int, n int) error {
	if n == 0 {
		q.buffers <- buf
		return nil
	}
	part := &reading{source: q.source, off: q.off, size: n, data: buf[:n], sizes: sizes, free: func() { q.buffers <- buf }}
	return q.emit(ctx, &unit{reads: []*reading{part}, steps: []step{{kind: stepPart, part: part}}})
}

// buffer returns a buffer of unitSize that nobody uses. It comes back through im.buffers, which has room for all.
func (im *importer) buffer(ctx context.Context) ([]byte, error) {
	select {
	case b := <-im.buffers:
		return b, nil
	default:
	}
	if im.made < cap(im.buffers) {
		im.made++
		return make([]byte, im.unitSize()), nil
	}
	select {
	case b := <-im.buffers:
		return b, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// maxRun is how many equal chunks a step stands for at most, so that progress is seen and the end of a context.
const maxRun = 1 << 16

// skipHole emits the chunks of a hole in a file that begins at off, where a chunk does, and returns how many bytes they are. A
// hole is not read: all of its chunks are the same.
func (im *importer) skipHole(ctx context.Context, src *source, off int64) (skipped int64, err error) {
	longest := int64(im.chunking.longest())
	if src == nil || !src.sparse || im.chunking.ramp() > 0 && off < longest {
		return 0, nil
	}
	hole := nextData(src.file, off, src.info.Size()) - off
	if hole < longest {
		return 0, nil
	}
	if im.zero == nil {
		b := make([]byte, longest)
		hashes, chunks := []stc.Hash{{}}, [][]byte{b[:im.cut(b, longest)]}
		stc.SumMany(hashes, chunks)
		if err := im.store.submit(ctx, im.puts, im.keep, hashes, chunks); err != nil {
			return 0, err
		}
		im.zero = &chunk{hashes[0], len(chunks[0])}
	}
	// Behind each chunk but the last, the longest one must fit in, or its border would depend on what comes then.
	size := int64(im.zero.size)
	for n := (hole-longest)/size + 1; n > 0; n -= maxRun {
		run := min(n, maxRun)
		skipped += run * size
		if err := im.emit(ctx, &unit{steps: []step{{kind: stepRun, run: run, chunk: *im.zero}}}); err != nil {
			return 0, err
		}
	}
	return skipped, nil
}
