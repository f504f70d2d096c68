// Package kv is LevelDB as the store needs it: every write synced, on a vfs.FS, telling damage from the torn end that a crash
// leaves, and usable again after a write failed.
//
// goleveldb (at the version in go.mod) has habits that this package is built around:
//   - It replays a damaged journal or manifest by leaving out what it can't read, silently. [Open] reads both beforehand and
//     reports [ErrDamaged] when something readable follows something that is not; what a crash tears is the end.
//   - A failed write of a journal or manifest makes every later one fail. After an error the database serves reads, refuses
//     writes, and goes on after [DB.Reopen].
//   - Its transactions, which it also uses for large batches, keep locks when they fail. They are switched off.
//   - Its file storage never syncs the directory for a journal. The storage here does.
package kv

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/filter"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/seigr/sttnode/content/internal/vfs"
)

var (
	// ErrNotFound reports a key without a value.
	ErrNotFound = leveldb.ErrNotFound
	// ErrMissing reports a directory without a database.
	ErrMissing = errors.New("kv: no database")
	// ErrDamaged reports a database whose files are not what was written. It comes as a *DamageError.
	ErrDamaged = errors.New("kv: database is damaged")
	// ErrFailed reports a write to a database that a failed write has stopped.
	ErrFailed = errors.New("kv: an earlier write failed")
)

const (
	writeBuffer = 4 << 20
	blockCache  = 6 << 20
	openTables  = 64

	// MaxBatch is the size in bytes that a batch should not exceed by much: half of what goleveldb collects before it writes a
	// table.
	MaxBatch = writeBuffer / 2

	// Room is how much an empty disk must have left for Reopen to try: it writes what the journal holds into a table.
	Room = writeBuffer + writeBuffer/2
)

var (
	options = opt.Options{
		WriteBuffer:                  writeBuffer,
		BlockCacheCapacity:           blockCache,
		OpenFilesCacheCapacity:       openTables,
		Filter:                       filter.NewBloomFilter(10),
		Compression:                  opt.NoCompression, // values are sealed
		DisableLargeBatchTransaction: true,
		DisableSeeksCompaction:       true,
	}
	synced = &opt.WriteOptions{Sync: true}
)

// DamageError says which database is damaged. It is ErrDamaged.
type DamageError struct {
	Dir string
	Err error
}

func (e *DamageError) Error() string { return fmt.Sprintf("%v: %s: %v", ErrDamaged, e.Dir, e.Err) }

// Is reports that target is ErrDamaged.
func (e *DamageError) Is(target error) bool { return target == ErrDamaged }

func (e *DamageError) Unwrap() error { return e.Err }

// Batch collects changes that are applied together or not at all.
type Batch = leveldb.Batch

// DB is an open database. Reads may run beside everything; writes and Reopen take turns.
type DB struct {
	fsys vfs.FS
	dir  string

	writing sync.Mutex // taken before mu
	failed  error      // of the last write; guarded by writing
	closed  bool       // guarded by writing

	mu      sync.RWMutex // held while db is in use; held alone while it is replaced
	db      *leveldb.DB  // nil when the old one was closed and no new one could be opened
	storage *files       // of db
	opened  int          // how often a db was opened
}

// Open opens the database in dir. ErrMissing if there is none, unless create; ErrDamaged if it can't be trusted.
func Open(fsys vfs.FS, dir string, create bool) (*DB, error) {
	found, err := check(fsys, dir, create)
	if err != nil {
		return nil, err
	}
	if !found {
		if !create {
			return nil, fmt.Errorf("%w in %s", ErrMissing, dir)
		}
		if err := fsys.MkdirAll(dir); err != nil {
			return nil, err
		}
	}
	d := &DB{fsys: fsys, dir: dir, storage: newStorage(fsys, dir)}
	o := options
	o.ErrorIfMissing = !create
	if d.db, err = leveldb.Open(d.storage, &o); err != nil {
		return nil, d.storage.explain(err)
	}
	return d, nil
}

// Salvage opens a database that Open has refused, with those tables and journal records that can be read.
func Salvage(fsys vfs.FS, dir string) (*DB, error) {
	if err := fsys.MkdirAll(dir); err != nil {
		return nil, err
	}
	d := &DB{fsys: fsys, dir: dir, storage: newStorage(fsys, dir)}
	o := options
	var err error
	if d.db, err = leveldb.Recover(d.storage, &o); err != nil {
		return nil, d.storage.explain(err)
	}
	return d, nil
}

// Destroy removes the database in dir with everything in it.
func Destroy(fsys vfs.FS, dir string) error {
	names, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := fsys.Remove(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return fsys.Remove(dir)
}

// Close closes the database.
func (d *DB) Close() error {
	d.writing.Lock()
	defer d.writing.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.db == nil {
		return nil
	}
	err := d.db.Close()
	d.db = nil
	return err
}

// use calls f with the database, opening it again if need be.
func (d *DB) use(f func(*leveldb.DB) error) error {
	for {
		d.mu.RLock()
		if d.db != nil {
			defer d.mu.RUnlock()
			return d.storage.explain(f(d.db))
		}
		d.mu.RUnlock()
		d.writing.Lock()
		err := d.reopen()
		readable := d.db != nil
		d.writing.Unlock()
		if err != nil && !readable {
			return err
		}
	}
}

// Opened returns how often the database was opened: what was read from it may be out of date when that has changed.
func (d *DB) Opened() int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.opened
}

