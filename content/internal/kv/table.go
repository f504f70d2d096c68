package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/storage"
	"github.com/syndtr/goleveldb/leveldb/table"

	"github.com/seigr/sttnode/content/internal/vfs"
)

const (
	footerSize   = 48
	trailerSize  = 5 // behind each block of a table: compression and checksum
	tableMagic   = "\x57\xfb\x80\x8b\x24\x75\x47\xdb"
	minTableSize = footerSize + 2*trailerSize
)

// checkFooter reports a table whose end goleveldb must not see: everything in a table has a checksum but its footer, and one
// that points to the wrong place makes goleveldb panic. The last blocks of a table, metaindex and index, lie behind each other
// directly before the footer, so there is only one thing that it can say.
func checkFooter(r io.ReaderAt, size int64) error {
	if size < minTableSize {
		return errors.New("table is too short")
	}
	var b [footerSize]byte
	if _, err := r.ReadAt(b[:], size-footerSize); err != nil && err != io.EOF {
		return err
	}
	if string(b[footerSize-len(tableMagic):]) != tableMagic {
		return errors.New("table without its magic")
	}
	var handles [4]uint64 // offset and length of metaindex and index
	rest := b[:footerSize-len(tableMagic)]
	for i := range handles {
		v, n := binary.Uvarint(rest)
		if n <= 0 || v > uint64(size) {
			return errors.New("table with a damaged footer")
		}
		handles[i], rest = v, rest[n:]
	}
	if handles[0]+handles[1]+trailerSize != handles[2] || handles[2]+handles[3]+trailerSize != uint64(size-footerSize) {
		return errors.New("table whose footer points elsewhere")
	}
	return nil
}

// CheckFile reads a table or journal of the database in dir to its end and reports, as ErrDamaged, one from which Salvage would
// not get everything. Other files are none of its concern.
func CheckFile(fsys vfs.FS, dir, name string) error {
	fd, ok := parseName(name)
	if !ok {
		return nil
	}
	switch fd.Type {
	case storage.TypeJournal:
		return checkRecords(newStorage(fsys, dir), fd)
	case storage.TypeTable:
		if err := checkTable(fsys, filepath.Join(dir, name), fd); err != nil {
			return &DamageError{dir, fmt.Errorf("%s: %w", name, err)}
		}
	}
	return nil
}

func checkTable(fsys vfs.FS, path string, fd storage.FileDesc) error {
	f, err := fsys.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return err
	}
	if err := checkFooter(f, size); err != nil {
		return err
	}
	o := options
	r, err := table.NewReader(f, size, fd, nil, nil, &o)
	if err != nil {
		return err
	}
	defer r.Release()
	it := r.NewIterator(nil, &opt.ReadOptions{Strict: opt.StrictAll | opt.StrictOverride})
	defer it.Release()
	for it.Next() {
	}
	return it.Error()
}
