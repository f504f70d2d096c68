package session

import (
	"errors"
	"time"

	"github.com/seigr/sttnode/stc"
)

// Rotation says after how much use a direction's key is replaced, whichever
// comes first. The zero value means the defaults; a negative value means
// never.
type Rotation struct {
	Bytes    int64         // 1 GiB
	Interval time.Duration // one hour
	Messages int64         // 100,000 frames
}

func (r Rotation) withDefaults() Rotation {
	if r.Bytes == 0 {
		r.Bytes = 1 << 30
	}
	if r.Interval == 0 {
		r.Interval = time.Hour
	}
	if r.Messages == 0 {
		r.Messages = 100_000
	}
	return r
}

// maxMessages is how many frames may be sealed under one key whatever the
// configuration says: the confidentiality limit of AES-GCM, RFC 9001 section
// 6.6.
const maxMessages = 1 << 23

// sealing holds the key of our sending direction. Each epoch's secret comes
// from the one before by a one-way function, and the old one is erased.
type sealing struct {
	suite     stc.Suite
	secret    *stc.Secret
	key       *stc.PacketKey
	epoch     uint32
	bytes     int64
	messages  int64
	since     time.Time
	first     uint64 // sequence number of the epoch's first frame
	confirmed bool   // the peer has acknowledged a frame of the epoch
}

func newSealing(suite stc.Suite, secret *stc.Secret, now time.Time) (*sealing, error) {
	key, err := secret.PacketKey(suite, 0)
	if err != nil {
		return nil, err
	}
	return &sealing{suite: suite, secret: secret, key: key, since: now}, nil
}

// due reports whether the key has served its time. A key must not change
// again before the peer has shown that it followed (RFC 9001 section 6.1).
func (k *sealing) due(now time.Time, r Rotation) bool {
	if !k.confirmed || k.messages == 0 {
		return false
	}
	return r.Bytes > 0 && k.bytes >= r.Bytes ||
		r.Messages > 0 && k.messages >= r.Messages ||
		r.Interval > 0 && now.Sub(k.since) >= r.Interval ||
		k.messages >= maxMessages/2
}

// exhausted reports whether the key must not seal anything more.
func (k *sealing) exhausted() bool { return k.messages >= maxMessages }

// rotate goes to the next epoch, whose first frame will be seq.
func (k *sealing) rotate(now time.Time, seq uint64) error {
	k.secret.Ratchet()
	key, err := k.secret.PacketKey(k.suite, k.epoch+1)
	if err != nil {
		return err
	}
	k.key.Erase()
	k.key, k.first, k.since = key, seq, now
	k.epoch++
	k.bytes, k.messages, k.confirmed = 0, 0, false
	return nil
}

// acked takes the largest sequence number that the peer has acknowledged.
func (k *sealing) acked(seq uint64) {
	if seq >= k.first && k.messages > 0 {
		k.confirmed = true
	}
}

// opening holds the keys of our receiving direction: the present epoch's,
// the next one's, ready for the peer's change, and for a while the last
// one's, for frames that were overtaken.
type opening struct {
	suite     stc.Suite
	secret    *stc.Secret // of the next epoch
	epoch     uint32
	key, next *stc.PacketKey
	prev      *stc.PacketKey
	prevUntil time.Time
	first     uint64 // lowest sequence number seen in the present epoch
	failures  uint64 // frames that did not open
}

// maxForged is how many frames may fail to open before the session ends: the
// integrity limit that holds for both suites, RFC 9001 section 6.6.
const maxForged = 1 << 36

var (
	errEpoch  = errors.New("frame of an epoch that is not accepted")
	errForged = errors.New("frame does not open")
)

func newOpening(suite stc.Suite, secret *stc.Secret) (*opening, error) {
	key, err := secret.PacketKey(suite, 0)
	if err != nil {
		return nil, err
	}
	k := &opening{suite: suite, secret: secret, key: key}
	return k, k.prepare()
}

// prepare derives the key of the epoch after the present one.
func (k *opening) prepare() (err error) {
	k.secret.Ratchet()
	k.next, err = k.secret.PacketKey(k.suite, k.epoch+1)
	return err
}

// open decrypts a payload in place. keep is how long the last epoch's key
// stays good after a change.
func (k *opening) open(now time.Time, epoch uint8, seq uint64, header, payload []byte, keep time.Duration) ([]byte, error) {
	switch epoch {
	case uint8(k.epoch):
		return k.try(k.key, header, payload, seq)
	case uint8(k.epoch + 1):
		plain, err := k.try(k.next, header, payload, seq)
		if err != nil {
			return nil, err
		}
		k.dropPrev()
		k.prev, k.prevUntil = k.key, now.Add(keep)
		k.key, k.first = k.next, seq
		k.epoch++
		return plain, k.prepare()
	case uint8(k.epoch - 1):
		if k.prev == nil {
			return nil, errEpoch
		}
		if !now.Before(k.prevUntil) {
			k.dropPrev()
			return nil, errEpoch
		}
		return k.try(k.prev, header, payload, seq)
	}
	return nil, errEpoch
}

func (k *opening) try(key *stc.PacketKey, header, payload []byte, seq uint64) ([]byte, error) {
	plain, err := key.Open(payload[:0], payload, header, seq)
	if err != nil {
		k.failures++
		return nil, errForged
	}
	return plain, nil
}

// expire erases the last epoch's key when its time is over.
func (k *opening) expire(now time.Time) {
	if !now.Before(k.prevUntil) {
		k.dropPrev()
	}
}

func (k *opening) dropPrev() {
	if k.prev != nil {
		k.prev.Erase()
		k.prev = nil
	}
}

// erase forgets all keys, once; nothing may be opened afterwards.
func (k *opening) erase() {
	k.secret.Erase()
	k.dropPrev()
	k.key.Erase()
	k.next.Erase()
	k.key, k.next = nil, nil
}

// erase forgets the key, once; nothing may be sealed afterwards.
func (k *sealing) erase() {
	k.secret.Erase()
	k.key.Erase()
	k.key = nil
}