// Get returns a copy of the value of a key, or ErrNotFound, or ErrDamaged.
func (d *DB) Get(key []byte) ([]byte, error) {
	var value []byte
	err := d.use(func(db *leveldb.DB) (err error) {
		value, err = db.Get(key, nil)
		return err
	})
	return value, err
}

// Write applies a batch and syncs. After an error the batch is applied or not, which Reopen decides; until then reads go on as
// if it were not, and every Write returns ErrFailed.
func (d *DB) Write(b *Batch) error {
	d.writing.Lock()
	defer d.writing.Unlock()
	if d.failed != nil {
		return fmt.Errorf("%w: %w", ErrFailed, d.failed)
	}
	if d.db == nil { // Only who holds writing changes it.
		return ErrFailed
	}
	if err := d.db.Write(b, synced); err != nil {
		d.failed = d.storage.explain(err)
		return d.failed
	}
	return nil
}

// Failed reports whether a write has failed since the last Reopen.
func (d *DB) Failed() bool {
	d.writing.Lock()
	defer d.writing.Unlock()
	return d.failed != nil || d.db == nil
}

// Reopen makes a failed database usable. It first makes sure of the room that it needs, so that a full disk costs nothing but
// the error, and reads go on; they do so, too, when somebody else takes that room in between.
func (d *DB) Reopen() error {
	d.writing.Lock()
	defer d.writing.Unlock()
	if d.failed == nil && d.db != nil {
		return nil
	}
	return d.reopen()
}

// reopen does what Reopen does. The caller holds writing.
func (d *DB) reopen() error {
	if d.closed {
		return ErrFailed
	}
	if err := d.probe(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.db != nil {
		d.db.Close() // its error is the one we are here for
		d.db = nil
	}
	if _, err := check(d.fsys, d.dir, false); err != nil {
		return err
	}
	o := options
	o.ErrorIfMissing = true
	storage := newStorage(d.fsys, d.dir)
	db, err := leveldb.Open(storage, &o)
	if err = storage.explain(err); err != nil {
		// Somebody else has taken the room that there was. What is stored stays readable.
		o.ReadOnly = true
		var roErr error
		if db, roErr = leveldb.Open(written{storage}, &o); roErr != nil {
			return err
		}
	}
	d.db, d.storage, d.failed = db, storage, err
	d.opened++
	return err
}

// probe finds out whether there is Room on the disk.
func (d *DB) probe() error {
	name := filepath.Join(d.dir, "probe")
	f, err := d.fsys.Create(name)
	if err != nil {
		return err
	}
	err = f.Allocate(Room)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if rerr := d.fsys.Remove(name); err == nil {
		err = rerr
	}
	return err
}

// page is how many pairs Each reads while it holds the database.
const page = 512

// Each calls visit for the pairs with from ≤ key < to (nil: no end), in order, until visit returns false. Pairs that change
// meanwhile are visited as they were or as they are. visit may use the database; key and value are its own.
func (d *DB) Each(from, to []byte, visit func(key, value []byte) bool) error {
	type pair struct{ key, value []byte }
	pairs := make([]pair, 0, page)
	for {
		pairs = pairs[:0]
		bytes := 0
		err := d.scan(from, to, func(key, value []byte) bool {
			pairs = append(pairs, pair{append([]byte(nil), key...), append([]byte(nil), value...)})
			bytes += len(value)
			return len(pairs) < page && bytes < writeBuffer/4
		})
		if err != nil {
			return err
		}
		if len(pairs) == 0 {
			return nil
		}
		for _, p := range pairs {
			if !visit(p.key, p.value) {
				return nil
			}
		}
		from = append(pairs[len(pairs)-1].key, 0)
	}
}

func (d *DB) scan(from, to []byte, visit func(key, value []byte) bool) error {
	return d.use(func(db *leveldb.DB) error {
		it := db.NewIterator(&util.Range{Start: from, Limit: to}, &opt.ReadOptions{DontFillCache: true})
		defer it.Release()
		for it.Next() {
			if !visit(it.Key(), it.Value()) {
				return nil
			}
		}
		return it.Error()
	})
}

// Last returns the greatest key below to and not below from, or nil.
func (d *DB) Last(from, to []byte) (key []byte, err error) {
	err = d.use(func(db *leveldb.DB) error {
		it := db.NewIterator(&util.Range{Start: from, Limit: to}, nil)
		defer it.Release()
		if it.Last() {
			key = append([]byte(nil), it.Key()...)
		}
		return it.Error()
	})
	return key, err
}
