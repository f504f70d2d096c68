package content

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"github.com/seigr/sttnode/stc"
)

// mover makes the files of an export the store's own copy. It writes chunks to their places, syncs, enters the places into the
// index, and so gives up the copies, moveBatch bytes at a time: no more than that is on the disk twice, where holes can be
// punched into segments.
//
// What has been moved is found in the part from then on, so a part that is not finished stays, and the next export of the same
// to the same place goes on with it. Every chunk is read through the store, which verifies it, wherever it is.
type mover struct {
	*exporter
	batch   int    // bytes that are moved with one sync
	target  string // absolute; what files are recorded as being below, though they are in the part
	origin  originKey
	places  []movedChunk // written, and not yet entered
	bytes   int          // of them
	written []movedFile  // files in which they lie, or which are to be closed
	failed  error        // of a chunk that can't be read; the others are moved nevertheless, so that all that is bad is found
}

// movedChunk is an entry to be made.
type movedChunk struct {
	at *site
	e  entry
}

// movedFile is a file to be synced, and closed unless it is the part itself.
type movedFile struct {
	file  *os.File
	close bool
}

const (
	// moveBatch is how many bytes are moved at a time, in a store with segments as long as that.
	moveBatch = 64 << 20
	// moveFiles is how many files wait for a sync at most.
	moveFiles = 64
)

// newMover pins the content, notes where its files will be, and where they are until then.
func (e *exporter) newMover(ctx context.Context, root stc.Hash, p *part) (*mover, error) {
	if err := e.store.upgradeFormat(); err != nil {
		return nil, err
	}
	if err := e.store.setOrigin(ctx, origin{root: root, path: p.target, part: p.path}); err != nil {
		return nil, err
	}
	batch := min(moveBatch, int(e.store.pipeline.segmentSize))
	return &mover{exporter: e, batch: batch, target: p.target, origin: e.store.seal.originKey(root, p.target)}, nil
}

// setOrigin notes an origin of a content that is pinned.
func (s *Store) setOrigin(ctx context.Context, o origin) error {
	pin, ok, err := s.pin(o.root)
	if err == nil && !ok {
		err = fmt.Errorf("%w: no pin of %v", ErrNotFound, o.root)
	}
	if err != nil {
		return err
	}
	return s.pinWith(ctx, o.root, pin.PinInfo, o)
}

// pieces returns the chunks of a file that a directory refers to.
func (m *mover) pieces(ref Ref) (iter.Seq2[Piece, error], error) {
	switch ref.Kind {
	case KindFile:
		node, err := m.store.node(ref)
		if err != nil {
			return nil, err
		}
		return node.Range(0, node.Size, m.store.node), nil
	case KindChunk:
		return func(yield func(Piece, error) bool) { yield(Piece{Ref: ref}, nil) }, nil
	}
	return func(func(Piece, error) bool) {}, nil
}

// file writes the chunks of a file, open for reading and writing, whose path below the target is rel. With close it is closed
// when it is no longer needed.
func (m *mover) file(ctx context.Context, f *os.File, rel string, mode fs.FileMode, size uint64, pieces iter.Seq2[Piece, error], close bool) error {
	m.result.Files++
	m.written = append(m.written, movedFile{f, close})
	before, err := f.Stat()
	if err != nil {
		return err
	}
	if err := f.Truncate(int64(size)); err != nil {
		return err
	}
	path := filepath.Join(m.target, filepath.FromSlash(rel))
	id, err := m.store.ledger.fileID(path)
	if err != nil {
		return err
	}
	at := &site{id: id, file: fileRecord{path: path, origin: m.origin}}
	var buf []byte
	for piece, err := range pieces {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if buf, err = m.chunk(at, f, piece, buf[:0], before.Size() == 0); err != nil {
			return err
		}
		if m.bytes >= m.batch {
			if err := m.flush(ctx); err != nil {
				return err
			}
		}
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if len(m.written) >= moveFiles {
		return m.flush(ctx)
	}
	return nil
}

// chunk writes a chunk, unless it has been read from where it belongs.
func (m *mover) chunk(at *site, f *os.File, piece Piece, buf []byte, fresh bool) ([]byte, error) {
	blob, err := m.store.chunk(buf, piece.Ref)
	if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNotFound) {
		m.failed = err
		return buf, nil
	}
	if err != nil {
		return buf, err
	}
	have, ok, err := m.store.lookup(piece.Hash)
	if err != nil {
		return blob, err
	}
	to := entry{hash: piece.Hash, size: len(blob), place: place{inFile, at.id, int64(piece.Offset)}}
	if !ok || have.place != to.place {
		if fresh {
			err = writeSparse(f, blob, to.place.off)
		} else {
			_, err = f.WriteAt(blob, to.place.off)
		}
		if err != nil {
			return blob, err
		}
		if len(blob) > maxSmall && have.place.kind != inFile {
			m.places = append(m.places, movedChunk{at, to})
			m.bytes += len(blob)
		}
	}
	m.progress(len(blob))
	return blob, nil
}

// flush makes durable what was written, and then the store's only copy.
func (m *mover) flush(ctx context.Context) error {
	defer m.closeFiles()
	if len(m.places) == 0 && syncsWhole {
		return nil
	}
	for _, w := range m.written {
		if err := w.file.Sync(); err != nil {
			return err
		}
	}
	g := newPutGroup()
	for _, c := range m.places {
		// What lies in place already, here or in another file of the user's, stays there.
		err := m.store.submitPlace(ctx, g, nil, c.at, c.e, func(have entry) bool { return have.place.kind == inFile })
		if err != nil {
			return err
		}
	}
	m.places, m.bytes = m.places[:0], 0
	return g.wait(ctx)
}

// closeFiles closes what need not be open any more.
func (m *mover) closeFiles() {
	for _, w := range m.written {
		if w.close {
			w.file.Close()
		}
	}
	m.written = m.written[:0]
}

// finish moves the rest. It fails if a chunk was not to be had.
func (m *mover) finish(ctx context.Context) error {
	if err := m.flush(ctx); err != nil {
		return err
	}
	return m.failed
}

// open opens a file of the part, which may be left from before.
func (m *mover) open(root *os.Root, name string) (*os.File, error) {
	f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrPermission) && root.Chmod(name, 0o600) == nil {
		f, err = root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	}
	return f, err
}
