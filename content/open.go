package content

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/seigr/sttnode/content/internal/kv"
	"github.com/seigr/sttnode/content/internal/segment"
	"github.com/seigr/sttnode/content/internal/vfs"
	"github.com/seigr/sttnode/stc"
)

const (
	formatName   = "format"
	lockName     = "lock"
	indexName    = "index"
	newIndexName = "index.new"
	smallName    = "small"
	segmentsName = "segments"
	suspectName  = "suspect." // in front of a database's name: asks the next Open to recover it
)

// Open opens the store in dir, which is made if it does not exist. It finishes what a crash has interrupted, and rebuilds the
// index from the blobs if it is lost or damaged, which takes reading them all. Errors: ErrNoKey, ErrLocked, ErrWrongKey,
// ErrFormat, ErrDiskFull.
func Open(dir string, cfg Config) (*Store, error) {
	if cfg.Key == ([32]byte{}) {
		return nil, ErrNoKey
	}
	return open(vfs.OS{}, dir, cfg, defaultSegmentSize)
}

func open(fsys vfs.FS, dir string, cfg Config, segmentSize int64) (*Store, error) {
	s := &Store{
		fsys: fsys, dir: dir, log: cfg.Log, onChanged: cfg.OnChanged,
		seal:     newSealer(cfg.Key),
		claims:   make(map[stc.Hash]*claim),
		deleting: make(map[stc.Hash]<-chan struct{}),
		keepers:  make(map[*keeper]struct{}),
		putting:  make(map[*putGroup][]stc.Hash),
		reserve:  &reserve{fsys: fsys, dir: dir},
		held:     make(map[stc.Hash]int),
		usage:    usage{flushed: time.Now()},
		onDrop:   cfg.OnDrop,
	}
	s.idle.L = &s.life
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return nil, mapError(err)
	}
	lock, err := fsys.Lock(s.path(lockName))
	if errors.Is(err, vfs.ErrLocked) {
		return nil, fmt.Errorf("%w: %s", ErrLocked, dir)
	}
	if err != nil {
		return nil, mapError(err)
	}
	s.lock = lock
	err = s.openLocked(cfg.Key, segmentSize)
	for range 3 { // Either database may prove to be damaged when it is used, and the disk may be full.
		if damaged := errors.Is(err, kv.ErrDamaged); damaged || isDiskFull(err) && s.reserve.letGo() {
			s.suspect(err)
			s.closeDatabases()
			err = s.openLocked(cfg.Key, segmentSize)
		}
	}
	s.suspects.Clear()
	if err != nil {
		s.closeDatabases()
		lock.Close()
		return nil, mapError(err)
	}
	s.limit = cfg.MaxBytes // what a crash has left was admitted before
	return s, nil
}

// closeDatabases closes what an opening that failed has opened.
func (s *Store) closeDatabases() {
	if s.index != nil {
		s.index.Close()
	}
	if s.small != nil {
		s.small.Close()
	}
	if s.segments != nil {
		s.segments.Close()
	}
	s.index, s.small, s.segments = nil, nil, nil
}

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

// openLocked does what Open does once it has the lock.
func (s *Store) openLocked(key [32]byte, segmentSize int64) error {
	fresh, err := s.checkFormat(key)
	if err != nil {
		return err
	}
	if err := s.fsys.MkdirAll(s.path(segmentsName)); err != nil {
		return err
	}
	s.segments = segment.NewFiles(s.fsys, s.path(segmentsName), s.seal.cipher)
	if err := s.openDatabases(fresh); err != nil {
		return err
	}
	if fresh {
		s.fsys.SyncDir(filepath.Dir(s.dir)) // Who may not open the directory above may still have a store below.
		if err := s.fsys.SyncDir(s.dir); err != nil {
			return err
		}
		if err := vfs.WriteFile(s.fsys, s.dir, formatName, s.format.line(s.format.version)); err != nil {
			return err
		}
	}
	if err := s.reconcilePins(); err != nil {
		return err
	}
	if err := s.finishFreeing(); err != nil {
		return err
	}
	// A disk too full for the reserve still lets the store be read.
	if err := s.reserve.hold(); err != nil && !isDiskFull(err) {
		return err
	}
	if err := s.startPipeline(segmentSize); err != nil {
		return err
	}
	if err := s.restoreInPlace(); err != nil && !isDiskFull(err) && !errors.Is(err, ErrDiskFull) {
		s.pipeline.stop()
		return err
	}
	return nil
}

// format is the version of the store that its format file says. A store is of the first version until something is stored in
// place, which programs that know no other would take for damage.
type format struct {
	mu      sync.Mutex // held while the file is written
	proof   string     // of the key
	version string
}

const (
	formatPlain   = "1"
	formatInPlace = "2" // entries may point into the user's files
)

// line is what the format file holds: version, what proves the key, checksum.
func (f *format) line(version string) []byte {
	line := fmt.Sprintf("sttnode store %s %s", version, f.proof)
	return fmt.Appendf(nil, "%s %08x\n", line, crc32.ChecksumIEEE([]byte(line)))
}

// upgradeFormat makes the format file say, durably, that blobs may lie in place.
func (s *Store) upgradeFormat() error {
	f := &s.format
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.version == formatInPlace {
		return nil
	}
	if err := vfs.WriteFile(s.fsys, s.dir, formatName, f.line(formatInPlace)); err != nil {
		return mapError(err)
	}
	f.version = formatInPlace
	return nil
}

