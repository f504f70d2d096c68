package segment

import (
	"bytes"
	"errors"
	"io"

	"github.com/seigr/sttnode/content/internal/vfs"
	"github.com/seigr/sttnode/stc"
)

// Record is a record found by Scan.
type Record struct {
	Hash stc.Hash
	Off  int64
	Size int64  // of the record
	Blob []byte // nil if the record's header is intact and the rest is not; valid until the next one is found
}

// Scan finds the records in f at or behind off, verifies them, and calls visit until it returns an error. Bytes that are no
// record, torn, deleted or damaged, are passed over. It reads everything and keeps two records in memory.
func Scan(f vfs.File, c *stc.StoreCipher, off int64, maxBlob int, visit func(Record) error) error {
	end, err := f.Size()
	if err != nil {
		return err
	}
	window := make([]byte, maxBlob+Overhead)
	var blob []byte
	for off < end {
		n, err := f.ReadAt(window[:min(int64(len(window)), end-off)], off)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n == 0 {
			return nil
		}
		h, size, err := openHeader(c, window[:n], maxBlob)
		if err != nil {
			off += nextMagic(window[:n], n == int(end-off))
			continue
		}
		r := Record{Hash: h, Off: off, Size: size}
		if size <= int64(n) {
			if blob, err = c.Open(blob[:0], window[headerSize:size], h[:]); err == nil {
				r.Blob = blob
				if r.Blob == nil {
					r.Blob = []byte{}
				}
			}
		}
		if r.Blob == nil {
			// Its length is authentic, but what should lie there may have begun to be written over.
			if err := visit(r); err != nil {
				return err
			}
			off += nextMagic(window[:n], n == int(end-off))
			continue
		}
		if err := visit(r); err != nil {
			return err
		}
		off += size
	}
	return nil
}

// Probe looks in a file for what may be records of any store, and whether one of them is of this one.
func Probe(fsys vfs.FS, name string, c *stc.StoreCipher, maxBlob int) (found, ours bool, err error) {
	f, err := fsys.Open(name)
	if err != nil {
		return false, false, err
	}
	defer f.Close()
	window := make([]byte, 1<<20)
	for off := int64(0); ; {
		n, err := f.ReadAt(window, off)
		if err != nil && !errors.Is(err, io.EOF) {
			return false, false, err
		}
		if bytes.Contains(window[:n], []byte(magic)) {
			break
		}
		if n < len(window) {
			return false, false, nil
		}
		off += int64(n - len(magic) + 1)
	}
	stop := errors.New("stop")
	err = Scan(f, c, 0, maxBlob, func(Record) error { return stop })
	if err == stop {
		return true, true, nil
	}
	return true, false, err
}

// nextMagic returns how far behind the start of b another record may begin.
func nextMagic(b []byte, last bool) int64 {
	if i := bytes.Index(b[1:], []byte(magic)); i >= 0 {
		return int64(1 + i)
	}
	if last {
		return int64(len(b))
	}
	return int64(max(1, len(b)-len(magic)+1))
}
