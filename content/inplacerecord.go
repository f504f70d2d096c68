package content

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/seigr/sttnode/content/internal/kv"
	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

// stamp tells one state of a file from any other, as far as the system can say: it is a hash of length, time of the last change
// to its bytes, inode and, where there is one, the time of the last change to the inode (ctime), which no program can set back.
// The device is left out, as in git: its number may be another one after the next start. The zero stamp is no file's.
type stamp [16]byte

// stampOf returns the stamp of a file.
func stampOf(info fs.FileInfo) (st stamp) {
	changed, inode := inodeOf(info)
	b := binary.BigEndian.AppendUint64(nil, uint64(info.Size()))
	b = binary.BigEndian.AppendUint64(b, uint64(info.ModTime().UnixNano()))
	b = binary.BigEndian.AppendUint64(b, uint64(changed.UnixNano()))
	b = binary.BigEndian.AppendUint64(b, inode)
	sum := sha256.Sum256(b)
	copy(st[:], sum[:])
	return st
}

// settleTime is how long ago a file must have changed for another change to be certain to show in its times: the coarsest clock
// of a file system, that of FAT.
const settleTime = 2 * time.Second

// settledStamp is stampOf for a file that was looked at at the time now. It is the zero stamp for a file that changed so
// shortly before that it may change again without a trace ("racily clean" in git).
func settledStamp(info fs.FileInfo, now time.Time) stamp {
	changed, _ := inodeOf(info)
	if age := now.Sub(changed); age < settleTime {
		return stamp{}
	}
	return stampOf(info)
}

// maxPath bounds the paths in records, in bytes.
const maxPath = 32 << 10

// fileRecord is what the index knows of a file of the user's in which blobs lie in place.
type fileRecord struct {
	path   string    // absolute
	origin originKey // of the content that is being written there, or zero
}

// originKey names an origin: 8 bytes of the pseudonym of its root, 8 of that of its path.
type originKey [16]byte

// origin says where a content lies in the user's files. From it and the manifests, the places of all its chunks can be made
// again.
type origin struct {
	root stc.Hash
	path string // of the file or directory, absolute
	// part is where all of it is while it is being written, before it is renamed to path; or empty.
	part string
}

func (s *sealer) originKey(root stc.Hash, path string) (k originKey) {
	copy(k[:8], s.key(prefixOrigin, root)[1:])
	copy(k[8:], s.key(prefixOrigin, stc.Sum([]byte(path)))[1:])
	return k
}

func (k originKey) key() []byte { return append([]byte{prefixOrigin}, k[:]...) }

func (s *sealer) sealOrigin(o origin) pair {
	key := s.originKey(o.root, o.path).key()
	plain := append(make([]byte, 0, 64+len(o.path)+len(o.part)), o.root[:]...)
	plain = appendText(plain, o.path)
	plain = appendText(plain, o.part)
	return pair{key, s.cipher.Seal(nil, plain, key)}
}

func (s *sealer) openOrigin(key, value []byte) (origin, error) {
	plain, err := s.cipher.Open(nil, value, key)
	if err != nil {
		return origin{}, fmt.Errorf("%w: origin: %w", ErrCorrupt, err)
	}
	return decodeOrigin(plain)
}

func decodeOrigin(plain []byte) (origin, error) {
	d := &decoder{rest: plain}
	o := origin{root: d.hash(), path: d.text(), part: d.text()}
	if d.err != nil || !filepath.IsAbs(o.path) || o.part != "" && !filepath.IsAbs(o.part) {
		return origin{}, fmt.Errorf("%w: origin", ErrCorrupt)
	}
	return o, nil
}

// appendText appends a text with its length in front.
func appendText(dst []byte, text string) []byte {
	return append(frame.AppendVarint(dst, uint64(len(text))), text...)
}

// text reads what appendText has written, up to maxPath bytes.
func (d *decoder) text() string {
	n := d.varint()
	if n > maxPath {
		d.fail("text of %d bytes", n)
		return ""
	}
	return string(d.bytes(int(n)))
}

func fileKey(prefix byte, id uint64) []byte { return binary.BigEndian.AppendUint64([]byte{prefix}, id) }

func (s *sealer) sealFile(id uint64, f fileRecord) (key, value []byte) {
	key = fileKey(prefixFile, id)
	plain := append(make([]byte, 0, 32+len(f.path)), f.origin[:]...)
	return key, s.cipher.Seal(nil, appendText(plain, f.path), key)
}

func (s *sealer) openFile(key, value []byte) (fileRecord, error) {
	plain, err := s.cipher.Open(nil, value, key)
	if err != nil {
		return fileRecord{}, fmt.Errorf("%w: record of a file: %w", ErrCorrupt, err)
	}
	return decodeFile(plain)
}

func decodeFile(plain []byte) (fileRecord, error) {
	var f fileRecord
	d := &decoder{rest: plain}
	copy(f.origin[:], d.bytes(len(f.origin)))
	f.path = d.text()
	if d.err != nil || !filepath.IsAbs(f.path) {
		return fileRecord{}, fmt.Errorf("%w: record of a file", ErrCorrupt)
	}
	return f, nil
}

// file returns the record of a file.
func (l *ledger) file(id uint64) (f fileRecord, ok bool, err error) {
	key := fileKey(prefixFile, id)
	value, err := l.db.Get(key)
	if errors.Is(err, kv.ErrNotFound) {
		return fileRecord{}, false, nil
	}
	if err != nil {
		return fileRecord{}, false, mapError(err)
	}
	f, err = l.seal.openFile(key, value)
	return f, err == nil, err
}

// fileID returns the number of the file of that path: the one that it has, or that it gets with its first blob. Numbers are
// pseudonyms of paths; of two that are the same, the file that comes later takes the next one.
func (l *ledger) fileID(path string) (uint64, error) {
	id := binary.BigEndian.Uint64(l.seal.key(prefixFile, stc.Sum([]byte(path)))[1:]) >> 3 // well within a varint
	for {
		f, ok, err := l.file(id)
		if err != nil || !ok || f.path == path {
			return id, err
		}
		id++
	}
}

// putUse notes in a batch that n more blobs, or fewer, lie in a file. The record of a file goes with the last of them.
func (l *ledger) putUse(b *kv.Batch, id uint64, n int64, files map[uint64]fileRecord) error {
	key := fileKey(prefixUse, id)
	value, err := l.db.Get(key)
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return mapError(err)
	}
	if err == nil {
		d := &decoder{rest: value}
		if n += int64(d.varint()); d.err != nil {
			return fmt.Errorf("%w: count of the blobs in a file", ErrCorrupt)
		}
	}
	if n <= 0 {
		b.Delete(key)
		b.Delete(fileKey(prefixFile, id))
		return nil
	}
	b.Put(key, frame.AppendVarint(nil, uint64(n)))
	if f, ok := files[id]; ok {
		b.Put(l.seal.sealFile(id, f))
	}
	return nil
}
