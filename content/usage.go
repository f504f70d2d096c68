package content

import (
	"maps"
	"sync"
	"time"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

// usage collects when contents were used, so that noting it costs the index one small write a minute, at most, and one at the end.
// What a crash loses of it makes the order of dropping a little wrong and nothing else.
type usage struct {
	mu      sync.Mutex
	recent  map[stc.Hash]time.Time // not in the index yet
	flushed time.Time
}

const (
	useInterval = time.Minute
	maxRecent   = 4096 // contents used between two writes
)

// Use notes that the content under root is in use. Exports and readers of this package do it themselves; who serves a content calls
// it. It is cheap, and nothing happens if the store doesn't know the content.
func (s *Store) Use(root stc.Hash) {
	if s.enter() != nil {
		return
	}
	defer s.exit()
	u := &s.usage
	u.mu.Lock()
	if u.recent == nil {
		u.recent = make(map[stc.Hash]time.Time)
	}
	now := time.Now()
	u.recent[root] = now
	due := now.Sub(u.flushed) >= useInterval || len(u.recent) > maxRecent
	u.mu.Unlock()
	if due {
		s.flushUses(u.take())
	}
}

// take returns what is to be written.
func (u *usage) take() map[stc.Hash]time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	recent := u.recent
	u.recent, u.flushed = nil, time.Now()
	return recent
}

// flushUses writes when contents were used.
func (s *Store) flushUses(uses map[stc.Hash]time.Time) {
	var c change
	for root, at := range uses {
		if _, ok, err := s.pin(root); err != nil || !ok {
			continue
		}
		key := s.seal.key(prefixAccess, root)
		plain := frame.AppendVarint(nil, uint64(max(0, at.Unix())))
		c.set = append(c.set, pair{key, s.seal.cipher.Seal(nil, plain, key)})
	}
	if len(c.set) == 0 {
		return
	}
	if err := s.ledger.commit(&c); err != nil {
		s.log.Warn("when contents were used could not be noted", "error", err)
	}
}

// knownUses is when contents were used, by the pseudonym of the root, and what is not in the index yet.
type knownUses struct {
	seal   *sealer
	stored map[string]time.Time
	recent map[stc.Hash]time.Time
}

// uses returns what is known of the use of contents. An entry that can't be read counts as none.
func (s *Store) uses() (knownUses, error) {
	k := knownUses{seal: s.seal, stored: make(map[string]time.Time)}
	err := s.index.Each([]byte{prefixAccess}, []byte{prefixAccess + 1}, func(key, value []byte) bool {
		if plain, err := s.seal.cipher.Open(nil, value, key); err == nil {
			d := &decoder{rest: plain}
			k.stored[string(key)] = time.Unix(int64(d.varint()), 0)
		}
		return true
	})
	s.usage.mu.Lock()
	defer s.usage.mu.Unlock()
	k.recent = maps.Clone(s.usage.recent)
	return k, mapError(err)
}

// last returns when a content was last used: when it came, at least.
func (k knownUses) last(p Pin) time.Time {
	used := p.Added
	for _, at := range []time.Time{k.stored[string(k.seal.key(prefixAccess, p.Root))], k.recent[p.Root]} {
		if at.After(used) {
			used = at
		}
	}
	return used
}
