package node

import (
	"context"
	"fmt"
	"io"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/stc"
)

// ImportOptions say how to store a file or directory. The zero value is good.
type ImportOptions struct {
	// Name is the suggested name that the content carries. The last element of
	// the path.
	Name string
	// Chunker says how files are cut into chunks: content.ChunkerCDC where the
	// content says so, under a key that all nodes of the network share, so that
	// versions of a file share most of their chunks. content.ChunkerRamp.
	Chunker content.Chunker
	// ChunkSize is the size of chunks in bytes, or their average, see
	// content.ImportOptions. 256 KiB.
	ChunkSize int
	// Exclude are patterns of what to leave out of a directory, see
	// content.ImportOptions.
	Exclude []string
	// InPlace leaves the bytes in the files and serves them from there: no
	// second copy takes room, and what changes in the files afterwards is no
	// longer served. See content.ImportOptions.InPlace.
	InPlace bool
	// Rehash reads all files, also those that have not changed since they were
	// imported last.
	Rehash bool
	// OnProgress, if not nil, is called now and then by one goroutine at a
	// time.
	OnProgress func(ImportProgress)
}

// ImportProgress says how far an import is.
type ImportProgress struct {
	Files        uint64 // done
	Bytes, Total uint64 // Total is 0 while nobody knows; for readers always
}

// ImportResult says what was stored.
type ImportResult struct {
	Root          stc.Hash
	Name          string
	Bytes, Chunks uint64
	Files         uint64
	Unread        uint64 // bytes of files that have not changed since they were imported last
	// Escaping are some of the symbolic links that lead out of the tree; others
	// will refuse to write the content because of them. EscapingCount is how
	// many there are.
	Escaping      []string
	EscapingCount uint64
}

// Import copies a file or a directory tree into the store, or notes where its
// bytes lie if it is to be served in place, and keeps it there.
// Everything is durable when it returns. It does not announce anything. Errors
// are those of content.Store.Import.
func (n *Node) Import(ctx context.Context, path string, opts ImportOptions) (ImportResult, error) {
	return n.importBy(ctx, path, path, opts, func(ctx context.Context, opts content.ImportOptions) (*content.Imported, error) {
		return n.store.Import(ctx, path, opts)
	})
}

// ImportReader is Import for a file that consists of what r gives up to its
// end. A call of r.Read that waits is not interrupted when ctx ends.
func (n *Node) ImportReader(ctx context.Context, r io.Reader, opts ImportOptions) (ImportResult, error) {
	return n.importBy(ctx, "input", "", opts, func(ctx context.Context, opts content.ImportOptions) (*content.Imported, error) {
		return n.store.ImportReader(ctx, r, opts)
	})
}

// importBy calls the store's function for an import of what, which lies at path
// if it is a file or a directory.
func (n *Node) importBy(ctx context.Context, what, path string, opts ImportOptions,
	run func(context.Context, content.ImportOptions) (*content.Imported, error)) (ImportResult, error) {
	ctx, end, err := n.beginStore(ctx)
	if err != nil {
		return ImportResult{}, err
	}
	defer end()
	copts := content.ImportOptions{
		Name: opts.Name, Chunker: opts.Chunker, ChunkSize: opts.ChunkSize, ChunkerKey: n.cfg.Keyring.ChunkerKey(), Exclude: opts.Exclude,
		InPlace: opts.InPlace, Rehash: opts.Rehash,
	}
	if on := opts.OnProgress; on != nil {
		copts.Progress = func(p content.ImportProgress) { on(ImportProgress{Files: p.Files, Bytes: p.Bytes, Total: p.Total}) }
	}
	imported, err := run(ctx, copts)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return ImportResult{}, fmt.Errorf("store %s: %w", what, err)
	}
	n.emit(EventSeeded, Event{Root: imported.Root, Path: path, Bytes: imported.Size})
	return ImportResult{
		Root: imported.Root, Name: imported.Name, Bytes: imported.Size, Chunks: imported.Chunks, Files: imported.Files, Unread: imported.Unread,
		Escaping: imported.Escaping, EscapingCount: imported.EscapingCount,
	}, nil
}

// Seed is Import, then Announce: when it returns without error the content is
// served, and the network knows.
func (n *Node) Seed(ctx context.Context, path string, opts ImportOptions) (ImportResult, error) {
	result, err := n.Import(ctx, path, opts)
	if err == nil {
		_, err = n.Announce(ctx, result.Root)
	}
	return result, err
}
