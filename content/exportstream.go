package content

import (
	"context"
	"fmt"
	"io"
	"iter"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/seigr/sttnode/stc"
)

// ExportTo writes the bytes of the file under root to w, in order, each chunk verified before its first byte is written.
// progress may be nil. A directory is ErrTarget.
func (s *Store) ExportTo(ctx context.Context, root stc.Hash, w io.Writer, progress func(ExportProgress)) (uint64, error) {
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.exit()
	node, err := s.root(root)
	if err != nil {
		return 0, err
	}
	if node.Kind != KindFile {
		return 0, fmt.Errorf("%w: a directory can't be written to a stream", ErrTarget)
	}
	var report func(uint64)
	if progress != nil {
		report = func(written uint64) { progress(ExportProgress{Bytes: written, Total: node.Size}) }
	}
	return s.stream(ctx, node.Range(0, node.Size, s.node), 0, w, report)
}

// stream writes the bytes of the pieces, the first from the offset from on. Chunks are read ahead by goroutines of their own and
// written in order. progress, if not nil, is told how much has been written.
func (s *Store) stream(ctx context.Context, pieces iter.Seq2[Piece, error], from uint64, w io.Writer, progress func(uint64)) (uint64, error) {
	type chunk struct {
		data []byte
		skip uint64
		err  error
	}
	ahead := 2 * runtime.GOMAXPROCS(0)
	queue := make(chan chan chunk, ahead)
	free := make(chan []byte, ahead+2)
	stages, ctx := errgroup.WithContext(ctx)
	stages.Go(func() error {
		defer close(queue)
		for piece, err := range pieces {
			if err != nil {
				return err
			}
			result := make(chan chunk, 1)
			select {
			case queue <- result:
			case <-ctx.Done():
				return ctx.Err()
			}
			var buf []byte
			select {
			case buf = <-free:
			default:
			}
			stages.Go(func() error {
				data, err := s.chunk(buf[:0], piece.Ref)
				result <- chunk{data, max(from, piece.Offset) - piece.Offset, err}
				return nil
			})
		}
		return nil
	})
	var written uint64
	stages.Go(func() error {
		for result := range queue {
			c := <-result
			if c.err != nil {
				return c.err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			n, err := w.Write(c.data[c.skip:])
			written += uint64(n)
			if err != nil {
				return err
			}
			if progress != nil {
				progress(written)
			}
			select {
			case free <- c.data:
			default:
			}
		}
		return nil
	})
	err := stages.Wait()
	return written, err
}
