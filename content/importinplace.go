package content

import (
	"context"
	"io/fs"
	"time"

	"github.com/seigr/sttnode/stc"
)

// site is a file of the user's in which blobs lie in place.
type site struct {
	id    uint64
	file  fileRecord
	stamp stamp // under which what is read from it is right
}

// source returns a file to be imported, as the scanner sees it now.
func (sc *scanner) source(path string, info fs.FileInfo) (*source, error) {
	src := &source{path: path, info: info, stamp: settledStamp(info, time.Now())}
	if sc.opts.InPlace && info.Size() > maxSmall {
		id, err := sc.store.ledger.fileID(path)
		if err != nil {
			return nil, err
		}
		src.site = &site{id: id, file: fileRecord{path: path}, stamp: src.stamp}
	}
	return src, nil
}

// put submits the chunks of a reading, whose hashes it has, to the store.
func (im *importer) put(ctx context.Context, r *reading, chunks [][]byte) error {
	if r.source == nil || r.source.site == nil {
		return im.store.submit(ctx, im.puts, im.keep, r.hashes, chunks)
	}
	off := r.off
	for i, chunk := range chunks {
		if err := im.store.submitInPlace(ctx, im.puts, im.keep, r.source.site, r.hashes[i], chunk, off); err != nil {
			return err
		}
		off += int64(len(chunk))
	}
	return nil
}

// origins returns where the content lies that has been imported, if it is to be served from there.
func (im *importer) origins(root stc.Hash) []origin {
	if !im.opts.InPlace {
		return nil
	}
	return []origin{{root: root, path: im.path}}
}

// submitInPlace is submitOne for a blob that lies at off in the file of a site. A copy is stored of a small one: to point to it
// would cost nearly as much, and to open a file for each read more. What the store has a copy of stays with that.
func (s *Store) submitInPlace(ctx context.Context, g *putGroup, keep *keeper, at *site, h stc.Hash, blob []byte, off int64) error {
	if len(blob) <= maxSmall {
		return s.submitOne(ctx, g, keep, h, blob)
	}
	return s.submitPlace(ctx, g, keep, at, entry{hash: h, size: len(blob), place: place{inFile, at.id, off}, stamp: at.stamp},
		func(have entry) bool {
			return have.place.kind != inFile || have.place.id == at.id && have.stamp == at.stamp
		})
}

// submitPlace begins to enter a blob in place into the index, unless enough says that what is there, and not bad, is enough.
func (s *Store) submitPlace(ctx context.Context, g *putGroup, keep *keeper, at *site, e entry, enough func(have entry) bool) error {
	mine, err := s.claim(ctx, g, keep, e.hash, true)
	if err != nil || !mine {
		return err
	}
	generation := s.ledger.generation.Load()
	have, ok, err := s.ledger.lookup(e.hash)
	if err != nil || ok && !have.bad && enough(have) {
		s.resolve(e.hash, err)
		return nil
	}
	it := &item{hash: e.hash, size: e.size, place: e.place, stamp: e.stamp, file: &at.file, generation: generation}
	if ok {
		it.replaces = &have
	}
	s.pipeline.queue <- it
	return nil
}
