package content

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/seigr/sttnode/stc"
)

// Blobs in place lie in files of the user's, which may change at any time. What makes them safe to serve:
//
//   - An entry of such a blob holds the stamp of its file from when the bytes were verified. A read compares it with the
//     file's stamp behind the read. Where they are the same, the bytes are.
//   - Where not, the blob is hashed. If it is right, it goes on under the new stamp; if not, it is bad under that stamp, and
//     isn't read again before the file has changed once more.
//   - A stamp that was taken so soon after a change that another one could hide behind it is not noted. The blob is then
//     hashed with every read until the file has settled.
//
// No file is kept open between reads: that would save some 5 µs of a read, and hold up whoever wants to unmount or remove it.

// ChangedError reports a blob in place whose file is no longer what it was. It is ErrCorrupt.
type ChangedError struct {
	// Path is the file.
	Path string
	// Err is why it can't be read, or nil if it can and the blob's bytes are not there.
	Err error

	stamp stamp // of the file, if it has settled
}

// Error implements error.
func (e *ChangedError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%v: a file that was stored in place: %v", ErrCorrupt, e.Err)
	}
	return fmt.Sprintf("%v: %s was stored in place and has changed", ErrCorrupt, e.Path)
}

// Is makes every ChangedError match ErrCorrupt.
func (e *ChangedError) Is(target error) bool { return target == ErrCorrupt }

// Unwrap returns Err.
func (e *ChangedError) Unwrap() error { return e.Err }

// inPlace is what a store remembers of blobs in place. The zero value is ready.
type inPlace struct {
	mu       sync.Mutex
	verdicts []verdict                     // not yet noted: new stamps
	reported *simplelru.LRU[string, stamp] // changed files that the user was told of
}

const (
	// verdictBatch is how many new stamps are noted with one sync. Those lost in a crash cost a hash each.
	verdictBatch = 256
	// maxReportedFiles is how many changed files are remembered not to be reported again.
	maxReportedFiles = 4096
)

// readInPlace reads the blob of an entry from the user's file, makes sure that it is right and appends it to dst. It is a
// *ChangedError if that is not to be had.
func (s *Store) readInPlace(dst []byte, e entry) ([]byte, error) {
	looked := time.Now()
	file, info, path, err := s.openInPlace(e.place.id)
	if err != nil {
		return dst, changedError(path, err)
	}
	defer file.Close()
	before := stampOf(info)
	if e.bad && before == e.stamp {
		return dst, &ChangedError{Path: path, stamp: before}
	}
	out := slices.Grow(dst, e.size)[:len(dst)+e.size]
	blob := out[len(dst):]
	if n, err := file.ReadAt(blob, e.place.off); n < len(blob) && err != io.EOF {
		return dst, changedError(path, err)
	} else if n < len(blob) {
		return dst, &ChangedError{Path: path, stamp: settledStamp(info, looked)}
	}
	if info, err = file.Stat(); err != nil {
		return dst, changedError(path, err)
	}
	after := stampOf(info)
	if !e.bad && before == e.stamp && after == e.stamp {
		return out, nil
	}
	var now stamp
	if before == after {
		now = settledStamp(info, looked)
	}
	if stc.Sum(blob) != e.hash {
		return dst, &ChangedError{Path: path, stamp: now}
	}
	good := e
	good.bad, good.stamp = false, now
	s.note(verdict{e, good})
	return out, nil
}

// openInPlace opens a file of the user's, if it is a regular one, and returns what it is now.
func (s *Store) openInPlace(id uint64) (file *os.File, info fs.FileInfo, path string, err error) {
	f, ok, err := s.ledger.file(id)
	if err != nil {
		return nil, nil, "", err
	}
	if !ok {
		return nil, nil, "", fmt.Errorf("%w: no record of file %x", ErrCorrupt, id)
	}
	path = f.path
	file, info, err = openRegular(path)
	if errors.Is(err, fs.ErrNotExist) && f.origin != (originKey{}) {
		if part, perr := s.partOf(f); perr == nil {
			path = part
			file, info, err = openRegular(path)
		}
	}
	return file, info, path, err
}

// openRegular opens a file for reading, and nothing that is none: to open a pipe waits, and to open a device may move something.
func openRegular(path string) (*os.File, fs.FileInfo, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%w: %s", ErrFileType, path)
	}
	file, err := os.OpenFile(path, openForReading, 0)
	if err != nil {
		return nil, nil, err
	}
	if info, err = file.Stat(); err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%w: %s", ErrFileType, path)
	}
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, info, nil
}

// stampInPlace returns the stamp of a file of the user's as it is now, or zero if it can't be read.
func (s *Store) stampInPlace(id uint64) stamp {
	file, info, _, err := s.openInPlace(id)
	if err != nil {
		return stamp{}
	}
	file.Close()
	return stampOf(info)
}

// changedError tells a file that is not to be read any more from a system that is short of something.
func changedError(path string, err error) error {
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM) || errors.Is(err, ErrCorrupt) {
		return err
	}
	return &ChangedError{Path: path, Err: err}
}

// differs returns the error for a blob of an entry whose bytes are not what they should be, though nothing else tells.
func (s *Store) differs(e entry) error {
	if e.place.kind == inFile {
		if f, ok, err := s.ledger.file(e.place.id); err == nil && ok {
			return &ChangedError{Path: f.path, stamp: e.stamp}
		}
	}
	return fmt.Errorf("%w: %v", ErrCorrupt, e.hash)
}

// note notes a verdict: at once if the blob was bad, else with others.
func (s *Store) note(v verdict) {
	if v.old == v.new {
		return
	}
	p := &s.inPlace
	p.mu.Lock()
	p.verdicts = append(p.verdicts, v)
	full := v.old.bad || len(p.verdicts) >= verdictBatch
	p.mu.Unlock()
	if full {
		s.flushVerdicts()
	}
}

// flushVerdicts writes what note has gathered.
func (s *Store) flushVerdicts() {
	p := &s.inPlace
	p.mu.Lock()
	verdicts := p.verdicts
	p.verdicts = nil
	p.mu.Unlock()
	if len(verdicts) == 0 {
		return
	}
	if err := s.ledger.replace(verdicts...); err != nil {
		s.log.Warn("what was verified again in place could not be noted", "blobs", len(verdicts), "error", err)
	}
}

// reportChanged tells the user of a file that has changed, once for each state of the file.
func (s *Store) reportChanged(e *ChangedError) {
	p := &s.inPlace
	p.mu.Lock()
	if p.reported == nil {
		p.reported, _ = simplelru.NewLRU[string, stamp](maxReportedFiles, nil) // fails for sizes below 1 only
	}
	last, known := p.reported.Get(e.Path)
	p.reported.Add(e.Path, e.stamp)
	p.mu.Unlock()
	if known && last == e.stamp {
		return
	}
	s.log.Warn("a file that was stored in place has changed or is gone; what it held is not served any more", "path", e.Path, "error", e)
	if s.onChanged != nil {
		s.onChanged(e)
	}
}