// checkFormat compares the format file with the program and the key. A store without one is fresh if nothing is in it. A file
// that is damaged, or missing from a store with something in it, is written again if the key opens what is there.
func (s *Store) checkFormat(key [32]byte) (fresh bool, err error) {
	f := &s.format
	f.proof, f.version = hex.EncodeToString(derive(key, "stt store v1 key check")), formatPlain
	have, err := vfs.ReadFile(s.fsys, s.path(formatName), 4096)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return false, err
	}
	if intact, version := parseFormat(have); intact {
		switch {
		case version != formatPlain && version != formatInPlace:
			return false, fmt.Errorf("%w: version %s in %s", ErrFormat, version, s.dir)
		case !bytes.Equal(have, f.line(version)):
			return false, fmt.Errorf("%w: %s", ErrWrongKey, s.dir)
		}
		f.version = version
		return false, nil
	}
	empty, fits, err := s.tryKey()
	if err != nil {
		return false, err
	}
	if empty && missing {
		// What a crash has left of the making of a store is no use.
		return true, errors.Join(kv.Destroy(s.fsys, s.path(indexName)), kv.Destroy(s.fsys, s.path(smallName)))
	}
	if !empty && !fits {
		return false, fmt.Errorf("%w, or nothing in it is intact: %s", ErrWrongKey, s.dir)
	}
	s.log.Warn("the store's format file was damaged or missing; written again", "dir", s.dir)
	// Nobody knows which version it was, and the later one is right for both.
	f.version = formatInPlace
	return false, vfs.WriteFile(s.fsys, s.dir, formatName, f.line(f.version))
}

// parseFormat reports whether a format file is as it was written, by whatever version.
func parseFormat(b []byte) (intact bool, version string) {
	text, ok := strings.CutSuffix(string(b), "\n")
	if !ok || len(text) < 10 || text[len(text)-9] != ' ' {
		return false, ""
	}
	line, sum := text[:len(text)-9], text[len(text)-8:]
	fields := strings.Fields(line)
	if sum != fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(line))) || len(fields) < 3 {
		return false, ""
	}
	return true, fields[2]
}

// tryKey looks for records, wherever they may lie, and for one among them that the key opens.
func (s *Store) tryKey() (empty, fits bool, err error) {
	empty = true
	for _, dir := range []string{s.path(segmentsName), s.path(smallName)} {
		names, err := s.fsys.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, false, err
		}
		for _, name := range names {
			found, fits, err := segment.Probe(s.fsys, filepath.Join(dir, name), s.seal.cipher, MaxBlobSize)
			if err != nil || fits {
				return false, fits, err
			}
			empty = empty && !found
		}
	}
	return empty, false, nil
}

// openDatabases opens LevelDB, twice, and makes good what is damaged.
func (s *Store) openDatabases(fresh bool) (err error) {
	if s.small, err = s.openDatabase(smallName, fresh); err != nil {
		return err
	}
	if s.small == nil {
		if err := s.rescueSmall(); err != nil {
			return err
		}
		if s.small, err = kv.Salvage(s.fsys, s.path(smallName)); err != nil {
			return err
		}
		if err := s.trust(smallName); err != nil {
			return err
		}
	}
	if s.index, err = s.openDatabase(indexName, fresh); err != nil {
		return err
	}
	if s.index != nil {
		s.ledger, err = newLedger(s.seal, s.index)
		if errors.Is(err, ErrCorrupt) && !errors.Is(err, kv.ErrDamaged) {
			err = &kv.DamageError{Dir: s.path(indexName), Err: err}
		}
		return err
	}
	if err := s.rebuild(); err != nil {
		return err
	}
	return s.trust(indexName)
}

// openDatabase opens one of the databases, or returns nil for one that must be recovered.
func (s *Store) openDatabase(name string, fresh bool) (*kv.DB, error) {
	suspect, err := vfs.Exists(s.fsys, s.path(suspectName+name))
	if err != nil {
		return nil, err
	}
	if !suspect {
		var db *kv.DB
		if db, err = kv.Open(s.fsys, s.path(name), fresh); err == nil {
			return db, nil
		}
		if !errors.Is(err, kv.ErrMissing) && !errors.Is(err, kv.ErrDamaged) {
			return nil, err
		}
	}
	s.log.Warn("database is damaged; recovering what is there", "dir", s.path(name), "error", err)
	return nil, nil
}

// trust ends the suspicion against a database that has been recovered.
func (s *Store) trust(name string) error {
	err := s.fsys.Remove(s.path(suspectName + name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// finishFreeing gives back the room of what was deleted before a crash.
func (s *Store) finishFreeing() error {
	records, err := s.ledger.pending()
	if err != nil || len(records) == 0 {
		return err
	}
	s.ledger.freed(freeRecords(records, s.segments, s.small))
	return nil
}

// suspect asks the next Open to recover a database, after damage to it was met.
func (s *Store) suspect(err error) {
	var damage *kv.DamageError
	if !errors.As(err, &damage) {
		return
	}
	name := filepath.Base(damage.Dir)
	if _, known := s.suspects.LoadOrStore(name, true); known {
		return
	}
	s.log.Warn("database is damaged; it will be recovered when the store is opened next", "error", err)
	if err := vfs.WriteFile(s.fsys, s.dir, suspectName+name, nil); err != nil {
		s.log.Warn("that could not be noted", "error", err)
	}
}
