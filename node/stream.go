package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/stc"
)

// streamer writes the bytes of a file in order while they are being fetched.
// The zero value streams nothing.
type streamer struct {
	done chan struct{} // nil without a stream
	err  error         // valid once done is closed
}

// start begins to write to the fetch's Writer, in a goroutine that wait and
// abandon wait for.
func (s *streamer) start(ctx context.Context, f *fetch) {
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		s.err = f.stream(ctx)
	}()
}

// wait returns when all is written, or why it is not.
func (s *streamer) wait() error {
	if s.done == nil {
		return nil
	}
	<-s.done
	return s.err
}

// abandon waits for the end of the stream of a fetch that has failed with
// fetchErr, and returns what it does not say already.
func (s *streamer) abandon(fetchErr error) error {
	err := s.wait()
	if err == nil || errors.Is(err, fetchErr) || errors.Is(fetchErr, err) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// stream writes the file in order.
func (f *fetch) stream(ctx context.Context) error {
	blob, err := f.await(ctx, nil, f.root)
	if err != nil {
		return err
	}
	root, err := content.DecodeRoot(blob)
	if err != nil {
		return err
	}
	if root.Kind == content.KindDirectory {
		return ErrDirectoryStream
	}
	load := func(ref content.Ref) (*content.Node, error) {
		blob, err := f.await(ctx, nil, ref.Hash)
		if err != nil {
			return nil, err
		}
		return ref.Decode(blob)
	}
	var chunk []byte
	for piece, err := range root.Range(0, root.Size, load) {
		if err != nil {
			return err
		}
		if chunk, err = f.await(ctx, chunk[:0], piece.Hash); err != nil {
			return err
		}
		if _, err := f.opts.Writer.Write(chunk); err != nil {
			return fmt.Errorf("output: %w", err)
		}
	}
	return nil
}

// await appends a blob to dst once it is stored.
func (f *fetch) await(ctx context.Context, dst []byte, h stc.Hash) ([]byte, error) {
	for {
		// Asked before the store is, so that nothing is missed in between.
		changed, over, overErr := f.store.changed()
		b, err := f.n.store.Get(dst, h)
		switch {
		case err == nil:
			return b, nil
		case !errors.Is(err, content.ErrNotFound):
			return dst, err
		case over && overErr != nil:
			return dst, overErr
		case over:
			return dst, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return dst, context.Cause(ctx)
		}
	}
}
