package content

import (
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/seigr/sttnode/content/internal/kv"
	"github.com/seigr/sttnode/content/internal/segment"
	"github.com/seigr/sttnode/content/internal/vfs"
	"github.com/seigr/sttnode/stc"
)

// Config configures a Store.
type Config struct {
	// Key seals everything at rest; it comes from stc.Identity.StoreKey. It is required. A store opens only with the key that it was made with.
	Key [32]byte
	// MaxBytes bounds the bytes of all blobs that the store has a copy of. Where more is to be stored, contents that are only cached are dropped,
	// the least recently used first, with blobs that are part of no content; if that is not enough, storing fails with ErrLimit. What the disk holds is up to 2 % more, and
	// what is being written. 0 is no limit.
	MaxBytes uint64
	// OnDrop, if not nil, is called for each cached content that is dropped, by GC or for its room. It must return at once.
	OnDrop func(root stc.Hash)
	// Log receives what the operator should know: damage found, an index rebuilt. The default is none.
	Log *slog.Logger
	// OnChanged, if not nil, is told of each file of the user's whose blobs can't be served in place any more because it has
	// changed, or is gone: once, unless it changes again. It must return soon and not call the store.
	OnChanged func(*ChangedError)
}

// Store keeps blobs by the SHA3-256 of their bytes. All methods are safe for concurrent use.
//
// In its directory are
//
//	format     text: version of the format, and what proves the key
//	lock       held by the process that has the store open
//	reserve*   room for the day that the disk is full
//	index/     LevelDB: where each blob is, pins, sums
//	small/     LevelDB: blobs of up to 16 KiB; copies of the pins
//	segments/  append-only files of records: the larger blobs
//
// The index can be made again from the other two, which say themselves what they hold. Of blobs in place, which lie in files of
// the user's and not here, it is the only record; small/ keeps a copy of what they are found by again: where each content lies.
type Store struct {
	fsys      vfs.FS
	dir       string
	log       *slog.Logger
	onChanged func(*ChangedError)
	seal      *sealer
	lock      io.Closer
	ledger    *ledger
	index     *kv.DB // of the ledger
	small     *kv.DB
	segments  *segment.Files
	pipeline  *pipeline
	reserve   *reserve
	doubtful  bool // the store is being opened: what an entry points to may be lost

	life     sync.Mutex
	users    int // calls under way
	closing  bool
	idle     sync.Cond // users is 0
	suspects sync.Map  // names of databases that are known to be damaged

	pinning    sync.Mutex // one change of pins at a time
	collecting sync.Mutex // one collection at a time
	watching   atomic.Bool
	inPlace    inPlace
	format     format

	usage   usage
	limit   uint64       // Config.MaxBytes
	pending atomic.Int64 // bytes of blobs on their way to the disk
	making  sync.Mutex   // one caller makes room at a time
	onDrop  func(stc.Hash)

	mu       sync.Mutex
	claims   map[stc.Hash]*claim          // blobs being put
	deleting map[stc.Hash]<-chan struct{} // blobs being deleted; closed when they are gone
	keepers  map[*keeper]struct{}
	putting  map[*putGroup][]stc.Hash // by calls under way, whether their blobs are here already or not
	touched  *hashSet                 // what anybody has put, looked up or read since the collection under way began; nil without one
	newPins  []stc.Hash               // pinned or held since then
	held     map[stc.Hash]int
}

// enter begins a call. exit ends it. Close waits for all that have entered.
func (s *Store) enter() error {
	s.life.Lock()
	defer s.life.Unlock()
	if s.closing {
		return ErrClosed
	}
	s.users++
	return nil
}

func (s *Store) exit() {
	s.life.Lock()
	defer s.life.Unlock()
	if s.users--; s.users == 0 {
		s.idle.Broadcast()
	}
}

// Close waits for the calls under way, whose contexts the caller should end first, and closes the store. Every method returns
// ErrClosed afterwards.
func (s *Store) Close() error {
	s.life.Lock()
	if s.closing {
		s.life.Unlock()
		return ErrClosed
	}
	s.closing = true
	for s.users > 0 {
		s.idle.Wait()
	}
	s.life.Unlock()
	s.flushVerdicts()
	s.flushUses(s.usage.take())
	s.pipeline.stop()
	return mapError(s.release())
}

// release closes what the pipeline stands on.
func (s *Store) release() error {
	s.segments.Close()
	return errors.Join(s.index.Close(), s.small.Close(), s.lock.Close())
}

// keeper keeps blobs from the collector that nothing pinned refers to yet: those of an import, whose root comes last. What it
// keeps is a superset of what was put with it. It lives in memory: what an interrupted import has stored is garbage.
type keeper struct{ blobs hashSet }

func (s *Store) newKeeper() *keeper {
	k := new(keeper)
	s.mu.Lock()
	s.keepers[k] = struct{}{}
	s.mu.Unlock()
	return k
}

func (s *Store) dropKeeper(k *keeper) {
	s.mu.Lock()
	delete(s.keepers, k)
	s.mu.Unlock()
}

// keep notes that h is wanted. The caller holds s.mu.
func (s *Store) keep(k *keeper, h stc.Hash) {
	if k != nil {
		k.blobs.add(h)
	}
	if s.touched != nil {
		s.touched.add(h)
	}
}

// touch is keep for those who look a blob up: a collection that does not see yet why they need it must not take it from them.
// It comes before the lookup.
func (s *Store) touch(h stc.Hash) {
	if s.watching.Load() {
		s.mu.Lock()
		s.keep(nil, h)
		s.mu.Unlock()
	}
}

// kept reports whether somebody wants h. The caller holds s.mu.
func (s *Store) kept(h stc.Hash) bool {
	if s.touched != nil && s.touched.has(h) {
		return true
	}
	for k := range s.keepers {
		if k.blobs.has(h) {
			return true
		}
	}
	return false
}
