package stc

import (
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"
)

// Sizes of a segment, in bytes.
const (
	streamHeader = 40

	// StreamOverhead is how much longer a segment is than the bytes in it.
	StreamOverhead = streamHeader + TagSize
	// DefaultSegmentSize is the size of a segment that fits, with the frame of a session around it, into a datagram of 1,200 bytes, which
	// every path takes.
	DefaultSegmentSize = 1100
	// MinSegmentSize is the least size of a segment that an encoder can be given.
	MinSegmentSize = StreamOverhead + 1
	// MaxSegmentSize is the most bytes in a segment: it fits into a blob of the store, a frame and a message.
	MaxSegmentSize = 1 << 20
)

const (
	streamVersion = 1

	flagLast    = 1 << 0
	flagBounded = 1 << 1
)

// StreamID tells streams apart. An encoder draws a random one, since no two streams may have the same under one key: with 2⁴⁸ streams a
// key the chance of that is below 2⁻³².
type StreamID [16]byte

// String returns the ID in lower-case hexadecimal.
func (id StreamID) String() string { return hex.EncodeToString(id[:]) }

// StreamMode says whether a stream's length is known at its beginning.
type StreamMode uint8

const (
	// StreamLive is a stream of unknown length: it ends when its owner says so.
	StreamLive StreamMode = iota
	// StreamBounded is a stream of a length that is known, and told with every segment.
	StreamBounded
)

// StreamConfig are the settings of a StreamEncoder. The zero value makes a live stream of segments that fit every path.
type StreamConfig struct {
	// Mode is StreamLive unless set.
	Mode StreamMode
	// Size is the length of a bounded stream in bytes. A live stream has none.
	Size uint64
	// SegmentSize is the most bytes in a segment, header and tag included; DefaultSegmentSize if 0.
	SegmentSize int
	// FlushAfter is how long bytes wait for more to share a segment with. 0 leaves it to the caller: see each way to encode.
	FlushAfter time.Duration
	// Suite is the AEAD; the first of SupportedSuites if 0. Decoders open all suites.
	Suite Suite
}

func (c *StreamConfig) check() error {
	if c.SegmentSize == 0 {
		c.SegmentSize = DefaultSegmentSize
	}
	if c.Suite == 0 {
		c.Suite = SupportedSuites()[0]
	}
	switch {
	case c.Mode > StreamBounded:
		return fmt.Errorf("%w: mode %d is neither StreamLive nor StreamBounded", ErrStreamConfig, c.Mode)
	case c.Mode == StreamLive && c.Size != 0:
		return fmt.Errorf("%w: a size of %d bytes for a live stream; use StreamBounded", ErrStreamConfig, c.Size)
	case c.FlushAfter < 0:
		return fmt.Errorf("%w: FlushAfter is negative", ErrStreamConfig)
	}
	return checkSegmentSize(c.SegmentSize)
}

func checkSegmentSize(n int) error {
	if n < MinSegmentSize || n > MaxSegmentSize {
		return fmt.Errorf("%w: segments of %d bytes, must be from %d to %d", ErrStreamConfig, n, MinSegmentSize, MaxSegmentSize)
	}
	return nil
}

// segmentHeader is the part of a segment that is in clear.
type segmentHeader struct {
	suite  Suite
	flags  byte
	length int
	number uint64
	size   uint64
	id     StreamID
}

func (h *segmentHeader) last() bool    { return h.flags&flagLast != 0 }
func (h *segmentHeader) bounded() bool { return h.flags&flagBounded != 0 }

func (h *segmentHeader) put(b *[streamHeader]byte) {
	b[0], b[1], b[2], b[3] = streamVersion, byte(h.suite), h.flags, 0
	binary.BigEndian.PutUint32(b[4:], uint32(h.length))
	binary.BigEndian.PutUint64(b[8:], h.number)
	binary.BigEndian.PutUint64(b[16:], h.size)
	copy(b[24:], h.id[:])
}

// parseSegmentHeader reads the first 40 bytes of a segment. There is one encoding of a header; everything else is ErrBadSegment.
func parseSegmentHeader(b []byte) (h segmentHeader, err error) {
	if len(b) < streamHeader || b[0] != streamVersion || b[2] > flagLast|flagBounded || b[3] != 0 {
		return h, ErrBadSegment
	}
	length := binary.BigEndian.Uint32(b[4:])
	if length > MaxSegmentSize-StreamOverhead {
		return h, ErrBadSegment
	}
	h = segmentHeader{
		suite: Suite(b[1]), flags: b[2], length: int(length),
		number: binary.BigEndian.Uint64(b[8:]), size: binary.BigEndian.Uint64(b[16:]), id: StreamID(b[24:40]),
	}
	// Only the last segment may be empty, and a live one does not know its size before the end.
	if !h.last() && (h.length == 0 || !h.bounded() && h.size != 0) {
		return h, ErrBadSegment
	}
	return h, nil
}

// segmentNonce fills the nonce of a segment.
func segmentNonce(nonce *[packetNonceSize]byte, number uint64, last bool) {
	nonce[0] = 0
	if last {
		nonce[0] = 1
	}
	binary.BigEndian.PutUint64(nonce[4:], number)
}

// segmentAEAD derives the cipher of a stream's segments.
func segmentAEAD(key *[keySize]byte, suite Suite, id StreamID) (cipher.AEAD, error) {
	k := expandKey(key[:], infoSegmentKey+string([]byte{byte(suite)})+string(id[:]))
	defer clear(k[:])
	return suite.newAEAD(k[:])
}
