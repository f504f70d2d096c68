package stc

import "errors"

// The errors of this package. They come wrapped with what was being done, except from the calls that are made for each packet,
// datagram or record (PacketKey.Open, DatagramSealer.Open, StoreCipher.Open, StreamDecoder.Receive), which mostly return the bare sentinel. Test with
// errors.Is.
var (
	// ErrSeedTooShort: a seed has fewer than MinSeedSize bytes.
	ErrSeedTooShort = errors.New("stc: seed is too short")
	// ErrBadHash: a text is not 64 lower-case hexadecimal digits.
	ErrBadHash = errors.New("stc: not a hash")
	// ErrBadKey: 32 bytes are not the public key of a node: not canonical, sign bit set, not on the curve or of low order.
	ErrBadKey = errors.New("stc: not a node's public key")
	// ErrBadName: a text is not a name: cut, mistyped, or something else.
	ErrBadName = errors.New("stc: not a name")
	// ErrBadLabel: a text cannot be the label of a name, see CheckLabel.
	ErrBadLabel = errors.New("stc: not a label")
	// ErrTooManyPeerSeeds: the keyring already holds MaxPeerSeeds seeds.
	ErrTooManyPeerSeeds = errors.New("stc: too many seeds for single peers")
	// ErrWrongSeed: the other side does not use the shared seed that we expect of it.
	ErrWrongSeed = errors.New("stc: wrong shared seed")
	// ErrWrongPeer: another identity answered than the one that was asked for.
	ErrWrongPeer = errors.New("stc: another node answered")
	// ErrOwnKey: a datagram names our own key as its sender or its recipient.
	ErrOwnKey = errors.New("stc: the key is our own")
	// ErrForged: bytes do not authenticate: they were altered, cut, replayed elsewhere, or sealed under another key.
	ErrForged = errors.New("stc: message does not authenticate")
	// ErrHandshake: a call out of turn, or on a handshake that has failed or is over.
	ErrHandshake = errors.New("stc: handshake call out of turn")
	// ErrUnknownSuite: the number names no AEAD suite of this package.
	ErrUnknownSuite = errors.New("stc: unknown AEAD suite")

	// ErrStreamConfig: an encoder or decoder was asked for with a mode, a size or a limit that can't be.
	ErrStreamConfig = errors.New("stc: bad settings of a stream")
	// ErrStreamSize: a bounded stream has more or fewer bytes than were announced.
	ErrStreamSize = errors.New("stc: stream has another size than announced")
	// ErrStreamEnded: the stream's last segment has been sealed; nothing can follow it.
	ErrStreamEnded = errors.New("stc: stream has ended")
	// ErrBadSegment: bytes are no segment of a stream, or one that contradicts what the stream has said before.
	ErrBadSegment = errors.New("stc: not a segment of this stream")
	// ErrOtherStream: a segment belongs to another stream than the decoder's.
	ErrOtherStream = errors.New("stc: segment of another stream")
	// ErrDuplicate: a segment has been received before, or has been given up by Skip.
	ErrDuplicate = errors.New("stc: segment was received before")
	// ErrStreamWindow: a segment is too far ahead of what has been read to be kept. It may be offered again later.
	ErrStreamWindow = errors.New("stc: segment is too far ahead")
	// ErrStreamGap: the next segment in order is not here yet.
	ErrStreamGap = errors.New("stc: next segment is not here")
	// ErrSegmentLost: segments before the end are missing.
	ErrSegmentLost = errors.New("stc: segments of the stream are missing")
	// ErrTruncated: the stream's last segment is missing, so there may be more of it than was received.
	ErrTruncated = errors.New("stc: stream has no end")
)
