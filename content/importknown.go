package content

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/seigr/sttnode/content/internal/kv"
	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

// An import notes what it has made of each file, under the path and everything else that the result depends on, with the stamp
// that the file had before it was read. While that is the file's stamp, and all of the result is in the store, the next import
// takes the note instead of the file. Notes go when their content is gone, or when they are old: reading costs only time.

// maxKnownAge is how long a note is kept.
const maxKnownAge = 90 * 24 * time.Hour

// knownBatch is how many notes are written with one sync.
const knownBatch = 4096

// known is such a note.
type known struct {
	stamp stamp
	ref   Ref // of the file: with all that a directory says of it, or of a root
	noted time.Time
}

// knownKey returns the key of the note on a file: as the root of a content, or as an entry of a directory if root is nil.
func (im *importer) knownKey(path string, root *RootInfo) []byte {
	c := im.chunking
	text := appendText([]byte{byte(c.chunker), c.chunkLog, c.fanOutLog}, path)
	if c.chunker == ChunkerCDC {
		text = append(text, im.opts.ChunkerKey[:]...)
	}
	if root != nil {
		text = appendText(append(text, 1), root.Name)
		text = binary.BigEndian.AppendUint16(text, uint16(root.Mode))
	}
	return im.store.seal.key(prefixKnown, stc.Sum(text))
}

func (s *sealer) sealKnown(key []byte, k known) pair {
	plain := append(make([]byte, 0, 128), k.stamp[:]...)
	plain = append(plain, byte(k.ref.Kind))
	plain = append(plain, k.ref.Hash[:]...)
	plain = frame.AppendVarint(plain, k.ref.Size)
	plain = frame.AppendVarint(plain, k.ref.Chunks)
	plain = frame.AppendVarint(plain, uint64(max(0, k.noted.Unix())))
	return pair{key, s.cipher.Seal(nil, plain, key)}
}

func (s *sealer) openKnown(key, value []byte) (known, error) {
	plain, err := s.cipher.Open(nil, value, key)
	if err != nil {
		return known{}, fmt.Errorf("%w: note on a file: %w", ErrCorrupt, err)
	}
	return decodeKnown(plain)
}

func decodeKnown(plain []byte) (k known, err error) {
	d := &decoder{rest: plain}
	copy(k.stamp[:], d.bytes(len(k.stamp)))
	k.ref = Ref{Kind: Kind(d.byte()), Hash: d.hash(), Size: d.varint(), Chunks: d.varint()}
	k.noted = time.Unix(int64(d.varint()), 0)
	d.checkCounts(k.ref)
	if d.err != nil || k.ref.Kind != KindChunk && k.ref.Kind != KindFile || k.ref.Kind == KindChunk && k.ref.Chunks != 1 {
		return known{}, fmt.Errorf("%w: note on a file", ErrCorrupt)
	}
	return k, nil
}

// known returns the reference to a file that need not be read, because it is as it was when it was read last and all that was
// made of it is here.
func (sc *scanner) known(ctx context.Context, path string, info fs.FileInfo, root *RootInfo) (ref Ref, ok bool, err error) {
	if sc.opts.Rehash || info.Size() == 0 {
		return Ref{}, false, nil
	}
	key := sc.knownKey(path, root)
	value, err := sc.store.index.Get(key)
	if errors.Is(err, kv.ErrNotFound) {
		return Ref{}, false, nil
	}
	if err != nil {
		return Ref{}, false, mapError(err)
	}
	k, err := sc.store.seal.openKnown(key, value)
	if err != nil || k.stamp != stampOf(info) || time.Since(k.noted) > maxKnownAge {
		return Ref{}, false, nil
	}
	ok, err = sc.holds(ctx, k.ref, root != nil)
	return k.ref, ok, err
}

// holds reports whether all below a reference to a file is here, and as the import wants it: what is only in place is as good
// as not there for one that copies. All of it is kept from the collector from now on.
func (im *importer) holds(ctx context.Context, ref Ref, root bool) (bool, error) {
	s := im.store
	var file uint64 // that was looked at last, and its stamp
	var now stamp
	here := func(h stc.Hash) (bool, error) {
		s.mu.Lock()
		s.keep(im.keep, h)
		s.mu.Unlock()
		e, ok, err := s.lookup(h)
		if err != nil || !ok || e.bad || e.place.kind != inFile {
			return ok && !e.bad, err
		}
		if e.place.id != file {
			file, now = e.place.id, s.stampInPlace(e.place.id)
		}
		return im.opts.InPlace && e.stamp == now && now != (stamp{}), nil
	}
	ok, err := here(ref.Hash)
	if err != nil || !ok || ref.Kind == KindChunk {
		return ok, err
	}
	load := s.node
	if root {
		load = func(ref Ref) (*Node, error) { return s.root(ref.Hash) }
	}
	top, err := load(ref)
	if err == nil {
		err = eachHash(top, s.node, func(h stc.Hash) error {
			if ok, err = here(h); err == nil && !ok {
				err = ErrNotFound
			}
			return errors.Join(err, ctx.Err())
		})
	}
	switch {
	case err == nil:
		return top.Size == ref.Size && top.Chunks == ref.Chunks, nil
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrCorrupt), errors.Is(err, ErrManifest):
		return false, nil // It is read, and made good.
	}
	return false, err
}

// eachHash calls visit for the nodes and chunks below a file's node, each before what is below it is loaded.
func eachHash(n *Node, load func(Ref) (*Node, error), visit func(stc.Hash) error) error {
	for _, ref := range n.All() {
		err := visit(ref.Hash)
		if err == nil && ref.Kind != KindChunk {
			var child *Node
			if child, err = load(ref); err == nil {
				err = eachHash(child, load, visit)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// remember notes what has been made of a file, unless it may change unnoticed.
func (a *assembler) remember(src *source, root *RootInfo, ref Ref) {
	if src.stamp == (stamp{}) || ref.Size == 0 {
		return
	}
	a.notes = append(a.notes, a.store.seal.sealKnown(a.knownKey(src.path, root), known{src.stamp, ref, time.Now()}))
	if len(a.notes) >= knownBatch {
		a.saveNotes()
	}
}

// saveNotes writes the notes. Without them the next import takes longer and nothing else, so that a failure is none.
func (a *assembler) saveNotes() {
	if err := a.store.ledger.commit(&change{set: a.notes}); err != nil {
		a.store.log.Debug("imported files will be read again by the next import", "error", err)
	}
	a.notes = nil
}

// forgetKnown removes the notes whose content is gone, and old ones. What can't be removed stays for the next time.
func (s *Store) forgetKnown(ctx context.Context) error {
	var c change
	var failed error
	flush := func() {
		failed = s.ledger.commit(&c)
		c.unset = nil
	}
	err := s.index.Each([]byte{prefixKnown}, []byte{prefixKnown + 1}, func(key, value []byte) bool {
		keep := false
		if k, err := s.seal.openKnown(key, value); err == nil && time.Since(k.noted) <= maxKnownAge {
			_, keep, failed = s.lookup(k.ref.Hash)
		}
		if !keep {
			c.unset = append(c.unset, key)
		}
		if len(c.unset) >= knownBatch {
			flush()
		}
		return failed == nil && ctx.Err() == nil
	})
	if failed == nil {
		flush()
	}
	if err = mapError(errors.Join(err, failed)); errors.Is(err, ErrDiskFull) {
		err = nil
	}
	return errors.Join(err, ctx.Err())
}
