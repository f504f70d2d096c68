package content

import (
	"context"
	"iter"

	"github.com/seigr/sttnode/stc"
)

// Storage is binary storage: buckets of bytes under their own hash, deduplicated, and encrypted where they lie. It gives the bytes no
// meaning and keeps nothing beside them. All methods are safe for concurrent use.
//
//	h, err := s.Put(ctx, reading)        // h is the SHA3-256 of reading, whoever stores it, and wherever
//	reading, err := s.Get(nil, h)
//
// There are two: [*Store], on the disk, and [*Memory]. What both promise is what package storagetest checks, of any other as well.
//
// What is put by Put alone stays in a Memory until it is deleted. In a Store it is no part of a content, so GC frees it, and so does a
// limit ([Config].MaxBytes) that needs its room: an application that keeps blobs of its own opens a Store of its own for them, without a
// limit, and runs no GC on it.
type Storage interface {
	// Put stores a blob of 0 to MaxBlobSize bytes and returns its hash. The same bytes are stored once. data is not kept. Longer
	// things are contents: see [Store.Import]. Errors: ErrTooLarge, ErrLimit, ErrDiskFull, ErrClosed, ctx's.
	Put(ctx context.Context, data []byte) (stc.Hash, error)
	// Get appends the blob to dst, verified, and returns that. Errors: ErrNotFound, ErrCorrupt, ErrClosed; dst is returned as it was.
	Get(dst []byte, h stc.Hash) ([]byte, error)
	// Has reports whether Get would find the blob, as far as can be known without reading it. Errors: ErrClosed.
	Has(h stc.Hash) (bool, error)
	// Delete removes blobs. Hashes that are not here are ignored. Errors: ErrClosed, ctx's.
	Delete(ctx context.Context, hashes ...stc.Hash) error
	// All yields the blobs in no order. Close waits for loops over a Store, so it must not be called in one. Those put or deleted meanwhile come or don't. It ends with the first error: ErrClosed, ctx's.
	All(ctx context.Context) iter.Seq2[BlobInfo, error]
	// Close frees what the storage holds; of a Memory that is everything. Every method gives ErrClosed afterwards.
	Close() error
}
