package kv

import (
	"errors"
	"fmt"
	"io"

	"github.com/syndtr/goleveldb/leveldb/journal"
	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/seigr/sttnode/content/internal/vfs"
)

// check reports whether there is a database in dir, and ErrDamaged if its manifest or a journal has damage that goleveldb
// would pass over. Both are sequences of records each of which was synced before the next was written, so a crash can only tear
// the last one, whatever of its pages reached the disk: where a whole record follows an unreadable one, more has happened. An
// unreadable last record can't be told from a torn one here; the store finds what was in it by itself. A young database may be
// the leavings of a crash while it was being made, before its first journal.
func check(fsys vfs.FS, dir string, young bool) (found bool, err error) {
	s := newStorage(fsys, dir)
	fds, err := s.List(storage.TypeAll)
	if isMissing(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	manifest, err := s.GetMeta()
	if isMissing(err) {
		// A crash between the making of the first files and CURRENT leaves a manifest without a record that matters.
		for _, fd := range fds {
			if fd.Type == storage.TypeTable || fd.Type == storage.TypeJournal {
				return true, &DamageError{dir, fmt.Errorf("%s without %s", fileName(fd), currentName)}
			}
		}
		for _, fd := range fds {
			if err := s.Remove(fd); err != nil {
				return false, err
			}
		}
		return false, nil
	}
	if err != nil {
		return true, &DamageError{dir, err}
	}
	journals := 0
	for _, fd := range append(fds, manifest) {
		if fd.Type == storage.TypeJournal || fd == manifest {
			if err := checkRecords(s, fd); err != nil {
				return true, err
			}
		}
		if fd.Type == storage.TypeJournal {
			journals++
		}
	}
	if journals == 0 && !young {
		return true, &DamageError{dir, errors.New("no journal")}
	}
	return true, nil
}

// checkRecords reads a journal or manifest to its end.
func checkRecords(s *files, fd storage.FileDesc) error {
	f, err := s.Open(fd)
	if isMissing(err) {
		return &DamageError{s.dir, fmt.Errorf("%s is missing", fileName(fd))}
	}
	if err != nil {
		return err
	}
	defer f.Close()
	var drops drops
	r := journal.NewReader(f, &drops, false, true)
	for {
		record, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, record); err == io.ErrUnexpectedEOF {
			continue // its end was dropped
		} else if err != nil {
			return err
		}
		if drops > 0 {
			return &DamageError{s.dir, fmt.Errorf("%s has records behind unreadable ones", fileName(fd))}
		}
	}
}

// drops counts what the journal reader left out.
type drops int

// Drop implements journal.Dropper.
func (d *drops) Drop(error) { *d++ }
