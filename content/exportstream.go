package content

import (
	"context"
	"fmt"
	"io"
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
	// Chunks are read ahead by goroutines of their own and written in order.
	type chunk struct {
		data []byte
		err  error
	}
	ahead := 2 * runtime.GOMAXPROCS(0)
	queue := make(chan chan chunk, ahead)
	free := make(chan []byte, ahead+2)
	stages, ctx := errgroup.WithContext(ctx)
	stages.Go(func() error {
		defer close(queue)
		return s.eachChunk(ctx, node, func(ref Ref) error {
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
				data, err := s.chunk(buf[:0], ref)
				result <- chunk{data, err}
				return nil
			})
			return nil
		})
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
			n, err := w.Write(c.data)
			written += uint64(n)
			if err != nil {
				return err
			}
			if progress != nil {
				progress(ExportProgress{Bytes: written, Total: node.Size})
			}
			select {
			case free <- c.data:
			default:
			}
		}
		return nil
	})
	return written, stages.Wait()
}
